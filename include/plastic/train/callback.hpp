#pragma once

#include <limits>

#include "plastic/core/types.hpp"

namespace plastic {

/// Where a training run stands.
struct Progress {
  Index batch = 0;                                                    ///< batches done
  Index batches = 0;                                                  ///< batches to do in all
  double train_loss = std::numeric_limits<double>::quiet_NaN();       ///< see TrainingCallback
  double validation_loss = std::numeric_limits<double>::quiet_NaN();  ///< the latest, or NaN
  double seconds = 0;  ///< wall time since the run began
};

/// What happens beside training. The trainer calls it from the thread that called the trainer,
/// never from two threads at once. A callback may throw; the run then ends with that exception.
class TrainingCallback {
 public:
  virtual ~TrainingCallback() = default;

  /// After every batch; `train_loss` is this batch's, `validation_loss` the latest or NaN.
  virtual void on_batch(const Progress&) {}

  /// After every validation; `train_loss` is the mean over the batches since the one before.
  virtual void on_validation(const Progress&) {}

  /// Once, when the run has ended, early or not.
  virtual void on_end(const Progress&) {}
};

}  // namespace plastic
