#pragma once

#include <cmath>

#include "plastic/core/check.hpp"
#include "plastic/core/types.hpp"

namespace plastic {

/// The Euclidean norm of a vector, summed in double in an order that depends on nothing but its
/// length. No allocation.
template <class Scalar>
double gradient_norm(const Vector<Scalar>& gradients) {
  constexpr Index lanes = 16;
  const Index whole = gradients.size() / lanes * lanes;
  Eigen::Array<double, lanes, 1> sums = Eigen::Array<double, lanes, 1>::Zero();
  for (Index i = 0; i < whole; i += lanes) {
    sums += gradients.template segment<lanes>(i).array().template cast<double>().square();
  }
  double sum = 0;
  for (Index lane = 0; lane < lanes; ++lane) sum += sums[lane];
  for (Index i = whole; i < gradients.size(); ++i) {
    sum += static_cast<double>(gradients[i]) * static_cast<double>(gradients[i]);
  }
  return std::sqrt(sum);
}

/// Scales `gradients` by max_norm / n if their norm n exceeds `max_norm`, and returns n.
///
/// Squares are summed in double, so that no float overflows on the way. If n is not finite the
/// gradients stay as they are: the caller sees it in the result and can stop. An infinite
/// `max_norm` only measures. Two passes at most, no allocation. Throws std::invalid_argument unless
/// max_norm > 0. Unlike PyTorch's clip_grad_norm_, nothing is added to n in the quotient.
template <class Scalar>
double clip_gradient_norm(Vector<Scalar>& gradients, double max_norm) {
  if (!(max_norm > 0)) detail::reject("clip_gradient_norm", "max_norm", "positive", max_norm);
  const double norm = gradient_norm(gradients);
  if (std::isfinite(norm) && norm > max_norm) gradients *= static_cast<Scalar>(max_norm / norm);
  return norm;
}

}  // namespace plastic
