#pragma once

#include "plastic/tape/arithmetic.hpp"

/// @file
/// Elementwise functions, differentiable any number of times; this header includes the arithmetic
/// too.
namespace plastic {
namespace detail {

template <class Derived>
auto sigmoid(const Eigen::ArrayBase<Derived>& x) {
  return x.derived().logistic();
}

template <class Derived>
auto step(const Eigen::ArrayBase<Derived>& x) {
  using S = typename Derived::Scalar;
  return (x.derived() > S(0)).template cast<S>();
}

/// 1 where x is in [low, high], else 0.
template <class Derived, class S>
auto is_between(const Eigen::ArrayBase<Derived>& x, S low, S high) {
  return (x.derived() >= low && x.derived() <= high).template cast<S>();
}

struct Exp : Elementwise {
  auto value(const auto& x) const { return x.exp(); }
  auto adjoint(Argument<0>, const auto& dy, const auto& y, const auto&) const { return dy * y; }
};

struct Log : Elementwise {
  auto value(const auto& x) const { return x.log(); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const { return dy / x; }
};

struct Sqrt : Elementwise {
  auto value(const auto& x) const { return x.sqrt(); }
  auto adjoint(Argument<0>, const auto& dy, const auto& y, const auto&) const {
    return dy / (y + y);
  }
};

struct Square : Elementwise {
  auto value(const auto& x) const { return x * x; }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    return dy * (x + x);
  }
};

struct Sin : Elementwise {
  auto value(const auto& x) const { return x.sin(); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    return dy * cos(x);
  }
};

struct Cos : Elementwise {
  auto value(const auto& x) const { return x.cos(); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    return -(dy * sin(x));
  }
};

struct Tanh : Elementwise {
  auto value(const auto& x) const { return x.tanh(); }
  auto adjoint(Argument<0>, const auto& dy, const auto& y, const auto&) const {
    return dy * (1 - y * y);
  }
};

struct Sigmoid : Elementwise {
  auto value(const auto& x) const { return sigmoid(x); }
  auto adjoint(Argument<0>, const auto& dy, const auto& y, const auto&) const {
    return dy * (y * (1 - y));
  }
};

/// log(1 + exp(x)), without overflow.
struct Softplus : Elementwise {
  template <class X>
  auto value(const X& x) const {
    using S = typename X::Scalar;
    return x.cwiseMax(S(0)) + (-x.abs()).exp().log1p();
  }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    return dy * sigmoid(x);
  }
};

struct Step : Elementwise {
  auto value(const auto& x) const { return step(x); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto&) const { return dy * 0; }
};

struct Relu : Elementwise {
  static constexpr bool masks_zeros = true;
  template <class X>
  auto value(const X& x) const {
    return x.cwiseMax(typename X::Scalar(0));
  }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    return dy * step(x);
  }
};

template <class S>
struct LeakyRelu : Elementwise {
  S slope;
  auto value(const auto& x) const { return x.cwiseMax(x * slope); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    return dy * (step(x) * (1 - slope) + slope);
  }
};

struct Abs : Elementwise {
  auto value(const auto& x) const { return x.abs(); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    return dy * (step(x) - step(-x));
  }
};

template <class S>
struct IsBetween : Elementwise {
  S low, high;
  auto value(const auto& x) const { return is_between(x, low, high); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto&) const { return dy * 0; }
};

template <class S>
struct Clamp : Elementwise {
  S low, high;
  auto value(const auto& x) const { return x.cwiseMax(low).cwiseMin(high); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    return dy * is_between(x, low, high);
  }
};

template <class S>
struct Power : Elementwise {
  S exponent;
  auto value(const auto& x) const { return x.pow(exponent); }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    return dy * (pow(x, S(exponent - 1)) * exponent);
  }
};

}  // namespace detail

/// exp(x), entry by entry.
auto exp(const Variable auto& x) { return apply(detail::Exp{}, x); }
/// Natural logarithm, for x > 0.
auto log(const Variable auto& x) { return apply(detail::Log{}, x); }
/// Square root, for x >= 0; the derivative at 0 is infinite.
auto sqrt(const Variable auto& x) { return apply(detail::Sqrt{}, x); }
/// x * x, entry by entry.
auto square(const Variable auto& x) { return apply(detail::Square{}, x); }
/// Sine, of x in radians.
auto sin(const Variable auto& x) { return apply(detail::Sin{}, x); }
/// Cosine, of x in radians.
auto cos(const Variable auto& x) { return apply(detail::Cos{}, x); }
/// Hyperbolic tangent.
auto tanh(const Variable auto& x) { return apply(detail::Tanh{}, x); }
/// 1 / (1 + exp(-x)).
auto sigmoid(const Variable auto& x) { return apply(detail::Sigmoid{}, x); }
/// log(1 + exp(x)), without overflow.
auto softplus(const Variable auto& x) { return apply(detail::Softplus{}, x); }
/// max(x, 0); the derivative at 0 is 0.
auto relu(const Variable auto& x) { return apply(detail::Relu{}, x); }
/// x where x > 0, else slope x; the derivative at 0 is the slope. Throws std::invalid_argument
/// unless the slope is in [0, 1].
template <class Scalar>
Var<Scalar> leaky_relu(const Var<Scalar>& x, double slope) {
  detail::check_range("leaky_relu", "slope", slope, 0, 1);
  return apply(detail::LeakyRelu<Scalar>{{}, static_cast<Scalar>(slope)}, x);
}
/// 1 where x > 0, else 0; the derivative is 0.
auto step(const Variable auto& x) { return apply(detail::Step{}, x); }
/// 1 where low <= x <= high, else 0; the derivative is 0.
template <class Scalar, Number L, Number H>
Var<Scalar> is_between(const Var<Scalar>& x, L low, H high) {
  return apply(detail::IsBetween<Scalar>{{}, static_cast<Scalar>(low), static_cast<Scalar>(high)},
               x);
}
/// |x|; the derivative at 0 is 0.
auto abs(const Variable auto& x) { return apply(detail::Abs{}, x); }
/// x raised to a constant; if the exponent is not an integer, for x >= 0.
template <class Scalar, Number N>
Var<Scalar> pow(const Var<Scalar>& x, N exponent) {
  // For these the formula's derivatives at 0 would be 0 * infinity.
  if (exponent == 0) return x.tape().constant(Matrix<Scalar>::Ones(x.rows(), x.cols()));
  if (exponent == 1) return x;
  if (exponent == 2) return square(x);
  return apply(detail::Power<Scalar>{{}, static_cast<Scalar>(exponent)}, x);
}
/// min(max(x, low), high); the derivative is 1 on the bounds themselves. Throws
/// std::invalid_argument unless low <= high.
template <class Scalar, Number L, Number H>
Var<Scalar> clamp(const Var<Scalar>& x, L low, H high) {
  if (!(low <= high)) detail::reject("clamp", "low", "at most high", low);
  return apply(detail::Clamp<Scalar>{{}, static_cast<Scalar>(low), static_cast<Scalar>(high)}, x);
}

}  // namespace plastic
