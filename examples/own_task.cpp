// A task of one's own: noisy associative recall. An episode shows pairs of a pattern and a value;
// then it shows the patterns again, with some of their bits flipped, and asks for the values.

#include <algorithm>
#include <array>
#include <cstdint>
#include <iostream>

#include "arguments.hpp"
#include "plastic/plastic.hpp"

using plastic::Index;
using plastic::Random;

class AssociativeRecall {
 public:
  static constexpr Index pairs = 4, bits = 12;
  static constexpr double flip = 0.1;  // probability, of each bit of a query

  Index inputs() const { return bits + 2; }  // pattern, value, "this is a query"
  Index outputs() const { return 1; }
  Index steps() const { return 2 * pairs; }

  // All of a sample follows from (stream, batch, its number): see tasks/episodes.hpp.
  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                plastic::Episodes<Scalar>& episodes) const {
    const Index columns = steps() * samples;
    episodes.inputs.setZero(inputs(), columns);
    episodes.targets.setZero(outputs(), columns);
    episodes.weights.setZero(1, columns);
    for (Index s = 0; s < samples; ++s) {
      Random random(stream, batch, static_cast<std::uint64_t>(first + s));
      std::array<Index, pairs> order{};  // order of the queries, new in every episode
      for (Index pair = 0; pair < pairs; ++pair) {
        const auto other = static_cast<Index>(random.below(static_cast<std::uint32_t>(pair + 1)));
        order[static_cast<std::size_t>(pair)] = order[static_cast<std::size_t>(other)];
        order[static_cast<std::size_t>(other)] = pair;
      }
      for (Index pair = 0; pair < pairs; ++pair) {
        const Index shown = pair * samples + s;
        const Index asked = (pairs + order[static_cast<std::size_t>(pair)]) * samples + s;
        const auto value = static_cast<Scalar>(random.uniform(-1, 1));
        for (Index i = 0; i < bits; ++i) {
          const Scalar bit = random.below(2) == 0 ? Scalar(-1) : Scalar(1);
          episodes.inputs(i, shown) = bit;
          episodes.inputs(i, asked) = random.uniform() < flip ? -bit : bit;
        }
        episodes.inputs(bits, shown) = value;
        episodes.inputs(bits + 1, asked) = 1;
        episodes.targets(0, asked) = value;
        episodes.weights(0, asked) = 1;  // only the queries count
      }
    }
    episodes.queries = episodes.weights;
  }
};

static_assert(plastic::Task<AssociativeRecall, float>);

int main(int argc, char** argv) {
  const Index batches = examples::read_arguments(
      argc, argv, "Trains a network on associative recall, a user-defined task.", 1000);
  const AssociativeRecall task;
  plastic::PlasticRNN<plastic::Hebbian, float> net({.inputs = task.inputs(), .hidden = 64});
  plastic::AdamW<float> optimizer(net.parameters());
  plastic::Trainer trainer(net, task, optimizer, {.batches = batches});
  plastic::ProgressBar bar(std::cout, "recall", false);
  trainer.run(bar);
  const auto test = trainer.evaluate_in_detail({0, Random::Purpose::test}, 20);
  std::cout << "error on queries " << test.measure("query_error").mean()
            << " (predicting zero leaves 0.333), " << 100 * test.measure("within_bound").mean()
            << "% within 0.05\n";
}
