// Classification: four keys are shown with a value each, then one of them alone, and the network
// names its value, one of eight.

#include <unistd.h>

#include <iostream>

#include "plastic/plastic.hpp"
using namespace plastic;

int main(int argc, char** argv) {
  constexpr Index pairs = 4, keys = 8, values = 8;
  const SampledTask task(
      {.inputs = keys + values, .outputs = values, .steps = pairs + 1}, [](Random& random, auto e) {
        const Index first = random.below(keys), asked = random.below(pairs);
        for (Index t = 0; t < pairs; ++t) {
          const Index key = (first + 3 * t) % keys, value = random.below(values);
          e.input(t)[key] = e.input(t)[keys + value] = 1;
          if (t != asked) continue;
          e.input(pairs)[key] = 1;
          e.target(pairs)[value] = 1;  // the class, one of `values`
        }
        e.weight(pairs) = 1;  // only this step counts
      });
  PlasticRNN<Hebbian, float> net(
      {.inputs = keys + values, .hidden = 64, .outputs = values, .inner_scale = 1});
  AdamW<float> optimizer(net.parameters(), {.learning_rate = 3e-3});
  Trainer trainer(net, task, CrossEntropy(), optimizer,
                  {.batches = argc > 1 ? std::atoi(argv[1]) : 2000, .validation_batches = 20});
  ProgressBar bar(std::cout, "key-value", ::isatty(STDOUT_FILENO) != 0);
  trainer.run(bar, EarlyStopping({.patience = 0, .target = 1e-4}));
  const Evaluation test = trainer.evaluate_in_detail({0, Random::Purpose::test}, 100);
  std::cout << "right: " << 100 * test.measure("accuracy").mean() << "% of 6400 test episodes\n";
}
