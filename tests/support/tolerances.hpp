#pragma once

#include <limits>

/// What the tests allow.
namespace plastic::testing {

/// Half the distance of central differences, and the error that it leaves: a part of the largest
/// entry of the gradient, or an amount where the whole gradient is small.
inline constexpr double difference_step = 1e-5;
inline constexpr double difference_relative = 1e-7;
inline constexpr double difference_absolute = 1e-9;

/// k eps magnitude: the rounding of about k operations on terms whose sizes add up to `magnitude`.
template <class Scalar>
constexpr double rounding(double k, double magnitude) {
  return k * static_cast<double>(std::numeric_limits<Scalar>::epsilon()) * magnitude;
}

}  // namespace plastic::testing
