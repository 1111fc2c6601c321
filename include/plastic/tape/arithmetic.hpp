#pragma once

#include <algorithm>
#include <concepts>

#include "plastic/tape/broadcast.hpp"

/// @file
/// Arithmetic of entries, differentiable any number of times. A side of 1 repeats to the other's
/// size.
namespace plastic {
namespace detail {

struct Elementwise {
  static constexpr bool elementwise = true;
};

struct Add : Elementwise {
  static constexpr std::string_view name = "operator+";
  auto value(const auto& a, const auto& b) const { return a + b; }
  template <std::size_t I>
  auto adjoint(At<I>, const auto& dy, const auto&, const auto&, const auto&) const {
    return dy;
  }
};

struct Subtract : Elementwise {
  static constexpr std::string_view name = "operator-";
  auto value(const auto& a, const auto& b) const { return a - b; }
  auto adjoint(At<0>, const auto& dy, const auto&, const auto&, const auto&) const { return dy; }
  auto adjoint(At<1>, const auto& dy, const auto&, const auto&, const auto&) const { return -dy; }
};

struct Multiply : Elementwise {
  static constexpr std::string_view name = "operator*";
  auto value(const auto& a, const auto& b) const { return a * b; }
  auto adjoint(At<0>, const auto& dy, const auto&, const auto&, const auto& b) const {
    return dy * b;
  }
  auto adjoint(At<1>, const auto& dy, const auto&, const auto& a, const auto&) const {
    return dy * a;
  }
};

struct Divide : Elementwise {
  static constexpr std::string_view name = "operator/";
  auto value(const auto& a, const auto& b) const { return a / b; }
  auto adjoint(At<0>, const auto& dy, const auto&, const auto&, const auto& b) const {
    return dy / b;
  }
  auto adjoint(At<1>, const auto& dy, const auto& y, const auto&, const auto& b) const {
    return -(dy * y / b);
  }
};

struct Negate : Elementwise {
  static constexpr std::string_view name = "operator-";
  auto value(const auto& x) const { return -x; }
  auto adjoint(At<0>, const auto& dy, const auto&, const auto&) const { return -dy; }
};

template <class S>
struct Scale : Elementwise {
  static constexpr std::string_view name = "operator*";
  S factor;
  explicit Scale(S f) : factor(f) {}
  auto value(const auto& x) const { return x * factor; }
  auto adjoint(At<0>, const auto& dy, const auto&, const auto&) const { return dy * factor; }
};

template <class S>
struct Shift : Elementwise {
  static constexpr std::string_view name = "operator+";
  S offset;
  explicit Shift(S o) : offset(o) {}
  auto value(const auto& x) const { return x + offset; }
  auto adjoint(At<0>, const auto& dy, const auto&, const auto&) const { return dy; }
};

template <class Op, class Scalar>
Var<Scalar> apply_broadcast(const Op& op, const Var<Scalar>& a, const Var<Scalar>& b) {
  const Index rows = std::max(a.rows(), b.rows());
  const Index cols = std::max(a.cols(), b.cols());
  const auto repeats = [&](const Var<Scalar>& v) {
    return (v.rows() == rows || v.rows() == 1) && (v.cols() == cols || v.cols() == 1);
  };
  if (!repeats(a) || !repeats(b)) {
    reject(Op::name, "the right side",
           "of the left side's shape " + shape_text(a.rows(), a.cols()) +
               ", or of one that repeats into it",
           shape_text(b.rows(), b.cols()));
  }
  return apply(op, broadcast(a, rows, cols), broadcast(b, rows, cols));
}

}  // namespace detail

/// @{
/// Sum, difference, product and quotient, entry by entry; the matrix product is `matmul`. A side of
/// 1 repeats to the other's size. Throws std::invalid_argument if the shapes do not fit, or the
/// variables are of two tapes.
template <class Scalar>
Var<Scalar> operator+(const Var<Scalar>& a, const Var<Scalar>& b) {
  return detail::apply_broadcast(detail::Add{}, a, b);
}
template <class Scalar>
Var<Scalar> operator-(const Var<Scalar>& a, const Var<Scalar>& b) {
  return detail::apply_broadcast(detail::Subtract{}, a, b);
}
template <class Scalar>
Var<Scalar> operator*(const Var<Scalar>& a, const Var<Scalar>& b) {
  return detail::apply_broadcast(detail::Multiply{}, a, b);
}
template <class Scalar>
Var<Scalar> operator/(const Var<Scalar>& a, const Var<Scalar>& b) {
  return detail::apply_broadcast(detail::Divide{}, a, b);
}
/// @}

/// -x.
template <class Scalar>
Var<Scalar> operator-(const Var<Scalar>& x) {
  return apply(detail::Negate{}, x);
}

/// What operations take beside a variable: an integer or a floating-point number, converted to the
/// variable's Scalar.
template <class T>
concept Number = std::integral<T> || std::floating_point<T>;

/// @{
/// Sum, difference, product and quotient of every entry and a number; x / n is computed as
/// x (1 / n).
template <class Scalar, Number N>
Var<Scalar> operator*(const Var<Scalar>& x, N factor) {
  return apply(detail::Scale<Scalar>(static_cast<Scalar>(factor)), x);
}
template <class Scalar, Number N>
Var<Scalar> operator*(N factor, const Var<Scalar>& x) {
  return x * factor;
}
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
  return apply(detail::Shift<Scalar>(static_cast<Scalar>(offset)), x);
}
template <class Scalar, Number N>
Var<Scalar> operator+(N offset, const Var<Scalar>& x) {
  return x + offset;
}
template <class Scalar, Number N>
Var<Scalar> operator-(const Var<Scalar>& x, N offset) {
  return x + (-static_cast<Scalar>(offset));
}
template <class Scalar, Number N>
Var<Scalar> operator-(N offset, const Var<Scalar>& x) {
  return -x + offset;
}
/// @}

}  // namespace plastic
