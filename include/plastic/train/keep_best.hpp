#pragma once

#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "plastic/tape/check.hpp"
#include "plastic/tape/parameters.hpp"
#include "plastic/train/callback.hpp"

namespace plastic {

/// Remembers the parameters of the lowest validation loss, and calls `save` (if any) each time they
/// are bettered. `parameters` must outlive the callback.
template <class Scalar>
class KeepBest : public TrainingCallback {
 public:
  explicit KeepBest(Parameters<Scalar>& parameters, std::function<void()> save = {})
      : parameters_(&parameters), save_(std::move(save)) {}

  void on_validation(const Progress& progress) override {
    if (!(progress.validation_loss < best_loss_)) return;
    best_loss_ = progress.validation_loss;
    best_batch_ = progress.batch;
    best_ = parameters_->values();
    if (save_) save_();
  }

  /// Goes on from where another object stood: `best()`, `loss()` and `batch()` of a run that was
  /// cut off. Throws std::invalid_argument if the length is not that of the parameters.
  void resume(const Vector<Scalar>& best, double loss, Index batch) {
    if (best.size() != parameters_->size()) {
      detail::reject("KeepBest::resume", "the length of best", std::to_string(parameters_->size()),
                     best.size());
    }
    best_ = best;
    best_loss_ = loss;
    best_batch_ = batch;
  }

  bool found() const { return best_batch_ > 0; }
  double loss() const { return best_loss_; }
  Index batch() const { return best_batch_; }
  const Vector<Scalar>& best() const { return best_; }  ///< all values; empty until found

  /// Puts the best parameters back; throws std::invalid_argument if none have been seen.
  void restore() const {
    if (!found())
      detail::reject("KeepBest::restore", "the run", "validated before", "no validation");
    parameters_->values() = best_;
  }

 private:
  Parameters<Scalar>* parameters_;
  std::function<void()> save_;
  double best_loss_ = std::numeric_limits<double>::infinity();
  Index best_batch_ = 0;
  Vector<Scalar> best_;
};

}  // namespace plastic
