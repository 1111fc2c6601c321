// The example of the README.

#include <iostream>

#include "plastic/plastic.hpp"

int main() {
  plastic::CueReward task;
  plastic::PlasticRNN<plastic::Hebbian, float> net({.inputs = 16, .hidden = 64});
  plastic::AdamW<float> optimizer(net.parameters());
  plastic::Trainer trainer(net, task, optimizer, {.batch = 64});
  for (int batch = 0; batch < 300; ++batch) {
    const double loss = trainer.step(batch);
    if (batch % 50 == 0) std::cout << "batch " << batch << "  loss " << loss << "\n";
  }
  auto state = net.initial_state(1);  // now step it, one time step at a time
  auto result = net.step(state, plastic::Matrix<float>::Random(16, 1));
  std::cout << "output " << result.output << ", learning rate " << result.eta << "\n";
}
