// Episodes of different lengths: two to six keys are shown, each with its value, then one of them
// alone, and the network names its value. The function returns how long its episode is.

#include <iomanip>
#include <iostream>

#include "arguments.hpp"
#include "plastic/plastic.hpp"
using namespace plastic;

int main(int argc, char** argv) {
  const int batches = examples::read_arguments(
      argc, argv, "Trains a network on episodes of different lengths.", 8000);
  constexpr std::uint32_t most = 6, keys = 8, values = 8;
  const auto fill = [](Random& random, auto e) {
    std::array<Index, keys> key{0, 1, 2, 3, 4, 5, 6, 7};
    const auto pairs = 2 + random.below(most - 1), asked = random.below(pairs);
    for (std::uint32_t t = 0; t < pairs; ++t) {
      std::swap(key[t], key[t + random.below(keys - t)]);
      const auto value = random.below(values);
      e.input(t)[key[t]] = e.input(t)[keys + value] = 1;
      if (t == asked) e.target(pairs)[value] = 1;
    }
    e.input(pairs)[key[asked]] = 1;
    e.weight(pairs) = 1;
    return pairs + 1;  // steps of this episode; what lies behind them does not matter
  };
  const SampledTask task({.inputs = keys + values, .outputs = values, .steps = most + 1}, fill);
  PlasticRNN<Gradient, float> net(
      {.inputs = keys + values, .hidden = 64, .outputs = values, .inner_scale = 1});
  AdamW<float> optimizer(net.parameters(), {.learning_rate = 3e-3});
  Trainer trainer(net, task, CrossEntropy(), optimizer,
                  {.batches = batches, .validation_batches = 20});
  ProgressBar bar(std::cout, "ragged", false);
  trainer.run(bar, EarlyStopping({.target = 2e-3}));
  const Evaluation test = trainer.evaluate_in_detail({0, Random::Purpose::test}, 100);
  std::cout << std::setprecision(4) << "right: " << 100 * test.measure("accuracy").mean()
            << "% of 6400 test episodes\n";
}
