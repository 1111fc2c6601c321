#pragma once

#include <cstdint>

#include "plastic/core/settings.hpp"
#include "plastic/tasks/detail/draws.hpp"
#include "plastic/tasks/episodes.hpp"

namespace plastic {

/// Settings of Familiarity.
struct FamiliarityOptions {
  Index bits = 100;       ///< d, bits of a vector
  Index steps = 200;      ///< vectors in an episode
  Index delay = 5;        ///< R, steps from a vector to its repetition
  double repeated = 0.5;  ///< probability that a new vector is repeated
};

/// Continual familiarity detection: say of every vector whether it was shown before.
///
/// A bit is -1 or 1 with equal probability. The vector of step t is that of step t - R, with the
/// probability `repeated`, if that one was new; else it is new. So a vector comes once or twice,
/// and of the steps after the first R, a share of about repeated / (1 + repeated) are repetitions,
/// 1/3 by default.
///
///     step     input 0 .. d-1   target
///     all      a vector         1 if it is a repetition, 0 if it is new
///
/// All steps count in the loss and are queries; the loss is BinaryCrossEntropy. A new vector that
/// happens to be equal to an earlier one counts as new, which matters for few bits alone. Source:
/// Tyulmankov, Yang, Abbott, "Meta-learning synaptic plasticity and memory addressing for continual
/// familiarity detection", Neuron 2022. Const and safe from several threads.
class Familiarity {
 public:
  /// Throws std::invalid_argument if a count is not in [1, 2^31), or `repeated` not in [0, 1].
  explicit Familiarity(const FamiliarityOptions& options = {}) : options_(options) {
    detail::check_count("Familiarity", "bits", options.bits);
    detail::check_count("Familiarity", "steps", options.steps);
    detail::check_count("Familiarity", "delay", options.delay);
    detail::check_range("Familiarity", "repeated", options.repeated, 0, 1);
  }

  const FamiliarityOptions& options() const { return options_; }  ///< as given

  /// Name and options, for a checkpoint.
  Settings settings() const {
    return {{"name", "familiarity"},
            {"bits", detail::number_text(options_.bits)},
            {"steps", detail::number_text(options_.steps)},
            {"delay", detail::number_text(options_.delay)},
            {"repeated", detail::number_text(options_.repeated)}};
  }

  Index inputs() const { return options_.bits; }  ///< a vector
  Index outputs() const { return 1; }             ///< whether it was shown before
  Index steps() const { return options_.steps; }  ///< vectors in an episode

  /// See Task. Throws std::invalid_argument unless samples >= 1, 0 <= first,
  /// first + samples <= 2^32 and batch < 2^56.
  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& episodes) const {
    detail::check_samples("Familiarity::generate", first, samples);
    episodes.set_zero(inputs(), outputs(), steps(), samples);
    episodes.weights.setOnes();
    detail::for_each_sample(stream, batch, first, samples, [&](Random random, Index s) {
      for (Index t = 0; t < options_.steps; ++t) {
        const Index column = t * samples + s;
        const Index before = column - options_.delay * samples;
        if (t >= options_.delay && episodes.targets(0, before) == 0 &&
            random.uniform() < options_.repeated) {
          episodes.inputs.col(column) = episodes.inputs.col(before);
          episodes.targets(0, column) = 1;
          continue;
        }
        for (Index i = 0; i < options_.bits; ++i) {
          episodes.inputs(i, column) = static_cast<Scalar>(detail::random_sign(random));
        }
      }
    });
  }

 private:
  FamiliarityOptions options_;
};

static_assert(Task<Familiarity, float> && Task<Familiarity, double>);

}  // namespace plastic
