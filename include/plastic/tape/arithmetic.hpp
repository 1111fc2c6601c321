#pragma once

#include <algorithm>
#include <concepts>

#include "plastic/tape/operation.hpp"

/// @file
/// Elementwise arithmetic, differentiable any number of times. A side of 1 repeats to the other's
/// size.
namespace plastic {
namespace detail {

template <class Derived>
auto broadcast(const Eigen::ArrayBase<Derived>& x, Index rows, Index cols) {
  const auto times = [](Index to, Index from) { return from == 0 ? 1 : to / from; };
  return x.derived().replicate(times(rows, x.rows()), times(cols, x.cols()));
}

/// Entry (i, j) is the sum of all entries of x that a broadcast copies it to.
template <class Derived>
auto sum_to(const Eigen::ArrayBase<Derived>& all, Index rows, Index cols) {
  using S = typename Derived::Scalar;
  const auto sum = [x = all.derived(), rows, cols](Index i, Index j) -> S {
    if (rows == 1 && cols == 1) return x.sum();
    if (rows == 1) return x.col(j).sum();
    if (cols == 1) return x.row(i).sum();
    return x(i, j);
  };
  return Array<S>::NullaryExpr(rows, cols, sum);
}

struct Broadcast : Elementwise {
  Index rows, cols;
  auto value(const auto& x) const { return broadcast(x, rows, cols); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    return sum_to(dy, x.rows(), x.cols());
  }
};

struct SumTo : Elementwise {
  Index rows, cols;
  auto value(const auto& x) const { return sum_to(x, rows, cols); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    return broadcast(dy, x.rows(), x.cols());
  }
};

}  // namespace detail

/// y: rows x cols, copies of a column, a row or a single number x. Throws std::invalid_argument if
/// a side of x is neither 1 nor the requested one.
auto broadcast(const Variable auto& x, Index rows, Index cols) {
  if ((x.rows() != rows && x.rows() != 1) || (x.cols() != cols && x.cols() != 1)) {
    detail::reject("broadcast", "x", "broadcastable to " + detail::shape_text(rows, cols),
                   detail::shape_text(x.rows(), x.cols()));
  }
  return x.rows() == rows && x.cols() == cols ? x : apply(detail::Broadcast{{}, rows, cols}, x);
}

/// The sum that undoes `broadcast`: rows and cols are x's own or 1, and a side of 1 is summed over.
/// Throws std::invalid_argument on other sizes.
auto sum_to(const Variable auto& x, Index rows, Index cols) {
  if ((rows != x.rows() && rows != 1) || (cols != x.cols() && cols != 1)) {
    detail::reject("sum_to", "the result's shape",
                   "that of x, " + detail::shape_text(x.rows(), x.cols()) + ", or 1 on a side",
                   detail::shape_text(rows, cols));
  }
  return x.rows() == rows && x.cols() == cols ? x : apply(detail::SumTo{{}, rows, cols}, x);
}

/// Sum of all entries, 1 x 1.
auto sum(const Variable auto& x) { return sum_to(x, 1, 1); }

/// Sum over the features of each sample, 1 x samples.
auto sum_features(const Variable auto& x) { return sum_to(x, 1, x.cols()); }

/// Sum over the samples of each feature, features x 1.
auto sum_samples(const Variable auto& x) { return sum_to(x, x.rows(), 1); }

namespace detail {

struct Add : Elementwise {
  static constexpr std::string_view name = "operator+";
  auto value(const auto& a, const auto& b) const { return a + b; }
  template <std::size_t I>
  auto adjoint(Argument<I>, const auto& dy, const auto&, const auto&, const auto&) const {
    return dy;
  }
};

struct Subtract : Elementwise {
  static constexpr std::string_view name = "operator-";
  auto value(const auto& a, const auto& b) const { return a - b; }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto&, const auto&) const {
    return dy;
  }
  auto adjoint(Argument<1>, const auto& dy, const auto&, const auto&, const auto&) const {
    return -dy;
  }
};

struct Multiply : Elementwise {
  static constexpr std::string_view name = "operator*";
  auto value(const auto& a, const auto& b) const { return a * b; }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto&, const auto& b) const {
    return dy * b;
  }
  auto adjoint(Argument<1>, const auto& dy, const auto&, const auto& a, const auto&) const {
    return dy * a;
  }
};

struct Divide : Elementwise {
  static constexpr std::string_view name = "operator/";
  auto value(const auto& a, const auto& b) const { return a / b; }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto&, const auto& b) const {
    return dy / b;
  }
  auto adjoint(Argument<1>, const auto& dy, const auto& y, const auto&, const auto& b) const {
    return -(dy * y / b);
  }
};

struct Negate : Elementwise {
  auto value(const auto& x) const { return -x; }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto&) const { return -dy; }
};

template <class S>
struct Scale : Elementwise {
  S factor;
  auto value(const auto& x) const { return x * factor; }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto&) const { return dy * factor; }
};

template <class S>
struct Shift : Elementwise {
  S offset;
  auto value(const auto& x) const { return x + offset; }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto&) const { return dy; }
};

template <class Op, class Scalar>
Var<Scalar> apply_broadcast(const Op& op, const Var<Scalar>& a, const Var<Scalar>& b) {
  const Index rows = std::max(a.rows(), b.rows());
  const Index cols = std::max(a.cols(), b.cols());
  const auto repeats = [&](const Var<Scalar>& v) {
    return (v.rows() == rows || v.rows() == 1) && (v.cols() == cols || v.cols() == 1);
  };
  if (!repeats(a) || !repeats(b)) {
    reject(
        Op::name, "the right side",
        "of the left side's shape " + shape_text(a.rows(), a.cols()) + ", or broadcastable to it",
        shape_text(b.rows(), b.cols()));
  }
  return apply(op, broadcast(a, rows, cols), broadcast(b, rows, cols));
}

}  // namespace detail

/// @{
/// Sum, difference, product and quotient, entry by entry; the matrix product is `matmul`. A side of
/// 1 repeats to the other's size. Throws std::invalid_argument if the shapes do not fit, or the
/// variables are on different tapes.
auto operator+(const Variable auto& a, const Variable auto& b) {
  return detail::apply_broadcast(detail::Add{}, a, b);
}
auto operator-(const Variable auto& a, const Variable auto& b) {
  return detail::apply_broadcast(detail::Subtract{}, a, b);
}
auto operator*(const Variable auto& a, const Variable auto& b) {
  return detail::apply_broadcast(detail::Multiply{}, a, b);
}
auto operator/(const Variable auto& a, const Variable auto& b) {
  return detail::apply_broadcast(detail::Divide{}, a, b);
}
/// @}

/// -x.
auto operator-(const Variable auto& x) { return apply(detail::Negate{}, x); }

/// Second operand besides a variable: an integer or a floating-point number, converted to the
/// variable's Scalar.
template <class T>
concept Number = std::integral<T> || std::floating_point<T>;

/// @{
/// Sum, difference, product and quotient of every entry and a number; x / n is computed as
/// x (1 / n).
template <class Scalar, Number N>
Var<Scalar> operator*(const Var<Scalar>& x, N factor) {
  return apply(detail::Scale<Scalar>{{}, static_cast<Scalar>(factor)}, x);
}
auto operator*(Number auto factor, const Variable auto& x) { return x * factor; }
template <class Scalar, Number N>
Var<Scalar> operator/(const Var<Scalar>& x, N divisor) {
  return x * (Scalar(1) / static_cast<Scalar>(divisor));
}
template <class Scalar, Number N>
Var<Scalar> operator/(N dividend, const Var<Scalar>& x) {
  return x.tape().constant(Matrix<Scalar>::Constant(1, 1, static_cast<Scalar>(dividend))) / x;
}
template <class Scalar, Number N>
Var<Scalar> operator+(const Var<Scalar>& x, N offset) {
  return apply(detail::Shift<Scalar>{{}, static_cast<Scalar>(offset)}, x);
}
auto operator+(Number auto offset, const Variable auto& x) { return x + offset; }
template <class Scalar, Number N>
Var<Scalar> operator-(const Var<Scalar>& x, N offset) {
  return x + (-static_cast<Scalar>(offset));
}
auto operator-(Number auto offset, const Variable auto& x) { return -x + offset; }
/// @}

}  // namespace plastic
