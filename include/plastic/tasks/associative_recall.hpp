#pragma once

#include <cstdint>

#include "plastic/core/settings.hpp"
#include "plastic/tasks/detail/draws.hpp"
#include "plastic/tasks/episodes.hpp"

namespace plastic {

/// Settings of AssociativeRecall. The defaults are the paper's.
struct AssociativeRecallOptions {
  Index min_items = 2;  ///< fewest items in an episode
  Index max_items = 6;  ///< most items in an episode
  Index length = 3;     ///< l, vectors in an item
  Index bits = 6;       ///< b, bits of a vector
};

/// Associative recall: see a list of items, then one of them again, and reproduce the one after it.
///
/// An item is l vectors of b bits, each 0 or 1 with equal probability. The number of items n is
/// uniform in min_items .. max_items; the item that is shown again is any but the last, drawn
/// uniformly. With m = n (l + 1) an episode is
///
///     step                    input 0 .. b-1             input b   input b+1   target
///     k (l+1), k < n          0                          1         0           0
///     the l steps after it    vectors of item k          0         0           0
///     m                       0                          0         1           0
///     m+1 .. m+l              vectors of an item again   0         0           0
///     m+l+1                   0                          0         1           0
///     m+l+2 .. m+2l+1         0                          0         0           the item after it
///
/// These are (n + 2)(l + 1) steps, 16 to 32 by default; episodes differ in length. The loss counts
/// the last l steps of each, which are the queries; it is BinaryCrossEntropy. Two items are equal
/// with a probability of 2^-(b l). Source: Graves, Wayne, Danihelka, "Neural Turing machines",
/// arXiv:1410.5401, section 4.3. Const and safe from several threads.
class AssociativeRecall {
 public:
  static constexpr bool ragged = true;  ///< see Task

  /// Throws std::invalid_argument if min_items is not in [2, 2^31), another count not in [1, 2^31),
  /// max_items below min_items, or if an episode may have 2^31 steps or more.
  explicit AssociativeRecall(const AssociativeRecallOptions& options = {}) : options_(options) {
    constexpr auto here = "AssociativeRecall";
    detail::check_count(here, "min_items", options.min_items, 2);
    detail::check_count(here, "max_items", options.max_items);
    detail::check_count(here, "length", options.length);
    detail::check_count(here, "bits", options.bits);
    if (options.max_items < options.min_items) {
      detail::reject(here, "max_items", "at least min_items", options.max_items);
    }
    detail::check_total(
        here, "the number of steps",
        (static_cast<double>(options.max_items) + 2) * (static_cast<double>(options.length) + 1));
  }

  const AssociativeRecallOptions& options() const { return options_; }  ///< as given

  /// Name and options, for a checkpoint.
  Settings settings() const {
    return {{"name", "associative_recall"},
            {"min_items", detail::number_text(options_.min_items)},
            {"max_items", detail::number_text(options_.max_items)},
            {"length", detail::number_text(options_.length)},
            {"bits", detail::number_text(options_.bits)}};
  }

  Index inputs() const { return options_.bits + 2; }            ///< a vector, "item", "query"
  Index outputs() const { return options_.bits; }               ///< a vector
  Index steps() const { return steps_of(options_.max_items); }  ///< of the longest episode

  /// See Task. Throws std::invalid_argument unless samples >= 1, 0 <= first,
  /// first + samples <= 2^32 and batch < 2^56.
  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& episodes) const {
    detail::check_samples("AssociativeRecall::generate", first, samples);
    episodes.set_zero(inputs(), outputs(), steps(), samples);
    detail::for_each_sample(stream, batch, first, samples, [&](Random random, Index s) {
      const Index choices = options_.max_items - options_.min_items + 1;
      const Index items = options_.min_items + detail::random_index(random, choices);
      const Index asked = detail::random_index(random, items - 1);
      fill(random, items, asked, s, samples, episodes);
      episodes.lengths.push_back(steps_of(items));
    });
  }

 private:
  Index steps_of(Index items) const { return (items + 2) * (options_.length + 1); }

  template <class Scalar>
  void fill(Random& random, Index items, Index asked, Index s, Index samples,
            Episodes<Scalar>& episodes) const {
    const Index l = options_.length, b = options_.bits;
    const auto column = [&](Index t) { return t * samples + s; };
    for (Index k = 0; k < items; ++k) {
      const Index start = k * (l + 1);
      episodes.inputs(b, column(start)) = 1;
      for (Index t = 1; t <= l; ++t) {
        for (Index i = 0; i < b; ++i) {
          episodes.inputs(i, column(start + t)) = static_cast<Scalar>(detail::random_bit(random));
        }
      }
    }
    const Index query = items * (l + 1), answer = query + l + 1;
    episodes.inputs(b + 1, column(query)) = 1;
    episodes.inputs(b + 1, column(answer)) = 1;
    for (Index t = 1; t <= l; ++t) {
      const Index shown = column(asked * (l + 1) + t), next = column((asked + 1) * (l + 1) + t);
      episodes.inputs.col(column(query + t)) = episodes.inputs.col(shown);
      episodes.targets.col(column(answer + t)) = episodes.inputs.col(next).head(b);
      episodes.weights(0, column(answer + t)) = 1;
    }
  }

  AssociativeRecallOptions options_;
};

static_assert(Task<AssociativeRecall, float> && Task<AssociativeRecall, double>);

}  // namespace plastic
