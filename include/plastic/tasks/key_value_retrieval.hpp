#pragma once

#include <cstdint>

#include "plastic/core/settings.hpp"
#include "plastic/tasks/detail/draws.hpp"
#include "plastic/tasks/episodes.hpp"

namespace plastic {

/// Settings of KeyValueRetrieval.
struct KeyValueRetrievalOptions {
  Index keys = 20;      ///< S, number of keys, and of values
  Index pairs = 0;      ///< pairs shown; 0: as in the paper, 2 S with repeats and S without
  bool repeats = true;  ///< whether keys and values may come again
};

/// Key-value retrieval: name the value that a key was last shown with.
///
/// There are S keys and S values, each a column that is 1 in one place. With `repeats`, every key
/// and every value is drawn uniformly; without, keys are all different, and so are values. The key
/// of a pair that is drawn uniformly is asked for, so that a key that came twice as often is asked
/// for twice as often. With N pairs an episode is
///
///     step         input 0 .. S-1   input S .. 2S-1   input 2S   target
///     0 .. N-1     key              its value         0          0
///     N            key asked for    0                 1          the value that came last with it
///
/// Only the last step counts in the loss, and it is the query. The paper's loss is half of the
/// squared error, S/2 times that of SquaredError; CrossEntropy names the value as a class.
///
/// In the paper S is 20 to 600 without repeats; with repeats, training shows 2 S pairs and
/// evaluation S pairs. Source: Schlag, Irie, Schmidhuber, "Linear transformers are secretly fast
/// weight programmers", ICML 2021, section 6.1. Const and safe from several threads.
class KeyValueRetrieval {
 public:
  /// Throws std::invalid_argument if a count is not in [1, 2^31), or [0, 2^31) for the pairs, if
  /// there are 2^31 inputs or steps or more, or if there are more pairs than keys without repeats.
  explicit KeyValueRetrieval(const KeyValueRetrievalOptions& options = {}) : options_(options) {
    constexpr auto here = "KeyValueRetrieval";
    detail::check_count(here, "keys", options.keys);
    detail::check_count(here, "pairs", options.pairs, 0);
    detail::check_total(here, "the number of inputs", 2.0 * static_cast<double>(options.keys) + 1);
    detail::check_total(here, "the number of steps", static_cast<double>(options.pairs) + 1);
    if (options.pairs == 0) options_.pairs = options.repeats ? 2 * options.keys : options.keys;
    if (!options.repeats && options.pairs > options.keys) {
      detail::reject(here, "pairs", "at most the number of keys, as nothing repeats",
                     options.pairs);
    }
  }

  /// Options with the number of pairs resolved.
  const KeyValueRetrievalOptions& options() const { return options_; }

  /// Name and options, for a checkpoint.
  Settings settings() const {
    return {{"name", "key_value_retrieval"},
            {"keys", detail::number_text(options_.keys)},
            {"pairs", detail::number_text(options_.pairs)},
            {"repeats", detail::bool_text(options_.repeats)}};
  }

  Index inputs() const { return 2 * options_.keys + 1; }  ///< a key, a value, "asked for"
  Index outputs() const { return options_.keys; }         ///< a value
  Index steps() const { return options_.pairs + 1; }      ///< the pairs and the query

  /// See Task. Throws std::invalid_argument unless samples >= 1, 0 <= first,
  /// first + samples <= 2^32 and batch < 2^56.
  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& episodes) const {
    detail::check_samples("KeyValueRetrieval::generate", first, samples);
    episodes.set_zero(inputs(), outputs(), steps(), samples);
    const Index size = options_.keys;
    detail::for_each_sample(stream, batch, first, samples, [&](Random random, Index s) {
      const Index query = options_.pairs * samples + s;
      // The column of the query has room for marks of the keys and values that are used up.
      const auto draw = [&](Index row) {
        if (options_.repeats) return detail::random_index(random, size);
        return detail::draw_unmarked(
            random, size, [&](Index i) -> Scalar& { return episodes.inputs(row + i, query); });
      };
      const Index asked = detail::random_index(random, options_.pairs);
      Index asked_key = -1, answer = 0;
      for (Index t = 0; t < options_.pairs; ++t) {
        const Index key = draw(0), value = draw(size);
        episodes.inputs(key, t * samples + s) = 1;
        episodes.inputs(size + value, t * samples + s) = 1;
        if (t == asked) asked_key = key;
        if (key == asked_key) answer = value;
      }
      if (!options_.repeats) episodes.inputs.col(query).setZero();
      episodes.inputs(asked_key, query) = 1;
      episodes.inputs(2 * size, query) = 1;
      episodes.targets(answer, query) = 1;
      episodes.weights(0, query) = 1;
    });
  }

 private:
  KeyValueRetrievalOptions options_;
};

static_assert(Task<KeyValueRetrieval, float> && Task<KeyValueRetrieval, double>);

}  // namespace plastic
