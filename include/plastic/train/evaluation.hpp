#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "plastic/core/types.hpp"

namespace plastic {

/// What a network does on a set of episodes, in more detail than its loss.
struct Evaluation {
  double loss = 0;         ///< mean squared error over the steps that count
  double query_loss = 0;   ///< the same over the query steps alone
  double query_share = 0;  ///< share of query steps with every output within 0.05 of its target
  std::vector<double> eta_mean;       ///< learning rate of the fast weights at each step: mean ...
  std::vector<double> eta_deviation;  ///< ... and standard deviation over the episodes
};

namespace detail {

/// Sums over the episodes of one shard, in double; summed over shards in their order.
struct EvaluationSums {
  static constexpr double close = 0.05;

  double loss = 0;
  double queries = 0, query_square = 0, query_close = 0;
  std::vector<double> episodes, eta, eta_square;  // of every step

  /// output, target: outputs x (steps * samples); queries and eta: 1 x (steps * samples).
  template <class Scalar>
  void add(const Matrix<Scalar>& output, const Matrix<Scalar>& target, const Matrix<Scalar>& query,
           const Matrix<Scalar>& rate, Index samples) {
    const Index steps = output.cols() / samples;
    episodes.assign(static_cast<std::size_t>(steps), static_cast<double>(samples));
    eta.assign(static_cast<std::size_t>(steps), 0.0);
    eta_square.assign(static_cast<std::size_t>(steps), 0.0);
    for (Index column = 0; column < output.cols(); ++column) {
      const auto step = static_cast<std::size_t>(column / samples);
      const auto x = static_cast<double>(rate(0, column));
      eta[step] += x;
      eta_square[step] += x * x;
      if (query(0, column) == Scalar(0)) continue;
      const auto error = (output.col(column) - target.col(column)).template cast<double>().eval();
      queries += 1;
      query_square += error.squaredNorm() / static_cast<double>(output.rows());
      query_close += error.cwiseAbs().maxCoeff() < close ? 1 : 0;
    }
  }

  void add(const EvaluationSums& other) {
    loss += other.loss;
    queries += other.queries;
    query_square += other.query_square;
    query_close += other.query_close;
    if (eta.size() < other.eta.size()) {
      episodes.resize(other.eta.size());
      eta.resize(other.eta.size());
      eta_square.resize(other.eta.size());
    }
    for (std::size_t t = 0; t < other.eta.size(); ++t) {
      episodes[t] += other.episodes[t];
      eta[t] += other.eta[t];
      eta_square[t] += other.eta_square[t];
    }
  }

  Evaluation means(Index batches) const {
    Evaluation result;
    result.loss = loss / static_cast<double>(batches);
    result.query_loss = query_square / queries;
    result.query_share = query_close / queries;
    for (std::size_t t = 0; t < eta.size(); ++t) {
      const double mean = eta[t] / episodes[t];
      result.eta_mean.push_back(mean);
      result.eta_deviation.push_back(
          std::sqrt(std::max(0.0, eta_square[t] / episodes[t] - mean * mean)));
    }
    return result;
  }
};

}  // namespace detail
}  // namespace plastic
