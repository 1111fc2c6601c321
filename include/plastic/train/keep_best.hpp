#pragma once

#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "plastic/core/check.hpp"
#include "plastic/core/parameters.hpp"
#include "plastic/train/callback.hpp"

namespace plastic {

/// Remembers the values of the lowest validation loss, and calls `save` (if any) each time they are
/// bettered. A loss that is NaN is never the lowest.
template <class Scalar>
class KeepBest : public TrainingCallback {
 public:
  /// Of one set of parameters, which must outlive the callback.
  explicit KeepBest(Parameters<Scalar>& parameters, std::function<void()> save = {})
      : KeepBest({&parameters.values()}, std::move(save)) {}

  /// Of several vectors, which must outlive the callback and keep their lengths.
  explicit KeepBest(std::vector<Vector<Scalar>*> values, std::function<void()> save = {})
      : values_(std::move(values)), save_(std::move(save)) {}

  void on_validation(const Progress& progress) override {
    if (!(progress.validation_loss < best_loss_)) return;
    best_loss_ = progress.validation_loss;
    best_batch_ = progress.batch;
    best_.clear();
    for (const Vector<Scalar>* values : values_) best_.push_back(*values);
    if (save_) save_();
  }

  /// Goes on from where another object stood: `best()`, `loss()` and `batch()` of a run that was
  /// cut off. Throws std::invalid_argument if number or lengths of the vectors are others.
  void resume(std::vector<Vector<Scalar>> best, double loss, Index batch) {
    if (best.size() != values_.size()) {
      detail::reject("KeepBest::resume", "the number of vectors of best",
                     std::to_string(values_.size()), best.size());
    }
    for (std::size_t k = 0; k < best.size(); ++k) {
      if (best[k].size() != values_[k]->size()) {
        detail::reject("KeepBest::resume", "the length of best", std::to_string(values_[k]->size()),
                       best[k].size());
      }
    }
    best_ = std::move(best);
    best_loss_ = loss;
    best_batch_ = batch;
  }

  bool found() const { return best_batch_ > 0; }  ///< whether there are best values
  double loss() const { return best_loss_; }      ///< the lowest so far; infinity until found
  Index batch() const { return best_batch_; }     ///< batches done when it was; 0 until found

  /// All values, in the constructor's order; empty until found.
  const std::vector<Vector<Scalar>>& best() const { return best_; }

  /// Puts the best values back; throws std::invalid_argument if none have been seen.
  void restore() const {
    if (!found())
      detail::reject("KeepBest::restore", "the run", "validated before", "no validation");
    for (std::size_t k = 0; k < best_.size(); ++k) *values_[k] = best_[k];
  }

 private:
  std::vector<Vector<Scalar>*> values_;
  std::function<void()> save_;
  double best_loss_ = std::numeric_limits<double>::infinity();
  Index best_batch_ = 0;
  std::vector<Vector<Scalar>> best_;
};

}  // namespace plastic
