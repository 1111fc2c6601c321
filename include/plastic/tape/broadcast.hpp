#pragma once

#include <string>

#include "plastic/tape/operation.hpp"

namespace plastic {
namespace detail {

template <class Derived>
auto broadcast(const Eigen::ArrayBase<Derived>& x, Index rows, Index cols) {
  return x.derived().replicate(rows / x.rows(), cols / x.cols());
}

/// Entry (i, j) of the result is the sum of all entries of x that a broadcast copies it to.
template <class X>
struct FoldedSum {
  X x;
  Index rows;
  Index cols;
  typename X::Scalar operator()(Index i, Index j) const {
    const bool fold_rows = rows == 1;
    const bool fold_cols = cols == 1;
    if (fold_rows && fold_cols) return x.sum();
    if (fold_rows) return x.col(j).sum();
    if (fold_cols) return x.row(i).sum();
    return x(i, j);
  }
};

template <class Derived>
auto sum_to(const Eigen::ArrayBase<Derived>& x, Index rows, Index cols) {
  using Array = Eigen::Array<typename Derived::Scalar, Eigen::Dynamic, Eigen::Dynamic>;
  return Array::NullaryExpr(rows, cols, FoldedSum<Derived>{x.derived(), rows, cols});
}

struct Broadcast {
  static constexpr std::string_view name = "broadcast";
  static constexpr bool elementwise = true;
  Index rows, cols;
  auto value(const auto& x) const { return broadcast(x, rows, cols); }
  auto adjoint(At<0>, const auto& dy, const auto&, const auto& x) const {
    return sum_to(dy, x.rows(), x.cols());
  }
};

struct SumTo {
  static constexpr std::string_view name = "sum";
  static constexpr bool elementwise = true;
  Index rows, cols;
  auto value(const auto& x) const { return sum_to(x, rows, cols); }
  auto adjoint(At<0>, const auto& dy, const auto&, const auto& x) const {
    return broadcast(dy, x.rows(), x.cols());
  }
};

}  // namespace detail

/// y: rows x cols, copies of a column, a row or a single number x. Throws std::invalid_argument if
/// a side of x is neither 1 nor the one asked for.
template <class Scalar>
Var<Scalar> broadcast(const Var<Scalar>& x, Index rows, Index cols) {
  if ((x.rows() != rows && x.rows() != 1) || (x.cols() != cols && x.cols() != 1)) {
    detail::reject("broadcast", "x",
                   "of a shape that repeats into " + detail::shape_text(rows, cols),
                   detail::shape_text(x.rows(), x.cols()));
  }
  return x.rows() == rows && x.cols() == cols ? x : apply(detail::Broadcast{rows, cols}, x);
}

/// The sum that undoes `broadcast`: rows and cols are x's own or 1, and a side of 1 is summed over.
/// Throws std::invalid_argument on other sizes.
template <class Scalar>
Var<Scalar> sum_to(const Var<Scalar>& x, Index rows, Index cols) {
  if ((rows != x.rows() && rows != 1) || (cols != x.cols() && cols != 1)) {
    detail::reject("sum_to", "the result's shape",
                   "that of x, " + detail::shape_text(x.rows(), x.cols()) + ", or 1 on a side",
                   detail::shape_text(rows, cols));
  }
  return x.rows() == rows && x.cols() == cols ? x : apply(detail::SumTo{rows, cols}, x);
}

/// Sum of all entries, 1 x 1.
template <class Scalar>
Var<Scalar> sum(const Var<Scalar>& x) {
  return sum_to(x, 1, 1);
}

/// Sum over the features of each sample, 1 x samples.
template <class Scalar>
Var<Scalar> sum_features(const Var<Scalar>& x) {
  return sum_to(x, 1, x.cols());
}

/// Sum over the samples of each feature, features x 1.
template <class Scalar>
Var<Scalar> sum_samples(const Var<Scalar>& x) {
  return sum_to(x, x.rows(), 1);
}

}  // namespace plastic
