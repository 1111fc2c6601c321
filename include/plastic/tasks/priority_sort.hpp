#pragma once

#include <cstdint>

#include "plastic/core/settings.hpp"
#include "plastic/tasks/detail/draws.hpp"
#include "plastic/tasks/episodes.hpp"

namespace plastic {

/// Settings of PrioritySort.
struct PrioritySortOptions {
  Index vectors = 20;  ///< n, vectors in an episode
  Index answers = 16;  ///< k, vectors to reproduce
  Index bits = 8;      ///< b, bits of a vector
};

/// Priority sort: see vectors with priorities, then reproduce those of highest priority in order.
///
/// A bit is 0 or 1 with equal probability, a priority is uniform in [-1, 1]. An episode is
///
///     step           input 0 .. b-1   input b        input b+1   target
///     0 .. n-1       a vector         its priority   0           0
///     n              0                0              1           0
///     n+1 .. n+k     0                0              0           the vectors of highest priority,
///                                                                the highest first
///
/// The loss counts the last k steps, which are the queries; it is BinaryCrossEntropy. Priorities
/// are rounded to float, so that float and double sort alike; of equal ones the earlier is first.
/// The time of an episode is O(n (n + b)). Source: Graves, Wayne, Danihelka, "Neural Turing
/// machines", arXiv:1410.5401, section 4.5 (20 vectors, 16 answers). Const and safe from several
/// threads.
class PrioritySort {
 public:
  /// Throws std::invalid_argument if a count is not in [1, 2^31), if there are more answers than
  /// vectors, or if the episode has 2^31 steps or more.
  explicit PrioritySort(const PrioritySortOptions& options = {}) : options_(options) {
    detail::check_count("PrioritySort", "vectors", options.vectors);
    detail::check_count("PrioritySort", "answers", options.answers);
    detail::check_count("PrioritySort", "bits", options.bits);
    if (options.answers > options.vectors) {
      detail::reject("PrioritySort", "answers", "at most the number of vectors", options.answers);
    }
    detail::check_total(
        "PrioritySort", "the number of steps",
        static_cast<double>(options.vectors) + static_cast<double>(options.answers) + 1);
  }

  const PrioritySortOptions& options() const { return options_; }  ///< as given

  /// Name and options, for a checkpoint.
  Settings settings() const {
    return {{"name", "priority_sort"},
            {"vectors", detail::number_text(options_.vectors)},
            {"answers", detail::number_text(options_.answers)},
            {"bits", detail::number_text(options_.bits)}};
  }

  Index inputs() const { return options_.bits + 2; }  ///< a vector, its priority, "sort them"
  Index outputs() const { return options_.bits; }     ///< a vector
  Index steps() const { return options_.vectors + options_.answers + 1; }  ///< n + k + 1

  /// See Task. Throws std::invalid_argument unless samples >= 1, 0 <= first,
  /// first + samples <= 2^32 and batch < 2^56.
  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& episodes) const {
    detail::check_samples("PrioritySort::generate", first, samples);
    episodes.set_zero(inputs(), outputs(), steps(), samples);
    const Index b = options_.bits, shown = options_.vectors * samples;
    episodes.inputs.row(b + 1).segment(shown, samples).setOnes();
    episodes.weights.rightCols(options_.answers * samples).setOnes();
    detail::for_each_sample(stream, batch, first, samples, [&](Random random, Index s) {
      for (Index column = s; column < shown; column += samples) {
        for (Index i = 0; i < b; ++i) {
          episodes.inputs(i, column) = static_cast<Scalar>(detail::random_bit(random));
        }
        episodes.inputs(b, column) = static_cast<Scalar>(static_cast<float>(random.uniform(-1, 1)));
      }
      // Ranks by comparison: sorting would take memory.
      for (Index column = s; column < shown; column += samples) {
        const Scalar priority = episodes.inputs(b, column);
        Index rank = 0;
        for (Index other = s; other < shown; other += samples) {
          const Scalar its = episodes.inputs(b, other);
          rank += its > priority || (its == priority && other < column) ? 1 : 0;
        }
        if (rank >= options_.answers) continue;
        episodes.targets.col(shown + (1 + rank) * samples + s) =
            episodes.inputs.col(column).head(b);
      }
    });
  }

 private:
  PrioritySortOptions options_;
};

static_assert(Task<PrioritySort, float> && Task<PrioritySort, double>);

}  // namespace plastic
