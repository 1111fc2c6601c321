#pragma once

#include <memory>
#include <utility>

#include "plastic/cells/episode.hpp"

namespace plastic {
namespace detail {

struct CellStateAccess;  // io/state_file.hpp

}  // namespace detail

/// Results of one step or of a whole run. As variables, or, without derivatives, as views that are
/// valid until the next step.
template <class Matrices>
struct CellOutput {
  Matrices output;  ///< the prediction, outputs x samples (x steps)
  Matrices eta;  ///< learning rate of the fast weights before the norm clip, 1 x samples (x steps)
};

/// The state of a cell that runs without derivatives: hidden state, cell state, fast weights, and a
/// step's workspace. Owned by the caller and bound to the cell that made it, which must outlive it
/// and stay in place. The cell's parameters may change between two steps, in place or by
/// assignment; a pending update that nobody has looked at is then applied with the new A. After an
/// assignment that moves them to other memory, call step or `begin` before looking at fast weights.
///
/// A copy is an independent state of the same cell, and further steps of either give the same bits:
/// to plan ahead, or to branch. Copying to a state of the same cell and number of samples allocates
/// nothing. Throws std::invalid_argument if the cell's parameters have since been replaced.
///
/// One thread at a time; several threads may copy one state and look at it as a constant.
template <class Scalar>
class CellState {
 public:
  /// An empty state, for `PlasticCell::reset`.
  CellState() = default;
  /// @{
  /// As described above; a copy of an empty state is empty.
  CellState(const CellState& other) { *this = other; }
  CellState& operator=(const CellState& other) {
    if (this == &other) return *this;
    if (other.copy_ == nullptr) return *this = CellState();
    other.copy_(other, *this);
    return *this;
  }
  /// @}
  /// @{
  /// Leaves an empty state behind.
  CellState(CellState&& other) noexcept { *this = std::move(other); }
  CellState& operator=(CellState&& other) noexcept {
    tape_ = std::move(other.tape_);
    episode_ = std::exchange(other.episode_, {});
    layers_ = std::exchange(other.layers_, 0);
    states_ = std::exchange(other.states_, 0);
    matrices_ = std::exchange(other.matrices_, 0);
    copy_ = std::exchange(other.copy_, nullptr);
    return *this;
  }
  /// @}

  Index samples() const { return episode_.samples; }  ///< parallel episodes; 0 in an empty state

  /// @{
  /// State matrix k, hidden x samples: 0 is the hidden state, 1 the LSTM's cell state; a view,
  /// which may be written to unless the state is const. Throws std::invalid_argument if there is
  /// none.
  MatrixMap<Scalar> state(std::size_t k) {
    check_state(k);
    return episode_.state[k].node().value_map();
  }
  ConstMatrixMap<Scalar> state(std::size_t k) const {
    check_state(k);
    return episode_.state[k].value();
  }
  MatrixMap<Scalar> hidden() { return state(0); }
  ConstMatrixMap<Scalar> hidden() const { return state(0); }
  /// @}

  /// @{
  /// Fast weights (outputs x inputs) and biases (outputs) of layer l, in the order of
  /// PlasticCell::layer_names, as copies. Looking changes nothing in later steps. Cost O(inputs
  /// outputs); allocate. Throw std::invalid_argument if there is no such layer or sample, or the
  /// cell is not plastic.
  Matrix<Scalar> fast_weight(std::size_t l, Index sample) const {
    return synapse(l).fast_weight(sample);
  }
  Vector<Scalar> fast_bias(std::size_t l, Index sample) const {
    return synapse(l).fast_bias(sample);
  }
  /// @}
  /// @{
  /// Set them. Throw likewise, and if the shape differs.
  void set_fast_weight(std::size_t l, Index sample,
                       const Eigen::Ref<const Matrix<Scalar>>& weight) {
    synapse(l).set_fast_weight(sample, weight);
  }
  void set_fast_bias(std::size_t l, Index sample, const Eigen::Ref<const Vector<Scalar>>& bias) {
    synapse(l).set_fast_bias(sample, bias);
  }
  /// @}
  /// @{
  /// Fast matrix k of a CellModel in one sample, outputs x inputs, in the order of
  /// PlasticCell::matrix_shapes, as a copy; and sets it. Throw std::invalid_argument if there is no
  /// such matrix or sample, or the shape differs.
  Matrix<Scalar> matrix(std::size_t k, Index sample) const {
    check_matrix(k);
    return episode_.matrices[k].value(sample);
  }
  void set_matrix(std::size_t k, Index sample, const Eigen::Ref<const Matrix<Scalar>>& value) {
    check_matrix(k);
    episode_.matrices[k].set_value(sample, value);
  }
  /// @}

 private:
  template <class Dynamics, class Rule, class S>
  friend class PlasticCell;
  friend struct detail::CellStateAccess;

  void check_state(std::size_t k) const {
    if (k >= states_) detail::reject("CellState::state", "k", "below the number of states", k);
  }
  void check_matrix(std::size_t k) const {
    if (k >= matrices_) {
      detail::reject("CellState", "the matrix", "below the number of fast matrices", k);
    }
  }
  void check_layer(std::size_t l) const {
    if (l >= layers_) detail::reject("CellState", "the layer", "below the number of layers", l);
  }
  const Synapse<Scalar>& synapse(std::size_t l) const {
    check_layer(l);
    return episode_.synapses[l];
  }
  Synapse<Scalar>& synapse(std::size_t l) {
    check_layer(l);
    return episode_.synapses[l];
  }

  std::unique_ptr<Tape<Scalar>> tape_;
  Episode<Scalar> episode_;
  std::size_t layers_ = 0;
  std::size_t states_ = 0;
  std::size_t matrices_ = 0;
  void (*copy_)(const CellState& from,
                CellState& to) = nullptr;  // set by the cell, whose type it knows
};

}  // namespace plastic
