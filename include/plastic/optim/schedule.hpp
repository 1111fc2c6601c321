#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numbers>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "plastic/core/settings.hpp"

namespace plastic {

/// The learning rate as a function of the number of batches done so far and of the batches in the
/// run; an option of the trainer. Any function of the first, or of both, will do:
///
///     TrainerOptions{.schedule = CosineSchedule({.learning_rate = 2e-3, .warm_up = 100})}
///     TrainerOptions{.schedule = [](Index batch) { return batch < 1000 ? 1e-3 : 1e-4; }}
///
/// An empty one leaves the optimizer's own rate alone. The same arguments must give the same rate
/// at any time, from any thread.
class Schedule {
 public:
  Schedule() = default;  ///< an empty one

  /// @{
  /// Holds a copy of the function.
  template <class F>
  requires std::is_invocable_r_v<double, const F&, Index, Index> Schedule(F f)
      : rate_(std::move(f)) {}
  template <class F>
  requires(std::is_invocable_r_v<double, const F&, Index> &&
           !std::is_invocable_v<const F&, Index, Index>) Schedule(F f)
      : rate_([f = std::move(f)](Index batch, Index) { return f(batch); }) {}
  /// @}

  bool empty() const { return rate_ == nullptr; }  ///< whether it leaves the rate alone

  /// The rate of a batch. Throws std::invalid_argument if the schedule is empty or gives a rate
  /// that is negative or not finite, and whatever the function throws.
  double operator()(Index batch, Index batches) const {
    if (empty()) detail::reject("Schedule", "the schedule", "one with a function", "an empty one");
    const double rate = rate_(batch, batches);
    if (rate >= 0 && std::isfinite(rate)) return rate;  // avoids the message, which allocates
    detail::check_range("Schedule", "the rate of batch " + std::to_string(batch), rate, 0);
    return rate;
  }

  /// Identifies the schedule: first and last rate and a fingerprint (FNV-1a) of all rates in a run
  /// of `batches`, or of 2^20 of them if there are more. Empty for an empty schedule. Throws
  /// std::invalid_argument if `batches` is not positive, and as the call does.
  std::string rates(Index batches) const {
    if (empty()) return {};
    detail::check_positive("Schedule::rates", "batches", batches);
    const Index places = std::min(batches, Index{1} << 20);
    std::uint64_t hash = 14695981039346656037u;
    for (Index k = 0; k < places; ++k) {
      const auto at = static_cast<double>(k) * static_cast<double>(batches);
      const double rate = (*this)(static_cast<Index>(at / static_cast<double>(places)), batches);
      hash = (hash ^ Eigen::numext::bit_cast<std::uint64_t>(rate)) * 1099511628211u;
    }
    return detail::number_text((*this)(0, batches)) + " to " +
           detail::number_text((*this)(batches - 1, batches)) + ", fingerprint " +
           std::to_string(hash);
  }

 private:
  std::function<double(Index, Index)> rate_;
};

/// Settings of a CosineSchedule.
struct CosineScheduleOptions {
  double learning_rate = 1e-3;  ///< after the warm-up
  double floor = 0;             ///< rate at the end and after it; at most learning_rate
  Index batches = 0;            ///< end of the descent; 0: end of the run
  Index every = 1;              ///< batches between two changes of the rate
  Index warm_up = 0;            ///< first batches, in which the rate rises linearly
};

/// Half a cosine from `learning_rate` to `floor`, in steps of `every` batches, with a linear
/// warm-up:
///
///     rate(n) = learning_rate (n + 1) / warm_up                        n < warm_up
///     rate(n) = floor + (learning_rate - floor) (1 + cos(pi x)) / 2    else
///     x = min(1, every * floor((n - warm_up) / every) / (batches - warm_up))
///
/// Source: Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017,
/// without restarts.
class CosineSchedule {
 public:
  /// Throws std::invalid_argument naming an option out of its range.
  explicit CosineSchedule(const CosineScheduleOptions& options) : options_(options) {
    constexpr std::string_view here = "CosineSchedule";
    detail::check_range(here, "learning_rate", options.learning_rate, 0);
    detail::check_range(here, "floor", options.floor, 0, options.learning_rate);
    detail::check_not_negative(here, "batches", options.batches);
    detail::check_positive(here, "every", options.every);
    detail::check_not_negative(here, "warm_up", options.warm_up);
  }

  /// rate(batch), in a run of `batches`, which is used only if the options give none. Throws
  /// std::invalid_argument if `batch` is negative or neither gives the number of batches.
  double operator()(Index batch, Index batches = 0) const {
    detail::check_not_negative("CosineSchedule", "batch", batch);
    const CosineScheduleOptions& o = options_;
    if (o.batches == 0) detail::check_positive("CosineSchedule", "batches", batches);
    if (batch < o.warm_up) {
      return o.learning_rate * static_cast<double>(batch + 1) / static_cast<double>(o.warm_up);
    }
    const Index length = std::max<Index>(1, (o.batches > 0 ? o.batches : batches) - o.warm_up);
    const Index done = (batch - o.warm_up) / o.every * o.every;
    const double x = std::min(1.0, static_cast<double>(done) / static_cast<double>(length));
    const double fraction = (1 + std::cos(std::numbers::pi * x)) / 2;
    return o.floor + (o.learning_rate - o.floor) * fraction;
  }

 private:
  CosineScheduleOptions options_;
};

/// Settings of a LinearWarmUp.
struct LinearWarmUpOptions {
  double learning_rate = 1e-3;  ///< rate after the warm-up
  Index batches = 100;          ///< length of the warm-up
};

/// rate(n) = learning_rate min(1, (n + 1) / batches): a linear rise, then constant.
class LinearWarmUp {
 public:
  /// Throws std::invalid_argument naming an option out of its range.
  explicit LinearWarmUp(const LinearWarmUpOptions& options) : options_(options) {
    detail::check_range("LinearWarmUp", "learning_rate", options.learning_rate, 0);
    detail::check_positive("LinearWarmUp", "batches", options.batches);
  }

  /// rate(batch). Throws std::invalid_argument if `batch` is negative.
  double operator()(Index batch) const {
    detail::check_not_negative("LinearWarmUp", "batch", batch);
    return options_.learning_rate *
           std::min(1.0, static_cast<double>(batch + 1) / static_cast<double>(options_.batches));
  }

 private:
  LinearWarmUpOptions options_;
};

}  // namespace plastic
