#pragma once

#include <algorithm>
#include <span>

#include "plastic/tape/linear.hpp"

/// @file
/// Samples and steps of a matrix whose columns they are.
namespace plastic {
namespace detail {

template <class Derived>
GatheredColumns<Derived> columns(const Eigen::MatrixBase<Derived>& x, const ColumnSet& which) {
  return {x.derived(), which};
}

template <class Derived>
ScatteredColumns<Derived> scatter_columns(const Eigen::MatrixBase<Derived>& x,
                                          const ColumnSet& which, Index total) {
  return {x.derived(), which, total};
}

struct Columns : MatrixOperation {
  static constexpr std::string_view name = "columns";
  ColumnSet which;
  explicit Columns(const ColumnSet& w) : which(w) {}
  auto value(const auto& x) const { return columns(x, which); }
  auto adjoint(At<0>, const auto& dy, const auto&, const auto& x) const {
    return scatter_columns(dy, which, x.cols());
  }
};

struct ScatterColumns : MatrixOperation {
  static constexpr std::string_view name = "columns";
  ColumnSet which;
  Index total;
  ScatterColumns(const ColumnSet& w, Index n) : which(w), total(n) {}
  auto value(const auto& x) const { return scatter_columns(x, which, total); }
  auto adjoint(At<0>, const auto& dy, const auto&, const auto&) const { return columns(dy, which); }
};

template <class Scalar>
Var<Scalar> columns(const Var<Scalar>& x, const ColumnSet& which) {
  return apply(Columns(which), x);
}

template <class Scalar>
Var<Scalar> scatter_columns(const Var<Scalar>& x, const ColumnSet& which, Index total) {
  return apply(ScatterColumns(which, total), x);
}

}  // namespace detail

/// Samples first, ..., first + count - 1 of x, copied: features x count. Differentiable any number
/// of times. Throws std::invalid_argument if count is not positive or x lacks one of them.
template <class Scalar>
Var<Scalar> columns(const Var<Scalar>& x, Index first, Index count) {
  detail::check_part("columns", first, count, x.cols());
  return first == 0 && count == x.cols() ? x : detail::columns(x, detail::ColumnSet{first, count});
}

/// Samples which[0], which[1], ... of x, copied: features x which.size(). In any order, and repeats
/// are allowed: their adjoints add up. Differentiable any number of times. The list is copied to
/// the tape. Throws std::invalid_argument if it is empty or x lacks one of them.
template <class Scalar>
Var<Scalar> columns(const Var<Scalar>& x, std::span<const Index> which) {
  if (which.empty()) detail::reject("columns", "which", "at least one column", 0);
  for (const Index column : which) {
    detail::check_between("columns", "which", column, 0, x.cols() - 1);
  }
  auto* list = x.tape().arena().template allocate_array<Index>(which.size());
  std::ranges::copy(which, list);
  return detail::columns(x, detail::ColumnSet{0, static_cast<Index>(which.size()), list});
}

/// Steps first, ..., first + count - 1 of a sequence x, copied: features x (count * samples).
/// Column t * samples + s of x is step t of sample s. Differentiable any number of times. Throws
/// std::invalid_argument unless x has whole steps, count is positive and x has all of them.
template <class Scalar>
Var<Scalar> time_steps(const Var<Scalar>& x, Index samples, Index first, Index count) {
  detail::check_positive("time_steps", "samples", samples);
  if (x.cols() % samples != 0) {
    detail::reject("time_steps", "x", "features x (steps * " + std::to_string(samples) + ")",
                   detail::shape_text(x.rows(), x.cols()));
  }
  detail::check_part("time_steps", first, count, x.cols() / samples);
  return columns(x, first * samples, count * samples);
}

}  // namespace plastic
