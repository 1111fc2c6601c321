#pragma once

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "plastic/train/callback.hpp"

namespace plastic {

/// Settings of EarlyStopping.
struct EarlyStoppingOptions {
  Index patience = 10;   ///< validations without improvement that end the run; 0: never
  double min_delta = 0;  ///< smallest decrease of the loss that counts as an improvement
  double target = -std::numeric_limits<double>::infinity();  ///< sufficient validation loss
};

/// Ends a run when its validation loss has not improved for some validations, or is low enough. A
/// loss that is NaN is no improvement.
class EarlyStopping : public TrainingCallback {
 public:
  /// Throws std::invalid_argument if patience or min_delta is negative or the target is NaN.
  explicit EarlyStopping(const EarlyStoppingOptions& options = {}) : options_(options) {
    constexpr std::string_view here = "EarlyStopping";
    detail::check_not_negative(here, "patience", options.patience);
    detail::check_range(here, "min_delta", options.min_delta, 0);
    if (!(options.target == options.target)) detail::reject(here, "target", "a number", "nan");
  }

  void on_begin(ResumableRun&) override {
    best_ = std::numeric_limits<double>::infinity();
    waited_ = 0;
  }

  void on_validation(const Progress& progress) override {
    if (progress.validation_loss < best_ - options_.min_delta) {
      best_ = progress.validation_loss;
      waited_ = 0;
    } else {
      ++waited_;
    }
  }

  bool wants_stop() const override {
    return best_ <= options_.target || (options_.patience > 0 && waited_ >= options_.patience);
  }

  std::string_view name() const override { return "early_stopping"; }
  Settings settings() const override {
    return {{"patience", detail::number_text(options_.patience)},
            {"min_delta", detail::number_text(options_.min_delta)},
            {"target", detail::number_text(options_.target)}};
  }
  void save(TensorFile& file, const std::string& prefix) const override {
    file.metadata[prefix + "best"] = detail::number_text(best_);
    file.metadata[prefix + "waited"] = detail::number_text(waited_);
  }
  std::function<void()> restore(const TensorFile& file, const std::string& prefix) override {
    const auto best = detail::number_setting<double>(file.metadata, prefix + "best");
    const auto waited = detail::number_setting<Index>(file.metadata, prefix + "waited");
    if (waited < 0 || std::isnan(best)) {
      detail::reject("EarlyStopping::restore", "the state", "a loss and a count of validations",
                     std::to_string(best) + " and " + std::to_string(waited));
    }
    return [this, best, waited] {
      best_ = best;
      waited_ = waited;
    };
  }

 private:
  EarlyStoppingOptions options_;
  double best_ = std::numeric_limits<double>::infinity();
  Index waited_ = 0;
};

/// Ends a run when a function returns true, for example after a signal:
///
///     trainer.run(bar, StopWhen([] { return interrupted.load(); }));
class StopWhen : public TrainingCallback {
 public:
  /// The function is called after every batch and validation. Throws std::invalid_argument if it is
  /// empty.
  explicit StopWhen(std::function<bool()> function) : function_(std::move(function)) {
    if (!function_) {
      detail::reject("StopWhen", "the function", "one that can be called", "an empty one");
    }
  }
  bool wants_stop() const override { return function_(); }

 private:
  std::function<bool()> function_;
};

}  // namespace plastic
