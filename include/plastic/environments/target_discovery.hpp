#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "plastic/core/settings.hpp"
#include "plastic/environments/environment.hpp"

namespace plastic {

/// Settings of TargetDiscovery.
struct TargetDiscoveryOptions {
  Index steps = 120;  ///< steps of an episode
};

/// Which of four cues is the target must be found out by trial and reward, anew in each episode.
///
/// An episode has 4 different cues of 20 bits -1 or 1; one of them is the target. Trials follow
/// each other without a pause. A trial has 5 + k steps, k uniform in 0 .. 3: a blank; then two of
/// the cues, drawn without replacement, and k blanks, in random order; then a Go step; then a
/// blank. At the Go step action 1 is right if the target was one of the two cues, action 0 if not:
/// reward 1, or -1 if wrong. Actions at other steps have no effect.
///
///     observation   0 .. 19            20   21   22      23            24   25, 26
///                   cue, or 0s         Go   1    t / T   last reward   0    last action, one-hot
///
/// At t = 0 there is no last action. Best possible: about 18.2 in an episode. Source: Miconi,
/// Rawal, Clune, Stanley, "Backpropamine", ICLR 2019. Const and safe from several threads.
class TargetDiscovery {
 public:
  static constexpr int cues = 4;         ///< cues of an episode
  static constexpr int bits = 20;        ///< bits of a cue
  static constexpr int longest = 5 + 3;  ///< steps of the longest trial

  /// What a step of a trial shows: the number of a cue, or one of these.
  enum Shown : int { blank = -1, go = -2 };

  /// One episode.
  struct State {
    std::array<std::uint32_t, cues> cue{};  ///< bit i is 1 for 1, 0 for -1
    Index target = 0;                       ///< number of the target
    std::array<int, longest> trial{};       ///< what each step of the trial shows
    Index length = 0;                       ///< steps of the trial
    Index place = 0;                        ///< step of the trial
    bool present = false;                   ///< whether the trial shows the target
    Index time = 0;                         ///< steps taken
    Index last_action = -1;                 ///< -1 at first
    double last_reward = 0;                 ///< 0 at first
  };

  /// Throws std::invalid_argument unless steps is in 1 .. 2^24.
  explicit TargetDiscovery(const TargetDiscoveryOptions& options = {}) : options_(options) {
    detail::check_between("TargetDiscoveryOptions", "steps", options.steps, 1, Index{1} << 24);
  }

  const TargetDiscoveryOptions& options() const { return options_; }  ///< as given

  /// @{
  /// See Environment.
  Index observations() const { return 27; }
  Index actions() const { return 2; }
  Index steps() const { return options_.steps; }
  Settings settings() const {
    return {{"name", "target_discovery"}, {"steps", detail::number_text(options_.steps)}};
  }
  void reset(State& state, Random& random) const {
    state = {};
    for (std::size_t k = 0; k < cues; ++k) {
      const auto before = state.cue.begin() + static_cast<std::ptrdiff_t>(k);
      do {
        state.cue[k] = random.below(1u << bits);
      } while (std::find(state.cue.begin(), before, state.cue[k]) != before);
    }
    state.target = random.below(cues);
    draw_trial(state, random);
  }
  EnvironmentStep step(State& state, Index action, Random& random) const {
    detail::check_action("TargetDiscovery::step", action, actions());
    double reward = 0;
    if (shown(state) == go) reward = (action == 1) == state.present ? 1 : -1;
    ++state.time;
    state.last_action = action;
    state.last_reward = reward;
    if (++state.place == state.length) draw_trial(state, random);
    return {reward, false};
  }
  void observe(const State& state, std::span<double> observation) const {
    detail::check_observation("TargetDiscovery::observe", observation, 27);
    std::fill(observation.begin(), observation.end(), 0.0);
    const int now = shown(state);
    for (std::size_t i = 0; now >= 0 && i < bits; ++i) {
      observation[i] = (state.cue[static_cast<std::size_t>(now)] >> i & 1u) != 0 ? 1 : -1;
    }
    observation[20] = now == go ? 1 : 0;
    observation[21] = 1;
    observation[22] = static_cast<double>(state.time) / static_cast<double>(options_.steps);
    observation[23] = state.last_reward;
    if (state.last_action >= 0) observation[static_cast<std::size_t>(25 + state.last_action)] = 1;
  }
  /// @}

 private:
  static int shown(const State& state) {
    return state.trial[static_cast<std::size_t>(state.place)];
  }

  static void draw_trial(State& state, Random& random) {
    state.trial.fill(blank);
    const std::uint32_t middle = 2 + random.below(4);  // two cues and their blanks
    const std::uint32_t first = random.below(cues), other = random.below(cues - 1);
    const std::uint32_t second = other + (other >= first ? 1 : 0);
    const std::uint32_t place = random.below(middle), gap = random.below(middle - 1);
    state.trial[1 + place] = static_cast<int>(first);
    state.trial[1 + gap + (gap >= place ? 1 : 0)] = static_cast<int>(second);
    state.trial[1 + middle] = go;
    state.length = 3 + static_cast<Index>(middle);
    state.place = 0;
    state.present = state.target == Index{first} || state.target == Index{second};
  }

  TargetDiscoveryOptions options_;
};

static_assert(Environment<TargetDiscovery>);

}  // namespace plastic
