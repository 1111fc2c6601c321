#pragma once

#include <atomic>
#include <csignal>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include "../folder_lock.hpp"
#include "plastic/io/safetensors.hpp"
#include "plastic/train/callback.hpp"

namespace experiments {

/// What `run` says when SIGTERM has ended it.
inline constexpr const char* stopped_text = "stopped by SIGTERM; the same command goes on";

/// A run has ended before its time, because this process was told to; its checkpoint is written.
class Stopped : public std::runtime_error {
 public:
  Stopped() : std::runtime_error(stopped_text) {}
};

/// Set by SIGTERM while a StopSignal lives.
inline std::atomic<bool> stop_requested = false;

/// Lets SIGTERM end runs after the batch that they are at. Slurm may send several.
class StopSignal {
 public:
  StopSignal() {
    struct ::sigaction action {};
    action.sa_handler = [](int) { stop_requested = true; };
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGTERM, &action, &old_);
    if (old_.sa_handler == SIG_IGN) ::sigaction(SIGTERM, &old_, nullptr);
  }
  ~StopSignal() { ::sigaction(SIGTERM, &old_, nullptr); }
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

 private:
  struct ::sigaction old_ {};
};

/// Ends a run before it writes into a folder that another process has taken.
class StopWhenLost : public plastic::TrainingCallback {
 public:
  explicit StopWhenLost(FolderLock* lock) : lock_(lock) {}
  void on_batch(const plastic::Progress&) override {
    if (lock_ != nullptr && lock_->lost()) lock_->check();
  }
  void on_validation(const plastic::Progress&) override { check(); }
  /// Throws FolderLost.
  void check() {
    if (lock_ != nullptr) lock_->check();
  }

 private:
  FolderLock* lock_;  // nullptr: this process works in no folder
};

/// Ends a run after SIGTERM: it writes the state of the run, which needs no validation, so that the
/// run goes on with the bits of one that nothing has stopped.
class StopOnSignal : public plastic::TrainingCallback {
 public:
  StopOnSignal(std::filesystem::path checkpoint, StopWhenLost& lost)
      : checkpoint_(std::move(checkpoint)), lost_(lost) {}
  void on_begin(plastic::ResumableRun& run) override { run_ = &run; }
  void on_batch(const plastic::Progress&) override {
    if (!stop_requested) return;
    lost_.check();
    plastic::write_safetensors(checkpoint_, run_->state());
    throw Stopped();
  }
  bool comes_last() const override { return true; }

 private:
  std::filesystem::path checkpoint_;
  StopWhenLost& lost_;
  plastic::ResumableRun* run_ = nullptr;
};

}  // namespace experiments
