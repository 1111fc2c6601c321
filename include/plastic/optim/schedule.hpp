#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "plastic/core/check.hpp"
#include "plastic/core/types.hpp"

namespace plastic {

/// A learning-rate schedule is a function of the number of batches done so far:
/// `optimizer.set_learning_rate(schedule(batch))`. This one is constant.
class ConstantSchedule {
 public:
  /// Throws std::invalid_argument if the rate is negative or not finite.
  explicit ConstantSchedule(double learning_rate) : learning_rate_(learning_rate) {
    detail::check_range("ConstantSchedule", "learning_rate", learning_rate, 0,
                        std::numeric_limits<double>::max());
  }

  /// The rate, whatever the batch.
  double operator()(Index) const { return learning_rate_; }

 private:
  double learning_rate_;
};

/// Settings of a CosineSchedule.
struct CosineScheduleOptions {
  double learning_rate = 1e-3;  ///< at the first batch
  double floor = 0;             ///< at the end and after it; at most learning_rate
  Index batches = 1;            ///< length of the descent
  Index every = 1;              ///< batches between two changes of the rate
};

/// Half a cosine from `learning_rate` to `floor`, in steps of `every` batches:
///
///     rate(n) = floor + (learning_rate - floor) (1 + cos(pi x)) / 2
///     x = min(1, every * floor(n / every) / batches)
///
/// Source: Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017,
/// without restarts.
class CosineSchedule {
 public:
  /// Throws std::invalid_argument naming an option out of its range.
  explicit CosineSchedule(const CosineScheduleOptions& options) : options_(options) {
    detail::check_range("CosineSchedule", "learning_rate", options.learning_rate, 0,
                        std::numeric_limits<double>::max());
    detail::check_range("CosineSchedule", "floor", options.floor, 0, options.learning_rate);
    detail::check_positive("CosineSchedule", "batches", options.batches);
    detail::check_positive("CosineSchedule", "every", options.every);
  }

  /// rate(batch). Throws std::invalid_argument if `batch` is negative.
  double operator()(Index batch) const {
    if (batch < 0) detail::reject("CosineSchedule", "batch", "at least 0", batch);
    const Index done = batch / options_.every * options_.every;
    const double x =
        std::min(1.0, static_cast<double>(done) / static_cast<double>(options_.batches));
    const double fraction = (1 + std::cos(std::numbers::pi * x)) / 2;
    return options_.floor + (options_.learning_rate - options_.floor) * fraction;
  }

 private:
  CosineScheduleOptions options_;
};

}  // namespace plastic
