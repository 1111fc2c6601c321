#pragma once

#include <array>
#include <string>
#include <string_view>

#include "plastic/rules/rule.hpp"
#include "plastic/synapse/fast_matrix.hpp"

namespace plastic {

/// Largest number of state matrices that one cell may carry from step to step.
inline constexpr std::size_t max_states = 4;

/// Largest number of fast matrices that one cell may have.
inline constexpr std::size_t max_matrices = 16;

/// A cell's run on a tape: its layers with their fast weights, and the state between two steps.
/// Made by PlasticCell::begin; valid until the tape is rewound or cleared.
template <class Scalar>
struct Episode {
  Tape<Scalar>* tape = nullptr;                      ///< tape that it is recorded on
  const void* cell = nullptr;                        ///< the cell that began it
  const Scalar* parameters = nullptr;                ///< address of the cell's parameters then
  Index parameter_count = 0;                         ///< length of their flat vector
  Index samples = 0;                                 ///< episodes side by side
  bool differentiable = true;                        ///< false in a CellState
  std::array<Synapse<Scalar>, max_layers> synapses;  ///< one per layer, in order
  std::array<Var<Scalar>, max_states> state;  ///< hidden (hidden x samples), for the LSTM also cell
  Var<Scalar> out_scale;                      ///< v of the gradient rule, all outputs x 1
  Var<Scalar> norm_gain;                      ///< gain of layer norm, features x 1; empty if off
  Var<Scalar> norm_bias;                      ///< bias of layer norm, likewise
  Var<Scalar> fixed_eta;                      ///< without modulation: eta0, 1 x samples
  Var<Scalar> fixed_decay;                    ///< without modulation: lambda0
  std::array<FastMatrix<Scalar>, max_matrices> matrices;  ///< of a CellModel, in order
  std::span<Var<Scalar>> blocks;                          ///< its parameters beside the layers'
  std::span<Var<Scalar>> derived;                         ///< what it computes from them once
  typename Tape<Scalar>::Position step_begin;  ///< where a step that is not differentiated restarts
};

/// One time step, as the `advance` of a cell's Dynamics sees it.
template <class Scalar>
class CellStep {
 public:
  /// The next step of an episode; the episode must outlive this object.
  explicit CellStep(Episode<Scalar>& episode) : episode_(&episode) {}

  /// Layer `l` of the cell applied to x: x (W + w) + b + beta. Throws std::invalid_argument if
  /// there is no such layer or x does not fit it. x: inputs x samples; returns outputs x samples.
  Var<Scalar> layer(std::size_t l, const Var<Scalar>& x) {
    if (l >= max_layers || episode_->synapses[l].empty()) {
      detail::reject("CellStep::layer", "l", "below the number of the cell's layers", l);
    }
    const Var<Scalar> y = episode_->synapses[l].read(x);
    connections_[l].input = x;
    connections_[l].pre_activation = y;
    return y;
  }

  /// Declares the activity of the layer's units, for rules that use it. Throws
  /// std::invalid_argument if l is not below max_layers.
  void activity(std::size_t l, const Var<Scalar>& a) {
    if (l >= max_layers) {
      detail::reject("CellStep::activity", "l", "below " + std::to_string(max_layers), l);
    }
    connections_[l].activity = a;
  }

  /// State matrix k, hidden x samples: 0 is the hidden state. Throws std::invalid_argument if the
  /// cell has no such state.
  const Var<Scalar>& state(std::size_t k) const {
    check_state("CellStep::state", k);
    return episode_->state[k];
  }
  /// Sets state matrix k for the following steps; the cell itself sets state 0. Throws as `state`
  /// does.
  void set_state(std::size_t k, const Var<Scalar>& value) {
    check_state("CellStep::set_state", k);
    episode_->state[k] = value;
  }

  /// The first `count` layers as a rule sees them, at most max_layers.
  std::span<Connection<Scalar>> connections(std::size_t count) {
    return std::span(connections_.data(), count);
  }

 private:
  void check_state(std::string_view function, std::size_t k) const {
    if (k >= max_states || episode_->state[k].empty()) {
      detail::reject(function, "k", "below the number of the cell's states", k);
    }
  }

  Episode<Scalar>* episode_;
  std::array<Connection<Scalar>, max_layers> connections_;
};

}  // namespace plastic
