#pragma once

#include <cmath>

#include "plastic/tape/elementwise.hpp"
#include "plastic/tape/linear_algebra.hpp"
#include "plastic/tape/select.hpp"

/// @file
/// Functions composed of operations: differentiable any number of times, as those are.
namespace plastic {

/// Mean of all entries, 1 x 1. Throws std::invalid_argument if there are none, as the losses below.
auto mean(const Variable auto& x) {
  detail::check_positive("mean", "the number of entries", x.rows() * x.cols());
  return sum(x) / (x.rows() * x.cols());
}

/// y = (x - mean) / sqrt(variance + epsilon) * gain + bias over the features of each sample.
/// x: features x samples; gain, bias: features x 1; epsilon in [0, 1]. Throws std::invalid_argument
/// otherwise. Source: Ba, Kiros, Hinton, "Layer normalization", 2016.
template <class Scalar>
Var<Scalar> layer_norm(const Var<Scalar>& x, const Var<Scalar>& gain, const Var<Scalar>& bias,
                       double epsilon = 1e-5) {
  detail::check_shape("layer_norm", "gain", gain, x.rows(), 1);
  detail::check_shape("layer_norm", "bias", bias, x.rows(), 1);
  detail::check_range("layer_norm", "epsilon", epsilon, 0.0, 1.0);
  const Var<Scalar> centred = x - sum_features(x) / x.rows();
  const Var<Scalar> variance = sum_features(square(centred)) / x.rows();
  return centred / sqrt(variance + epsilon) * gain + bias;
}

namespace detail {

struct LogSumExp : Elementwise {
  template <class X>
  auto value(const X& all) const {
    using S = typename X::Scalar;
    // Without overflow; for infinities the result is the largest.
    const auto of_column = [x = all](Index, Index j) -> S {
      const S largest = x.col(j).maxCoeff();
      if (std::isinf(largest)) return largest;
      return largest + std::log((x.col(j) - largest).exp().sum());
    };
    return Array<S>::NullaryExpr(1, all.cols(), of_column);
  }
  auto adjoint(Argument<0>, const auto& dy, const auto& y, const auto& x) const {
    return broadcast(dy, x.rows(), x.cols()) * exp(x - broadcast(y, x.rows(), x.cols()));
  }
};

}  // namespace detail

/// log(sum(exp(x))) over the features of each sample, 1 x samples, without overflow. Throws
/// std::invalid_argument if there are no features, as do all functions below.
auto log_sum_exp(const Variable auto& x) {
  detail::check_positive("log_sum_exp", "the number of features", x.rows());
  return apply(detail::LogSumExp{}, x);
}

/// Probabilities exp(x) / sum(exp(x)) over the features of each sample: features x samples, columns
/// that sum to 1. Without overflow.
auto softmax(const Variable auto& x) { return exp(x - log_sum_exp(x)); }

/// Logarithms of softmax(x), x - log(sum(exp(x))) over the features of each sample: features x
/// samples. Without overflow, and exact where a probability is too small for its type.
template <class Scalar>
Var<Scalar> log_softmax(const Var<Scalar>& x) {
  detail::check_positive("log_softmax", "the number of features", x.rows());
  // The result is the same for any shift, so the largest entry may be treated as a constant.
  const Var<Scalar> shifted = x - x.tape().constant(x.value().colwise().maxCoeff());
  return shifted - log_sum_exp(shifted);
}

/// Weighted mean of squared errors, 1 x 1: sum(weights * (x - target)^2) / (features *
/// sum(weights)). x, target: features x samples; weights: 1 x samples, >= 0, or empty for all 1.
/// Throws std::invalid_argument if the shapes do not fit.
template <class Scalar>
Var<Scalar> mean_squared_error(const Var<Scalar>& x, const Var<Scalar>& target,
                               const Var<Scalar>& weights = {}) {
  detail::check_shape("mean_squared_error", "target", target, x.rows(), x.cols());
  if (weights.empty()) return mean(square(x - target));
  detail::check_shape("mean_squared_error", "weights", weights, 1, x.cols());
  return sum(sum_features(square(x - target)) * weights) / (sum(weights) * x.rows());
}

/// Mean over samples of -sum_k q_k log softmax(x)_k, 1 x 1, where q = (1 - smoothing) target +
/// smoothing sum_k(target_k) / K. x: K logits x samples; target: K x samples of any numbers: a
/// column is one-hot, probabilities, or such times a weight of its sample, as the advantage in a
/// policy gradient; smoothing in [0, 1]. Throws std::invalid_argument if the shapes differ or the
/// smoothing is out of its range.
template <class Scalar>
Var<Scalar> cross_entropy(const Var<Scalar>& x, const Var<Scalar>& target, double smoothing = 0) {
  detail::check_shape("cross_entropy", "target", target, x.rows(), x.cols());
  detail::check_range("cross_entropy", "smoothing", smoothing, 0.0, 1.0);
  const Var<Scalar> weight = sum_features(target);  // smoothing does not change it
  const Var<Scalar> q =
      target * (1 - smoothing) + weight * (smoothing / static_cast<double>(x.rows()));
  return mean(log_sum_exp(x) * weight - sum_features(q * x));
}

/// Mean over all entries of -(target log sigmoid(x) + (1 - target) log(1 - sigmoid(x))), computed
/// as softplus(x) - x target, 1 x 1. Without overflow. x: logits, features x samples; target: of
/// that shape, in [0, 1]. Throws std::invalid_argument if the shapes differ.
template <class Scalar>
Var<Scalar> binary_cross_entropy(const Var<Scalar>& x, const Var<Scalar>& target) {
  detail::check_shape("binary_cross_entropy", "target", target, x.rows(), x.cols());
  return mean(softplus(x) - x * target);
}

}  // namespace plastic
