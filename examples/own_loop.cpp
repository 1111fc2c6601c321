// A training loop of one's own on several threads. Each part of a batch has a tape and a gradient
// of its own; the gradients are added up. The network is shown one of three classes and names it
// later.

#include <cstdint>
#include <iostream>
#include <vector>

#include "arguments.hpp"
#include "plastic/plastic.hpp"
using namespace plastic;

// What a part of a batch needs.
struct Part {
  Tape<float> tape;
  Vector<float> gradients;
  double loss = 0;
};

int main(int argc, char** argv) {
  const int batches = examples::read_arguments(
      argc, argv, "Trains a network in a hand-written loop, on all threads.", 100);
  constexpr Index classes = 3, steps = 6, samples = 16;
  PlasticRNN<Hebbian, float> net({.inputs = classes + 1, .hidden = 24, .outputs = classes});
  AdamW<float> optimizer(net.parameters(), {.learning_rate = 3e-3});

  // The number of parts is fixed, whatever that of the threads: it decides the order of the sums,
  // and so the bits.
  constexpr Index parts = 4;
  std::vector<Part> all_parts(parts);
  Vector<float> gradients = net.zero_gradients();
  for (int batch = 0; batch <= batches; ++batch) {
    // Calls the function for every part, on whichever thread is free.
    parallel_for(parts, available_threads(), [&](Index part, int /*thread*/) {
      Part& mine = all_parts[static_cast<std::size_t>(part)];
      Matrix<float> inputs = Matrix<float>::Zero(classes + 1, steps * samples);
      Matrix<float> targets = Matrix<float>::Zero(classes, samples);
      for (Index s = 0; s < samples; ++s) {
        // Seed and purpose; the batch; the sample in the batch.
        Random random({.seed = 1, .purpose = Random::Purpose::training},
                      static_cast<std::uint64_t>(batch),
                      static_cast<std::uint64_t>(part * samples + s));
        const Index shown = random.below(classes);
        inputs(shown, s) = 1;                            // in the first step
        inputs(classes, (steps - 1) * samples + s) = 1;  // in the last: "what was it?"
        targets(shown, s) = 1;
      }

      mine.tape.clear();
      mine.gradients = net.zero_gradients();
      auto episode = net.begin(mine.tape, samples, &mine.gradients);
      const auto output = net.run(episode, inputs).output;            // outputs of all steps
      const auto logits = time_steps(output, samples, steps - 1, 1);  // those of the last step
      // cross_entropy takes logits: it does the softmax itself.
      const auto loss = cross_entropy(logits, mine.tape.constant(targets)) / parts;
      mine.tape.backward(loss);
      mine.loss = loss.value()(0, 0);  // value() is the matrix of a Var, here 1 x 1
    });

    double loss = 0;
    gradients.setZero();
    for (const Part& one : all_parts) {  // in the same order each time
      loss += one.loss;
      gradients += one.gradients;
    }
    clip_gradient_norm(gradients, 5);
    optimizer.step(net.parameters(), gradients);
    if (batch % 20 == 0) std::cout << "batch " << batch << "  loss " << loss << "\n";
  }
}
