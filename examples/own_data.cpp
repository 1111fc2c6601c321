// Classification of data of one's own: rows of features with a class each, some of them held out.

#include <array>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <utility>
#include <vector>

#include "arguments.hpp"
#include "plastic/plastic.hpp"
using namespace plastic;

namespace {

constexpr Index features = 2, classes = 3;
using Row = std::pair<std::array<float, features>, Index>;  // features and class

struct OwnData {
  std::vector<Row> train, held;  // read them from a file of yours

  Index inputs() const { return features; }
  Index outputs() const { return classes; }
  Index steps() const { return 1; }

  // Samples first, first + 1, ... of a batch, each one step long.
  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& episodes) const {
    episodes.set_zero(features, classes, 1, samples);
    for (Index s = 0; s < samples; ++s) {
      const auto number = static_cast<std::size_t>(first + s);
      Random random(stream, batch, number);
      const bool training = stream.purpose == Random::Purpose::training;
      const auto& [values, label] =
          training ? train[random.below(static_cast<std::uint32_t>(train.size()))]
                   : held[number % held.size()];
      for (Index k = 0; k < features; ++k) {
        episodes.inputs(k, s) = static_cast<Scalar>(values[static_cast<std::size_t>(k)]);
      }
      episodes.targets(label, s) = 1;
      episodes.weights(0, s) = 1;
    }
  }
};

// Three spirals, in the place of a file.
OwnData spirals() {
  OwnData data;
  for (std::uint64_t n = 0; n < 900; ++n) {
    Random random({.seed = 7}, 0, n);
    const auto label = static_cast<Index>(n % classes);
    const double radius = random.uniform(), noise = 0.1 * random.normal();
    const double angle = 4 * radius + 2.1 * static_cast<double>(label) + noise;
    const Row row{{static_cast<float>(radius * std::cos(angle)),
                   static_cast<float>(radius * std::sin(angle))},
                  label};
    (n < 700 ? data.train : data.held).push_back(row);
  }
  return data;
}

}  // namespace

int main(int argc, char** argv) {
  const int batches = examples::read_arguments(
      argc, argv, "Trains a network to classify rows of data, and tests it on rows held out.",
      1000);
  const OwnData data = spirals();
  PlasticRNN<None, float> net({.inputs = features, .hidden = 64, .outputs = classes});
  AdamW<float> optimizer(net.parameters(), {.learning_rate = 3e-3});
  // A batch has as many samples as there are held rows: one batch of validation sees each once.
  const auto held = static_cast<Index>(data.held.size());
  Trainer trainer(net, data, CrossEntropy(), optimizer,
                  {.batch = held, .batches = batches, .validation_batches = 1});
  trainer.run(ProgressBar(std::cout, "own data", false));
  const Evaluation test = trainer.evaluate_in_detail({0, Random::Purpose::test}, 1);
  std::cout << "right: " << 100 * test.measure("accuracy").mean() << "% of "
            << test.measure("accuracy").count << " rows\n";

  // In use: one row, without a target.
  auto state = net.initial_state(1);
  const Matrix<float> row = Matrix<float>::Constant(features, 1, 0.5F);
  Index label = 0;
  net.step(state, row).output.col(0).maxCoeff(&label);
  std::cout << "(0.5, 0.5) is of class " << label << "\n";
}
