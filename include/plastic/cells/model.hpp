#pragma once

#include <concepts>
#include <string>
#include <vector>

#include "plastic/cells/episode.hpp"
#include "plastic/cells/layer.hpp"

namespace plastic {

/// A block of a model's parameters beside its layers' W and b.
struct BlockShape {
  std::string name;     ///< in the cell's parameters and in files
  Index rows = 0;       ///< 0: this network lacks it
  Index cols = 0;       ///< 0: a vector
  Start start = {};     ///< how it starts
  bool learned = true;  ///< false: frozen at first
};

/// A fast matrix of a model.
struct MatrixShape {
  std::string layer;          ///< layer that it belongs to
  std::string name;           ///< weight: what is added to W; hebb: H, times A; eligibility: E
  Index inputs = 1;           ///< rows of H
  Index outputs = 1;          ///< columns of H
  std::ptrdiff_t alpha = -1;  ///< block of A, or -1
  bool deferred = false;      ///< as of FastMatrix
};

/// One time step of a model.
template <class Scalar>
class ModelStep {
 public:
  /// A step of an episode, which must outlive it. active: 1 x samples, 0 where a sample has ended;
  /// empty if none has.
  ModelStep(Episode<Scalar>& episode, bool update, const Var<Scalar>& active)
      : episode_(&episode), update_(update), active_(active) {}

  Tape<Scalar>& tape() const { return *episode_->tape; }  ///< tape of the step
  Index samples() const { return episode_->samples; }     ///< episodes side by side
  /// Whether the fast matrices are needed after this step: a change that only later steps would
  /// read may be omitted if not.
  bool update() const { return update_; }

  /// x W + b of layer l. x: inputs x samples.
  Var<Scalar> layer(std::size_t l, const Var<Scalar>& x) { return episode_->synapses[l].read(x); }
  /// W of layer l, outputs x inputs.
  const Var<Scalar>& weight(std::size_t l) const {
    return episode_->synapses[l].slow_weights().weight;
  }
  /// Parameter block k; empty if the network lacks it.
  const Var<Scalar>& block(std::size_t k) const { return episode_->blocks[k]; }
  /// What the model's `derive` has set.
  Var<Scalar>& derived(std::size_t k) { return episode_->derived[k]; }

  /// Fast matrix k.
  FastMatrix<Scalar>& matrix(std::size_t k) { return episode_->matrices[k]; }
  /// x (A o H_k), where A is outputs x inputs, outputs x 1, or one number.
  Var<Scalar> read(std::size_t k, const Var<Scalar>& x, const Var<Scalar>& alpha) {
    FastMatrix<Scalar>& matrix = episode_->matrices[k];
    const bool full = alpha.rows() == matrix.outputs() && alpha.cols() == matrix.inputs();
    // A matrix with one input is a column too; both readings then agree.
    return full ? matrix.read(x, alpha) : matrix.read(x) * alpha;
  }
  /// x H_k.
  Var<Scalar> read(std::size_t k, const Var<Scalar>& x) { return episode_->matrices[k].read(x); }
  /// Changes H_k in all samples that have not ended.
  void write(std::size_t k, MatrixChange<Scalar> change) {
    change.active = active_;
    episode_->matrices[k].write(change);
  }

  /// State matrix k, hidden x samples.
  const Var<Scalar>& state(std::size_t k) const { return episode_->state[k]; }
  /// Sets it for the next step.
  void set_state(std::size_t k, const Var<Scalar>& value) { episode_->state[k] = value; }

  /// A single learned number as 1 x samples.
  Var<Scalar> per_sample(const Var<Scalar>& number) const {
    return broadcast(number, 1, samples());
  }
  /// A constant, 1 x samples.
  Var<Scalar> constant(double value) const {
    return tape().constant(Matrix<Scalar>::Constant(1, samples(), static_cast<Scalar>(value)));
  }

 private:
  Episode<Scalar>* episode_;
  bool update_;
  Var<Scalar> active_;
};

/// A recurrent network with a plasticity rule of its own, as PlasticCell's Dynamics: a policy class
/// without state, for rules that are no rank-one proposal to every layer.
///
/// - `name`, `states`: as in CellDynamics; the first state is the hidden state.
/// - `Options`: settings, with `inputs`, `hidden`, `outputs`, `seed`, `snapshot_interval`,
///   `validate()` and `visit(options, f)`, which calls f(name, member) for each; `optional`, if
///   there, lists those that a file may lack. An enumeration needs `setting_names`.
/// - `layers(options)`: layers with W and b alone; the last makes the outputs.
/// - `blocks(options)`, `matrices(options)`: other parameters, and fast matrices.
/// - `derived`, `derive(step, options)`: number of variables that depend on parameters alone, and
///   the function that sets them, once an episode.
/// - `advance(step, options, x)`: one time step; sets all states and returns output and rate.
template <class M>
concept CellModel = requires(const typename M::Options& options) {
  { M::name } -> std::convertible_to<std::string_view>;
  { M::states } -> std::convertible_to<std::size_t>;
  { M::derived } -> std::convertible_to<std::size_t>;
  { M::layers(options) } -> std::convertible_to<std::vector<LayerShape>>;
  { M::blocks(options) } -> std::convertible_to<std::vector<BlockShape>>;
  { M::matrices(options) } -> std::convertible_to<std::vector<MatrixShape>>;
};

namespace detail {

/// A start like that of the usual linear layer: uniform in +-1 / sqrt(inputs).
inline double linear_spread(Index inputs, Index outputs) {
  return std::sqrt(static_cast<double>(outputs) / static_cast<double>(inputs));
}

/// i_fc, h_fc without a bias, whose W starts as given, and out_fc; the first and the last start
/// like linear layers.
inline std::vector<LayerShape> recurrent_layers(Index inputs, Index hidden, Index outputs,
                                                const Start& start) {
  return {{"i_fc", inputs, hidden, linear_spread(inputs, hidden), true},
          {"h_fc", hidden, hidden, 1, false, start},
          {"out_fc", hidden, outputs, linear_spread(hidden, outputs), true}};
}

/// Settings of a cell of any kind.
template <class D>
struct OptionsOf {
  using Type = CellOptions;
};
template <CellModel D>
struct OptionsOf<D> {
  using Type = typename D::Options;
};

}  // namespace detail
}  // namespace plastic
