#pragma once

#include <cmath>
#include <cstdint>

#include "plastic/core/settings.hpp"
#include "plastic/tasks/detail/draws.hpp"
#include "plastic/tasks/episodes.hpp"

namespace plastic {

/// Settings of PatternCompletion. The defaults are the paper's.
struct PatternCompletionOptions {
  Index bits = 1000;             ///< n, bits of a pattern
  Index patterns = 5;            ///< patterns in an episode
  Index rounds = 2;              ///< how often each pattern is shown
  Index presentation_steps = 6;  ///< steps that show a pattern
  Index blank_steps = 4;         ///< steps of zero input after each presentation; may be 0
  Index probe_steps = 6;         ///< steps that show the incomplete pattern
  double zeroed = 0.5;           ///< share of the bits that the incomplete pattern lacks
};

/// Pattern completion: memorise patterns of bits, then complete a part of one of them.
///
/// A bit is -1 or 1 with equal probability. Every round shows all patterns, in a random order of
/// its own. The probe is one of the patterns, drawn uniformly, with round(zeroed * n) of its bits
/// set to 0, drawn without replacement. With p patterns, r rounds, a presentation_steps, b
/// blank_steps and q probe_steps an episode is
///
///     steps                     input 0 .. n-1            target
///     r p times, a steps        a pattern                 0
///     after each, b steps       0                         0
///     last q steps              the incomplete pattern    0; in the last step the whole pattern
///
/// These are r p (a + b) + q steps, 106 by default. Only the last step counts in the loss, and it
/// is the query. Predicting zero leaves a squared error of 1, repeating the probe leaves `zeroed`.
/// With the loss SquaredError{.bound = 1} the measure within_bound is the share of the episodes
/// with the right sign of every bit. The share of the bits with the right sign is the accuracy of
/// BinaryCrossEntropy: a second Trainer with that loss may evaluate what the first trains.
///
/// Source: Miconi, Stanley, Clune, "Differentiable plasticity: training plastic neural networks
/// with backpropagation", ICML 2018, section 4.1. Their program zeroes each bit with a probability
/// instead, and multiplies the inputs by 20. Const and safe from several threads.
class PatternCompletion {
 public:
  /// Throws std::invalid_argument if a count is not in [1, 2^31), or [0, 2^31) for blank_steps, if
  /// the episode has 2^31 steps or more, or if `zeroed` is not in [0, 1].
  explicit PatternCompletion(const PatternCompletionOptions& options = {}) : options_(options) {
    constexpr auto here = "PatternCompletion";
    detail::check_count(here, "bits", options.bits);
    detail::check_count(here, "patterns", options.patterns);
    detail::check_count(here, "rounds", options.rounds);
    detail::check_count(here, "presentation_steps", options.presentation_steps);
    detail::check_count(here, "blank_steps", options.blank_steps, 0);
    detail::check_count(here, "probe_steps", options.probe_steps);
    detail::check_range(here, "zeroed", options.zeroed, 0, 1);
    const auto real = [](Index count) { return static_cast<double>(count); };
    detail::check_total(here, "the number of steps",
                        real(options.rounds) * real(options.patterns) *
                                (real(options.presentation_steps) + real(options.blank_steps)) +
                            real(options.probe_steps));
  }

  const PatternCompletionOptions& options() const { return options_; }  ///< as given

  /// Name and options, for a checkpoint.
  Settings settings() const {
    return {{"name", "pattern_completion"},
            {"bits", detail::number_text(options_.bits)},
            {"patterns", detail::number_text(options_.patterns)},
            {"rounds", detail::number_text(options_.rounds)},
            {"presentation_steps", detail::number_text(options_.presentation_steps)},
            {"blank_steps", detail::number_text(options_.blank_steps)},
            {"probe_steps", detail::number_text(options_.probe_steps)},
            {"zeroed", detail::number_text(options_.zeroed)}};
  }

  Index inputs() const { return options_.bits; }   ///< a pattern
  Index outputs() const { return options_.bits; }  ///< a pattern
  /// Presentations with their blank steps, and the probe.
  Index steps() const {
    return options_.rounds * options_.patterns * stride() + options_.probe_steps;
  }

  /// See Task. Throws std::invalid_argument unless samples >= 1, 0 <= first,
  /// first + samples <= 2^32 and batch < 2^56.
  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& episodes) const {
    detail::check_samples("PatternCompletion::generate", first, samples);
    episodes.set_zero(inputs(), outputs(), steps(), samples);
    detail::for_each_sample(stream, batch, first, samples,
                            [&](Random random, Index s) { fill(random, s, samples, episodes); });
  }

 private:
  Index stride() const { return options_.presentation_steps + options_.blank_steps; }

  // Patterns are drawn where the first round shows them, and later copied from there.
  template <class Scalar>
  void fill(Random& random, Index s, Index samples, Episodes<Scalar>& episodes) const {
    const Index n = options_.bits;
    Matrix<Scalar>& inputs = episodes.inputs;
    const auto column = [&](Index t) { return t * samples + s; };
    const auto shown_at = [&](Index presentation) { return column(presentation * stride()); };
    const auto hold = [&](Index from, Index steps) {
      for (Index t = 1; t < steps; ++t) inputs.col(from + t * samples) = inputs.col(from);
    };
    for (Index k = 0; k < options_.patterns; ++k) {
      for (Index i = 0; i < n; ++i) {
        inputs(i, shown_at(k)) = static_cast<Scalar>(detail::random_sign(random));
      }
      hold(shown_at(k), options_.presentation_steps);
    }
    // There are more steps than patterns, so that the weights have room for the marks.
    const auto mark = [&](Index k) -> Scalar& { return episodes.weights(0, column(k)); };
    for (Index round = 1; round < options_.rounds; ++round) {
      for (Index k = 0; k < options_.patterns; ++k) {
        const Index pattern = detail::draw_unmarked(random, options_.patterns, mark);
        const Index at = shown_at(round * options_.patterns + k);
        inputs.col(at) = inputs.col(shown_at(pattern));
        hold(at, options_.presentation_steps);
      }
      for (Index k = 0; k < options_.patterns; ++k) mark(k) = 0;
    }

    const Index asked = shown_at(detail::random_index(random, options_.patterns));
    const Index probe = shown_at(options_.rounds * options_.patterns);
    const Index last = column(steps() - 1);
    auto left = static_cast<Index>(std::lround(options_.zeroed * static_cast<double>(n)));
    for (Index i = 0; i < n; ++i) {
      const bool zero = detail::random_index(random, n - i) < left;
      left -= zero ? 1 : 0;
      inputs(i, probe) = zero ? Scalar(0) : inputs(i, asked);
    }
    hold(probe, options_.probe_steps);
    episodes.targets.col(last) = inputs.col(asked);
    episodes.weights(0, last) = 1;
  }

  PatternCompletionOptions options_;
};

static_assert(Task<PatternCompletion, float> && Task<PatternCompletion, double>);

}  // namespace plastic
