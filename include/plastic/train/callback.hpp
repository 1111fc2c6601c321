#pragma once

#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "plastic/core/tensor_file.hpp"
#include "plastic/train/evaluation.hpp"

namespace plastic {

/// State of a training run.
struct Progress {
  Index batch = 0;                                                    ///< batches done
  Index batches = 0;                                                  ///< batches in the whole run
  double train_loss = std::numeric_limits<double>::quiet_NaN();       ///< see TrainingCallback
  double validation_loss = std::numeric_limits<double>::quiet_NaN();  ///< the latest, or NaN
  double seconds = 0;                      ///< wall time since the run began
  std::span<const Measure> measures = {};  ///< the latest validation's; nothing counted before it
};

/// A run as a checkpoint sees it: everything that its future depends on.
class ResumableRun {
 public:
  virtual ~ResumableRun() = default;
  /// Parameters, optimizer, callbacks and counters, with the settings that must match on resuming.
  virtual TensorFile state() const = 0;
  /// Restores all of it from `file`. `source` names the file in messages, `allow` the settings that
  /// may differ. Throws std::invalid_argument, changing nothing, naming the first setting that
  /// differs or is missing.
  virtual void resume(const TensorFile& file, std::string_view source,
                      std::span<const std::string> allow) = 0;
};

/// Hooks that a training run calls, all from the thread that called the trainer, never two at once.
/// A callback may throw; the run then ends with that exception.
class TrainingCallback {
 public:
  virtual ~TrainingCallback() = default;

  /// Called before the first batch. A callback may restore the state of an earlier run.
  virtual void on_begin(ResumableRun&) {}

  /// Called after every batch; `train_loss` is this batch's, `validation_loss` the latest or NaN.
  virtual void on_batch(const Progress&) {}

  /// Called after every validation; `train_loss` is the mean over the batches since the previous
  /// one.
  virtual void on_validation(const Progress&) {}

  /// Called once, when the run has ended, early or not.
  virtual void on_end(const Progress&) {}

  /// Whether the run should end now. Asked before the first batch and after each, and after each
  /// validation.
  virtual bool wants_stop() const { return false; }

  /// Whether it is called after all callbacks that return false here. A callback that saves the
  /// state of the others must return true.
  virtual bool comes_last() const { return false; }

  /// @{
  /// State of the callback in a checkpoint, under this name; none if the name is empty. `settings`
  /// must be the same for a run to resume. `save` adds strings and tensors whose names begin with
  /// `prefix`. `restore` reads them, throws std::invalid_argument if one does not fit, and returns
  /// a function that applies them, so that nothing changes before a checkpoint has been read
  /// completely.
  virtual std::string_view name() const { return {}; }
  virtual Settings settings() const { return {}; }
  virtual void save(TensorFile&, const std::string&) const {}
  virtual std::function<void()> restore(const TensorFile&, const std::string&) {
    return [] {};
  }
  /// @}
};

}  // namespace plastic
