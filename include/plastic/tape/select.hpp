#pragma once

#include "plastic/tape/operation.hpp"

/// @file
/// A choice between two matrices, entry by entry.
namespace plastic {
namespace detail {

/// Tests the entries of a mask on the tape; the mask is a matrix, or one row that repeats over the
/// features.
template <class Scalar>
struct Mask {
  Node<Scalar>* node;
  bool operator()(Index i, Index j) const {
    return node->value[node->rows == 1 ? j : j * node->rows + i] != 0;
  }
};

/// x where the mask is not 0 (if `at`) or where it is 0 (if not), else 0.
template <class Derived, class Scalar>
auto keep(const Eigen::ArrayBase<Derived>& all, const Mask<Scalar>& mask, bool at) {
  const auto entry = [x = all.derived(), mask, at](Index i, Index j) {
    return mask(i, j) == at ? x(i, j) : Scalar(0);
  };
  return Array<Scalar>::NullaryExpr(all.rows(), all.cols(), entry);
}

template <class Scalar>
struct Keep : Elementwise {
  Mask<Scalar> mask;
  bool at;
  auto value(const auto& x) const { return keep(x, mask, at); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto&) const {
    return keep(dy, mask, at);
  }
};

template <class Scalar>
Var<Scalar> keep(const Var<Scalar>& x, const Mask<Scalar>& mask, bool at) {
  return apply(Keep<Scalar>{{}, mask, at}, x);
}

/// The mask is not an argument: no sweep reaches it.
template <class Scalar>
struct Select : Elementwise {
  static constexpr std::string_view name = "select";
  Mask<Scalar> mask;
  bool masks_zeros;
  auto value(const auto& a, const auto& b) const {
    const auto entry = [where = mask, a, b](Index i, Index j) {
      return where(i, j) ? a(i, j) : b(i, j);
    };
    return Array<Scalar>::NullaryExpr(a.rows(), a.cols(), entry);
  }
  template <std::size_t I>
  auto adjoint(Argument<I>, const auto& dy, const auto&, const auto&, const auto&) const {
    return keep(dy, mask, I == 0);
  }
};

}  // namespace detail

/// a where the mask is not 0, else b, elementwise: features x samples. a and b: the same shape;
/// mask: of that shape, or a row 1 x samples that repeats over the features. Differentiable any
/// number of times in a and b, not in the mask. An entry that is not selected, even infinity or
/// NaN, changes nothing and has the adjoint 0. The operation that made it may still multiply that 0
/// by infinity: write log(select(mask, x, one)), not select(mask, log(x), zero). Throws
/// std::invalid_argument if the shapes do not fit.
template <class Scalar>
Var<Scalar> select(const Var<Scalar>& mask, const Var<Scalar>& a, const Var<Scalar>& b) {
  detail::check_shape("select", "b", b, a.rows(), a.cols());
  if ((mask.rows() != a.rows() && mask.rows() != 1) || mask.cols() != a.cols()) {
    detail::reject(
        "select", "the mask",
        detail::shape_text(a.rows(), a.cols()) + " or " + detail::shape_text(1, a.cols()),
        detail::shape_text(mask.rows(), mask.cols()));
  }
  a.tape().check_on_this_tape("select", mask);
  const bool masks_zeros = a.node().zeros_are_silent() && b.node().zeros_are_silent();
  return apply(detail::Select<Scalar>{{}, {&mask.node()}, masks_zeros}, a, b);
}

}  // namespace plastic
