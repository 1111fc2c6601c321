#pragma once

#include <cstdint>

#include "plastic/core/settings.hpp"
#include "plastic/tasks/episodes.hpp"

namespace plastic {

/// Settings of CueReward.
struct CueRewardOptions {
  Index cues = 5;            ///< cues in an episode
  Index features = 14;       ///< length of a cue
  Index storage_steps = 10;  ///< steps that show the cue with its reward
  Index recall_steps = 10;   ///< steps that ask for the reward
  double noise = 0.1;        ///< standard deviation of the noise on a shown cue
};

/// Cue-reward association: remember within one episode which reward belongs to which cue.
///
/// An episode has `cues` cues, each uniform in [0, 1]^features with a reward uniform in [-1, 1].
/// Every step shows one of them, drawn uniformly, with Gaussian noise on its features:
///
///     step            input 0 .. features-1   input features   input features+1   target
///     storage         noisy cue               its reward       0                  its reward
///     recall          noisy cue               0                1                  its reward
///
/// All steps count in the loss; the recall steps are the queries. Source: Duan, Jia, Li, Zhong, Ma,
/// "Hebbian and Gradient-based Plasticity Enables Robust Memory and Rapid Learning in RNNs", ICLR
/// 2023. Const and safe from several threads.
class CueReward {
 public:
  /// Throws std::invalid_argument if a count is not in [1, 2^31) or the noise is negative or not
  /// finite.
  explicit CueReward(const CueRewardOptions& options = {}) : options_(options) {
    detail::check_count("CueReward", "cues", options.cues);
    detail::check_count("CueReward", "features", options.features);
    detail::check_count("CueReward", "storage_steps", options.storage_steps);
    detail::check_count("CueReward", "recall_steps", options.recall_steps);
    detail::check_range("CueReward", "noise", options.noise, 0);
  }

  const CueRewardOptions& options() const { return options_; }  ///< as given to the constructor

  /// Name and options, for a checkpoint.
  Settings settings() const {
    return {{"name", "cue_reward"},
            {"cues", detail::number_text(options_.cues)},
            {"features", detail::number_text(options_.features)},
            {"storage_steps", detail::number_text(options_.storage_steps)},
            {"recall_steps", detail::number_text(options_.recall_steps)},
            {"noise", detail::number_text(options_.noise)}};
  }

  Index inputs() const { return options_.features + 2; }  ///< a cue, its reward, "this is recall"
  Index outputs() const { return 1; }                     ///< the reward
  /// Steps of storage and of recall together.
  Index steps() const { return options_.storage_steps + options_.recall_steps; }

  /// See Task. Values are drawn in double and rounded to Scalar. Throws std::invalid_argument
  /// unless samples >= 1, 0 <= first, first + samples <= 2^32 and batch < 2^56.
  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& episodes) const {
    detail::check_samples("CueReward::generate", first, samples);
    detail::resize(episodes, inputs(), outputs(), steps(), options_.recall_steps, samples);
    const Index features = options_.features;
    const auto cue_words = static_cast<std::uint64_t>(2 * (features + 1));
    // The cues come first in the sample's words. They are drawn again wherever they are shown:
    // storing them in double would take memory that `episodes` does not have.
    detail::for_each_sample(stream, batch, first, samples, [&](const Random& cues, Index s) {
      Random show = cues;
      show.skip(static_cast<std::uint64_t>(options_.cues) * cue_words);
      for (Index t = 0; t < steps(); ++t) {
        Random cue = cues;
        cue.skip(show.below(static_cast<std::uint32_t>(options_.cues)) * cue_words);
        const Index column = t * samples + s;
        for (Index i = 0; i < features; ++i) {
          const double clean = cue.uniform();
          episodes.inputs(i, column) = static_cast<Scalar>(clean + options_.noise * show.normal());
        }
        const auto reward = static_cast<Scalar>(cue.uniform(-1, 1));
        const bool storage = t < options_.storage_steps;
        episodes.inputs(features, column) = storage ? reward : Scalar(0);
        episodes.inputs(features + 1, column) = storage ? Scalar(0) : Scalar(1);
        episodes.targets(0, column) = reward;
      }
    });
  }

 private:
  CueRewardOptions options_;
};

static_assert(Task<CueReward, float> && Task<CueReward, double>);

}  // namespace plastic
