#pragma once

#include <algorithm>
#include <span>

#include "plastic/tape/operation.hpp"

/// @file
/// Matrix products, and rows, columns and steps of a matrix.
namespace plastic {
namespace detail {

template <class A, class B>
auto matmul(const Eigen::MatrixBase<A>& a, const Eigen::MatrixBase<B>& b) {
  return a.derived() * b.derived();
}

template <class Derived>
auto transpose(const Eigen::MatrixBase<Derived>& x) {
  return x.derived().transpose();
}

template <class Derived>
PaddedRows<Derived> pad_rows(const Eigen::MatrixBase<Derived>& x, Index first, Index total) {
  return {x.derived(), first, total};
}

template <class Derived>
auto rows(const Eigen::MatrixBase<Derived>& x, Index first, Index count) {
  return x.derived().middleRows(first, count);
}

/// Throws unless first .. first + count - 1 is a non-empty range of `total` rows, columns or steps.
inline void check_part(std::string_view function, Index first, Index count, Index total) {
  if (first < 0 || count <= 0 || count > total || first > total - count) {
    reject(function, "the range", "within 0 .. " + std::to_string(total),
           std::to_string(count) + " starting at " + std::to_string(first));
  }
}

struct Matmul : MatrixOperation {
  static constexpr std::string_view name = "matmul";
  auto value(const auto& a, const auto& b) const { return matmul(a, b); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto&, const auto& b) const {
    return matmul(dy, transpose(b));
  }
  auto adjoint(Argument<1>, const auto& dy, const auto&, const auto& a, const auto&) const {
    return matmul(transpose(a), dy);
  }
};

struct Transpose : MatrixOperation {
  auto value(const auto& x) const { return transpose(x); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto&) const {
    return transpose(dy);
  }
};

struct Rows : MatrixOperation {
  Index first, count;
  auto value(const auto& x) const { return rows(x, first, count); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    return pad_rows(dy, first, x.rows());
  }
};

struct PadRows : MatrixOperation {
  Index first, total;
  auto value(const auto& x) const { return pad_rows(x, first, total); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    return rows(dy, first, x.rows());
  }
};

/// [x_0 x_1 ...] side by side; a sweep gives each its columns.
template <class Scalar>
class ConcatenateNode final : public NodeWithParents<Scalar, std::span<Node<Scalar>* const>> {
 public:
  using ConcatenateNode::NodeWithParents::NodeWithParents;

  void propagate(Tape<Scalar>& tape) override {
    Index first = 0;
    for (Node<Scalar>* parent : this->parents()) {
      if (parent->needs_adjoint) {
        tape.accumulate(*parent, this->adjoint_map().middleCols(first, parent->cols));
      }
      first += parent->cols;
    }
  }
  void record(Tape<Scalar>&) override {
    reject("Tape::gradient", "the path to the loss", "free of concatenate_samples",
           "one that uses it");
  }
};

}  // namespace detail

/// Matrix product (m x k)(k x n), differentiable any number of times. Eigen computes it and may
/// allocate. Throws std::invalid_argument if the inner sides differ.
template <class Scalar>
Var<Scalar> matmul(const Var<Scalar>& a, const Var<Scalar>& b) {
  if (a.cols() != b.rows()) {
    detail::reject("matmul", "b", "a matrix of " + std::to_string(a.cols()) + " rows",
                   detail::shape_text(b.rows(), b.cols()));
  }
  return apply(detail::Matmul{}, a, b);
}

/// The transpose, copied.
auto transpose(const Variable auto& x) { return apply(detail::Transpose{}, x); }

/// Features first, ..., first + count - 1 of x, copied: count x samples. Throws
/// std::invalid_argument if count is not positive or x lacks one of them.
auto rows(const Variable auto& x, Index first, Index count) {
  detail::check_part("rows", first, count, x.rows());
  return first == 0 && count == x.rows() ? x : apply(detail::Rows{{}, first, count}, x);
}

/// A matrix of `total` rows: x from row `first` on, zeros around it. Throws std::invalid_argument
/// if x does not fit in.
auto pad_rows(const Variable auto& x, Index first, Index total) {
  detail::check_between("pad_rows", "first", first, 0, total - x.rows());
  return apply(detail::PadRows{{}, first, total}, x);
}

namespace detail {

/// [x_0; x_1; ...] one above the other; a sweep gives each its rows.
template <class Scalar>
class ConcatenateRowsNode final : public NodeWithParents<Scalar, std::span<Node<Scalar>* const>> {
 public:
  using ConcatenateRowsNode::NodeWithParents::NodeWithParents;

  void propagate(Tape<Scalar>& tape) override {
    each_part([&](Node<Scalar>& parent, Index first) {
      if (!parent.needs_adjoint) return;
      tape.accumulate(parent, this->adjoint_map().middleRows(first, parent.rows));
    });
  }
  void record(Tape<Scalar>& tape) override {
    each_part([&](Node<Scalar>& parent, Index first) {
      if (!parent.wanted) return;
      add_recorded(tape, parent, rows(Var<Scalar>(&tape, this->recorded), first, parent.rows));
    });
  }

 private:
  template <class F>
  void each_part(F&& f) {
    Index first = 0;
    for (Node<Scalar>* parent : this->parents()) {
      f(*parent, first);
      first += parent->rows;
    }
  }
};

}  // namespace detail

/// The matrices in `parts`, each with the same samples, copied one above the other: all their
/// features x samples. Differentiable any number of times. Throws std::invalid_argument if there is
/// none or they differ in the number of samples.
template <class Scalar>
Var<Scalar> concatenate_rows(std::span<const Var<Scalar>> parts) {
  if (parts.empty()) detail::reject("concatenate_rows", "parts", "at least one matrix", 0);
  Tape<Scalar>& tape = parts.front().tape();
  auto** parents = tape.arena().template allocate_array<Node<Scalar>*>(parts.size());
  Index height = 0;
  for (std::size_t k = 0; k < parts.size(); ++k) {
    tape.check_on_this_tape("concatenate_rows", parts[k]);
    detail::check_shape("concatenate_rows", "every part", parts[k], parts[k].rows(),
                        parts.front().cols());
    parents[k] = &parts[k].node();
    height += parts[k].rows();
  }
  auto* node = tape.template emplace_result<detail::ConcatenateRowsNode<Scalar>>(
      height, parts.front().cols(), std::span<Node<Scalar>* const>(parents, parts.size()));
  Index first = 0;
  for (const Var<Scalar>& part : parts) {
    node->value_map().middleRows(first, part.rows()) = part.value();
    first += part.rows();
  }
  return {&tape, node};
}

/// The matrices in `parts`, features x samples each, copied side by side. Differentiable once.
/// Throws std::invalid_argument if there is none or they differ in the number of rows.
template <class Scalar>
Var<Scalar> concatenate_samples(std::span<const Var<Scalar>> parts) {
  if (parts.empty()) detail::reject("concatenate_samples", "parts", "at least one matrix", 0);
  Tape<Scalar>& tape = parts.front().tape();
  const Index rows = parts.front().rows();
  Index cols = 0;
  auto** parents = tape.arena().template allocate_array<Node<Scalar>*>(parts.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    tape.check_on_this_tape("concatenate_samples", parts[i]);
    detail::check_shape("concatenate_samples", "parts", parts[i], rows, parts[i].cols());
    parents[i] = &parts[i].node();
    cols += parts[i].cols();
  }
  auto* node = tape.template emplace_result<detail::ConcatenateNode<Scalar>>(
      rows, cols, std::span<Node<Scalar>* const>(parents, parts.size()));
  Index first = 0;
  for (const Var<Scalar>& part : parts) {
    node->value_map().middleCols(first, part.cols()) = part.value();
    first += part.cols();
  }
  return {&tape, node};
}

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
  ColumnSet which;
  auto value(const auto& x) const { return columns(x, which); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    return scatter_columns(dy, which, x.cols());
  }
};

struct ScatterColumns : MatrixOperation {
  ColumnSet which;
  Index total;
  auto value(const auto& x) const { return scatter_columns(x, which, total); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto&) const {
    return columns(dy, which);
  }
};

auto columns(const Variable auto& x, const ColumnSet& which) {
  return apply(Columns{{}, which}, x);
}

auto scatter_columns(const Variable auto& x, const ColumnSet& which, Index total) {
  return apply(ScatterColumns{{}, which, total}, x);
}

}  // namespace detail

/// Samples first, ..., first + count - 1 of x, copied: features x count. Differentiable any number
/// of times. Throws std::invalid_argument if count is not positive or x lacks one of them.
auto columns(const Variable auto& x, Index first, Index count) {
  detail::check_part("columns", first, count, x.cols());
  return first == 0 && count == x.cols() ? x : detail::columns(x, detail::ColumnSet{first, count});
}

/// Samples which[0], which[1], ... of x, copied: features x which.size(). In any order, and repeats
/// are allowed: their adjoints add up. Differentiable any number of times. The list is copied to
/// the tape. Throws std::invalid_argument if it is empty or x lacks one of them.
auto columns(const Variable auto& x, std::span<const Index> which) {
  if (which.empty()) detail::reject("columns", "which", "at least one column", 0);
  for (const Index column : which) {
    detail::check_between("columns", "which", column, 0, x.cols() - 1);
  }
  auto* list = x.tape().arena().template allocate_array<Index>(which.size());
  std::copy(which.begin(), which.end(), list);
  return detail::columns(x, detail::ColumnSet{0, static_cast<Index>(which.size()), list});
}

/// Steps first, ..., first + count - 1 of a sequence x, copied: features x (count * samples).
/// Column t * samples + s of x is step t of sample s. Differentiable any number of times. Throws
/// std::invalid_argument unless x has whole steps, count is positive and x has all of them.
auto time_steps(const Variable auto& x, Index samples, Index first, Index count) {
  detail::check_positive("time_steps", "samples", samples);
  if (x.cols() % samples != 0) {
    detail::reject("time_steps", "x", "features x (steps * " + std::to_string(samples) + ")",
                   detail::shape_text(x.rows(), x.cols()));
  }
  detail::check_part("time_steps", first, count, x.cols() / samples);
  return columns(x, first * samples, count * samples);
}

}  // namespace plastic
