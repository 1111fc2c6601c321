#pragma once

#include "plastic/cells/cell.hpp"
#include "plastic/cells/forward.hpp"

namespace plastic {

/// Activation of the hidden units.
enum class Activation { relu, tanh };

/// Their names in settings and files.
inline std::span<const std::string_view> setting_names(Activation) {
  static constexpr std::array<std::string_view, 2> names = {"relu", "tanh"};
  return names;
}

/// Fast weights as attention to the recent past: w' = lambda w + eta h'^T h', and within each step
/// the hidden state settles in a loop over w while the input and the slow recurrence are held.
/// Source: Ba, Hinton, Mnih, Leibo, Ionescu, "Using Fast Weights to Attend to the Recent Past",
/// NIPS 2016.
struct FastWeights {
  static constexpr std::string_view name = "fast_weights";  ///< name in settings and files
  static constexpr bool plastic = true;                     ///< it has fast weights
};

/// Settings of the network with FastWeights.
struct FastWeightsOptions {
  Index inputs = 1;                          ///< number of inputs
  Index hidden = 128;                        ///< units of the hidden state
  Index outputs = 1;                         ///< number of outputs
  Index loops = 1;                           ///< reads of w in a step, at least 1
  Activation activation = Activation::relu;  ///< f
  bool layer_norm = true;                    ///< whether f sees layer-normalised sums
  double decay = 0.9;                        ///< lambda, what is kept of w in a step
  double eta = 0.5;                          ///< rate of w
  std::uint64_t seed = 0;                    ///< seed of the initial slow weights
  Index snapshot_interval = 0;               ///< updates between copies for backward; 0 chooses

  /// Throws std::invalid_argument on the first setting out of its range.
  void validate() const {
    constexpr std::string_view here = "FastWeightsOptions";
    detail::check_common(here, *this);
    detail::check_between(here, "loops", loops, 1, 1000);
    detail::check_enumeration(here, "activation", activation);
    detail::check_range(here, "decay", decay, -1e15, 1e15);
    detail::check_range(here, "eta", eta, -1e15, 1e15);
  }

  /// Calls f(name, member) for each setting.
  template <class Options, class F>
  static void visit(Options& o, F&& f) {
    detail::visit_common(o, f);
    f("loops", o.loops);
    f("activation", o.activation);
    f("layer_norm", o.layer_norm);
    f("decay", o.decay);
    f("eta", o.eta);
  }
};

/// b = i_fc(x) + h W; s_0 = f(norm(b)); s_k = f(norm(b + s_{k-1} w)) for k = 1 .. loops; h' is the
/// last; o = out_fc(h'). norm is the layer norm, with one gain and bias for the whole loop.
struct FastWeightsRnn {
  using Options = FastWeightsOptions;              ///< its settings
  static constexpr std::string_view name = "rnn";  ///< name in files
  static constexpr std::size_t states = 1;         ///< h
  static constexpr std::size_t derived = 0;        ///< none
  /// Indices of the layers.
  enum Layers : std::size_t { i_fc, h_fc, out_fc };
  /// Indices of the blocks.
  enum Blocks : std::size_t { decay, eta, gain, bias };

  /// W starts as 0.05 times the identity.
  static std::vector<LayerShape> layers(const Options& o) {
    return detail::recurrent_layers(o.inputs, o.hidden, o.outputs, Start::identity(0.05));
  }
  /// lambda and eta, settings of the paper and therefore frozen at first, and the layer norm's gain
  /// and bias.
  static std::vector<BlockShape> blocks(const Options& o) {
    const Index units = o.layer_norm ? o.hidden : 0;
    return {{"rule.decay", 1, 0, Start::constant(o.decay), false},
            {"rule.eta", 1, 0, Start::constant(o.eta), false},
            {"layer_norm.weight", units, 0, Start::constant(1)},
            {"layer_norm.bias", units, 0, Start::constant(0)}};
  }
  /// w.
  static std::vector<MatrixShape> matrices(const Options& o) {
    return {{"h_fc", "weight", o.hidden, o.hidden}};
  }

  /// One time step; the rate is eta.
  template <class Scalar>
  static CellOutput<Var<Scalar>> advance(ModelStep<Scalar>& step, const Options& o,
                                         const Var<Scalar>& x) {
    const auto active = [&](const Var<Scalar>& sum) {
      const Var<Scalar> z =
          o.layer_norm ? plastic::layer_norm(sum, step.block(gain), step.block(bias)) : sum;
      return o.activation == Activation::relu ? relu(z) : tanh(z);
    };
    const Var<Scalar> held = step.layer(i_fc, x) + step.layer(h_fc, step.state(0));
    Var<Scalar> after = active(held);
    for (Index k = 0; k < o.loops; ++k) after = active(held + step.read(0, after));
    const Var<Scalar> rate = step.per_sample(step.block(eta));
    if (step.update()) {
      const MatrixTerm<Scalar> term{{}, after, after * rate};
      MatrixChange<Scalar> change;
      change.keep = step.per_sample(step.block(decay));
      change.terms = std::span(&term, 1);
      step.write(0, change);
    }
    step.set_state(0, after);
    return {step.layer(out_fc, after), rate};
  }
};

/// A network with fast weights as attention: PlasticCell's members, with FastWeightsOptions.
template <class Scalar>
using FastWeightsRNN = PlasticCell<FastWeightsRnn, FastWeights, Scalar>;

}  // namespace plastic
