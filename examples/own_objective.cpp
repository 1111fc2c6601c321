// An objective of one's own: fits a line to noisy points, which are new in every batch. Any model
// and any loss on the tape can be trained in this way, on all threads, with schedule, checkpoint
// and log.

#include <cmath>
#include <iostream>
#include <span>
#include <vector>

#include "arguments.hpp"
#include "plastic/plastic.hpp"
using namespace plastic;

class Line {
 public:
  using ScalarType = double;

  Line() {
    line_.add("slope", 1, 1);
    line_.add("offset", 1, 1);
  }

  std::vector<Parameters<double>*> parameters() { return {&line_}; }

  // The shard's part of the batch's loss; its gradient is added where one is wanted.
  double loss(const Shard& shard, std::span<Vector<double>> gradients, Evaluation*) {
    Matrix<double> x(1, shard.size()), y(1, shard.size());
    for (Index k = 0; k < shard.size(); ++k) {
      const auto sample = static_cast<std::uint64_t>(shard.samples[static_cast<std::size_t>(k)]);
      Random random(shard.key.stream, static_cast<std::uint64_t>(shard.key.batch), sample);
      x(0, k) = random.uniform(-1, 1);
      y(0, k) = 2 * x(0, k) - 1 + 0.1 * random.normal();
    }
    Tape<double> tape;
    Vector<double>* gradient = gradients.empty() ? nullptr : &gradients[0];
    const auto slope = borrow(tape, line_, 0, gradient), offset = borrow(tape, line_, 1, gradient);
    const auto error = slope * tape.constant(x) + offset - tape.constant(y);
    const auto loss = sum(square(error)) / shard.key.samples;  // parts sum to the batch's mean
    if (gradient != nullptr) tape.backward(loss);
    return loss.value()(0, 0);
  }

 private:
  Parameters<double> line_;
};

int main(int argc, char** argv) {
  const int batches = examples::read_arguments(
      argc, argv, "Fits a line with a Trainer and a user-defined objective.", 400);
  Line line;
  AdamW<double> optimizer(line.parameters(), {.learning_rate = 0.1});
  Trainer trainer(line, optimizer,
                  {.batches = batches,
                   .schedule = CosineSchedule({.learning_rate = 0.1}),
                   .validation_every = 100,
                   .shard = 16});
  ProgressBar bar(std::cout, "line", false);
  trainer.run(bar);
  std::cout << "y = " << line.parameters()[0]->values()[0] << " x + "
            << line.parameters()[0]->matrix("offset")(0, 0)
            << "; the points are drawn from y = 2 x - 1\n";
}
