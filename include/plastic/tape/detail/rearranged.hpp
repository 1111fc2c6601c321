#pragma once

#include "plastic/core/types.hpp"

/// @file
/// Results of a tape's rearrangements, in place of Eigen expressions.
namespace plastic::detail {

/// Rearranged rows or columns of a matrix: rows() x cols(), written to memory of that shape by
/// assign_to and added to it by add_to, which skips the zeros.
template <class Expression>
concept Rearranged = requires(const Expression& expression,
                              MatrixMap<typename Expression::Scalar> to) {
  expression.rows();
  expression.cols();
  expression.assign_to(to);
  expression.add_to(to);
};

/// x from row `first` on, zeros above and below.
template <class X>
struct PaddedRows {
  using Scalar = typename X::Scalar;
  X x;
  Index first;
  Index total;
  Index rows() const { return total; }
  Index cols() const { return x.cols(); }
  void add_to(MatrixMap<Scalar> to) const { to.middleRows(first, x.rows()) += x; }
  void assign_to(MatrixMap<Scalar> to) const {
    to.setZero();
    to.middleRows(first, x.rows()) = x;
  }
};

/// Indices of `count` columns: those in `list`, or from `first` on if it is null.
struct ColumnSet {
  Index first;
  Index count;
  const Index* list = nullptr;
  Index operator[](Index k) const { return list == nullptr ? first + k : list[k]; }
};

/// Column k is column which[k] of x.
template <class X>
struct GatheredColumns {
  using Scalar = typename X::Scalar;
  X x;
  ColumnSet which;
  Index rows() const { return x.rows(); }
  Index cols() const { return which.count; }
  void add_to(MatrixMap<Scalar> to) const {
    for (Index k = 0; k < which.count; ++k) to.col(k) += x.col(which[k]);
  }
  void assign_to(MatrixMap<Scalar> to) const {
    for (Index k = 0; k < which.count; ++k) to.col(k) = x.col(which[k]);
  }
};

/// Column which[k] is column k of x; repeated columns are summed, and the others are zero.
template <class X>
struct ScatteredColumns {
  using Scalar = typename X::Scalar;
  X x;
  ColumnSet which;
  Index total;
  Index rows() const { return x.rows(); }
  Index cols() const { return total; }
  void add_to(MatrixMap<Scalar> to) const {
    for (Index k = 0; k < which.count; ++k) to.col(which[k]) += x.col(k);
  }
  void assign_to(MatrixMap<Scalar> to) const {
    to.setZero();
    add_to(to);
  }
};

}  // namespace plastic::detail
