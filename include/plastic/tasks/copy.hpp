#pragma once

#include <cstdint>

#include "plastic/core/settings.hpp"
#include "plastic/tasks/detail/draws.hpp"
#include "plastic/tasks/episodes.hpp"

namespace plastic {

/// Numbers that a sequence to be copied consists of: uniform in [-1, 1], -1 or 1, 0 or 1.
enum class CopyValues { uniform, signs, bits };

/// Settings of Copy.
struct CopyOptions {
  Index length = 100;                       ///< L, vectors in a sequence
  Index dimension = 10;                     ///< d, numbers in a vector
  CopyValues values = CopyValues::uniform;  ///< what the numbers are drawn from
};

/// Copy: see a whole sequence of vectors, then reproduce it.
///
/// The numbers of the L vectors are independent, uniform in [-1, 1], or -1 or 1, or 0 or 1 with
/// equal probability. An episode is
///
///     step          input 0 .. d-1   input d   target
///     0 .. L-1      a vector         0         0
///     L             0                1         0
///     L+1 .. 2L     0                0         the vector shown L+1 steps before
///
/// The loss counts the last L steps, which are the queries; predicting zero leaves a squared error
/// of 1/3, 1 or 1/2. With a delay, or with the order to reproduce in every step, it is
/// SequenceReproduction. Sources: Graves, Wayne, Danihelka, "Neural Turing machines",
/// arXiv:1410.5401, section 4.1 (bits); "Continuous memory machines", arXiv:2610.07907 (100 steps
/// of 10 uniform numbers). Const and safe from several threads.
class Copy {
 public:
  /// Throws std::invalid_argument if a count is not in [1, 2^31), if the episode has 2^31 steps or
  /// more, or if the values are none of CopyValues.
  explicit Copy(const CopyOptions& options = {}) : options_(options) {
    detail::check_count("Copy", "length", options.length);
    detail::check_count("Copy", "dimension", options.dimension);
    detail::check_total("Copy", "the number of steps",
                        2.0 * static_cast<double>(options.length) + 1);
    if (options.values != CopyValues::uniform && options.values != CopyValues::signs &&
        options.values != CopyValues::bits) {
      detail::reject("Copy", "values", "one of CopyValues", static_cast<int>(options.values));
    }
  }

  const CopyOptions& options() const { return options_; }  ///< as given

  /// Name and options, for a checkpoint.
  Settings settings() const {
    return {{"name", "copy"},
            {"length", detail::number_text(options_.length)},
            {"dimension", detail::number_text(options_.dimension)},
            {"values", detail::number_text(static_cast<int>(options_.values))}};
  }

  Index inputs() const { return options_.dimension + 1; }  ///< a vector, "reproduce them"
  Index outputs() const { return options_.dimension; }     ///< a vector
  Index steps() const { return 2 * options_.length + 1; }  ///< 2L + 1

  /// See Task. Values are drawn in double and rounded to Scalar. Throws std::invalid_argument
  /// unless samples >= 1, 0 <= first, first + samples <= 2^32 and batch < 2^56.
  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& episodes) const {
    detail::check_samples("Copy::generate", first, samples);
    episodes.set_zero(inputs(), outputs(), steps(), samples);
    const Index shown = options_.length * samples, answers = shown + samples;
    episodes.inputs.row(options_.dimension).segment(shown, samples).setOnes();
    episodes.weights.rightCols(shown).setOnes();
    detail::for_each_sample(stream, batch, first, samples, [&](Random random, Index s) {
      for (Index column = s; column < shown; column += samples) {
        for (Index i = 0; i < options_.dimension; ++i) {
          const auto value = static_cast<Scalar>(draw(random));
          episodes.inputs(i, column) = value;
          episodes.targets(i, answers + column) = value;
        }
      }
    });
  }

 private:
  double draw(Random& random) const {
    if (options_.values == CopyValues::uniform) return random.uniform(-1, 1);
    if (options_.values == CopyValues::signs) return detail::random_sign(random);
    return detail::random_bit(random);
  }

  CopyOptions options_;
};

static_assert(Task<Copy, float> && Task<Copy, double>);

}  // namespace plastic
