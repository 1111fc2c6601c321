#pragma once

#include "plastic/cells/cell.hpp"
#include "plastic/cells/forward.hpp"

namespace plastic {

/// Feature map phi of keys and queries: see Delta.
enum class DeltaFeature { elu, dpfp };

/// Their names in settings and files.
inline std::span<const std::string_view> setting_names(DeltaFeature) {
  static constexpr std::array<std::string_view, 2> names = {"elu", "dpfp"};
  return names;
}

namespace detail {

/// elu(x) + 1: x + 1 where x >= 0, else exp(x).
struct EluPlusOne : Elementwise {
  static constexpr std::string_view name = "elu";
  auto value(const auto& x) const {
    using S = typename std::decay_t<decltype(x)>::Scalar;
    return x.max(S(0)) + x.min(S(0)).exp();
  }
  auto adjoint(Argument<0>, const auto& dy, const auto& y, const auto& x) const {
    return dy * (step(-x) * (y - 1) + 1);
  }
};

/// P = [a o shift(a, 1), ..., a o shift(a, nu)] of each sample, with a = max([u, -u], 0) and
/// shift(a, j)_i = a_{i-j}, cyclic. u: d x samples; P: 2 nu d x samples.
template <class Scalar>
class DpfpNode final : public NodeWithParents<Scalar, std::array<Node<Scalar>*, 1>> {
 public:
  using DpfpNode::NodeWithParents::NodeWithParents;

  void evaluate(Scalar* rectified) {
    rectified_ = rectified;
    const Index d = this->parent(0).rows, size = 2 * d, nu = this->rows / size;
    for (Index s = 0; s < this->cols; ++s) {
      const Scalar* u = this->parent(0).value + s * d;
      Scalar* a = rectified_ + s * size;
      for (Index i = 0; i < d; ++i) {
        a[i] = std::max(u[i], Scalar(0));
        a[d + i] = std::max(-u[i], Scalar(0));
      }
      Scalar* p = this->value + s * this->rows;
      for (Index j = 1; j <= nu; ++j) {
        for (Index i = 0; i < size; ++i) *p++ = a[i] * a[(i - j % size + size) % size];
      }
    }
  }

  void propagate(Tape<Scalar>& tape) override {
    const Index d = this->parent(0).rows, size = 2 * d, nu = this->rows / size;
    MatrixMap<Scalar> du = tape.open_adjoint(this->parent(0));
    for (Index s = 0; s < this->cols; ++s) {
      const Scalar* a = rectified_ + s * size;
      const Scalar* dp = this->adjoint + s * this->rows;
      const auto add = [&](Index i, Scalar term) {  // to the adjoint of a_i
        if (a[i] > 0) du(i % d, s) += i < d ? term : -term;
      };
      for (Index j = 1; j <= nu; ++j) {
        for (Index i = 0; i < size; ++i, ++dp) {
          const Index k = (i - j % size + size) % size;
          add(i, *dp * a[k]);
          add(k, *dp * a[i]);
        }
      }
    }
  }

  void record(Tape<Scalar>&) override {
    reject("Tape::gradient", "the path to the loss", "free of dpfp", "one that uses it");
  }

 private:
  Scalar* rectified_ = nullptr;  // a, 2 d x samples
};

}  // namespace detail

/// The feature map elu(u) + 1 over its sum: d x samples, columns that sum to 1. Source:
/// Katharopoulos et al., "Transformers are RNNs", ICML 2020.
template <class Scalar>
Var<Scalar> elu_features(const Var<Scalar>& u) {
  const Var<Scalar> positive = apply(detail::EluPlusOne{}, u);
  return positive / sum_features(positive);
}

/// The deterministic parameter-free projection of u, over its sum: with a = max([u, -u], 0) the
/// products a_i a_{i-j} for j = 1 .. nu. u: d x samples; returns 2 nu d x samples. Differentiable
/// once. Throws std::invalid_argument unless nu is in 1 .. 2 d - 1. Source: Schlag, Irie,
/// Schmidhuber, ICML 2021.
template <class Scalar>
Var<Scalar> dpfp_features(const Var<Scalar>& u, Index nu) {
  detail::check_between("dpfp_features", "nu", nu, 1, std::max<Index>(1, 2 * u.rows() - 1));
  Tape<Scalar>& tape = u.tape();
  auto* node = tape.template emplace_result<detail::DpfpNode<Scalar>>(2 * nu * u.rows(), u.cols(),
                                                                      std::array{&u.node()});
  node->evaluate(tape.allocate(2 * u.rows() * u.cols()));
  const Var<Scalar> products(&tape, node);
  return products / sum_features(products);
}

/// The delta rule: a fast matrix w maps keys to values. A write corrects the value that w has for
/// the key k towards v, w' = w + k^T (beta (v - k w)), and comes before the step's read. Queries,
/// keys, values and rates beta = sigmoid(b) come from a slow layer; nothing else is learned, and
/// the fast layers have no slow part. Sources: Schlag, Irie, Schmidhuber, "Linear Transformers Are
/// Secretly Fast Weight Programmers", ICML 2021; Irie, Schlag, Csordas, Schmidhuber, "Going Beyond
/// Linear Transformers with Recurrent Fast Weight Programmers", NeurIPS 2021.
struct Delta {
  static constexpr std::string_view name = "delta";  ///< name in settings and files
  static constexpr bool plastic = true;              ///< it has fast weights
};

/// Settings of the networks with the delta rule.
struct DeltaOptions {
  Index inputs = 1;                          ///< number of inputs
  Index hidden = 128;                        ///< d, size of values and of the result
  Index outputs = 1;                         ///< number of outputs
  DeltaFeature feature = DeltaFeature::elu;  ///< phi, of delta_net and delta_rnn
  Index nu = 1;                              ///< of dpfp
  Index heads = 1;              ///< networks of size hidden / heads side by side, in 1 .. 6
  bool bias = true;             ///< whether i_fc and out_fc have biases; the published have none
  bool correct = true;          ///< false: w' = w + k^T (beta v), a sum without the delta rule
  std::uint64_t seed = 0;       ///< seed of the initial slow weights
  Index snapshot_interval = 0;  ///< updates between copies for backward; 0 chooses

  /// Settings that a file may lack.
  static constexpr std::array<std::string_view, 3> optional = {"heads", "bias", "correct"};

  /// Throws std::invalid_argument on the first setting out of its range.
  void validate() const {
    constexpr std::string_view here = "DeltaOptions";
    detail::check_common(here, *this);
    detail::check_enumeration(here, "feature", feature);
    detail::check_between(here, "heads", heads, 1, 6);
    if (hidden % heads != 0) {
      detail::reject(here, "hidden", "a multiple of heads, " + std::to_string(heads), hidden);
    }
    detail::check_between(here, "nu", nu, 1, std::max<Index>(1, 2 * hidden / heads - 1));
  }

  Index head() const { return hidden / heads; }  ///< size of one head
  /// Rows of a head's fast matrix: the size of phi.
  Index features() const { return feature == DeltaFeature::elu ? head() : 2 * nu * head(); }

  /// Calls f(name, member) for each setting.
  template <class Options, class F>
  static void visit(Options& o, F&& f) {
    detail::visit_common(o, f);
    f("feature", o.feature);
    f("nu", o.nu);
    f("heads", o.heads);
    f("bias", o.bias);
    f("correct", o.correct);
  }
};

namespace detail {

/// What the networks with the delta rule have in common. Each head has `parts` slices of its size
/// in the result of i_fc, and then its rates.
struct DeltaParts {
  using Options = DeltaOptions;
  static constexpr std::size_t states = 1;
  static constexpr std::size_t derived = 0;
  enum Layers : std::size_t { i_fc };

  static std::vector<BlockShape> blocks(const Options&) { return {}; }

  static std::vector<LayerShape> layers(const Options& o, Index of_head) {
    const Index all = of_head * o.heads;
    return {{"i_fc", o.inputs, all, linear_spread(o.inputs, all), o.bias, {}},
            {"out_fc", o.hidden, o.outputs, linear_spread(o.hidden, o.outputs), o.bias, {}}};
  }

  /// Adds a matrix for each head: LAYER, or LAYER.HEAD where there are several.
  static void add_matrices(const Options& o, const std::string& layer, Index inputs,
                           std::vector<MatrixShape>& to) {
    for (Index n = 0; n < o.heads; ++n) {
      to.push_back(
          {o.heads == 1 ? layer : layer + "." + std::to_string(n), "weight", inputs, o.head()});
    }
  }

  template <class Scalar>
  static Var<Scalar> phi(const Options& o, const Var<Scalar>& u) {
    return o.feature == DeltaFeature::elu ? elu_features(u) : dpfp_features(u, o.nu);
  }

  template <class Scalar>
  static void write(ModelStep<Scalar>& step, const Options& o, std::size_t matrix,
                    const Var<Scalar>& key, const Var<Scalar>& value, const Var<Scalar>& beta) {
    const Var<Scalar> error = o.correct ? value - step.read(matrix, key) : value;
    const MatrixTerm<Scalar> term{{}, key, error * beta};
    MatrixChange<Scalar> change;
    change.terms = std::span(&term, 1);
    step.write(matrix, change);
  }

  /// Runs `head(n, z, h)` for every head, with its slice of `all` and of the state, and puts the
  /// results together.
  template <class Scalar, class F>
  static Var<Scalar> by_heads(ModelStep<Scalar>& step, const Options& o, const Var<Scalar>& all,
                              F&& head) {
    const Index size = all.rows() / o.heads;
    std::array<Var<Scalar>, 6> parts;
    for (Index n = 0; n < o.heads; ++n) {
      parts[static_cast<std::size_t>(n)] =
          head(static_cast<std::size_t>(n), rows(all, n * size, size),
               rows(step.state(0), n * o.head(), o.head()));
    }
    if (o.heads == 1) return parts[0];
    return concatenate_rows(
        std::span<const Var<Scalar>>(parts.data(), static_cast<std::size_t>(o.heads)));
  }
};

}  // namespace detail

/// [q k v b] = i_fc(x); w' = write(w, phi(k), v, sigmoid(b)); h' = phi(q) w'; o = out_fc(h').
struct DeltaNetModel : detail::DeltaParts {
  static constexpr std::string_view name = "delta_net";  ///< name in files

  /// i_fc and out_fc, which start like linear layers.
  static std::vector<LayerShape> layers(const Options& o) {
    return DeltaParts::layers(o, 3 * o.head() + 1);
  }
  /// w of every head.
  static std::vector<MatrixShape> matrices(const Options& o) {
    std::vector<MatrixShape> all;
    add_matrices(o, "h_fc", o.features(), all);
    return all;
  }

  /// One time step; the rate is the first head's beta.
  template <class Scalar>
  static CellOutput<Var<Scalar>> advance(ModelStep<Scalar>& step, const Options& o,
                                         const Var<Scalar>& x) {
    const Index d = o.head();
    Var<Scalar> rate;
    const Var<Scalar> h = by_heads(
        step, o, step.layer(i_fc, x), [&](std::size_t n, const Var<Scalar>& z, const Var<Scalar>&) {
          const Var<Scalar> beta = sigmoid(rows(z, 3 * d, 1));
          if (n == 0) rate = beta;
          write(step, o, n, phi(o, rows(z, d, d)), rows(z, 2 * d, d), beta);
          return step.read(n, phi(o, rows(z, 0, d)));
        });
    step.set_state(0, h);
    return {step.layer(1, h), rate};
  }
};

/// [q k v k2 v2 b b2] = i_fc(x); z as h' of DeltaNet, with the fast matrix of z_fc;
/// R' = write(R, softmax(k2), v2, sigmoid(b2)); h' = z + softmax(h) R', with R that of h_fc.
struct DeltaRnnModel : detail::DeltaParts {
  static constexpr std::string_view name = "delta_rnn";  ///< name in files

  /// i_fc and out_fc, which start like linear layers.
  static std::vector<LayerShape> layers(const Options& o) {
    return DeltaParts::layers(o, 5 * o.head() + 2);
  }
  /// w of every head, then R of every head.
  static std::vector<MatrixShape> matrices(const Options& o) {
    std::vector<MatrixShape> all;
    add_matrices(o, "z_fc", o.features(), all);
    add_matrices(o, "h_fc", o.head(), all);
    return all;
  }

  /// One time step; the rate is the first head's beta.
  template <class Scalar>
  static CellOutput<Var<Scalar>> advance(ModelStep<Scalar>& step, const Options& o,
                                         const Var<Scalar>& x) {
    const Index d = o.head();
    const auto heads = static_cast<std::size_t>(o.heads);
    Var<Scalar> rate;
    const Var<Scalar> after = by_heads(
        step, o, step.layer(i_fc, x),
        [&](std::size_t n, const Var<Scalar>& z, const Var<Scalar>& h) {
          const auto part = [&](Index k) { return rows(z, k * d, d); };
          const Var<Scalar> beta = sigmoid(rows(z, 5 * d, 1));
          if (n == 0) rate = beta;
          write(step, o, n, phi(o, part(1)), part(2), beta);
          write(step, o, heads + n, softmax(part(3)), part(4), sigmoid(rows(z, 5 * d + 1, 1)));
          return step.read(n, phi(o, part(0))) + step.read(heads + n, softmax(h));
        });
    step.set_state(0, after);
    return {step.layer(1, after), rate};
  }
};

/// [q k v b] = i_fc(x) + tanh(h) r_fc; w' = write(w, softmax(k), v, sigmoid(b)); h' = softmax(q)
/// w'.
struct RecurrentDeltaNetModel : detail::DeltaParts {
  static constexpr std::string_view name = "recurrent_delta_net";  ///< name in files

  /// r_fc of every head starts normal with deviation 1 / sqrt(d).
  static std::vector<LayerShape> layers(const Options& o) {
    static constexpr std::array<std::string_view, 6> names = {"r_fc.0", "r_fc.1", "r_fc.2",
                                                              "r_fc.3", "r_fc.4", "r_fc.5"};
    std::vector<LayerShape> all = DeltaParts::layers(o, 3 * o.head() + 1);
    const Start start = Start::normal(1 / std::sqrt(static_cast<double>(o.head())));
    for (Index n = 0; n < o.heads; ++n) {
      const std::string_view of_head = o.heads == 1 ? "r_fc" : names[static_cast<std::size_t>(n)];
      all.insert(all.end() - 1, {of_head, o.head(), 3 * o.head() + 1, 1, false, start});
    }
    return all;
  }
  /// w of every head.
  static std::vector<MatrixShape> matrices(const Options& o) {
    std::vector<MatrixShape> all;
    add_matrices(o, "h_fc", o.head(), all);
    return all;
  }

  /// One time step; the rate is the first head's beta.
  template <class Scalar>
  static CellOutput<Var<Scalar>> advance(ModelStep<Scalar>& step, const Options& o,
                                         const Var<Scalar>& x) {
    const Index d = o.head();
    Var<Scalar> rate;
    const Var<Scalar> after =
        by_heads(step, o, step.layer(i_fc, x),
                 [&](std::size_t n, const Var<Scalar>& of_x, const Var<Scalar>& h) {
                   const Var<Scalar> z = of_x + step.layer(1 + n, tanh(h));
                   const Var<Scalar> beta = sigmoid(rows(z, 3 * d, 1));
                   if (n == 0) rate = beta;
                   write(step, o, n, softmax(rows(z, d, d)), rows(z, 2 * d, d), beta);
                   return step.read(n, softmax(rows(z, 0, d)));
                 });
    step.set_state(0, after);
    return {step.layer(1 + static_cast<std::size_t>(o.heads), after), rate};
  }
};

/// A fast weight programmer with the delta rule: PlasticCell's members, with DeltaOptions.
template <class Scalar>
using DeltaNet = PlasticCell<DeltaNetModel, Delta, Scalar>;
/// The same with a second fast matrix on its own state.
template <class Scalar>
using DeltaRNN = PlasticCell<DeltaRnnModel, Delta, Scalar>;
/// The same whose queries, keys and values depend on its own state.
template <class Scalar>
using RecurrentDeltaNet = PlasticCell<RecurrentDeltaNetModel, Delta, Scalar>;

}  // namespace plastic
