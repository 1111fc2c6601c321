#pragma once

#include <cstdint>

#include "plastic/core/settings.hpp"
#include "plastic/tasks/episodes.hpp"

namespace plastic {

/// Settings of SequenceReproduction.
struct SequenceReproductionOptions {
  Index length = 20;    ///< n, values in a sequence
  Index delay = 20;     ///< m, steps between the sequence and its recall; may be 0
  Index dimension = 1;  ///< d, dimension of a value
};

/// Sequence reproduction: repeat a sequence after a delay.
///
/// A value is uniform in [-1, 1]^d. With its n values an episode is
///
///     steps               input 0 .. d-1   input d   input d+1   target
///     0 .. n-1            the value        1         0           0
///     n .. n+m-1          0                0         0           0
///     n+m .. 2n+m-1       0                0         1           the value shown n+m steps before
///
/// The loss counts the last n steps, which are the queries; predicting zero leaves 1/3. Source:
/// Duan, Jia, Li, Zhong, Ma, "Hebbian and Gradient-based Plasticity Enables Robust Memory and Rapid
/// Learning in RNNs", ICLR 2023. Const and safe from several threads.
class SequenceReproduction {
 public:
  /// Throws std::invalid_argument if a count is not in [1, 2^31), or [0, 2^31) for the delay.
  explicit SequenceReproduction(const SequenceReproductionOptions& options = {})
      : options_(options) {
    detail::check_count("SequenceReproduction", "length", options.length);
    detail::check_count("SequenceReproduction", "delay", options.delay, 0);
    detail::check_count("SequenceReproduction", "dimension", options.dimension);
  }

  const SequenceReproductionOptions& options() const { return options_; }  ///< as given

  /// Name and options, for a checkpoint.
  Settings settings() const {
    return {{"name", "sequence_reproduction"},
            {"length", detail::number_text(options_.length)},
            {"delay", detail::number_text(options_.delay)},
            {"dimension", detail::number_text(options_.dimension)}};
  }

  Index inputs() const { return options_.dimension + 2; }  ///< a value, "shown", "asked for"
  Index outputs() const { return options_.dimension; }     ///< a value
  Index steps() const { return 2 * options_.length + options_.delay; }  ///< 2n + m

  /// See Task. Throws std::invalid_argument unless samples >= 1, 0 <= first,
  /// first + samples <= 2^32 and batch < 2^56.
  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& episodes) const {
    detail::check_samples("SequenceReproduction::generate", first, samples);
    const Index shown = options_.length * samples;
    const Index d = options_.dimension;
    detail::resize(episodes, inputs(), outputs(), steps(), options_.length, samples);
    episodes.inputs.setZero();
    episodes.targets.setZero();
    episodes.weights = episodes.queries;
    episodes.inputs.row(d).head(shown).setOnes();
    episodes.inputs.row(d + 1).tail(shown).setOnes();
    const Index recall = (options_.length + options_.delay) * samples;
    const auto fill = [&](Random random, Index s) {
      for (Index column = s; column < shown; column += samples) {
        for (Index i = 0; i < d; ++i) {
          const auto value = static_cast<Scalar>(random.uniform(-1, 1));
          episodes.inputs(i, column) = value;
          episodes.targets(i, recall + column) = value;
        }
      }
    };
    detail::for_each_sample(stream, batch, first, samples, fill);
  }

 private:
  SequenceReproductionOptions options_;
};

static_assert(Task<SequenceReproduction, float> && Task<SequenceReproduction, double>);

}  // namespace plastic
