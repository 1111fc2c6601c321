#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdio>
#include <string>
#include <utility>

#include "plastic/core/random.hpp"
#include "plastic/core/settings.hpp"
#include "plastic/tape/functions.hpp"
#include "plastic/train/evaluation.hpp"

/// @file
/// Losses over the steps of an episode.
namespace plastic {

/// A loss: a policy class.
///
/// - `settings()`: settings that must be the same for a run to resume: its name, as "loss", and its
///   options.
/// - `terms(outputs)`: number of terms in the loss of a step; the weights that the loss sees are
///   divided by it.
/// - `loss(tape, output, target, weight)`: sum over columns of weight * the loss of the column, 1 x
///   1, differentiable. output, target: outputs x (steps * samples); weight: 1 x (steps * samples),
///   not negative; the weights of an episode sum to 1 / (samples of the batch * terms). Columns of
///   weight 0 must not matter.
/// - `measures`: what an evaluation counts; `measure(output, target, evaluation)` counts one query
///   column.
template <class L>
concept Loss = requires(const L& loss, Tape<float>& tape, const Var<float>& x,
                        const Matrix<float>& m, Evaluation& evaluation) {
  { L::measures } -> std::convertible_to<std::span<const Measure>>;
  { loss.settings() } -> std::convertible_to<Settings>;
  { L::terms(Index{1}) } -> std::convertible_to<Index>;
  { loss(tape, x, x, x) } -> std::convertible_to<Var<float>>;
  loss.measure(m.col(0), m.col(0), evaluation);
};

/// Squared error, the mean over the outputs. Measures: query_error, the same over the query steps,
/// and within_bound, the share of them with every output within `bound` of its target.
struct SquaredError {
  double bound = 0.05;  ///< tolerance of the measure within_bound; not part of the loss

  /// @{
  /// See Loss. The loss is sum_j weight_j |output_j - target_j|^2.
  static constexpr std::array<Measure, 2> measures{{{"query_error"}, {"within_bound", true}}};
  Settings settings() const {
    return {{"loss", "squared_error"}, {"loss.bound", detail::number_text(bound)}};
  }
  static constexpr Index terms(Index outputs) { return outputs; }
  template <class Scalar>
  Var<Scalar> operator()(Tape<Scalar>&, const Var<Scalar>& output, const Var<Scalar>& target,
                         const Var<Scalar>& weight) const {
    return sum(sum_features(square(output - target)) * weight);
  }
  template <class Column>
  void measure(const Column& output, const Column& target, Evaluation& evaluation) const {
    double square = 0, largest = 0;
    for (Index k = 0; k < output.rows(); ++k) {
      const auto error = static_cast<double>(output[k] - target[k]);
      square += error * error;
      largest = std::max(largest, std::abs(error));
    }
    evaluation.add(0, square / static_cast<double>(output.rows()));
    evaluation.add(1, largest < bound ? 1 : 0);
  }
  /// @}
};

/// Cross-entropy of the softmax over the outputs, the logits of as many classes; a target is a
/// column of probabilities, most often 1 for the class and 0 elsewhere. Measure: accuracy, the
/// share of query steps whose largest logit is that of the largest target.
struct CrossEntropy {
  double smoothing = 0;  ///< label smoothing in [0, 1]: see cross_entropy

  /// @{
  /// See Loss. The loss is sum_j weight_j cross_entropy_j.
  static constexpr std::array<Measure, 1> measures{{{"accuracy", true}}};
  Settings settings() const {
    return {{"loss", "cross_entropy"}, {"loss.smoothing", detail::number_text(smoothing)}};
  }
  static constexpr Index terms(Index) { return 1; }
  template <class Scalar>
  Var<Scalar> operator()(Tape<Scalar>&, const Var<Scalar>& output, const Var<Scalar>& target,
                         const Var<Scalar>& weight) const {
    // A weighted target weights its cross-entropy; the factor undoes the mean over columns.
    return cross_entropy(output, target * weight, smoothing) * output.cols();
  }
  template <class Column>
  void measure(const Column& output, const Column& target, Evaluation& evaluation) const {
    Index guess = 0, truth = 0;
    output.maxCoeff(&guess);
    target.maxCoeff(&truth);
    evaluation.add(0, guess == truth ? 1 : 0);
  }
  /// @}
};

/// Binary cross-entropy of sigmoid(output), the mean over the outputs; targets are 0, 1 or
/// probabilities. Measure: accuracy, the share of the outputs of query steps that are on the right
/// side of 1/2.
struct BinaryCrossEntropy {
  /// @{
  /// See Loss. The loss is sum_j weight_j sum_k (softplus(output_kj) - target_kj output_kj).
  static constexpr std::array<Measure, 1> measures{{{"accuracy", true}}};
  Settings settings() const { return {{"loss", "binary_cross_entropy"}}; }
  static constexpr Index terms(Index outputs) { return outputs; }
  template <class Scalar>
  Var<Scalar> operator()(Tape<Scalar>&, const Var<Scalar>& output, const Var<Scalar>& target,
                         const Var<Scalar>& weight) const {
    return sum(sum_features(softplus(output) - target * output) * weight);
  }
  template <class Column>
  void measure(const Column& output, const Column& target, Evaluation& evaluation) const {
    for (Index k = 0; k < output.rows(); ++k) {
      evaluation.add(0, (output[k] > 0) == (target[k] > typename Column::Scalar(0.5)) ? 1 : 0);
    }
  }
  /// @}
};

/// A user's loss from a function (tape, output, target, weight) -> 1 x 1, as in Loss. No measures.
/// A checkpoint identifies it by its value on some fixed numbers.
///
///     const auto huber = [](auto&, auto output, auto target, auto weight) {
///       return sum(sum_features(sqrt(square(output - target) + 1) - 1) * weight);
///     };
///     Trainer trainer(net, task, huber, optimizer, {});
template <class F>
class OwnLoss {
 public:
  /// Holds a copy of the function.
  OwnLoss(F function) : function_(std::move(function)) {}

  /// @{
  /// See Loss. The loss is the function's result; nothing is counted.
  static constexpr std::array<Measure, 0> measures{};
  Settings settings() const { return {{"loss", "own"}}; }
  static constexpr Index terms(Index) { return 1; }
  template <class Scalar>
  Var<Scalar> operator()(Tape<Scalar>& tape, const Var<Scalar>& output, const Var<Scalar>& target,
                         const Var<Scalar>& weight) const {
    return function_(tape, output, target, weight);
  }
  template <class Column>
  void measure(const Column&, const Column&, Evaluation&) const {}
  /// @}

 private:
  F function_;
};

namespace detail {

template <class L>
using LossOf = std::conditional_t<Loss<L>, L, OwnLoss<L>>;

/// The value of a loss on fixed numbers, in 6 digits, which distinguishes losses of the same name.
template <class Scalar, class L>
std::string loss_fingerprint(const L& loss, Index outputs) {
  constexpr Index columns = 8;
  Random random({0, Random::Purpose::test}, 0, 0);
  const auto numbers = [&](Index rows, double low, double high) -> Matrix<Scalar> {
    return Matrix<Scalar>::NullaryExpr(rows, columns, [&](Index, Index) {
      return static_cast<Scalar>(random.uniform(low, high));
    });
  };
  Tape<Scalar> tape;
  const Matrix<Scalar> output = numbers(outputs, -3, 3), target = numbers(outputs, 0, 1),
                       weight = numbers(1, 0, 1);
  const Var<Scalar> value =
      loss(tape, tape.constant(output), tape.constant(target), tape.constant(weight));
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%.6g", static_cast<double>(value.value()(0, 0)));
  return text.data();
}

}  // namespace detail
}  // namespace plastic
