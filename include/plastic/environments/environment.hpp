#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "plastic/core/random.hpp"

namespace plastic {

/// What one step of an environment gives.
struct EnvironmentStep {
  double reward = 0;  ///< reward of the action, finite
  bool done = false;  ///< whether the episode has ended in a state of no further reward
};

/// Whether an environment's actions are real numbers; see Environment.
template <class E>
inline constexpr bool is_continuous = [] {
  if constexpr (requires { bool(E::continuous); }) {
    return bool(E::continuous);
  } else {
    return false;
  }
}();

/// Whether last reward and action are inputs beside an environment's observation; see Environment.
template <class E>
inline constexpr bool has_feedback = [] {
  if constexpr (requires { bool(E::feedback); }) {
    return bool(E::feedback);
  } else {
    return false;
  }
}();

/// An action: the number of one, or real numbers.
template <class E>
using ActionOf = std::conditional_t<is_continuous<E>, std::span<const double>, Index>;

/// A world that a network acts in. The object holds its settings, `State` is one episode.
///
/// - `State`: default-initialisable and copyable; `reset` may reuse its memory.
/// - `observations()`: numbers in an observation; may be 0 with feedback.
/// - `actions()`: how many actions there are, numbered from 0; of a continuous environment, the
///   real numbers that make an action.
/// - `steps()`: steps after which an episode is cut off.
/// - `reset(state, random)`: begins an episode.
/// - `step(state, action, random)`: one time step; returns an EnvironmentStep.
/// - `observe(state, observation)`: writes all of the observation, a std::span<double>.
///
/// It may also have:
///
/// - `static constexpr bool continuous = true`: an action is a std::span<const double>. Without it,
///   an Index.
/// - `static constexpr bool feedback = true`: the network also gets the last reward and the last
///   action (one entry for each action, 1 at the last; or its real numbers), zeros at first. An
///   environment that observes them itself does without.
/// - `settings()`: settings that must be the same for a training run to resume.
///
/// Const and safe from several threads, each with states of its own. What it draws comes from
/// `random` alone, which is keyed by (seed, purpose, batch, sample); so an episode depends on these
/// and on the actions. In the steady state it allocates nothing.
template <class E>
concept Environment = requires(const E& environment, typename E::State& state,
                               const typename E::State& seen, Random& random,
                               std::span<double> observation, ActionOf<E> action) {
  requires std::default_initializable<typename E::State> && std::copyable<typename E::State>;
  { environment.observations() } -> std::convertible_to<Index>;
  { environment.actions() } -> std::convertible_to<Index>;
  { environment.steps() } -> std::convertible_to<Index>;
  environment.reset(state, random);
  { environment.step(state, action, random) } -> std::convertible_to<EnvironmentStep>;
  environment.observe(seen, observation);
};

namespace detail {

/// Checks of an environment's own step and observe.
inline void check_action(std::string_view environment, Index action, Index actions) {
  if (action < 0 || action >= actions) {
    reject(environment, "action", "in 0 .. " + std::to_string(actions - 1), action);
  }
}
inline void check_observation(std::string_view environment, std::span<const double> observation,
                              std::size_t size) {
  if (observation.size() != size) {
    reject(environment, "observation", "of " + std::to_string(size) + " numbers",
           observation.size());
  }
}

}  // namespace detail

/// Number of inputs of a network that acts in it: the observation and, with feedback, the last
/// reward and the last action.
template <class E>
Index environment_inputs(const E& environment) {
  const Index feedback = has_feedback<E> ? 1 + Index{environment.actions()} : 0;
  return Index{environment.observations()} + feedback;
}

/// Episodes side by side that take their steps together, as many as a shard has samples.
///
///     EnvironmentBatch<GridMaze> mazes(GridMaze{});
///     for (mazes.begin({.seed = 1}, 0, samples); !mazes.ended(); mazes.step()) {
///       mazes.write_inputs<float>({x.data(), x.rows(), x.cols()});
///       for (Index s = 0; s < mazes.samples(); ++s) mazes.set_action(s, ...);
///     }
///
/// One thread at a time. After the first episodes of as many samples nothing is allocated.
template <class E>
class EnvironmentBatch {
  static_assert(Environment<E>,
                "the environment lacks a member of Environment: see environments/environment.hpp");

 public:
  using State = typename E::State;  ///< one episode

  /// Holds a copy of the environment. Throws std::invalid_argument on a size that cannot be.
  explicit EnvironmentBatch(E environment) : environment_(std::move(environment)) {
    constexpr Index most = Index{1} << 24;
    const auto check = [](std::string_view what, Index size, Index least) {
      detail::check_between("Environment", what, size, least, most);
    };
    check("observations()", environment_.observations(), 0);
    check("actions()", environment_.actions(), is_continuous<E> ? 1 : 2);
    check("steps()", environment_.steps(), 1);
    check("the number of inputs", environment_inputs(environment_), 1);
    action_size_ = is_continuous<E> ? Index{environment_.actions()} : 1;
    observation_.resize(static_cast<std::size_t>(Index{environment_.observations()}));
  }

  const E& environment() const { return environment_; }              ///< the environment
  Index inputs() const { return environment_inputs(environment_); }  ///< see environment_inputs
  Index samples() const { return static_cast<Index>(episodes_.size()); }  ///< episodes
  Index time() const { return time_; }  ///< steps taken since `begin`

  /// Begins episodes, one for each of `samples`, which are indices in a batch. Throws
  /// std::invalid_argument if there is none, or a batch or sample is out of range: batches are
  /// below 2^55.
  void begin(Random::Stream stream, Index batch, std::span<const Index> samples) {
    detail::check_positive("EnvironmentBatch::begin", "the number of samples",
                           static_cast<Index>(samples.size()));
    detail::check_not_negative("EnvironmentBatch::begin", "batch", batch);
    // The other half of the batches are the actions' draws, so that what an environment draws does
    // not depend on how an action is chosen.
    constexpr std::uint64_t actions = std::uint64_t{1} << 55;
    const auto number = static_cast<std::uint64_t>(batch);
    if (number >= actions) {
      detail::reject("EnvironmentBatch::begin", "batch", "below 2^55", batch);
    }
    if (episodes_.size() != samples.size()) {
      episodes_.assign(samples.size(), Episode{{}, Random({}, 0, 0), Random({}, 0, 0)});
    }
    actions_.assign(samples.size() * static_cast<std::size_t>(action_size_), 0);
    for (std::size_t s = 0; s < samples.size(); ++s) {
      const auto sample = static_cast<std::uint64_t>(samples[s]);
      Episode& episode = episodes_[s];
      episode.random = Random(stream, number, sample);
      episode.choices = Random(stream, number | actions, sample);
      episode.last = {};
      episode.total = 0;
      environment_.reset(episode.state, episode.random);
    }
    time_ = 0;
    running_ = samples.size();
  }

  /// Whether every episode has ended, by itself or because it was cut off.
  bool ended() const { return running_ == 0 || time_ >= Index{environment_.steps()}; }
  /// Whether an episode has ended by itself.
  bool done(Index s) const { return at(s).last.done; }
  double reward(Index s) const { return at(s).last.reward; }  ///< of the last step
  double total(Index s) const { return at(s).total; }         ///< rewards so far
  const State& state(Index s) const { return at(s).state; }   ///< state of an episode
  /// Random numbers to choose a sample's actions by.
  Random& choices(Index s) { return episodes_[checked(s)].choices; }

  /// Writes what a network gets to see now: inputs x samples; zeros for episodes that have ended.
  /// Throws std::invalid_argument if x has another shape.
  template <class Scalar>
  void write_inputs(MatrixMap<Scalar> x) {
    detail::check_shape("EnvironmentBatch::write_inputs", "x", x, inputs(), samples());
    x.setZero();
    const Index observed = environment_.observations();
    for (Index s = 0; s < samples(); ++s) {
      const Episode& episode = at(s);
      if (episode.last.done) continue;
      environment_.observe(episode.state, observation_);
      for (Index i = 0; i < observed; ++i) {
        x(i, s) = static_cast<Scalar>(observation_[static_cast<std::size_t>(i)]);
      }
      if (!has_feedback<E> || time_ == 0) continue;
      x(observed, s) = static_cast<Scalar>(episode.last.reward);
      if constexpr (is_continuous<E>) {
        for (Index k = 0; k < action_size_; ++k) {
          x(observed + 1 + k, s) = static_cast<Scalar>(actions_[place(s, k)]);
        }
      } else {
        x(observed + 1 + action(s), s) = 1;
      }
    }
  }

  /// Chooses what a sample does in the next step. Throws std::invalid_argument if there is no such
  /// sample or action, or its size or a number does not fit.
  void set_action(Index s, ActionOf<E> action) {
    checked(s);
    if constexpr (is_continuous<E>) {
      if (static_cast<Index>(action.size()) != action_size_) {
        detail::reject("EnvironmentBatch::set_action", "action",
                       "of " + std::to_string(action_size_) + " numbers", action.size());
      }
      for (std::size_t k = 0; k < action.size(); ++k) {
        if (!std::isfinite(action[k])) {
          detail::reject("EnvironmentBatch::set_action", "action", "finite", action[k]);
        }
        actions_[place(s, static_cast<Index>(k))] = action[k];
      }
    } else {
      if (action < 0 || action >= Index{environment_.actions()}) {
        detail::reject("EnvironmentBatch::set_action", "action",
                       "in 0 .. " + std::to_string(Index{environment_.actions()} - 1), action);
      }
      actions_[static_cast<std::size_t>(s)] = static_cast<double>(action);
    }
  }
  /// The action chosen last; 0 at first.
  ActionOf<E> action(Index s) const {
    checked(s);
    if constexpr (is_continuous<E>) {
      return std::span(actions_).subspan(place(s, 0), static_cast<std::size_t>(action_size_));
    } else {
      return static_cast<Index>(actions_[static_cast<std::size_t>(s)]);
    }
  }

  /// One step of every episode that has not ended, by the actions chosen. Throws
  /// std::invalid_argument if all have ended or a reward is not finite.
  void step() {
    if (ended()) {
      detail::reject("EnvironmentBatch::step", "the episodes", "begun and not all ended",
                     "ended ones");
    }
    for (Index s = 0; s < samples(); ++s) {
      Episode& episode = episodes_[static_cast<std::size_t>(s)];
      if (episode.last.done) {
        episode.last.reward = 0;
        continue;
      }
      episode.last = environment_.step(episode.state, action(s), episode.random);
      if (!std::isfinite(episode.last.reward)) {
        detail::reject("Environment", "the reward of step " + std::to_string(time_), "finite",
                       episode.last.reward);
      }
      episode.total += episode.last.reward;
      if (episode.last.done) --running_;
    }
    ++time_;
  }

 private:
  struct Episode {
    State state;
    Random random;   // what the environment draws
    Random choices;  // what the actions are drawn with
    EnvironmentStep last = {};
    double total = 0;
  };

  std::size_t checked(Index s) const {
    if (s < 0 || s >= samples()) {
      detail::check_between("EnvironmentBatch", "the sample", s, 0, samples() - 1);
    }
    return static_cast<std::size_t>(s);
  }
  const Episode& at(Index s) const { return episodes_[checked(s)]; }
  std::size_t place(Index s, Index k) const {
    return static_cast<std::size_t>(s * action_size_ + k);
  }

  E environment_;
  Index action_size_ = 1;
  std::vector<Episode> episodes_;
  std::vector<double> actions_;      // action_size_ for each sample
  std::vector<double> observation_;  // of one sample
  Index time_ = 0;
  std::size_t running_ = 0;
};

}  // namespace plastic
