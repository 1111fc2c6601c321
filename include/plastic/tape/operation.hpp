#pragma once

#include <array>
#include <utility>

#include "plastic/tape/tape.hpp"

namespace plastic {

/// Names the argument whose adjoint a formula computes: I = 0 is the first.
///
/// An operation is a struct with its value, one adjoint formula per argument, and, if it has
/// several arguments, a name for messages:
///
///     struct Square {
///       static constexpr std::string_view name = "square";
///       static constexpr bool elementwise = true;
///       auto value(const auto& x) const { return x * x; }
///       auto adjoint(Argument<0>, const auto& dy, const auto& y, const auto& x) const {
///         return dy * (x + x);
///       }
///     };
///     template <class Scalar>
///     Var<Scalar> square(const Var<Scalar>& x) { return apply(Square{}, x); }
///
/// The same formula runs on plain matrices in a sweep and on Var in Tape::gradient, so that an
/// operation is differentiable as often as the operations its formula uses. It sees Eigen arrays
/// (maps) if `elementwise`, else Eigen matrices, or Var; it must not return references to locals. A
/// sweep evaluates the returned expression straight into the adjoint. `masks_zeros`, if true,
/// promises that the adjoint of the argument is 0 wherever the value is: see Node.
template <std::size_t I>
struct Argument {};

namespace detail {

struct Elementwise {
  static constexpr bool elementwise = true;
};

struct MatrixOperation {
  static constexpr bool elementwise = false;
};

template <class Op, class Scalar>
auto eigen_view(const Node<Scalar>& node, Scalar* data) {
  if constexpr (Op::elementwise) {
    return Eigen::Map<const Array<Scalar>>(data, node.rows, node.cols);
  } else {
    return ConstMatrixMap<Scalar>(data, node.rows, node.cols);
  }
}

template <class Scalar, class Expression>
void assign(MatrixMap<Scalar> to, const Expression& expression) {
  to.noalias() = expression;
}

template <class Scalar, Rearranged Expression>
void assign(MatrixMap<Scalar> to, const Expression& expression) {
  expression.assign_to(to);
}

/// Adds a term to a parent's recorded adjoint.
template <class Scalar>
void add_recorded(Tape<Scalar>& tape, Node<Scalar>& parent, const Var<Scalar>& term) {
  parent.recorded = parent.recorded == nullptr
                        ? &term.node()
                        : &(Var<Scalar>(&tape, parent.recorded) + term).node();
}

template <class Scalar, class Op, std::size_t N>
class OperationNode final : public NodeWithParents<Scalar, std::array<Node<Scalar>*, N>> {
 public:
  OperationNode(const Op& op, const std::array<Node<Scalar>*, N>& parents)
      : OperationNode::NodeWithParents(parents), op_(op) {}

  void propagate(Tape<Scalar>& tape) override {
    each([&]<std::size_t I>(Argument<I> argument, auto... k) {
      Node<Scalar>& to = this->parent(I);
      if (!to.needs_adjoint) return;
      tape.accumulate(to, op_.adjoint(argument, eigen_view<Op>(*this, this->adjoint),
                                      eigen_view<Op>(*this, this->value),
                                      eigen_view<Op>(this->parent(k), this->parent(k).value)...));
    });
  }

  void record(Tape<Scalar>& tape) override {
    each([&]<std::size_t I>(Argument<I> argument, auto... k) {
      if (!this->parent(I).wanted) return;
      add_recorded(tape, this->parent(I),
                   op_.adjoint(argument, Var<Scalar>(&tape, this->recorded),
                               Var<Scalar>(&tape, this), Var<Scalar>(&tape, &this->parent(k))...));
    });
  }

 private:
  template <class F>
  void each(F&& f) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      const auto one = [&]<std::size_t J>(Argument<J> argument) {
        f(argument, std::integral_constant<std::size_t, I>{}...);
      };
      (one(Argument<I>{}), ...);
    }
    (std::make_index_sequence<N>{});
  }

  Op op_;
};

}  // namespace detail

/// Records op(x, ...) on the tape of its arguments, with `op` as Argument describes it, and returns
/// the result, of the shape that op.value gives. As often differentiable as the formulas. Throws
/// std::invalid_argument if the arguments are on different tapes. Allocates from the arena only.
template <class Op, class Scalar, class... More>
Var<Scalar> apply(const Op& op, const Var<Scalar>& first, const More&... more) {
  first.check_usable();
  Tape<Scalar>& tape = first.tape();
  (tape.check_on_this_tape(Op::name, more), ...);
  const auto expression = op.value(detail::eigen_view<Op>(first.node(), first.node().value),
                                   detail::eigen_view<Op>(more.node(), more.node().value)...);
  using OpNode = detail::OperationNode<Scalar, Op, 1 + sizeof...(More)>;
  auto* node = tape.template emplace_result<OpNode>(
      expression.rows(), expression.cols(), op,
      std::array<Node<Scalar>*, 1 + sizeof...(More)>{&first.node(), &more.node()...});
  if constexpr (Op::elementwise) {
    node->value_map().array() = expression;
  } else {
    detail::assign(node->value_map(), expression);
  }
  if constexpr (requires { op.masks_zeros; }) node->masks_zeros = op.masks_zeros;
  return {&tape, node};
}

}  // namespace plastic
