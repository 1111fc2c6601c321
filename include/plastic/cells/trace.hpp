#pragma once

#include <array>

#include "plastic/cells/cell.hpp"
#include "plastic/cells/forward.hpp"

namespace plastic {

/// How a trace H takes the product of pre and post activity: see Trace.
enum class TraceForm { decay, oja, clip, soft, additive };

/// Their names in settings and files.
inline std::span<const std::string_view> setting_names(TraceForm) {
  static constexpr std::array<std::string_view, 5> names = {"decay", "oja", "clip", "soft",
                                                            "additive"};
  return names;
}

namespace detail {

/// A's block for a layer from hidden to hidden units.
inline BlockShape alpha_block(AlphaShape shape, Index inputs, Index outputs, const Start& start) {
  const Index rows = shape == AlphaShape::single ? 1 : outputs;
  return {"h_fc.weight_alpha", rows, shape == AlphaShape::full ? inputs : 0, start};
}

/// h (W + A o H) for layer h_fc of a network whose first block is A and first fast matrix H.
template <class Scalar>
Var<Scalar> read_traced(ModelStep<Scalar>& step, std::size_t h_fc, const Var<Scalar>& h) {
  return step.layer(h_fc, h) + step.read(0, h, step.block(0));
}

/// The bound that a form names, for the forms with one.
inline MatrixBound bound_of(TraceForm form) {
  if (form == TraceForm::clip) return MatrixBound::clip;
  if (form == TraceForm::soft) return MatrixBound::soft;
  return MatrixBound::none;
}

}  // namespace detail

/// Differentiable plasticity: a trace H of the product of activities before and after a synapse,
/// which the recurrent layer reads as W + A o H, both learned. With h the hidden state before a
/// step, h' after it and one learned eta:
///
///     decay      H' = (1 - eta) H + eta h^T h'
///     oja        H' = H + eta (h^T h' - H o (h' * h'))
///     clip       H' = clip(H + eta h^T h')
///     soft       H' = clip(H + max(d, 0) o (1 - H) + min(d, 0) o (1 + H)),  d = eta h^T h'
///     additive   H' = H + eta h^T h'
///
/// Source: Miconi, Stanley, Clune, "Differentiable plasticity: training plastic neural networks
/// with backpropagation", ICML 2018; the clipped forms: Miconi, Rawal, Clune, Stanley, ICLR 2019.
struct Trace {
  static constexpr std::string_view name = "trace";  ///< name in settings and files
  static constexpr bool plastic = true;              ///< it has fast weights
};

/// Settings of the networks with a Trace.
struct TraceOptions {
  Index inputs = 1;                     ///< number of inputs
  Index hidden = 128;                   ///< units of the hidden state
  Index outputs = 1;                    ///< number of outputs
  TraceForm form = TraceForm::decay;    ///< how H changes
  double clip = 1;                      ///< bound on H, of clip and soft
  AlphaShape alpha = AlphaShape::full;  ///< shape of A
  double eta = 0.01;                    ///< start of eta, which is learned
  bool readout = true;          ///< false: no out_fc; the outputs are the first units themselves
  std::uint64_t seed = 0;       ///< seed of the initial slow weights
  Index snapshot_interval = 0;  ///< updates between copies for backward; 0 chooses

  /// Settings that a file may lack.
  static constexpr std::array<std::string_view, 1> optional = {"readout"};

  /// Throws std::invalid_argument on the first setting out of its range.
  void validate() const {
    constexpr std::string_view here = "TraceOptions";
    detail::check_common(here, *this);
    if (!readout) {
      detail::check_between(here, "outputs without a readout", outputs, 1, hidden);
    }
    detail::check_enumeration(here, "form", form);
    detail::check_enumeration(here, "alpha", alpha);
    detail::check_range(here, "clip", clip, 1e-30, 1e30);
    detail::check_range(here, "eta", eta, -1e15, 1e15);
  }

  /// Calls f(name, member) for each setting.
  template <class Options, class F>
  static void visit(Options& o, F&& f) {
    detail::visit_common(o, f);
    f("form", o.form);
    f("clip", o.clip);
    f("alpha", o.alpha);
    f("eta", o.eta);
    f("readout", o.readout);
  }
};

namespace detail {

/// What the networks with a Trace have in common; the last two layers are h_fc and, with a readout,
/// out_fc.
struct TraceParts {
  using Options = TraceOptions;
  static constexpr std::size_t states = 1;
  static constexpr std::size_t derived = 0;
  enum Blocks : std::size_t { alpha, eta };

  static std::vector<BlockShape> blocks(const Options& o) {
    return {alpha_block(o.alpha, o.hidden, o.hidden, Start::normal(0.01)),
            {"rule.eta", 1, 0, Start::constant(o.eta)}};
  }
  static std::vector<MatrixShape> matrices(const Options& o) {
    return {{"h_fc", "hebb", o.hidden, o.hidden, alpha}};
  }

  /// i_fc, h_fc, and out_fc if there is a readout.
  static std::vector<LayerShape> all_layers(const Options& o) {
    std::vector<LayerShape> all =
        recurrent_layers(o.inputs, o.hidden, o.outputs, Start::normal(0.01));
    if (!o.readout) all.pop_back();
    return all;
  }

  /// The outputs of a step that ends in `after`, given the number of out_fc, and eta.
  template <class Scalar>
  static CellOutput<Var<Scalar>> outputs_of(ModelStep<Scalar>& step, const Options& o,
                                            std::size_t out_fc, const Var<Scalar>& after) {
    return {o.readout ? step.layer(out_fc, after) : rows(after, 0, o.outputs),
            step.per_sample(step.block(eta))};
  }

  /// Changes H after a step from h to `after`.
  template <class Scalar>
  static void change(ModelStep<Scalar>& step, const Options& o, const Var<Scalar>& h,
                     const Var<Scalar>& after) {
    const Var<Scalar>& rate = step.block(eta);
    const MatrixTerm<Scalar> term{{}, h, after * rate};
    MatrixChange<Scalar> change;
    change.terms = std::span(&term, 1);
    change.bound = bound_of(o.form);
    change.limit = o.clip;
    if (o.form == TraceForm::decay) change.keep = 1 - step.per_sample(rate);
    if (o.form == TraceForm::oja) change.keep = 1 - square(after) * rate;
    step.write(0, change);
  }
};

}  // namespace detail

/// h' = tanh(i_fc(x) + h (W + A o H)), o = out_fc(h'), with H a Trace of h_fc.
struct TraceRnn : detail::TraceParts {
  static constexpr std::string_view name = "rnn";  ///< name in files
  /// Indices of the layers.
  enum Layers : std::size_t { i_fc, h_fc, out_fc };

  /// W of h_fc starts normal with deviation 0.01, as does A; the others like linear layers.
  static std::vector<LayerShape> layers(const Options& o) { return all_layers(o); }

  /// One time step; the rate is eta.
  template <class Scalar>
  static CellOutput<Var<Scalar>> advance(ModelStep<Scalar>& step, const Options& o,
                                         const Var<Scalar>& x) {
    const Var<Scalar> h = step.state(0);
    const Var<Scalar> after = tanh(step.layer(i_fc, x) + detail::read_traced(step, h_fc, h));
    if (step.update()) change(step, o, h, after);
    step.set_state(0, after);
    return outputs_of(step, o, out_fc, after);
  }
};

/// The same without i_fc, for the completion of patterns: inputs that are not 0 clamp the first
/// units, h'_j = x_j; all others are h'_j = tanh(h (W + A o H))_j.
struct TraceClamp : detail::TraceParts {
  static constexpr std::string_view name = "clamp";  ///< name in files
  /// Indices of the layers.
  enum Layers : std::size_t { h_fc, out_fc };

  /// As in TraceRnn. Throws std::invalid_argument if there are more inputs than units.
  static std::vector<LayerShape> layers(const Options& o) {
    detail::check_between("TraceOptions", "inputs of the cell \"clamp\"", o.inputs, 1, o.hidden);
    std::vector<LayerShape> all = all_layers(o);
    all.erase(all.begin());
    return all;
  }

  /// H of h_fc, whose changes wait for the read that wants them, where the form and A allow it: a
  /// step that clamps most units wants few.
  static std::vector<MatrixShape> matrices(const Options& o) {
    std::vector<MatrixShape> all = TraceParts::matrices(o);
    all[0].deferred = deferred(o);
    return all;
  }
  /// Whether they wait. Measured, a step of training against one whose changes do not: 1.2 times
  /// with 51 units, 0.9 with 101, 0.7 with 201, 0.36 with 501.
  static bool deferred(const Options& o) {
    return o.alpha == AlphaShape::full && o.form != TraceForm::clip && o.form != TraceForm::soft &&
           o.hidden >= 80;
  }

  /// One time step; the rate is eta.
  template <class Scalar>
  static CellOutput<Var<Scalar>> advance(ModelStep<Scalar>& step, const Options& o,
                                         const Var<Scalar>& x) {
    const Var<Scalar> h = step.state(0);
    const Var<Scalar> clamped = pad_rows(x, 0, o.hidden);
    const Var<Scalar> sums =
        deferred(o) ? step.matrix(0).read_layer(h, step.weight(h_fc), step.block(alpha), clamped)
                    : detail::read_traced(step, h_fc, h);
    const Var<Scalar> after = select(clamped, clamped, tanh(sums));
    if (step.update()) change(step, o, h, after);
    step.set_state(0, after);
    return outputs_of(step, o, out_fc, after);
  }
};

/// A plastic network with a trace: PlasticCell's members, with TraceOptions.
template <class Scalar>
using TraceRNN = PlasticCell<TraceRnn, Trace, Scalar>;
/// The same whose inputs clamp units.
template <class Scalar>
using TraceClampRNN = PlasticCell<TraceClamp, Trace, Scalar>;

}  // namespace plastic
