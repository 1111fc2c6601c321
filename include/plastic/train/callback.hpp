#pragma once

#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "plastic/core/tensor_file.hpp"
#include "plastic/train/evaluation.hpp"

namespace plastic {

/// Where a training run stands.
struct Progress {
  Index batch = 0;                                                    ///< batches done
  Index batches = 0;                                                  ///< batches to do in all
  double train_loss = std::numeric_limits<double>::quiet_NaN();       ///< see TrainingCallback
  double validation_loss = std::numeric_limits<double>::quiet_NaN();  ///< the latest, or NaN
  double seconds = 0;                      ///< wall time since the run began
  std::span<const Measure> measures = {};  ///< of the latest validation; nothing counted before it
};

/// A run as a checkpoint sees it: all that its future depends on.
class ResumableRun {
 public:
  virtual ~ResumableRun() = default;
  /// Parameters, optimizer, callbacks and counters, with the settings that they may go on with.
  virtual TensorFile state() const = 0;
  /// Brings all of it to where `file` says. `source` names the file in messages, `allow` the
  /// settings that may differ. Throws std::invalid_argument, changing nothing, naming the first
  /// setting that differs or what is missing.
  virtual void resume(const TensorFile& file, std::string_view source,
                      std::span<const std::string> allow) = 0;
};

/// Hooks that a training run calls, all from the thread that called the trainer, never two at once.
/// A callback may throw; the run then ends with that exception.
class TrainingCallback {
 public:
  virtual ~TrainingCallback() = default;

  /// Before the first batch. A callback may bring the run to where an earlier one stood.
  virtual void on_begin(ResumableRun&) {}

  /// After every batch; `train_loss` is this batch's, `validation_loss` the latest or NaN.
  virtual void on_batch(const Progress&) {}

  /// After every validation; `train_loss` is the mean over the batches since the one before.
  virtual void on_validation(const Progress&) {}

  /// Once, when the run has ended, early or not.
  virtual void on_end(const Progress&) {}

  /// Whether the run should end now. Asked before the first batch and after each, and after each
  /// validation.
  virtual bool wants_stop() const { return false; }

  /// Whether it is called after all that do not say so: what writes down the others' state does.
  virtual bool comes_last() const { return false; }

  /// @{
  /// What a checkpoint keeps of the callback, under this name; none if the name is empty.
  /// `settings` are those that a run may only go on with. `save` adds texts and tensors whose names
  /// begin with `prefix`. `restore` reads them, throws std::invalid_argument if one does not fit,
  /// and returns what puts them in force: nothing changes before all of a checkpoint has been read.
  virtual std::string_view name() const { return {}; }
  virtual Settings settings() const { return {}; }
  virtual void save(TensorFile&, const std::string&) const {}
  virtual std::function<void()> restore(const TensorFile&, const std::string&) {
    return [] {};
  }
  /// @}
};

}  // namespace plastic
