#pragma once

#include "plastic/cells/cell.hpp"
#include "plastic/cells/forward.hpp"

namespace plastic {

/// When a short-term plasticity neuron divides its weights by their norm.
enum class StpnNorm { pre, post, none };

/// Which layers of a network of such neurons are plastic.
enum class StpnPlastic { all, hidden };

/// Which hidden state counts as the activity before the recurrent synapses.
enum class StpnPresynaptic { old, after };

/// Their names in settings and files.
inline std::span<const std::string_view> setting_names(StpnNorm) {
  static constexpr std::array<std::string_view, 3> names = {"pre", "post", "none"};
  return names;
}
/// Likewise.
inline std::span<const std::string_view> setting_names(StpnPlastic) {
  static constexpr std::array<std::string_view, 2> names = {"all", "hidden"};
  return names;
}
/// Likewise.
inline std::span<const std::string_view> setting_names(StpnPresynaptic) {
  static constexpr std::array<std::string_view, 2> names = {"old", "new"};
  return names;
}

/// Short-term plasticity neurons: every synapse has a decay lambda and a rate gamma of its own,
/// both learned. With v = [x, h] and G = W + w of all synapses into a neuron, n the norm of its
/// column:
///
///     h' = tanh(v G / n + b)               norm pre, post;  norm none: tanh(v G + b)
///     w' = lambda o (w / n) + gamma o (v^T h')               norm pre
///     w' = lambda o w + gamma o (v^T h')                     norm post, none
///     w' <- clip(w');  norm post: w' <- w' / n of W + w'
///
/// Source: Garcia Rodriguez, Guo, Moraitis, "Short-Term Plasticity Neurons Learning to Learn and
/// Forget", ICML 2022.
struct Stpn {
  static constexpr std::string_view name = "stpn";  ///< name in settings and files
  static constexpr bool plastic = true;             ///< it has fast weights
};

/// Settings of the network of short-term plasticity neurons.
struct StpnOptions {
  Index inputs = 1;                        ///< number of inputs
  Index hidden = 128;                      ///< units of the hidden state
  Index outputs = 1;                       ///< number of outputs
  StpnNorm norm = StpnNorm::pre;           ///< when weights are divided by their norm
  double clip = 0;                         ///< bound on w; 0 is off
  StpnPlastic plastic = StpnPlastic::all;  ///< i_fc and h_fc, or h_fc alone
  bool scalar = false;                     ///< one lambda and gamma for all synapses
  /// Activity before the recurrent synapses: h, or h' as in one of the published programs.
  StpnPresynaptic presynaptic = StpnPresynaptic::old;
  std::uint64_t seed = 0;       ///< seed of the initial slow weights
  Index snapshot_interval = 0;  ///< updates between copies for backward; 0 chooses

  /// Throws std::invalid_argument on the first setting out of its range.
  void validate() const {
    constexpr std::string_view here = "StpnOptions";
    detail::check_common(here, *this);
    detail::check_enumeration(here, "norm", norm);
    detail::check_enumeration(here, "plastic", plastic);
    detail::check_enumeration(here, "presynaptic", presynaptic);
    if (clip != 0) detail::check_range(here, "clip, if not 0,", clip, 1e-30, 1e30);
  }

  /// Calls f(name, member) for each setting.
  template <class Options, class F>
  static void visit(Options& o, F&& f) {
    detail::visit_common(o, f);
    f("norm", o.norm);
    f("clip", o.clip);
    f("plastic", o.plastic);
    f("scalar", o.scalar);
    f("presynaptic", o.presynaptic);
  }
};

/// o = out_fc(h') on a layer of short-term plasticity neurons. A state divided by its norm keeps
/// one more copy of w for each step that a sweep goes back over.
struct StpnRnn {
  using Options = StpnOptions;                     ///< its settings
  static constexpr std::string_view name = "rnn";  ///< name in files
  static constexpr std::size_t states = 1;         ///< h
  static constexpr std::size_t derived = 0;        ///< none
  /// Indices of the layers.
  enum Layers : std::size_t { i_fc, h_fc, out_fc };
  /// Indices of the blocks: b, and lambda and gamma of h_fc and i_fc, or of all.
  enum Blocks : std::size_t { bias, h_lambda, h_gamma, i_lambda, i_gamma, lambda, gamma };
  /// Indices of the fast matrices.
  enum Matrices : std::size_t { h_fast, i_fast };

  /// W and b start uniform in +-1 / sqrt(hidden).
  static std::vector<LayerShape> layers(const Options& o) {
    return {{"i_fc", o.inputs, o.hidden, 1, false, {}},
            {"h_fc", o.hidden, o.hidden, 1, false, {}},
            {"out_fc", o.hidden, o.outputs, detail::linear_spread(o.hidden, o.outputs), true}};
  }
  /// lambda starts uniform in [0, 1], gamma in +-0.001 / sqrt(hidden).
  static std::vector<BlockShape> blocks(const Options& o) {
    const double k = 1 / std::sqrt(static_cast<double>(o.hidden));
    const Start decay = Start::uniform(0, 1), rate = Start::uniform(-0.001 * k, 0.001 * k);
    const Index of_h = o.scalar ? 0 : o.hidden;
    const Index of_i = o.plastic == StpnPlastic::all ? of_h : 0;
    const Index one = o.scalar ? 1 : 0;
    return {{"i_fc.bias", o.hidden, 0, Start::uniform(-k, k)},
            {"rule.h_fc.lambda", of_h, o.hidden, decay},
            {"rule.h_fc.gamma", of_h, o.hidden, rate},
            {"rule.i_fc.lambda", of_i, o.inputs, decay},
            {"rule.i_fc.gamma", of_i, o.inputs, rate},
            {"rule.lambda", one, 0, decay},
            {"rule.gamma", one, 0, rate}};
  }
  /// w of h_fc and, if it is plastic, of i_fc.
  static std::vector<MatrixShape> matrices(const Options& o) {
    std::vector<MatrixShape> all{{"h_fc", "weight", o.hidden, o.hidden}};
    if (o.plastic == StpnPlastic::all) all.push_back({"i_fc", "weight", o.inputs, o.hidden});
    return all;
  }

  /// One time step; the rate is 1.
  template <class Scalar>
  static CellOutput<Var<Scalar>> advance(ModelStep<Scalar>& step, const Options& o,
                                         const Var<Scalar>& x) {
    const bool all = o.plastic == StpnPlastic::all;
    const Var<Scalar> h = step.state(0);
    Var<Scalar> sum = step.layer(i_fc, x) + step.layer(h_fc, h) + step.read(h_fast, h);
    if (all) sum = sum + step.read(i_fast, x);
    Var<Scalar> inverse;
    if (o.norm != StpnNorm::none) {
      inverse = inverse_norm(step, all);
      sum = sum * inverse;
    }
    const Var<Scalar> after = tanh(sum + step.block(bias));
    if (step.update()) {
      const Var<Scalar> keep = o.norm == StpnNorm::pre ? inverse : Var<Scalar>();
      const Var<Scalar> pre = o.presynaptic == StpnPresynaptic::old ? h : after;
      change(step, o, h_fast, pre, after, keep, h_lambda);
      if (all) change(step, o, i_fast, x, after, keep, i_lambda);
      if (o.norm == StpnNorm::post) {
        MatrixChange<Scalar> divide;
        divide.keep = inverse_norm(step, all);
        step.write(h_fast, divide);
        if (all) step.write(i_fast, divide);
      }
    }
    step.set_state(0, after);
    return {step.layer(out_fc, after), step.constant(1)};
  }

 private:
  /// 1 / n of every neuron.
  template <class Scalar>
  static Var<Scalar> inverse_norm(ModelStep<Scalar>& step, bool all) {
    const Var<Scalar> of_h = step.matrix(h_fast).column_squares(step.weight(h_fc));
    const Var<Scalar> of_i = all ? step.matrix(i_fast).column_squares(step.weight(i_fc))
                                 : sum_samples(square(step.weight(i_fc)));
    return 1 / (sqrt(of_h + of_i) + 1e-16);
  }

  template <class Scalar>
  static void change(ModelStep<Scalar>& step, const Options& o, std::size_t matrix,
                     const Var<Scalar>& pre, const Var<Scalar>& post, const Var<Scalar>& keep,
                     std::size_t own_lambda) {
    MatrixTerm<Scalar> term{{}, pre, post};
    MatrixChange<Scalar> change;
    change.keep = keep;
    if (o.scalar) {
      term.post = post * step.block(gamma);
      const Var<Scalar>& decay = step.block(lambda);
      change.keep = keep.empty() ? step.per_sample(decay) : keep * decay;
    } else {
      term.matrix = step.block(own_lambda + 1);
      change.keep_matrix = step.block(own_lambda);
    }
    change.terms = std::span<const MatrixTerm<Scalar>>(&term, 1);
    if (o.clip > 0) {
      change.bound = MatrixBound::clip;
      change.limit = o.clip;
    }
    step.write(matrix, change);
  }
};

/// A network of short-term plasticity neurons: PlasticCell's members, with StpnOptions.
template <class Scalar>
using StpnRNN = PlasticCell<StpnRnn, Stpn, Scalar>;

}  // namespace plastic
