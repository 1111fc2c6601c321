#include "other.hpp"

#include "plastic/plastic.hpp"

double step_elsewhere() {
  const plastic::PlasticRNN<plastic::Hebbian, double> net({.inputs = 3, .hidden = 5});
  auto state = net.initial_state(1);
  return net.step(state, plastic::Matrix<double>::Ones(3, 1)).output(0, 0);
}

double loss_of(plastic::PlasticLSTM<plastic::Gradient, float>& net) {
  plastic::AdamW<float> optimizer(net.parameters());
  plastic::Trainer trainer(net, plastic::CueReward(), optimizer, {.batch = 4});
  return trainer.step(0);
}
