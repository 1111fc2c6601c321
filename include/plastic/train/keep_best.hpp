#pragma once

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plastic/core/parameters.hpp"
#include "plastic/train/callback.hpp"

namespace plastic {

/// Keeps the values with the lowest validation loss, and calls `on_best` (if any) whenever the loss
/// improves. A loss that is NaN is never the lowest.
template <class Scalar>
class KeepBest : public TrainingCallback {
 public:
  /// Keeps one set of parameters, which must outlive the callback.
  explicit KeepBest(Parameters<Scalar>& parameters, std::function<void()> on_best = {})
      : KeepBest({&parameters.values()}, std::move(on_best)) {}

  /// Keeps a list of sets, which must outlive the callback.
  explicit KeepBest(const std::vector<Parameters<Scalar>*>& sets,
                    std::function<void()> on_best = {})
      : KeepBest(values_of(sets), std::move(on_best)) {}

  /// Keeps several vectors, which must outlive the callback and keep their lengths.
  explicit KeepBest(std::vector<Vector<Scalar>*> values, std::function<void()> on_best = {})
      : values_(std::move(values)), on_best_(std::move(on_best)) {}

  void on_validation(const Progress& progress) override {
    if (!(progress.validation_loss < best_loss_)) return;
    best_loss_ = progress.validation_loss;
    best_batch_ = progress.batch;
    best_.clear();
    for (const Vector<Scalar>* values : values_) best_.push_back(*values);
    if (on_best_) on_best_();
  }

  bool found() const { return best_batch_ > 0; }  ///< whether there are best values
  double loss() const { return best_loss_; }      ///< the lowest so far; infinity until found
  Index batch() const { return best_batch_; }  ///< batches done at the lowest loss; 0 until found

  /// All values, in the constructor's order; empty until found.
  const std::vector<Vector<Scalar>>& best() const { return best_; }

  std::string_view name() const override { return "keep_best"; }
  void save(TensorFile& file, const std::string& prefix) const override {
    file.metadata[prefix + "batch"] = detail::number_text(best_batch_);
    file.metadata[prefix + "loss"] = detail::number_text(best_loss_);
    for (std::size_t k = 0; k < best_.size(); ++k) {
      file.set_vector(prefix + std::to_string(k), best_[k]);
    }
  }
  std::function<void()> restore(const TensorFile& file, const std::string& prefix) override {
    const auto batch = detail::number_setting<Index>(file.metadata, prefix + "batch");
    const auto loss = detail::number_setting<double>(file.metadata, prefix + "loss");
    if (batch < 0 || std::isnan(loss)) {
      detail::reject("KeepBest::restore", "the state", "a number of batches and a loss",
                     std::to_string(batch) + " and " + std::to_string(loss));
    }
    std::vector<Vector<Scalar>> best;
    for (std::size_t k = 0; batch > 0 && k < values_.size(); ++k) {
      best.push_back(file.vector<Scalar>(prefix + std::to_string(k), values_[k]->size()));
    }
    return [this, batch, loss, best = std::move(best)] {
      best_batch_ = batch;
      best_loss_ = loss;
      best_ = best;
    };
  }

  /// Restores the best values; throws std::invalid_argument if none have been seen.
  void restore() const {
    if (!found())
      detail::reject("KeepBest::restore", "the run", "one that has been validated",
                     "no validation");
    for (std::size_t k = 0; k < best_.size(); ++k) *values_[k] = best_[k];
  }

 private:
  static std::vector<Vector<Scalar>*> values_of(const std::vector<Parameters<Scalar>*>& sets) {
    std::vector<Vector<Scalar>*> values;
    for (Parameters<Scalar>* set : sets) values.push_back(&set->values());
    return values;
  }

  std::vector<Vector<Scalar>*> values_;
  std::function<void()> on_best_;
  double best_loss_ = std::numeric_limits<double>::infinity();
  Index best_batch_ = 0;
  std::vector<Vector<Scalar>> best_;
};

}  // namespace plastic
