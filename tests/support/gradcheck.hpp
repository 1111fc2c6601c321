#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "plastic/tape/functions.hpp"

/// Hand-written adjoints against central differences, in double:
///
///     check_gradient([](auto a, auto b) { return matmul(a, b); }, a, b);
///     check_gradient([&](std::span<const Var<double>> x) { return ...; }, matrices);
///     check_second_order([](auto x) { return tanh(x); }, x);
///
/// The function may return any shape; its entries are added up with fixed random weights. It is
/// called some hundred times and has to compute the same every time; x.front().tape() is its tape.
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

/// Entries uniform in [low, high], the same on every platform.
template <class Scalar = double>
Matrix<Scalar> random_matrix(Index rows, Index cols, std::uint64_t seed, double low = -1,
                             double high = 1) {
  std::uint64_t state = seed * 0x9E3779B97F4A7C15U + 1;
  return Matrix<Scalar>::NullaryExpr(rows, cols, [&](Index, Index) {
    std::uint64_t z = state += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return static_cast<Scalar>(low +
                               (high - low) * static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53);
  });
}

inline double relative_error(double got, double expected) {
  return std::abs(got - expected) / std::abs(expected);
}

/// A variable of one row.
template <class Scalar>
Var<Scalar> row(Tape<Scalar>& tape, std::initializer_list<double> values) {
  Matrix<Scalar> m(1, static_cast<Index>(values.size()));
  Index j = 0;
  for (double v : values) m(0, j++) = static_cast<Scalar>(v);
  return tape.variable(m);
}

using Function = std::function<Var<double>(std::span<const Var<double>>)>;

/// The worst entry of a comparison; the tolerance allows a size of 1.
struct Mismatch {
  double size = 0;
  std::string where;
};

namespace gradcheck {

inline Var<double> weighted_sum(const Var<double>& y, std::uint64_t seed) {
  return sum(y * y.tape().constant(random_matrix(y.rows(), y.cols(), seed, 0.5, 1.5)));
}

inline std::vector<Var<double>> variables(Tape<double>& tape,
                                          const std::vector<Matrix<double>>& values) {
  std::vector<Var<double>> all;
  for (const Matrix<double>& value : values) all.push_back(tape.variable(value));
  return all;
}

inline Matrix<double> adjoint_or_zero(const Var<double>& v) {
  if (v.node().adjoint == nullptr) return Matrix<double>::Zero(v.rows(), v.cols());
  return v.adjoint();
}

inline void compare(Mismatch& worst, std::size_t input, const Matrix<double>& hand,
                    const Matrix<double>& expected, double relative, double absolute) {
  const double allowed = relative * expected.cwiseAbs().maxCoeff() + absolute;
  for (Index j = 0; j < hand.cols(); ++j) {
    for (Index i = 0; i < hand.rows(); ++i) {
      const double size = std::abs(hand(i, j) - expected(i, j)) / allowed;
      if (size <= worst.size) continue;  // a NaN is worse than anything
      worst.size = std::isnan(size) ? std::numeric_limits<double>::infinity() : size;
      std::ostringstream where;
      where.precision(12);
      where << "input " << input << ", entry (" << i << ", " << j << "): " << hand(i, j)
            << " instead of " << expected(i, j);
      worst.where = where.str();
    }
  }
}

/// The sweep from `loss` (1 x 1) against its differences.
inline Mismatch sweep_mismatch(const Function& loss, std::vector<Matrix<double>> inputs) {
  Tape<double> tape;
  const std::vector<Var<double>> x = variables(tape, inputs);
  tape.backward(loss(x));
  std::vector<Matrix<double>> hand;
  for (const Var<double>& v : x) hand.push_back(adjoint_or_zero(v));

  const auto value_with = [&](double& entry, double value) {
    const double old = std::exchange(entry, value);
    tape.clear();
    const double result = loss(variables(tape, inputs)).value()(0, 0);
    entry = old;
    return result;
  };
  Mismatch worst;
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    Matrix<double> expected(inputs[k].rows(), inputs[k].cols());
    for (Index e = 0; e < expected.size(); ++e) {
      double& entry = inputs[k].data()[e];
      const double above = entry + difference_step;
      const double below = entry - difference_step;
      expected.data()[e] = (value_with(entry, above) - value_with(entry, below)) / (above - below);
    }
    compare(worst, k, hand[k], expected, difference_relative, difference_absolute);
  }
  return worst;
}

template <class F, std::size_t... I>
Function unpacked(F f, std::index_sequence<I...>) {
  return [f](std::span<const Var<double>> x) { return f(x[I]...); };
}

inline void report(const Mismatch& worst) {
  INFO(worst.where);
  CHECK(worst.size <= 1);
}

}  // namespace gradcheck

/// How far the reverse sweep is from central differences.
inline Mismatch gradient_mismatch(const Function& f, const std::vector<Matrix<double>>& inputs) {
  return gradcheck::sweep_mismatch(
      [&](std::span<const Var<double>> x) { return gradcheck::weighted_sum(f(x), 11); }, inputs);
}

/// The same for a nonlinear loss of the gradient that Tape::gradient records with respect to every
/// input; also how far that gradient is from the sweep's.
inline Mismatch second_order_mismatch(const Function& f,
                                      const std::vector<Matrix<double>>& inputs) {
  const auto inner = [&](std::span<const Var<double>> x, std::vector<Var<double>>& gradients) {
    const Var<double> loss = gradcheck::weighted_sum(f(x), 11);
    gradients.resize(x.size());
    x.front().tape().gradient(loss, x, gradients);
    return loss;
  };
  Mismatch worst = gradcheck::sweep_mismatch(
      [&](std::span<const Var<double>> x) {
        std::vector<Var<double>> gradients;
        Var<double> loss = inner(x, gradients);
        for (const Var<double>& g : gradients) loss = loss + gradcheck::weighted_sum(sin(g), 12);
        return loss;
      },
      inputs);

  Tape<double> tape;
  const std::vector<Var<double>> x = gradcheck::variables(tape, inputs);
  std::vector<Var<double>> recorded;
  tape.backward(inner(x, recorded));
  for (std::size_t k = 0; k < x.size(); ++k) {
    const Matrix<double> swept = gradcheck::adjoint_or_zero(x[k]);
    const double magnitude = 1 + swept.cwiseAbs().maxCoeff();
    gradcheck::compare(worst, k, recorded[k].value(), swept, 0, rounding<double>(100, magnitude));
  }
  return worst;
}

template <class F>
void check_gradient(F f, const std::vector<Matrix<double>>& inputs) {
  gradcheck::report(gradient_mismatch(f, inputs));
}

template <class F>
void check_second_order(F f, const std::vector<Matrix<double>>& inputs) {
  gradcheck::report(second_order_mismatch(f, inputs));
}

/// f takes one Var for each of `inputs`.
template <class F, class... Inputs>
void check_gradient(F f, const Eigen::MatrixBase<Inputs>&... inputs) {
  check_gradient(gradcheck::unpacked(f, std::index_sequence_for<Inputs...>{}),
                 std::vector{Matrix<double>(inputs)...});
}

template <class F, class... Inputs>
void check_second_order(F f, const Eigen::MatrixBase<Inputs>&... inputs) {
  check_second_order(gradcheck::unpacked(f, std::index_sequence_for<Inputs...>{}),
                     std::vector{Matrix<double>(inputs)...});
}

}  // namespace plastic::testing
