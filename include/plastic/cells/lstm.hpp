#pragma once

#include <array>

#include "plastic/cells/cell.hpp"
#include "plastic/cells/forward.hpp"

namespace plastic {
namespace detail {

/// y = [sigmoid sigmoid tanh sigmoid] of the four equal parts of z. With offset 1 for tanh and 0
/// for sigmoid both derivatives are (1 - y) (y + offset).
template <class Scalar>
class GateNode final : public NodeWithParents<Scalar, std::array<Node<Scalar>*, 1>> {
 public:
  using GateNode::NodeWithParents::NodeWithParents;

  void evaluate() {
    const MatrixMap<Scalar> z = this->parent(0).value_map();
    MatrixMap<Scalar> y = this->value_map();
    const Index size = this->rows / 4;
    y.topRows(2 * size) = z.topRows(2 * size).array().logistic();
    y.middleRows(2 * size, size) = z.middleRows(2 * size, size).array().tanh();
    y.bottomRows(size) = z.bottomRows(size).array().logistic();
  }

  void propagate(Tape<Scalar>& tape) override {
    Node<Scalar>& z = this->parent(0);
    const bool begun = z.adjoint != nullptr;
    if (!begun) z.adjoint = tape.allocate(this->rows * this->cols);
    MatrixMap<Scalar> dz = z.adjoint_map();
    const Index size = this->rows / 4;
    const auto add = [&](Index first, Index count, Scalar offset) {
      const auto term = derivative(this->adjoint_map().middleRows(first, count).array(),
                                   this->value_map().middleRows(first, count).array(), offset);
      if (begun) {
        dz.middleRows(first, count).array() += term;
      } else {
        dz.middleRows(first, count).array() = term;
      }
    };
    add(0, 2 * size, 0);
    add(2 * size, size, 1);
    add(3 * size, size, 0);
  }

  void record(Tape<Scalar>& tape) override {
    if (!this->parent(0).wanted) return;
    const Index size = this->rows / 4;
    const Var<Scalar> offset = tape.constant(Matrix<Scalar>::Zero(this->rows, this->cols));
    offset.node().value_map().middleRows(2 * size, size).setOnes();
    add_recorded(tape, this->parent(0),
                 derivative(Var<Scalar>(&tape, this->recorded), Var<Scalar>(&tape, this), offset));
  }

 private:
  static auto derivative(const auto& dy, const auto& y, const auto& offset) {
    return dy * ((1 - y) * (y + offset));
  }
};

/// [i f g o] = h_fc(h) + i_fc(e), then c' and h'; h_fc and i_fc are indices of layers.
template <class Scalar>
Var<Scalar> lstm_step(CellStep<Scalar>& step, std::size_t h_fc, std::size_t i_fc,
                      const Var<Scalar>& e) {
  const Var<Scalar> z = step.layer(h_fc, step.state(0)) + step.layer(i_fc, e);
  auto* node =
      z.tape().template emplace_result<GateNode<Scalar>>(z.rows(), z.cols(), std::array{&z.node()});
  node->evaluate();
  const Var<Scalar> gates(&z.tape(), node);
  const Index size = gates.rows() / 4;
  const auto gate = [&](Index k) { return rows(gates, k * size, size); };
  const Var<Scalar> c = gate(1) * step.state(1) + gate(0) * gate(2);
  step.activity(h_fc, gates);
  step.activity(i_fc, gates);
  step.set_state(1, c);
  return gate(3) * tanh(c);
}

}  // namespace detail

/// e = relu(in_fc(x)); [i f g o] = h_fc(h) + i_fc(e);
/// c' = sigmoid(f) c + sigmoid(i) tanh(g); h' = sigmoid(o) tanh(c'). The activity of h_fc and i_fc
/// is that of the gates after sigmoid and tanh.
struct Lstm {
  static constexpr std::string_view name = "lstm";  ///< name in files
  static constexpr std::size_t states = 2;          ///< h and c
  /// Indices of the layers, in the order of `layers`.
  enum Layers : std::size_t { in_fc, h_fc, i_fc };

  static Index features(const CellOptions& o) { return o.hidden; }  ///< rows of h'

  /// in_fc: hidden x inputs; h_fc and i_fc: 4 hidden x hidden.
  static std::vector<LayerShape> layers(const CellOptions& o) {
    return {{"in_fc", o.inputs, o.hidden, 1},
            {"h_fc", o.hidden, 4 * o.hidden, 2},
            {"i_fc", o.hidden, 4 * o.hidden, 2}};
  }

  /// One time step. x: inputs x samples; returns h', hidden x samples.
  template <class Scalar>
  static Var<Scalar> advance(CellStep<Scalar>& step, const Var<Scalar>& x) {
    const Var<Scalar> e = relu(step.layer(in_fc, x));
    step.activity(in_fc, e);
    return detail::lstm_step(step, h_fc, i_fc, e);
  }
};

/// The same on another network's features: [i f g o] = h_fc(h) + i_fc(x).
struct FeatureLstm {
  static constexpr std::string_view name = "feature_lstm";  ///< name in files
  static constexpr std::size_t states = 2;                  ///< h and c
  /// Indices of the layers, in the order of `layers`.
  enum Layers : std::size_t { h_fc, i_fc };

  static Index features(const CellOptions& o) { return o.hidden; }  ///< rows of h'

  /// h_fc: 4 hidden x hidden; i_fc: 4 hidden x inputs.
  static std::vector<LayerShape> layers(const CellOptions& o) {
    return {{"h_fc", o.hidden, 4 * o.hidden, 2}, {"i_fc", o.inputs, 4 * o.hidden, 2}};
  }

  /// One time step. x: inputs x samples; returns h', hidden x samples.
  template <class Scalar>
  static Var<Scalar> advance(CellStep<Scalar>& step, const Var<Scalar>& x) {
    return detail::lstm_step(step, h_fc, i_fc, x);
  }
};

}  // namespace plastic
