// Training without a Trainer: your own loop over episodes and your own loss; then the weights go to
// a file.

#include <cmath>
#include <iostream>

#include "arguments.hpp"
#include "plastic/io/model_file.hpp"
#include "plastic/plastic.hpp"

int main(int argc, char** argv) {
  using namespace plastic;
  examples::read_arguments(argc, argv,
                           "Trains a network to continue waves, in a hand-written loop, and writes "
                           "by_hand.safetensors.");

  PlasticRNN<Hebbian, float> net({.inputs = 1, .hidden = 32, .outputs = 1, .seed = 1});
  AdamW<float> optimizer(net.parameters(), {.learning_rate = 3e-3});
  Vector<float> gradients = net.zero_gradients();
  Tape<float> tape;  // keeps its memory from one batch to the next

  // Each sample has a wave of its own, and the network says in each step what comes in the next.
  constexpr Index samples = 32, steps = 30;
  const auto wave = [](double phase, double speed, Index step) {
    return static_cast<float>(std::sin(phase + speed * static_cast<double>(step)));
  };
  for (std::uint64_t batch = 0; batch <= 400; ++batch) {
    Matrix<float> inputs(1, steps * samples), targets(1, steps * samples);
    for (Index s = 0; s < samples; ++s) {
      Random random({.seed = 1}, batch, static_cast<std::uint64_t>(s));
      const double phase = random.uniform(0, 6.28), speed = random.uniform(0.2, 0.8);
      for (Index t = 0; t < steps; ++t) {
        inputs(0, t * samples + s) = wave(phase, speed, t);
        targets(0, t * samples + s) = wave(phase, speed, t + 1);
      }
    }

    tape.clear();
    gradients.setZero();
    auto episode = net.begin(tape, samples, &gradients);
    const auto result = net.run(episode, inputs);  // output: 1 x (steps * samples)
    const auto loss = mean_squared_error(result.output, tape.constant(targets));
    tape.backward(loss);
    clip_gradient_norm(gradients, 5);
    optimizer.step(net.parameters(), gradients);
    if (batch % 100 == 0) std::cout << "batch " << batch << "  loss " << loss.value() << "\n";
  }

  save("by_hand.safetensors", net);
  auto same = load<PlasticRNN<Hebbian, float>>("by_hand.safetensors");
  auto state = same.initial_state(1);
  for (Index t = 0; t < steps; ++t) {
    same.step(state, Matrix<float>::Constant(1, 1, wave(1, 0.5, t)));
  }
  const auto next = same.step(state, Matrix<float>::Constant(1, 1, wave(1, 0.5, steps)));
  std::cout << "after " << steps << " steps it predicts " << next.output << "; the true value is "
            << wave(1, 0.5, steps + 1) << "\n";
}
