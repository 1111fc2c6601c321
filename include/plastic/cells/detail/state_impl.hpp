#pragma once

/// The members of PlasticCell that make, copy and reset states; cells/cell.hpp includes it at its
/// end.

#include <memory>

#include "plastic/cells/cell.hpp"

namespace plastic {

template <class Dynamics, class Rule, class Scalar>
Matrix<Scalar> PlasticCell<Dynamics, Rule, Scalar>::added_weight(const CellState<Scalar>& state,
                                                                 std::size_t k,
                                                                 Index sample) const {
  check_owner("PlasticCell::added_weight", state.episode_);
  Matrix<Scalar> added = state.matrix(k, sample);
  const std::ptrdiff_t block = matrix_shapes_[k].alpha;
  if (block < 0) return added;
  const auto alpha = parameters_.matrix(blocks_[static_cast<std::size_t>(block)]);
  if (alpha.size() == added.size()) return added.cwiseProduct(alpha);
  if (alpha.size() == 1) return added * alpha(0, 0);
  return alpha.col(0).asDiagonal() * added;
}

template <class Dynamics, class Rule, class Scalar>
CellState<Scalar> PlasticCell<Dynamics, Rule, Scalar>::state_of(Episode<Scalar>& episode) const {
  check_owner("PlasticCell::state_of", episode);
  CellState<Scalar> state = initial_state(episode.samples);
  copy_state(episode, state.episode_);
  return state;
}

template <class Dynamics, class Rule, class Scalar>
void PlasticCell<Dynamics, Rule, Scalar>::restart(CellState<Scalar>& state, Index samples) const {
  if (state.tape_ == nullptr) state.tape_ = std::make_unique<Tape<Scalar>>();
  state.tape_->clear();
  state.episode_ = begin(*state.tape_, samples, nullptr, false);
  state.layers_ = layers_.size();
  state.states_ = Dynamics::states;
  state.matrices_ = matrix_shapes_.size();
  state.copy_ = &PlasticCell::copy;
}

template <class Dynamics, class Rule, class Scalar>
void PlasticCell<Dynamics, Rule, Scalar>::reset_sample(CellState<Scalar>& state,
                                                       Index sample) const {
  check_owner("PlasticCell::reset_sample", state.episode_);
  if (sample < 0 || sample >= state.samples()) {
    detail::reject("PlasticCell::reset_sample", "sample",
                   "in 0 .. " + std::to_string(state.samples() - 1), sample);
  }
  for (std::size_t k = 0; k < Dynamics::states; ++k) state.state(k).col(sample).setZero();
  for (std::size_t k = 0; k < state.matrices_; ++k) state.episode_.matrices[k].reset_sample(sample);
  if constexpr (has_fast_layers) {
    for (std::size_t l = 0; l < layers_.size(); ++l)
      state.episode_.synapses[l].reset_sample(sample);
  }
}

template <class Dynamics, class Rule, class Scalar>
void PlasticCell<Dynamics, Rule, Scalar>::copy(const CellState<Scalar>& from,
                                               CellState<Scalar>& to) {
  const auto& cell = *static_cast<const PlasticCell*>(from.episode_.cell);
  cell.check_owner("CellState", from.episode_);
  if (to.episode_.cell != from.episode_.cell || to.samples() != from.samples() ||
      to.episode_.parameter_count != from.episode_.parameter_count) {
    cell.restart(to, from.samples());
  }
  for (std::size_t k = 0; k < Dynamics::states; ++k) to.state(k) = from.state(k);
  for (std::size_t k = 0; k < from.matrices_; ++k) {
    to.episode_.matrices[k].copy(from.episode_.matrices[k]);
  }
  if constexpr (has_fast_layers) {
    for (std::size_t l = 0; l < cell.layers_.size(); ++l) {
      to.episode_.synapses[l].copy(from.episode_.synapses[l]);
    }
  }
}

template <class Dynamics, class Rule, class Scalar>
void PlasticCell<Dynamics, Rule, Scalar>::copy_state(Episode<Scalar>& from,
                                                     Episode<Scalar>& to) const {
  for (std::size_t k = 0; k < Dynamics::states; ++k) {
    to.state[k].node().value_map() = from.state[k].value();
  }
  for (std::size_t k = 0; k < max_matrices && !from.matrices[k].empty(); ++k) {
    to.matrices[k].copy(from.matrices[k]);
  }
  if constexpr (has_fast_layers) {
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      for (Index s = 0; s < from.samples; ++s) {
        to.synapses[l].set_fast_sample(s, from.synapses[l].fast_sample(s));
      }
    }
  }
}

}  // namespace plastic
