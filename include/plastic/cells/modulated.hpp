#pragma once

#include "plastic/cells/trace.hpp"

namespace plastic {

/// Neuromodulated plasticity: the network sets the rate of its trace itself. The last output of
/// out_fc is the modulator, m = squash(o[last]), and is no prediction; e = m f + g with one learned
/// f and g per neuron (fan-out), or e = m without. With h the hidden state before a step and q the
/// activity after it (in an LSTM the candidate):
///
///     decay      H' = (1 - e) o H + (h^T q) o e
///     clip       H' = clip(H + (h^T q) o e)
///     soft       H' = clip(H + max(d, 0) o (1 - H) + min(d, 0) o (1 + H)),  d = (h^T q) o e
///     additive   H' = H + (h^T q) o e
///
/// e scales the columns of the matrix before it. The layer reads W + A o H. Source: Miconi, Rawal,
/// Clune, Stanley, "Backpropamine: training self-modifying neural networks with differentiable
/// neuromodulated plasticity", ICLR 2019.
struct Modulated {
  static constexpr std::string_view name = "modulated";  ///< name in settings and files
  static constexpr bool plastic = true;                  ///< it has fast weights
};

/// Settings of the networks with a modulated trace.
struct ModulatedOptions {
  Index inputs = 1;                     ///< number of inputs
  Index hidden = 128;                   ///< units of the hidden state
  Index outputs = 1;                    ///< number of outputs, the modulator not counted
  TraceForm form = TraceForm::clip;     ///< how H changes; not oja
  double clip = 2;                      ///< bound on H, of clip and soft
  AlphaShape alpha = AlphaShape::full;  ///< shape of A
  bool fanout = true;                   ///< whether every neuron has a rate of its own
  Squash squash = Squash::tanh;         ///< how the modulator is squashed
  std::uint64_t seed = 0;               ///< seed of the initial slow weights
  Index snapshot_interval = 0;          ///< updates between copies for backward; 0 chooses

  /// Throws std::invalid_argument on the first setting out of its range.
  void validate() const {
    constexpr std::string_view here = "ModulatedOptions";
    detail::check_common(here, *this);
    detail::check_enumeration(here, "form", form);
    if (form == TraceForm::oja) {
      detail::reject(here, "form", "decay, clip, soft or additive", "oja");
    }
    detail::check_enumeration(here, "alpha", alpha);
    detail::check_enumeration(here, "squash", squash);
    detail::check_range(here, "clip", clip, 1e-30, 1e30);
  }

  /// Calls f(name, member) for each setting.
  template <class Options, class F>
  static void visit(Options& o, F&& f) {
    detail::visit_common(o, f);
    f("form", o.form);
    f("clip", o.clip);
    f("alpha", o.alpha);
    f("fanout", o.fanout);
    f("squash", o.squash);
  }
};

namespace detail {

template <class Scalar>
Var<Scalar> squashed(Squash squash, const Var<Scalar>& x) {
  if (squash == Squash::tanh) return tanh(x);
  return squash == Squash::sigmoid ? sigmoid(x) : x;
}

/// What the networks with a modulated trace have in common.
struct ModulatedParts {
  using Options = ModulatedOptions;
  static constexpr std::size_t derived = 0;
  enum Blocks : std::size_t { alpha, fanout_weight, fanout_bias };

  static std::vector<BlockShape> blocks(const Options& o, const Start& alpha_start) {
    const Index units = o.fanout ? o.hidden : 0;
    const double k = 1;  // a linear layer with one input
    return {alpha_block(o.alpha, o.hidden, o.hidden, alpha_start),
            {"rule.fanout.weight", units, 0, Start::uniform(-k, k)},
            {"rule.fanout.bias", units, 0, Start::uniform(-k, k)}};
  }
  static std::vector<MatrixShape> matrices(const Options& o) {
    return {{"h_fc", "hebb", o.hidden, o.hidden, alpha}};
  }

  /// Changes H by the product of h and q, given the modulator m; the mean rate is not needed.
  template <class Scalar>
  static void change(ModelStep<Scalar>& step, const Options& o, const Var<Scalar>& h,
                     const Var<Scalar>& q, const Var<Scalar>& m) {
    Var<Scalar> e = m;
    if (o.fanout) e = m * step.block(fanout_weight) + step.block(fanout_bias);
    const MatrixTerm<Scalar> term{{}, h, q * e};
    MatrixChange<Scalar> change;
    change.terms = std::span(&term, 1);
    change.bound = bound_of(o.form);
    change.limit = o.clip;
    if (o.form == TraceForm::decay) change.keep = 1 - e;
    step.write(0, change);
  }

  /// The prediction and the modulator from all outputs.
  template <class Scalar>
  static CellOutput<Var<Scalar>> outputs_of(const Options& o, const Var<Scalar>& all) {
    return {rows(all, 0, o.outputs), squashed(o.squash, rows(all, o.outputs, 1))};
  }
};

}  // namespace detail

/// h' = tanh(i_fc(x) + h (W + A o H)), o = out_fc(h').
struct ModulatedRnn : detail::ModulatedParts {
  static constexpr std::string_view name = "rnn";  ///< name in files
  static constexpr std::size_t states = 1;         ///< h
  /// Indices of the layers.
  enum Layers : std::size_t { i_fc, h_fc, out_fc };

  /// W of h_fc and A start uniform in [0, 0.001] with fan-out, [0, 0.01] without.
  static std::vector<LayerShape> layers(const Options& o) {
    return detail::recurrent_layers(o.inputs, o.hidden, o.outputs + 1, start(o));
  }
  /// A, f and g.
  static std::vector<BlockShape> blocks(const Options& o) {
    return ModulatedParts::blocks(o, start(o));
  }

  /// One time step; the rate is the modulator m.
  template <class Scalar>
  static CellOutput<Var<Scalar>> advance(ModelStep<Scalar>& step, const Options& o,
                                         const Var<Scalar>& x) {
    const Var<Scalar> h = step.state(0);
    const Var<Scalar> after = tanh(step.layer(i_fc, x) + detail::read_traced(step, h_fc, h));
    const CellOutput<Var<Scalar>> result = outputs_of(o, step.layer(out_fc, after));
    if (step.update()) change(step, o, h, after, result.eta);
    step.set_state(0, after);
    return result;
  }

 private:
  static Start start(const Options& o) { return Start::uniform(0, o.fanout ? 0.001 : 0.01); }
};

/// q = tanh(x_g + h (W + A o H)); c' = sigmoid(x_f + r_f) c + sigmoid(x_i + r_i) q;
/// h' = sigmoid(x_o + r_o) tanh(c'), where [x_i x_f x_g x_o] = i_fc(x) and [r_i r_f r_o] =
/// gate_fc(h). h_fc feeds the candidate alone.
struct ModulatedLstm : detail::ModulatedParts {
  static constexpr std::string_view name = "lstm";  ///< name in files
  static constexpr std::size_t states = 2;          ///< h and c
  /// Indices of the layers.
  enum Layers : std::size_t { i_fc, gate_fc, h_fc, out_fc };

  /// W of h_fc starts uniform in +-0.01.
  static std::vector<LayerShape> layers(const Options& o) {
    const Index h = o.hidden, all = o.outputs + 1;
    return {{"i_fc", o.inputs, 4 * h, detail::linear_spread(o.inputs, 4 * h), true},
            {"gate_fc", h, 3 * h, detail::linear_spread(h, 3 * h), false},
            {"h_fc", h, h, 1, false, Start::uniform(-0.01, 0.01)},
            {"out_fc", h, all, detail::linear_spread(h, all), true}};
  }
  /// A, which starts uniform in [0, 0.0001], f and g.
  static std::vector<BlockShape> blocks(const Options& o) {
    return ModulatedParts::blocks(o, Start::uniform(0, 0.0001));
  }

  /// One time step; the rate is the modulator m.
  template <class Scalar>
  static CellOutput<Var<Scalar>> advance(ModelStep<Scalar>& step, const Options& o,
                                         const Var<Scalar>& x) {
    const Var<Scalar> h = step.state(0);
    const Var<Scalar> from_x = step.layer(i_fc, x), from_h = step.layer(gate_fc, h);
    const auto of_x = [&](Index k) { return rows(from_x, k * o.hidden, o.hidden); };
    const auto of_h = [&](Index k) { return rows(from_h, k * o.hidden, o.hidden); };
    const Var<Scalar> q = tanh(of_x(2) + detail::read_traced(step, h_fc, h));
    const Var<Scalar> c =
        sigmoid(of_x(1) + of_h(1)) * step.state(1) + sigmoid(of_x(0) + of_h(0)) * q;
    const Var<Scalar> after = sigmoid(of_x(3) + of_h(2)) * tanh(c);
    const CellOutput<Var<Scalar>> result = outputs_of(o, step.layer(out_fc, after));
    if (step.update()) change(step, o, h, q, result.eta);
    step.set_state(0, after);
    step.set_state(1, c);
    return result;
  }
};

/// A network with a modulated trace: PlasticCell's members, with ModulatedOptions.
template <class Scalar>
using ModulatedRNN = PlasticCell<ModulatedRnn, Modulated, Scalar>;
/// The same as a long short-term memory.
template <class Scalar>
using ModulatedLSTM = PlasticCell<ModulatedLstm, Modulated, Scalar>;

}  // namespace plastic
