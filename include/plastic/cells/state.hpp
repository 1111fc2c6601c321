#pragma once

#include <memory>
#include <utility>

#include "plastic/cells/episode.hpp"

namespace plastic {

/// Results of one step or of a whole run. As variables, or, where nothing is differentiated, as
/// views that stay until the next step.
template <class Matrices>
struct CellOutput {
  Matrices output;  ///< the prediction, outputs x samples (x steps)
  Matrices eta;  ///< learning rate of the fast weights before the norm clip, 1 x samples (x steps)
};

/// The state of a cell that runs without derivatives: hidden state, cell state, fast weights, and
/// the memory that a step works in. Owned by the caller and bound to the cell that made it, which
/// must outlive it and stay in place. The cell's parameters may change between two steps, in place
/// or by assignment; an update that nobody has looked at since its step is then carried out with
/// the new A. After an assignment that gives them other memory, step or `begin` before looking at
/// fast weights. One thread at a time.
template <class Scalar>
class CellState {
 public:
  /// An empty one, for `PlasticCell::reset`.
  CellState() = default;
  /// @{
  /// Leaves an empty state behind.
  CellState(CellState&& other) noexcept { *this = std::move(other); }
  CellState& operator=(CellState&& other) noexcept {
    tape_ = std::move(other.tape_);
    episode_ = std::exchange(other.episode_, {});
    layers_ = std::exchange(other.layers_, 0);
    states_ = std::exchange(other.states_, 0);
    return *this;
  }
  /// @}

  Index samples() const { return episode_.samples; }  ///< episodes side by side; 0 in an empty one

  /// State matrix k, hidden x samples: 0 is the hidden state, 1 the LSTM's cell state; may be
  /// written to. Throws std::invalid_argument if there is none.
  MatrixMap<Scalar> state(std::size_t k) {
    if (k >= states_) detail::reject("CellState::state", "k", "below the number of states", k);
    return episode_.state[k].node().value_map();
  }
  MatrixMap<Scalar> hidden() { return state(0); }  ///< state 0

  /// @{
  /// Fast weights (outputs x inputs) and biases (outputs x 1) of layer l, in the order of
  /// PlasticCell::layer_names; may be written to. Throws std::invalid_argument if there is no such
  /// layer or sample, or the cell is not plastic.
  StridedMatrixMap<Scalar> fast_weight(std::size_t l, Index sample) {
    return layer(l).fast_weight(sample);
  }
  MatrixMap<Scalar> fast_bias(std::size_t l, Index sample) { return layer(l).fast_bias(sample); }
  /// @}

 private:
  template <class Dynamics, class Rule, class S>
  friend class PlasticCell;

  Synapse<Scalar>& layer(std::size_t l) {
    if (l >= layers_) detail::reject("CellState", "the layer", "below the number of layers", l);
    return episode_.synapses[l];
  }

  std::unique_ptr<Tape<Scalar>> tape_;
  Episode<Scalar> episode_;
  std::size_t layers_ = 0;
  std::size_t states_ = 0;
};

}  // namespace plastic
