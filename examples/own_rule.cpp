// A plasticity rule of one's own: Oja's, which keeps a neuron's weights bounded where plain Hebbian
// growth would not.

#include <iostream>
#include <string_view>

#include "arguments.hpp"
#include "plastic/plastic.hpp"

// For a linear neuron y = (W + w)' x: dw = (x - (W + w) y) y'. The bracket is what is left of the
// input when the output has explained its part. Source: Oja, "Neural networks, principal
// components, and subspaces", International Journal of Neural Systems 1989.
struct Oja {
  static constexpr std::string_view name = "oja";
  static constexpr bool plastic = true;

  template <class Scalar>
  static void propose(plastic::RuleStep<Scalar>& step) {
    for (std::size_t l = 0; l < step.connections.size(); ++l) {
      plastic::Connection<Scalar>& layer = step.connections[l];
      const plastic::Var<Scalar> y = layer.pre_activation;
      layer.change = {layer.input - step.feedback(l, y), y, 0};  // pre, post, no change of the bias
    }
  }
};

static_assert(plastic::PlasticityRule<Oja, float>);

int main(int argc, char** argv) {
  const int batches = examples::read_arguments(
      argc, argv, "Trains a network with Oja's rule, a user-defined rule, on the cue-reward task.",
      1000);
  const plastic::CueReward task;
  plastic::PlasticRNN<Oja, float> net({.inputs = task.inputs(), .hidden = 64});
  plastic::AdamW<float> optimizer(net.parameters());
  plastic::Trainer trainer(net, task, optimizer, {.batches = batches});
  plastic::ProgressBar bar(std::cout, "oja", false);
  trainer.run(bar);
  std::cout << "test loss " << trainer.evaluate({0, plastic::Random::Purpose::test}, 20)
            << " (best without looking at the cue: 0.137)\n";
}
