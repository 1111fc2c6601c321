#pragma once

#include <cmath>
#include <span>

#include "plastic/core/check.hpp"
#include "plastic/core/types.hpp"

namespace plastic {

namespace detail {

/// Sum of squares, in double and in an order that depends on nothing but the length.
template <class Scalar>
double square_sum(const Vector<Scalar>& x) {
  constexpr Index lanes = 16;
  const Index whole = x.size() / lanes * lanes;
  Eigen::Array<double, lanes, 1> sums = Eigen::Array<double, lanes, 1>::Zero();
  for (Index i = 0; i < whole; i += lanes) {
    sums += x.template segment<lanes>(i).array().template cast<double>().square();
  }
  double sum = 0;
  for (Index lane = 0; lane < lanes; ++lane) sum += sums[lane];
  for (Index i = whole; i < x.size(); ++i) {
    sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  return sum;
}

}  // namespace detail

/// The common Euclidean norm of several vectors, summed in double in an order that depends on
/// nothing but their lengths. No allocation.
template <class Scalar>
double gradient_norm(std::span<const Vector<Scalar>> gradients) {
  double sum = 0;
  for (const Vector<Scalar>& g : gradients) sum += detail::square_sum(g);
  return std::sqrt(sum);
}

/// That of one vector.
template <class Scalar>
double gradient_norm(const Vector<Scalar>& gradients) {
  return gradient_norm(std::span(&gradients, 1));
}

/// @{
/// Scales the gradients of a list of parameter sets, or of one, by max_norm / n if their common
/// norm n exceeds `max_norm`, and returns n.
///
/// Squares are summed in double, so that no float overflows on the way. If n is not finite the
/// gradients stay as they are: the caller sees it in the result and can stop. An infinite
/// `max_norm` only measures. Two passes at most, no allocation. Throws std::invalid_argument unless
/// max_norm > 0. Unlike PyTorch's clip_grad_norm_, nothing is added to n in the quotient.
template <class Scalar>
double clip_gradient_norm(std::span<Vector<Scalar>> gradients, double max_norm) {
  if (!(max_norm > 0)) detail::reject("clip_gradient_norm", "max_norm", "positive", max_norm);
  const double norm = gradient_norm(std::span<const Vector<Scalar>>(gradients));
  if (std::isfinite(norm) && norm > max_norm) {
    for (Vector<Scalar>& g : gradients) g *= static_cast<Scalar>(max_norm / norm);
  }
  return norm;
}
template <class Scalar>
double clip_gradient_norm(Vector<Scalar>& gradients, double max_norm) {
  return clip_gradient_norm(std::span(&gradients, 1), max_norm);
}
/// @}

}  // namespace plastic
