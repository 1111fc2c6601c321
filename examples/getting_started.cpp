#include <iostream>

#include "plastic/plastic.hpp"
using namespace plastic;

int main() {
  // A number is shown in the first step, and asked for in the last.
  constexpr Index steps = 10;
  const SampledTask task({.inputs = 2, .outputs = 1, .steps = steps}, [](Random& random, auto e) {
    const auto number = static_cast<float>(random.uniform(-1, 1));
    e.input(0)[0] = number;
    e.input(steps - 1)[1] = 1;  // "what was it?"
    e.target(steps - 1)[0] = number;
    e.weight(steps - 1) = 1;  // only this step counts
  });

  PlasticLSTM<Gradient, float> net({.inputs = 2, .hidden = 32, .outputs = 1});
  AdamW<float> optimizer(net.parameters());
  Trainer trainer(net, task, optimizer, {.batch = 64});
  for (int batch = 0; batch <= 1000; ++batch) {
    const double loss = trainer.step(batch);
    if (batch % 100 == 0) std::cout << "batch " << batch << "  loss " << loss << "\n";
  }
}
