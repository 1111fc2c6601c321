#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <string>
#include <vector>

#include "plastic/cells/detail/model_impl.hpp"
#include "plastic/cells/model.hpp"
#include "plastic/cells/model_options.hpp"
#include "plastic/cells/state.hpp"
#include "plastic/synapse/clipped_rate.hpp"
#include "plastic/tape/select.hpp"

namespace plastic {

/// What distinguishes one recurrent cell from another: a policy class without state.
///
/// - `name`: name in files.
/// - `states`: number of state matrices, at most max_states; each is hidden x samples and starts at
///   zero. The first is the hidden state.
/// - `layers(options)`: the shapes of the layers before the output layer; with it, at most
///   max_layers.
/// - `features(options)`: rows of the result of `advance`; with states, `hidden`.
/// - `advance(step, x)`: one time step: applies each layer once through `step.layer`, declares each
///   layer's activity, sets the states after the first, and returns the new hidden state, on which
///   the output layer works and which becomes state 0 (after layer norm, if on).
template <class D>
concept CellDynamics = requires(const CellOptions& options, CellStep<float>& step, Var<float> x) {
  { D::name } -> std::convertible_to<std::string_view>;
  { D::states } -> std::convertible_to<std::size_t>;
  { D::features(options) } -> std::convertible_to<Index>;
  { D::layers(options) } -> std::convertible_to<std::vector<LayerShape>>;
  { D::advance(step, x) } -> std::convertible_to<Var<float>>;
};

/// A recurrent network whose every weight has a slow part W, learned by gradient descent, and a
/// fast part w, one per sample, rewritten at every step by a plasticity rule.
///
/// One step from input x: h' = Dynamics(x, state), layer norm if on, o = out_fc(h'); prediction
/// o[0 : outputs]; m = 2 sigmoid(o[last]), eta = eta0 m, lambda = decay0 m; then every layer's
/// w <- (1 - lambda) w + eta' A o (pre post^T) with the rule's proposal and eta' the norm-clipped
/// eta. Source: Duan, Jia, Li, Zhong, Ma, "Hebbian and Gradient-based Plasticity Enables Robust
/// Memory and Rapid Learning in RNNs", ICLR 2023, section 3.
///
/// Const member functions may be called from several threads, each with its own tape or state.
/// Functions that take an episode or a state throw std::invalid_argument if another cell began it,
/// its tape has been cleared or a shape does not fit, and if a Dynamics or rule omits what it must
/// set, or sets it in the wrong shape.
template <class Dynamics, class Rule, class Scalar>
class PlasticCell {
  static_assert(std::is_floating_point_v<Scalar>, "PlasticCell needs float or double");
  static_assert(CellDynamics<Dynamics> || CellModel<Dynamics>,
                "the cell's Dynamics lacks a member of CellDynamics: see cells/cell.hpp");
  static_assert(Dynamics::states <= max_states,
                "the cell's Dynamics has more states than max_states: see cells/episode.hpp");
  static_assert(PlasticityRule<Rule, Scalar> || CellModel<Dynamics>,
                "the rule lacks a member of PlasticityRule: see rules/rule.hpp");

 public:
  using ScalarType = Scalar;                                     ///< float or double
  using Options = typename detail::OptionsOf<Dynamics>::Type;    ///< CellOptions or the model's
  static constexpr std::string_view cell_name = Dynamics::name;  ///< name in files
  static constexpr std::string_view rule_name = Rule::name;      ///< name in files
  static constexpr bool plastic = Rule::plastic;                 ///< whether it has fast weights
  static constexpr std::size_t states = Dynamics::states;        ///< number of state matrices
  /// Whether it is a CellModel, whose fast weights are FastMatrix: see CellState::matrix.
  static constexpr bool is_model = CellModel<Dynamics>;
  /// Whether every layer has fast weights of its own: see CellState::fast_weight.
  static constexpr bool has_fast_layers = plastic && !is_model;

  /// Draws the initial slow weights. Throws std::invalid_argument on a setting out of its range.
  explicit PlasticCell(const Options& options);

  /// The layers that a cell with these options has; the last is out_fc. Throws
  /// std::invalid_argument on a setting out of its range.
  static std::vector<LayerShape> layer_shapes(const Options& options);

  /// The fast matrices of a CellModel with these options; none for another cell.
  static std::vector<MatrixShape> matrix_shapes(const Options& options) {
    if constexpr (is_model) {
      return Dynamics::matrices(options);
    } else {
      return {};
    }
  }

  const Options& options() const { return options_; }  ///< as given to the constructor
  /// @{
  /// The slow parameters: LAYER.weight, .bias, .weight_alpha and .bias_alpha of every layer,
  /// out_scale, and with layer norm layer_norm.weight and .bias.
  Parameters<Scalar>& parameters() { return parameters_; }
  const Parameters<Scalar>& parameters() const { return parameters_; }
  /// @}
  /// Names of the layers, in the order of `layer_shapes`: the last is out_fc.
  const std::vector<std::string>& layer_names() const { return layer_names_; }

  /// A zero gradient with the layout of `parameters()`.
  Vector<Scalar> zero_gradients() const { return Vector<Scalar>::Zero(parameters_.size()); }

  /// Begins an episode to be differentiated, from zero state and zero fast weights. Sweeps of the
  /// tape add to `gradients` (nullptr: parameters are constants), which must outlive them. The
  /// parameters must stay in place and unchanged meanwhile. Throws std::invalid_argument if
  /// `samples` is not positive, `gradients` has another length, or the tape has been swept and not
  /// cleared since.
  Episode<Scalar> begin(Tape<Scalar>& tape, Index samples,
                        Vector<Scalar>* gradients = nullptr) const {
    return begin(tape, samples, gradients, true);
  }

  /// Begins an episode from the state and fast weights of `from`, which are constants of the
  /// gradient.
  Episode<Scalar> begin(Tape<Scalar>& tape, CellState<Scalar>& from,
                        Vector<Scalar>* gradients = nullptr) const;

  /// One time step on the tape. x: inputs x samples. Differentiable in x, parameters and all that
  /// earlier steps have written to the fast weights. `update` false omits the rule's update, for
  /// when the fast weights are not needed again; only then can Tape::gradient record a gradient
  /// through the step.
  CellOutput<Var<Scalar>> step(Episode<Scalar>& episode, const Var<Scalar>& x,
                               bool update = true) const {
    check_owner("PlasticCell::step", episode);
    detail::check_shape("PlasticCell::step", "x (inputs x samples)", x, options_.inputs,
                        episode.samples);
    return advance(episode, x, update, {}, 0);
  }

  /// @{
  /// Runs a whole episode, or a further part of one: inputs x (steps * samples), step by step;
  /// outputs likewise. `inputs` is not copied and must outlive the sweep, unless it is a temporary.
  /// With `last_update` false the fast weights keep the state before the last step's update.
  CellOutput<Var<Scalar>> run(Episode<Scalar>& episode, const Matrix<Scalar>& inputs,
                              bool last_update = true) const {
    return run(episode, inputs, {}, last_update);
  }
  CellOutput<Var<Scalar>> run(Episode<Scalar>& episode, Matrix<Scalar>&& inputs,
                              bool last_update = true) const {
    check_owner("PlasticCell::run", episode);
    return run_borrowed(episode, episode.tape->constant(inputs).value(), {}, last_update);
  }
  /// @}
  /// @{
  /// The same for samples that end earlier than others: after `lengths[s]` steps of this part (0 to
  /// all of them) sample s keeps its states and fast weights, its outputs and eta are 0, and its
  /// columns of `inputs` do not matter. Empty lengths: none ends early.
  CellOutput<Var<Scalar>> run(Episode<Scalar>& episode, const Matrix<Scalar>& inputs,
                              std::span<const Index> lengths, bool last_update = true) const {
    return run(episode, ConstMatrixMap<Scalar>(inputs.data(), inputs.rows(), inputs.cols()),
               lengths, last_update);
  }
  CellOutput<Var<Scalar>> run(Episode<Scalar>& episode, const ConstMatrixMap<Scalar>& inputs,
                              std::span<const Index> lengths, bool last_update = true) const {
    check_owner("PlasticCell::run", episode);
    return run_borrowed(episode, inputs, lengths, last_update);
  }
  /// @}

  /// State for stepping without derivatives, all zero. Allocates; throws std::invalid_argument if
  /// `samples` is not positive.
  CellState<Scalar> initial_state(Index samples) const {
    CellState<Scalar> state;
    restart(state, samples);
    return state;
  }

  /// Sets a state to zero for `samples` samples of this cell, whatever it held before. Allocates
  /// nothing where it has had that size before.
  void reset(CellState<Scalar>& state, Index samples) const { restart(state, samples); }

  /// Sets the states and fast weights of one sample to zero, even where they are not finite; the
  /// steps of the other samples keep their bits. Allocates nothing. Throws std::invalid_argument if
  /// there is no such sample.
  void reset_sample(CellState<Scalar>& state, Index sample) const;

  /// One time step without derivatives; changes `state`, whose memory holds the result until its
  /// next step. x: inputs x samples. Allocates nothing after the first call, locks nothing.
  CellOutput<ConstMatrixMap<Scalar>> step(CellState<Scalar>& state,
                                          const Eigen::Ref<const Matrix<Scalar>>& x) const {
    check_owner("PlasticCell::step", state.episode_);
    detail::check_shape("PlasticCell::step", "x (inputs x samples)", x, options_.inputs,
                        state.samples());
    refresh_parameters(state.episode_);
    return step_without_recording(state.episode_, x, {}, 0);
  }

  /// Steps through inputs (inputs x (steps * samples)) and writes output and eta of every step to
  /// matrices that are resized to fit: outputs and 1 x (steps * samples). Samples may end before
  /// the others: see `run` of an episode. Throws std::invalid_argument if two of the matrices are
  /// the same.
  void run(CellState<Scalar>& state, const Matrix<Scalar>& inputs, Matrix<Scalar>& output,
           Matrix<Scalar>* eta = nullptr, std::span<const Index> lengths = {}) const;
  /// The same, written to memory that has these shapes. output: outputs x (steps * samples);
  /// eta: 1 x (steps * samples).
  void run(CellState<Scalar>& state, const ConstMatrixMap<Scalar>& inputs, MatrixMap<Scalar> output,
           MatrixMap<Scalar> eta, std::span<const Index> lengths = {}) const;

  /// What fast matrix k of a CellModel adds to its layer's W in one sample of a state: A o H where
  /// it has an A, else H; outputs x inputs. Throws std::invalid_argument if there is none.
  Matrix<Scalar> added_weight(const CellState<Scalar>& state, std::size_t k, Index sample) const;

  /// A copy of an episode's current state, to continue from without derivatives or on another tape.
  CellState<Scalar> state_of(Episode<Scalar>& episode) const;

 private:
  friend struct detail::CellStateAccess;

  Episode<Scalar> begin(Tape<Scalar>& tape, Index samples, Vector<Scalar>* gradients,
                        bool differentiable) const;

  /// `inputs` must outlive the sweep.
  CellOutput<Var<Scalar>> run_borrowed(Episode<Scalar>& episode,
                                       const ConstMatrixMap<Scalar>& inputs,
                                       std::span<const Index> lengths, bool last_update) const;

  /// Step t of a part of an episode in which sample s has `lengths[s]` steps.
  CellOutput<Var<Scalar>> advance(Episode<Scalar>& episode, Var<Scalar> x, bool update,
                                  std::span<const Index> lengths, Index t) const;

  /// 1 x samples: 1 where a sample has step t, else 0; empty if all have it.
  static Var<Scalar> active_samples(const Episode<Scalar>& episode, std::span<const Index> lengths,
                                    Index t);

  void update_fast_weights(Episode<Scalar>& episode, CellStep<Scalar>& step, const Var<Scalar>& all,
                           const Var<Scalar>& eta, const Var<Scalar>& decay) const;

  /// A step without derivatives: the next one forgets its operations; the states have memory of
  /// their own.
  CellOutput<ConstMatrixMap<Scalar>> step_without_recording(
      Episode<Scalar>& episode, const Eigen::Ref<const Matrix<Scalar>>& x,
      std::span<const Index> lengths, Index t) const;

  /// Points a state's variables at the parameters, which may have moved, and refreshes copies of
  /// them.
  void refresh_parameters(Episode<Scalar>& episode) const;

  void restart(CellState<Scalar>& state, Index samples) const;

  void copy_state(Episode<Scalar>& from, Episode<Scalar>& to) const;

  /// Makes `to` a copy of `from`, a state of any cell of this type.
  static void copy(const CellState<Scalar>& from, CellState<Scalar>& to);

  void check_owner(std::string_view function, const Episode<Scalar>& episode) const;

  // Checks of a user's own Dynamics or rule.

  void check_advance(const Episode<Scalar>& episode, const Var<Scalar>& hidden) const {
    if constexpr (!is_model) {
      const auto check = [&](std::string_view what, const Var<Scalar>& v, Index rows) {
        detail::check_shape(Dynamics::name, what, v, rows, episode.samples);
      };
      check("the result of advance", hidden, Dynamics::features(options_));
      if constexpr (Dynamics::states > 0) check("the hidden state", hidden, options_.hidden);
      for (std::size_t k = 1; k < Dynamics::states; ++k) {
        check("every state", episode.state[k], options_.hidden);
      }
    }
  }

  void check_applied(const Connection<Scalar>& connection, std::size_t l) const {
    if (connection.input.empty()) {
      detail::reject(Dynamics::name, "layer " + layer_names_[l], "applied in Dynamics::advance",
                     "no call");
    }
    if (connection.activity.empty()) {
      detail::reject(Dynamics::name, "the activity of layer " + layer_names_[l],
                     "declared in Dynamics::advance", "no call");
    }
  }

  void check_proposal(const RankOne<Scalar>& change, std::size_t l) const {
    if (change.pre.empty() || change.post.empty()) {
      detail::reject(Rule::name, "the change of layer " + layer_names_[l], "set in Rule::propose",
                     "an empty one");
    }
  }

  void check_lengths(std::span<const Index> lengths, Index samples, Index steps) const {
    const auto fits = [&](Index length) { return length >= 0 && length <= steps; };
    if (!lengths.empty() && (static_cast<Index>(lengths.size()) != samples ||
                             !std::all_of(lengths.begin(), lengths.end(), fits))) {
      detail::reject("PlasticCell::run", "lengths",
                     "empty or one for each of " + std::to_string(samples) + " samples, in 0 .. " +
                         std::to_string(steps),
                     std::to_string(lengths.size()) + " of them");
    }
  }

  template <class Inputs>
  Index count_steps(const Inputs& inputs, Index samples) const {
    if (inputs.rows() != options_.inputs || inputs.cols() == 0 || inputs.cols() % samples != 0) {
      detail::reject(
          "PlasticCell::run", "inputs",
          std::to_string(options_.inputs) + " x (steps * " + std::to_string(samples) + ")",
          detail::shape_text(inputs.rows(), inputs.cols()));
    }
    return inputs.cols() / samples;
  }

  Options options_;
  Parameters<Scalar> parameters_;
  std::vector<Layer<Scalar>> layers_;
  std::vector<std::string> layer_names_;
  std::vector<MatrixShape> matrix_shapes_;  // of a CellModel
  std::vector<Index> blocks_;               // likewise; -1 for one that it lacks
  Index out_scale_ = -1;
  Index norm_gain_ = -1;
  Index norm_bias_ = -1;
};

}  // namespace plastic

#include "plastic/cells/detail/cell_impl.hpp"
#include "plastic/cells/detail/state_impl.hpp"
