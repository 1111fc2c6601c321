#pragma once

#include <cstdint>

#include "plastic/core/settings.hpp"
#include "plastic/tasks/detail/draws.hpp"
#include "plastic/tasks/episodes.hpp"

namespace plastic {

/// Settings of AssociativeRetrieval. The default is the paper's.
struct AssociativeRetrievalOptions {
  Index pairs = 4;  ///< K, letters with their digits
};

/// Associative retrieval: name the digit that came after a letter, as in c9k8j3f1??c, which asks
/// for 9.
///
/// A step shows one of 37 symbols as a column that is 1 in one place: letters are inputs 0 .. 25,
/// digits are inputs 26 .. 35, "?" is input 36. The K letters of an episode are drawn without
/// replacement, their digits uniformly. One of the letters, drawn uniformly, is asked for:
///
///     step                          input             target 0 .. 9
///     0, 2, ..., 2K-2               a letter          0
///     1, 3, ..., 2K-1               its digit         0
///     2K, 2K+1                      ?                 0
///     2K+2                          the letter        1 for its digit, else 0
///
/// Only the last step counts in the loss, and it is the query; the loss is CrossEntropy. Source:
/// Ba, Hinton, Mnih, Leibo, Ionescu, "Using fast weights to attend to the recent past", NIPS 2016,
/// section 4.1. Const and safe from several threads.
class AssociativeRetrieval {
 public:
  static constexpr Index letters = 26;  ///< number of letters, inputs 0 .. 25
  static constexpr Index digits = 10;   ///< number of digits, inputs 26 .. 35

  /// Throws std::invalid_argument unless the pairs are in 1 .. 26.
  explicit AssociativeRetrieval(const AssociativeRetrievalOptions& options = {})
      : options_(options) {
    detail::check_between("AssociativeRetrieval", "pairs", options.pairs, 1, letters);
  }

  const AssociativeRetrievalOptions& options() const { return options_; }  ///< as given

  /// Name and options, for a checkpoint.
  Settings settings() const {
    return {{"name", "associative_retrieval"}, {"pairs", detail::number_text(options_.pairs)}};
  }

  Index inputs() const { return letters + digits + 1; }   ///< a symbol
  Index outputs() const { return digits; }                ///< a digit
  Index steps() const { return 2 * options_.pairs + 3; }  ///< pairs, "??" and a letter

  /// See Task. Throws std::invalid_argument unless samples >= 1, 0 <= first,
  /// first + samples <= 2^32 and batch < 2^56.
  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& episodes) const {
    detail::check_samples("AssociativeRetrieval::generate", first, samples);
    episodes.set_zero(inputs(), outputs(), steps(), samples);
    detail::for_each_sample(stream, batch, first, samples, [&](Random random, Index s) {
      const auto show = [&](Index t, Index symbol) {
        episodes.inputs(symbol, t * samples + s) = 1;
      };
      const Index end = 2 * options_.pairs, query = (end + 2) * samples + s;
      // The column of the query has room for marks of the letters that are used up.
      const auto mark = [&](Index i) -> Scalar& { return episodes.inputs(i, query); };
      const Index asked = detail::random_index(random, options_.pairs);
      Index asked_letter = 0;
      for (Index k = 0; k < options_.pairs; ++k) {
        const Index letter = detail::draw_unmarked(random, letters, mark);
        const Index digit = detail::random_index(random, digits);
        show(2 * k, letter);
        show(2 * k + 1, letters + digit);
        if (k != asked) continue;
        asked_letter = letter;
        episodes.targets(digit, query) = 1;
      }
      show(end, letters + digits);
      show(end + 1, letters + digits);
      episodes.inputs.col(query).setZero();
      show(end + 2, asked_letter);
      episodes.weights(0, query) = 1;
    });
  }

 private:
  AssociativeRetrievalOptions options_;
};

static_assert(Task<AssociativeRetrieval, float> && Task<AssociativeRetrieval, double>);

}  // namespace plastic
