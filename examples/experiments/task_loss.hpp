#pragma once

#include <array>
#include <string_view>

#include "plastic/train/losses.hpp"

namespace experiments {

/// The loss of a task, chosen at run time so that each network is compiled once for all tasks, with
/// the two measures that reports show: the error of the queries, and the share of right ones.
class TaskLoss {
 public:
  explicit TaskLoss(std::string_view task)
      : kind_(task == "associative_retrieval" ? classes
              : task == "pattern_completion"  ? signs
                                              : squares) {}

  static constexpr std::array<plastic::Measure, 2> measures = plastic::SquaredError::measures;
  plastic::Settings settings() const {
    return kind_ == classes ? entropy_.settings() : error_.settings();
  }
  static constexpr plastic::Index terms(plastic::Index outputs) { return outputs; }

  template <class Scalar>
  plastic::Var<Scalar> operator()(plastic::Tape<Scalar>& tape, const plastic::Var<Scalar>& output,
                                  const plastic::Var<Scalar>& target,
                                  const plastic::Var<Scalar>& weight) const {
    if (kind_ != classes) return error_(tape, output, target, weight);
    return entropy_(tape, output, target, weight) * output.rows();  // the weights are for a mean
  }

  /// Squared error and the share within the bound; for patterns, the share of entries with the
  /// right sign; for classes, the share of right answers twice.
  template <class Column>
  void measure(const Column& output, const Column& target, plastic::Evaluation& evaluation) const {
    if (kind_ == squares) return error_.measure(output, target, evaluation);
    plastic::Index guess = 0, truth = 0, right = 0;
    for (plastic::Index k = 0; k < output.rows(); ++k) {
      if (output[k] > output[guess]) guess = k;
      if (target[k] > target[truth]) truth = k;
      if ((output[k] > 0) == (target[k] > 0)) ++right;
    }
    const double share = kind_ == signs
                             ? static_cast<double>(right) / static_cast<double>(output.rows())
                             : (guess == truth ? 1 : 0);
    evaluation.add(0, 1 - share);
    evaluation.add(1, share);
  }

 private:
  enum Kind { squares, classes, signs };

  Kind kind_;
  plastic::SquaredError error_;
  plastic::CrossEntropy entropy_;
};

}  // namespace experiments
