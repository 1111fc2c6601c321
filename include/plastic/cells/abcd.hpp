#pragma once

#include "plastic/cells/cell.hpp"
#include "plastic/cells/forward.hpp"
#include "plastic/cells/modulated.hpp"

namespace plastic {

/// Which coefficients a rule of Abcd has; those with `lr` have eta.
enum class AbcdForm {
  A,
  AD,
  AD_lr,
  ABC,
  ABC_lr,
  ABCD,
  ABCD_lr,
  ABCD_lr_D_out,
  ABCD_lr_D_in_and_out
};

/// Whether all weights of a layer are divided by the largest after each step.
enum class AbcdNormalise { none, max };

/// Their names in settings and files.
inline std::span<const std::string_view> setting_names(AbcdForm) {
  static constexpr std::array<std::string_view, 9> names = {"A",
                                                            "AD",
                                                            "AD_lr",
                                                            "ABC",
                                                            "ABC_lr",
                                                            "ABCD",
                                                            "ABCD_lr",
                                                            "ABCD_lr_D_out",
                                                            "ABCD_lr_D_in_and_out"};
  return names;
}
/// Likewise.
inline std::span<const std::string_view> setting_names(AbcdNormalise) {
  static constexpr std::array<std::string_view, 2> names = {"none", "max"};
  return names;
}

/// Evolved Hebbian coefficients, differentiable here: V = W + w, and every synapse has its own
/// coefficients. With p the activity before a layer and q that after it:
///
///     V' = V + eta o (A o (p^T q) + B o (p^T 1) + C o (1^T q) + D) + D_out
///     V' <- V' / max |V'| of the layer                                      normalise max
///
/// Source: Najarro, Risi, "Meta-Learning through Hebbian Plasticity in Random Networks", NeurIPS
/// 2020.
struct Abcd {
  static constexpr std::string_view name = "abcd";  ///< name in settings and files
  static constexpr bool plastic = true;             ///< it has fast weights
};

/// Settings of the networks with Abcd.
struct AbcdOptions {
  Index inputs = 1;                               ///< number of inputs
  Index hidden = 128;                             ///< units of the hidden layers
  Index outputs = 1;                              ///< number of outputs
  AbcdForm form = AbcdForm::ABCD_lr;              ///< which coefficients there are
  AbcdNormalise normalise = AbcdNormalise::none;  ///< whether weights are divided by the largest
  Squash squash = Squash::none;                   ///< of the outputs of the cell mlp
  std::uint64_t seed = 0;                         ///< seed of the initial slow weights
  Index snapshot_interval = 0;  ///< updates between copies for backward; 0 chooses

  /// Throws std::invalid_argument on the first setting out of its range.
  void validate() const {
    constexpr std::string_view here = "AbcdOptions";
    detail::check_common(here, *this);
    detail::check_enumeration(here, "form", form);
    detail::check_enumeration(here, "normalise", normalise);
    detail::check_enumeration(here, "squash", squash);
  }

  /// Calls f(name, member) for each setting.
  template <class Options, class F>
  static void visit(Options& o, F&& f) {
    detail::visit_common(o, f);
    f("form", o.form);
    f("normalise", o.normalise);
    f("squash", o.squash);
  }
};

namespace detail {

/// What the networks with Abcd have in common: fast matrix k belongs to layer `first + k`, and has
/// six blocks and four derived variables.
struct AbcdParts {
  using Options = AbcdOptions;
  static constexpr std::size_t states = 1;
  enum Coefficients : std::size_t { eta, A, B, C, D, D_out, coefficients };

  /// The coefficients of the layers, which start standard normal.
  static std::vector<BlockShape> blocks(const Options& o, std::span<const MatrixShape> matrices) {
    constexpr std::array<const char*, coefficients> names = {"eta", "A", "B", "C", "D", "D_out"};
    std::vector<BlockShape> all;
    for (const MatrixShape& matrix : matrices) {
      for (std::size_t k = 0; k < coefficients; ++k) {
        all.push_back({"rule." + matrix.layer + "." + names[k],
                       has(o.form, static_cast<Coefficients>(k)) ? matrix.outputs : 0,
                       matrix.inputs, Start::normal(1)});
      }
    }
    return all;
  }

  static bool has(AbcdForm form, Coefficients coefficient) {
    using Form = AbcdForm;
    const bool with_bc = form >= Form::ABC;
    switch (coefficient) {
      case eta:
        return form == Form::AD_lr || form == Form::ABC_lr || form >= Form::ABCD_lr;
      case A:
        return true;
      case B:
      case C:
        return with_bc;
      case D:
        return form == Form::AD || form == Form::AD_lr || form == Form::ABCD ||
               form == Form::ABCD_lr || form == Form::ABCD_lr_D_in_and_out;
      default:
        return form == Form::ABCD_lr_D_out || form == Form::ABCD_lr_D_in_and_out;
    }
  }

  /// eta o A, eta o B, eta o C, and eta o D + D_out, for every matrix.
  template <class Scalar>
  static void derive(ModelStep<Scalar>& step, std::size_t count) {
    for (std::size_t matrix = 0; matrix < count; ++matrix) {
      const auto block = [&](std::size_t k) { return step.block(matrix * coefficients + k); };
      const auto rated = [&](const Var<Scalar>& v) {
        return v.empty() || block(eta).empty() ? v : block(eta) * v;
      };
      for (std::size_t k = 0; k < 3; ++k) step.derived(4 * matrix + k) = rated(block(A + k));
      Var<Scalar> rest = rated(block(D));
      if (!block(D_out).empty()) rest = rest.empty() ? block(D_out) : rest + block(D_out);
      step.derived(4 * matrix + 3) = rest;
    }
  }

  template <class Scalar>
  static void change(ModelStep<Scalar>& step, const Options& o, std::size_t matrix,
                     std::size_t layer, const Var<Scalar>& p, const Var<Scalar>& q) {
    std::array<MatrixTerm<Scalar>, 4> terms;
    std::size_t count = 0;
    const auto add = [&](std::size_t k, const Var<Scalar>& pre, const Var<Scalar>& post) {
      const Var<Scalar>& coefficient = step.derived(4 * matrix + k);
      if (!coefficient.empty()) terms[count++] = {coefficient, pre, post};
    };
    add(0, p, q);
    add(1, p, {});
    add(2, {}, q);
    add(3, {}, {});
    MatrixChange<Scalar> change;
    change.terms = std::span<const MatrixTerm<Scalar>>(terms.data(), count);
    step.write(matrix, change);
    if (o.normalise == AbcdNormalise::none) return;
    // V / max = W + w with w <- w / max + W (1 / max - 1).
    const Var<Scalar> inverse = 1 / step.matrix(matrix).largest(step.weight(layer));
    const MatrixTerm<Scalar> slow{
        step.weight(layer), {}, broadcast(inverse - 1, q.rows(), q.cols())};
    MatrixChange<Scalar> divide;
    divide.keep = inverse;
    divide.terms = std::span(&slow, 1);
    step.write(matrix, divide);
  }
};

}  // namespace detail

/// a = tanh(x V_i), h' = tanh(a V_h), o = squash(h' V_o): all three layers plastic, without biases
/// and without a hidden state of its own; h' is reported as the state.
struct AbcdMlp : detail::AbcdParts {
  static constexpr std::string_view name = "mlp";  ///< name in files
  static constexpr std::size_t derived = 12;       ///< four for each layer
  /// Indices of layers and fast matrices.
  enum Layers : std::size_t { i_fc, h_fc, out_fc };

  /// W starts uniform in +-0.1.
  static std::vector<LayerShape> layers(const Options& o) {
    const Start start = Start::uniform(-0.1, 0.1);
    return {{"i_fc", o.inputs, o.hidden, 1, false, start},
            {"h_fc", o.hidden, o.hidden, 1, false, start},
            {"out_fc", o.hidden, o.outputs, 1, false, start}};
  }
  /// The coefficients.
  static std::vector<BlockShape> blocks(const Options& o) {
    return AbcdParts::blocks(o, matrices(o));
  }
  /// w of every layer.
  static std::vector<MatrixShape> matrices(const Options& o) {
    return {{"i_fc", "weight", o.inputs, o.hidden},
            {"h_fc", "weight", o.hidden, o.hidden},
            {"out_fc", "weight", o.hidden, o.outputs}};
  }

  /// Multiplies coefficients by their rates.
  template <class Scalar>
  static void derive(ModelStep<Scalar>& step, const Options&) {
    AbcdParts::derive(step, 3);
  }

  /// One time step; the rate is 1.
  template <class Scalar>
  static CellOutput<Var<Scalar>> advance(ModelStep<Scalar>& step, const Options& o,
                                         const Var<Scalar>& x) {
    const auto read = [&](std::size_t l, const Var<Scalar>& v) {
      return step.layer(l, v) + step.read(l, v);
    };
    const Var<Scalar> a = tanh(read(i_fc, x));
    const Var<Scalar> h = tanh(read(h_fc, a));
    const Var<Scalar> output = detail::squashed(o.squash, read(out_fc, h));
    if (step.update()) {
      change(step, o, i_fc, i_fc, x, a);
      change(step, o, h_fc, h_fc, a, h);
      change(step, o, out_fc, out_fc, h, output);
    }
    step.set_state(0, h);
    return {output, step.constant(1)};
  }
};

/// h' = tanh(i_fc(x) + h V_h), o = out_fc(h'): h_fc alone plastic, with p = h and q = h'.
struct AbcdRnn : detail::AbcdParts {
  static constexpr std::string_view name = "rnn";  ///< name in files
  static constexpr std::size_t derived = 4;        ///< of h_fc
  /// Indices of the layers.
  enum Layers : std::size_t { i_fc, h_fc, out_fc };

  /// W of h_fc starts uniform in +-0.1.
  static std::vector<LayerShape> layers(const Options& o) {
    return detail::recurrent_layers(o.inputs, o.hidden, o.outputs, Start::uniform(-0.1, 0.1));
  }
  /// The coefficients.
  static std::vector<BlockShape> blocks(const Options& o) {
    return AbcdParts::blocks(o, matrices(o));
  }
  /// w of h_fc.
  static std::vector<MatrixShape> matrices(const Options& o) {
    return {{"h_fc", "weight", o.hidden, o.hidden}};
  }

  /// Multiplies coefficients by their rates.
  template <class Scalar>
  static void derive(ModelStep<Scalar>& step, const Options&) {
    AbcdParts::derive(step, 1);
  }

  /// One time step; the rate is 1.
  template <class Scalar>
  static CellOutput<Var<Scalar>> advance(ModelStep<Scalar>& step, const Options& o,
                                         const Var<Scalar>& x) {
    const Var<Scalar> h = step.state(0);
    const Var<Scalar> after = tanh(step.layer(i_fc, x) + step.layer(h_fc, h) + step.read(0, h));
    if (step.update()) change(step, o, 0, h_fc, h, after);
    step.set_state(0, after);
    return {step.layer(out_fc, after), step.constant(1)};
  }
};

/// A network with evolved Hebbian coefficients: PlasticCell's members, with AbcdOptions.
template <class Scalar>
using AbcdMLP = PlasticCell<AbcdMlp, Abcd, Scalar>;
/// The same with one plastic recurrent layer.
template <class Scalar>
using AbcdRNN = PlasticCell<AbcdRnn, Abcd, Scalar>;

}  // namespace plastic
