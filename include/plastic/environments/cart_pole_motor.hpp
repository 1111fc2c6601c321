#pragma once

#include <algorithm>
#include <cmath>

#include "plastic/core/settings.hpp"
#include "plastic/environments/environment.hpp"

namespace plastic {

/// Settings of CartPoleMotor and CartPoleSwitch.
struct CartPoleMotorOptions {
  Index steps = 80;    ///< steps of an episode, 1/20 s each
  Index commands = 5;  ///< commands that CartPoleSwitch chooses from
};

/// A pole to balance by a motor whose strength and sense are unknown, as is the pole's length; all
/// are new in each episode, and change once in the middle of it. The plant is that of
/// examples/adaptive_control.cpp, which trains through it:
///
///     omega' = omega + (pull sin(theta) + gain u) dt,   theta' = theta + omega' dt,   dt = 0.05 s
///     reward = -(theta'^2 + 0.02 omega'^2 + 0.002 u^2)
///
/// with |gain| uniform in [6, 14], its sense + or -, pull = 9.8 / length, length uniform in [0.8,
/// 1.5]. The change comes at a step drawn from 20 .. 59; it turns the sense with probability 3/4
/// and draws strength and length anew. theta and omega start uniform in [-0.3, 0.3] and are held in
/// +-1.2 and +-6. The command u is tanh(action); without `real`, action a of n is the command -1 +
/// 2 a / (n - 1). Observation: 3 theta, omega, the last u (0 at first). Const and safe from several
/// threads.
template <bool real>
class BasicCartPoleMotor {
 public:
  static constexpr bool continuous = real;  ///< see Environment

  /// What the network must find out.
  struct Plant {
    double gain = 0;  ///< angular acceleration at full command, rad/s^2, of either sign
    double pull = 0;  ///< gravity over length, 1/s^2
  };

  /// One episode.
  struct State {
    Plant before;             ///< plant at first
    Plant after;              ///< plant from step `change` on
    Index change = 0;         ///< step of the change
    double theta = 0;         ///< angle from upright, rad
    double omega = 0;         ///< its speed, rad/s
    double last_command = 0;  ///< 0 at first
    Index time = 0;           ///< steps taken
  };

  /// Throws std::invalid_argument unless steps is in 1 .. 2^24 and commands in 2 .. 1024.
  explicit BasicCartPoleMotor(const CartPoleMotorOptions& options = {}) : options_(options) {
    constexpr std::string_view here = "CartPoleMotorOptions";
    detail::check_between(here, "steps", options.steps, 1, Index{1} << 24);
    detail::check_between(here, "commands", options.commands, 2, 1024);
  }

  const CartPoleMotorOptions& options() const { return options_; }  ///< as given

  /// @{
  /// See Environment.
  Index observations() const { return 3; }
  Index actions() const { return real ? 1 : options_.commands; }
  Index steps() const { return options_.steps; }
  Settings settings() const {
    return {{"name", real ? "cart_pole_motor" : "cart_pole_switch"},
            {"steps", detail::number_text(options_.steps)},
            {"commands", detail::number_text(options_.commands)}};
  }
  void reset(State& state, Random& random) const {
    state = {};
    const auto plant = [&](double sense) {
      const double gain = sense * random.uniform(6, 14);
      return Plant{gain, 9.8 / random.uniform(0.8, 1.5)};
    };
    const double sense = random.below(2) == 0 ? 1 : -1;
    state.before = plant(sense);
    state.after = plant(random.below(4) == 0 ? sense : -sense);
    state.change = Index{20} + random.below(40);
    state.theta = random.uniform(-0.3, 0.3);
    state.omega = random.uniform(-0.3, 0.3);
  }
  EnvironmentStep step(State& state, ActionOf<BasicCartPoleMotor> action, Random&) const {
    double command = 0;
    if constexpr (real) {
      if (action.size() != 1) {
        detail::reject("CartPoleMotor::step", "action", "of 1 number", action.size());
      }
      command = std::tanh(action[0]);
    } else {
      detail::check_action("CartPoleSwitch::step", action, actions());
      command = -1 + 2 * static_cast<double>(action) / static_cast<double>(options_.commands - 1);
    }
    constexpr double dt = 0.05;
    const Plant& plant = state.time < state.change ? state.before : state.after;
    double omega = state.omega + (plant.pull * std::sin(state.theta) + plant.gain * command) * dt;
    const double theta = std::clamp(state.theta + omega * dt, -1.2, 1.2);
    omega = std::clamp(omega, -6.0, 6.0);
    state.theta = theta;
    state.omega = omega;
    state.last_command = command;
    ++state.time;
    return {-(theta * theta + 0.02 * omega * omega + 0.002 * command * command), false};
  }
  void observe(const State& state, std::span<double> observation) const {
    detail::check_observation("CartPoleMotor::observe", observation, 3);
    observation[0] = 3 * state.theta;
    observation[1] = state.omega;
    observation[2] = state.last_command;
  }
  /// @}

 private:
  CartPoleMotorOptions options_;
};

/// The pole with a real command.
using CartPoleMotor = BasicCartPoleMotor<true>;
/// The pole with a choice of commands.
using CartPoleSwitch = BasicCartPoleMotor<false>;

static_assert(Environment<CartPoleMotor> && Environment<CartPoleSwitch>);

}  // namespace plastic
