#pragma once

#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include "plastic/core/types.hpp"

namespace plastic::detail {

/// Throws std::invalid_argument: "function: argument must be EXPECTED, got GOT".
template <class Got>
[[noreturn]] void reject(std::string_view function, std::string_view argument,
                         std::string_view expected, const Got& got) {
  std::ostringstream message;
  message << function << ": " << argument << " must be " << expected << ", got " << got;
  throw std::invalid_argument(message.str());
}

inline std::string shape_text(Index rows, Index cols) {
  return std::to_string(rows) + " x " + std::to_string(cols);
}

inline void check_shape(std::string_view function, std::string_view argument, Index rows,
                        Index cols, Index expected_rows, Index expected_cols) {
  if (rows != expected_rows || cols != expected_cols) {
    reject(function, argument, shape_text(expected_rows, expected_cols), shape_text(rows, cols));
  }
}

/// The same for a matrix or a variable.
template <class M>
void check_shape(std::string_view function, std::string_view argument, const M& got, Index rows,
                 Index cols) {
  check_shape(function, argument, got.rows(), got.cols(), rows, cols);
}

inline void check_not_negative(std::string_view function, std::string_view argument, Index value) {
  if (value < 0) reject(function, argument, "at least 0", value);
}

inline void check_between(std::string_view function, std::string_view argument, Index value,
                          Index least, Index most) {
  if (value < least || value > most) {
    reject(function, argument, "in " + std::to_string(least) + " .. " + std::to_string(most),
           value);
  }
}

inline void check_positive(std::string_view function, std::string_view argument, Index value) {
  if (value <= 0) reject(function, argument, "at least 1", value);
}

/// Largest number of values of a type that memory can hold.
template <class Scalar>
inline constexpr Index most_values = std::numeric_limits<Index>::max() /
                                     static_cast<Index>(sizeof(Scalar));

/// Checks that a * b, both at least 0, is at most `most`, without overflow.
inline void check_product(std::string_view function, std::string_view argument, Index a, Index b,
                          Index most) {
  if (b > 0 && a > most / b) {
    reject(function, argument, "a product of at most " + std::to_string(most),
           std::to_string(a) + " * " + std::to_string(b));
  }
}

/// Checks that a matrix of that shape has no more values than memory can hold.
template <class Scalar>
void check_matrix_size(std::string_view function, std::string_view argument, Index rows,
                       Index cols) {
  constexpr Index small = Index{1} << (4 * sizeof(Index) - 2);  // its square fits; saves a division
  if (rows >= small || cols >= small) {
    check_product(function, argument, rows, cols, most_values<Scalar>);
  }
}

/// Rejects NaN and infinities as well as values outside [lowest, highest].
inline void check_range(std::string_view function, std::string_view argument, double value,
                        double lowest, double highest = std::numeric_limits<double>::max()) {
  if (!(std::isfinite(value) && value >= lowest && value <= highest)) {
    std::ostringstream expected;
    expected << "a finite number in [" << lowest << ", " << highest << "]";
    reject(function, argument, expected.str(), value);
  }
}

}  // namespace plastic::detail
