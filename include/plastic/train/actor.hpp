#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plastic/cells/cell.hpp"
#include "plastic/environments/environment.hpp"

namespace plastic {

/// Number of outputs of a network that acts in an environment and judges: one logit for each
/// action, or for each real number of an action its mean m and a number w, the standard deviation
/// being softplus(w) + 1/1024; then the value.
template <class E>
Index policy_outputs(const E& environment) {
  return (is_continuous<E> ? 2 : 1) * Index{environment.actions()} + 1;
}

namespace detail {

/// Smallest standard deviation of a real action.
inline constexpr double least_deviation = 1.0 / 1024;

/// Throws unless the cell has the inputs and outputs that acting in the environment takes.
template <class Cell, class E>
void check_actor(std::string_view function, const Cell& cell, const E& environment) {
  const auto check_size = [&](std::string_view what, Index got, Index expected) {
    if (got != expected) {
      reject(function, what, std::to_string(expected) + ", as the environment needs", got);
    }
  };
  check_size("the number of the cell's inputs", cell.options().inputs,
             environment_inputs(environment));
  check_size("the number of the cell's outputs", cell.options().outputs,
             policy_outputs(environment));
}

/// Chooses every sample's next action by the network's outputs, outputs x samples. greedy: the
/// likeliest, else one drawn. Numbers that are not finite give some action: the loss tells of them.
template <class E, class Outputs>
void choose_actions(EnvironmentBatch<E>& episodes, const Outputs& outputs, bool greedy,
                    std::vector<double>& workspace) {
  const Index actions = episodes.environment().actions();
  workspace.resize(static_cast<std::size_t>(actions));
  const auto output = [&](Index i, Index s) { return static_cast<double>(outputs(i, s)); };
  for (Index s = 0; s < episodes.samples(); ++s) {
    if (episodes.done(s)) continue;
    if constexpr (is_continuous<E>) {
      for (Index k = 0; k < actions; ++k) {
        double x = output(k, s);
        if (!greedy) {
          const double w = output(actions + k, s);
          const double softplus = std::max(w, 0.0) + std::log1p(std::exp(-std::abs(w)));
          x += (softplus + least_deviation) * episodes.choices(s).normal();
        }
        workspace[static_cast<std::size_t>(k)] = std::isfinite(x) ? x : 0;
      }
      episodes.set_action(s, workspace);
    } else {
      Index chosen = 0;
      for (Index k = 1; k < actions; ++k) {
        if (output(k, s) > output(chosen, s)) chosen = k;
      }
      if (!greedy) {
        const double largest = output(chosen, s);
        double total = 0;
        for (Index k = 0; k < actions; ++k) {
          total += workspace[static_cast<std::size_t>(k)] = std::exp(output(k, s) - largest);
        }
        double left = episodes.choices(s).uniform() * total;
        for (chosen = 0; chosen + 1 < actions; ++chosen) {
          left -= workspace[static_cast<std::size_t>(chosen)];
          if (left < 0) break;
        }
      }
      episodes.set_action(s, chosen);
    }
  }
}

/// Identifies an environment by its first episodes under random actions: a 64-bit fingerprint
/// (FNV-1a) of inputs and rewards, as a string.
template <class E>
std::string environment_fingerprint(const E& environment) {
  std::uint64_t hash = 14695981039346656037u;
  const auto add = [&hash](const void* data, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) {
      hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 1099511628211u;
    }
  };
  EnvironmentBatch<E> episodes(environment);
  const std::vector<Index> samples{0, 1, 2, 3, 4, 5, 6, 7};
  Matrix<double> x(episodes.inputs(), 8);
  const Matrix<double> outputs = Matrix<double>::Zero(policy_outputs(environment), 8);
  std::vector<double> workspace;
  for (episodes.begin({}, 0, samples); !episodes.ended() && episodes.time() < 256;
       episodes.step()) {
    episodes.template write_inputs<double>({x.data(), x.rows(), x.cols()});
    add(x.data(), static_cast<std::size_t>(x.size()) * sizeof(double));
    for (Index s = 0; s < 8; ++s) {
      const double reward = episodes.reward(s);
      add(&reward, sizeof reward);
    }
    choose_actions(episodes, outputs, false, workspace);
  }
  return std::to_string(hash);
}

}  // namespace detail

/// A network that acts in an environment, without derivatives: to evaluate it, to watch it, to see
/// its states.
///
///     Actor actor(net, GridMaze());
///     const Index sample = 0;
///     actor.begin({0, Random::Purpose::test}, 0, std::span(&sample, 1));
///     while (actor.step()) show(actor.episodes().state(0), actor.eta()(0, 0));
///
/// The same stream, batch and sample give the same episode. One thread at a time. After the first
/// episodes of as many samples a step allocates nothing.
template <class Cell, class E>
class Actor {
  using Scalar = typename Cell::ScalarType;

 public:
  /// `cell` must outlive it. greedy: takes the likeliest action, else one drawn by its probability.
  /// Throws std::invalid_argument if cell and environment do not fit each other.
  Actor(const Cell& cell, E environment, bool greedy = false)
      : cell_(&cell), episodes_(std::move(environment)), greedy_(greedy) {
    detail::check_actor("Actor", cell, episodes_.environment());
  }

  /// Begins an episode for each of `samples`, indices in a batch. Throws as EnvironmentBatch::begin
  /// does.
  void begin(Random::Stream stream, Index batch, std::span<const Index> samples) {
    episodes_.begin(stream, batch, samples);
    cell_->reset(state_, episodes_.samples());
    inputs_.resize(episodes_.inputs(), episodes_.samples());
  }

  /// One time step of all episodes that have not ended; false, doing nothing, if all have. Throws
  /// std::invalid_argument before `begin`.
  bool step() {
    if (episodes_.samples() == 0) {
      detail::reject("Actor::step", "the episodes", "begun (Actor::begin)", "none");
    }
    if (episodes_.ended()) return false;
    episodes_.template write_inputs<Scalar>({inputs_.data(), inputs_.rows(), inputs_.cols()});
    const auto result = cell_->step(state_, inputs_);
    outputs_ = result.output;
    eta_ = result.eta;
    detail::choose_actions(episodes_, outputs_, greedy_, workspace_);
    episodes_.step();
    return true;
  }

  const EnvironmentBatch<E>& episodes() const { return episodes_; }  ///< states, rewards, actions
  const CellState<Scalar>& state() const { return state_; }          ///< the network's state
  /// Outputs of the last step, policy_outputs x samples.
  const Matrix<Scalar>& outputs() const { return outputs_; }
  /// Rate of the fast weights in the last step, or the modulator, 1 x samples.
  const Matrix<Scalar>& eta() const { return eta_; }

 private:
  const Cell* cell_;
  EnvironmentBatch<E> episodes_;
  bool greedy_;
  CellState<Scalar> state_;
  Matrix<Scalar> inputs_, outputs_, eta_;
  std::vector<double> workspace_;
};

}  // namespace plastic
