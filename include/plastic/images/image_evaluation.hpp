#pragma once

#include <cmath>

namespace plastic {

/// How a classifier does on episodes.
struct ImageEvaluation {
  double loss = 0;          ///< mean over the queries
  double accuracy = 0;      ///< share of episodes whose first query is answered right
  double half_width = 0;    ///< of its 95% interval (normal approximation)
  double all_accuracy = 0;  ///< share of all queries
};

/// Counts answers to queries.
class AnswerCount {
 public:
  /// An answer with its loss; is_first says whether it is the first of its episode.
  void add(bool is_first, bool is_right, double loss) {
    loss_ += loss;
    ++queries_;
    right_ += is_right ? 1 : 0;
    episodes_ += is_first ? 1 : 0;
    first_right_ += is_first && is_right ? 1 : 0;
  }
  /// All that another has counted.
  void add(const AnswerCount& other) {
    loss_ += other.loss_;
    queries_ += other.queries_;
    right_ += other.right_;
    episodes_ += other.episodes_;
    first_right_ += other.first_right_;
  }
  /// The means of what has been counted; NaN if that is nothing.
  ImageEvaluation evaluation() const {
    const double p = first_right_ / episodes_;
    return {.loss = loss_ / queries_,
            .accuracy = p,
            .half_width = 1.96 * std::sqrt(p * (1 - p) / episodes_),
            .all_accuracy = right_ / queries_};
  }

 private:
  double loss_ = 0, queries_ = 0, right_ = 0, episodes_ = 0, first_right_ = 0;
};

}  // namespace plastic
