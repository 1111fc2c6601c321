#pragma once

#include "plastic/cells/modulated.hpp"

namespace plastic {

/// What an eligibility trace takes: see Retroactive.
enum class EligibilityForm { hebb, oja };

/// Their names in settings and files.
inline std::span<const std::string_view> setting_names(EligibilityForm) {
  static constexpr std::array<std::string_view, 2> names = {"hebb", "oja"};
  return names;
}

/// Retroactive modulation: products of activities go to an eligibility trace E, and the modulator
/// m = squash(o[last]) lets E into H, so that a reward can change what was active before it:
///
///     clip       H' = clip(H + m E)
///     soft       H' = clip(H + max(d, 0) o (1 - H) + min(d, 0) o (1 + H)),  d = m E
///     additive   H' = H + m E
///     E' = (1 - eta) E + eta D,  D = h^T h', or with delta oja h^T h' - W o (h' * h')
///
/// H takes E of the steps before this one. eta is one learned number. Source: Miconi, Rawal, Clune,
/// Stanley, "Backpropamine", ICLR 2019.
struct Retroactive {
  static constexpr std::string_view name = "retroactive";  ///< name in settings and files
  static constexpr bool plastic = true;                    ///< it has fast weights
};

/// Settings of the network with an eligibility trace.
struct RetroactiveOptions {
  Index inputs = 1;                               ///< number of inputs
  Index hidden = 128;                             ///< units of the hidden state
  Index outputs = 1;                              ///< number of outputs, m not counted
  TraceForm form = TraceForm::clip;               ///< how H changes: clip, soft or additive
  double clip = 1;                                ///< bound on H, of clip and soft
  AlphaShape alpha = AlphaShape::full;            ///< shape of A
  Squash squash = Squash::tanh;                   ///< how the modulator is squashed
  EligibilityForm delta = EligibilityForm::hebb;  ///< what E takes
  double eta = 0.01;                              ///< start of eta, which is learned
  std::uint64_t seed = 0;                         ///< seed of the initial slow weights
  Index snapshot_interval = 0;  ///< updates between copies for backward; 0 chooses

  /// Throws std::invalid_argument on the first setting out of its range.
  void validate() const {
    constexpr std::string_view here = "RetroactiveOptions";
    detail::check_common(here, *this);
    detail::check_enumeration(here, "form", form);
    if (form == TraceForm::oja || form == TraceForm::decay) {
      detail::reject(here, "form", "clip, soft or additive", detail::setting_text(form));
    }
    detail::check_enumeration(here, "alpha", alpha);
    detail::check_enumeration(here, "squash", squash);
    detail::check_enumeration(here, "delta", delta);
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
    f("squash", o.squash);
    f("delta", o.delta);
    f("eta", o.eta);
  }
};

/// h' = tanh(i_fc(x) + h (W + A o H)), o = out_fc(h').
struct RetroactiveRnn {
  using Options = RetroactiveOptions;              ///< its settings
  static constexpr std::string_view name = "rnn";  ///< name in files
  static constexpr std::size_t states = 1;         ///< h
  static constexpr std::size_t derived = 0;        ///< none
  /// Indices of the layers.
  enum Layers : std::size_t { i_fc, h_fc, out_fc };
  /// Indices of the blocks.
  enum Blocks : std::size_t { alpha, eta };
  /// Indices of the fast matrices.
  enum Matrices : std::size_t { hebb, eligibility };

  /// W of h_fc and A start uniform in [0, 0.01].
  static std::vector<LayerShape> layers(const Options& o) {
    return detail::recurrent_layers(o.inputs, o.hidden, o.outputs + 1, Start::uniform(0, 0.01));
  }
  /// A and eta.
  static std::vector<BlockShape> blocks(const Options& o) {
    return {detail::alpha_block(o.alpha, o.hidden, o.hidden, Start::uniform(0, 0.01)),
            {"rule.eta", 1, 0, Start::constant(o.eta)}};
  }
  /// H and E.
  static std::vector<MatrixShape> matrices(const Options& o) {
    return {{"h_fc", "hebb", o.hidden, o.hidden, alpha},
            {"h_fc", "eligibility", o.hidden, o.hidden}};
  }

  /// One time step; the rate is the modulator m.
  template <class Scalar>
  static CellOutput<Var<Scalar>> advance(ModelStep<Scalar>& step, const Options& o,
                                         const Var<Scalar>& x) {
    const Var<Scalar> h = step.state(0);
    const Var<Scalar> after = tanh(step.layer(i_fc, x) + detail::read_traced(step, h_fc, h));
    const Var<Scalar> all = step.layer(out_fc, after);
    const Var<Scalar> m = detail::squashed(o.squash, rows(all, o.outputs, 1));
    if (step.update()) change(step, o, h, after, m);
    step.set_state(0, after);
    return {rows(all, 0, o.outputs), m};
  }

 private:
  template <class Scalar>
  static void change(ModelStep<Scalar>& step, const Options& o, const Var<Scalar>& h,
                     const Var<Scalar>& after, const Var<Scalar>& m) {
    MatrixChange<Scalar> of_hebb;
    of_hebb.other = &step.matrix(eligibility);
    of_hebb.gain = m;
    of_hebb.bound = detail::bound_of(o.form);
    of_hebb.limit = o.clip;
    step.write(hebb, of_hebb);
    const Var<Scalar>& rate = step.block(eta);
    std::array<MatrixTerm<Scalar>, 2> terms{MatrixTerm<Scalar>{{}, h, after * rate}, {}};
    const bool oja = o.delta == EligibilityForm::oja;
    if (oja) terms[1] = {step.weight(h_fc), {}, -(square(after) * rate)};
    MatrixChange<Scalar> of_eligibility;
    of_eligibility.keep = 1 - step.per_sample(rate);
    of_eligibility.terms = std::span<const MatrixTerm<Scalar>>(terms.data(), oja ? 2 : 1);
    step.write(eligibility, of_eligibility);
  }
};

/// A network with an eligibility trace: PlasticCell's members, with RetroactiveOptions.
template <class Scalar>
using RetroactiveRNN = PlasticCell<RetroactiveRnn, Retroactive, Scalar>;

}  // namespace plastic
