#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plastic/io/safetensors.hpp"
#include "plastic/train/callback.hpp"

namespace plastic {

/// Settings of a Checkpoint.
struct CheckpointOptions {
  Index every = 0;  ///< batches between two writes; 0: at every validation, and at the end
  std::vector<std::string> allow = {};  ///< settings that may differ when a run resumes
};

/// Saves a run to a file, so that it can resume after it was killed:
///
///     Checkpoint checkpoint("run/checkpoint.safetensors");
///     trainer.run(bar, log, best, checkpoint);   // resumes from the file, if there is one
///
/// The file holds everything that the run's future depends on: parameters, optimizer with the
/// learning rate in force, the state of the other callbacks (best weights, rows of logs, patience)
/// and the number of batches done. It is replaced whole (write_file_atomically): a process may be
/// killed at any moment. A resumed run gives the same bits as one that was never interrupted, on
/// the same machine and with any number of threads; the validation with which a callback ended it
/// early stays.
///
/// A file of a run with other settings (of optimizer, schedule, trainer, network, task, loss or
/// callbacks) is refused with std::invalid_argument, naming the first setting that differs, unless
/// `allow` names it; every name in `allow` must be that of a setting. A learning rate that is
/// allowed to differ takes effect. A file that cannot be read or written ends the run with what
/// read_safetensors and write_safetensors throw.
class Checkpoint : public TrainingCallback {
 public:
  /// Does not touch the file. Throws std::invalid_argument if `every` is negative or the path does
  /// not name a file.
  explicit Checkpoint(std::filesystem::path path, CheckpointOptions options = {})
      : path_(std::move(path)), options_(std::move(options)) {
    if (!path_.has_filename()) {
      detail::reject("Checkpoint", "path", "the name of a file", "\"" + path_.string() + "\"");
    }
    place_ = std::filesystem::absolute(path_);
    detail::check_not_negative("Checkpoint", "every", options_.every);
  }

  bool exists() const { return std::filesystem::exists(place_); }  ///< whether there is the file

  void on_begin(ResumableRun& run) override {
    run_ = &run;
    written_ = -1;
    if (!exists()) return;
    const TensorFile file = read_safetensors(place_);
    try {
      run.resume(file, path_.string(), options_.allow);
    } catch (const std::invalid_argument& error) {
      if (std::string_view(error.what()).find(path_.string()) != std::string_view::npos) throw;
      throw std::invalid_argument("Checkpoint: cannot resume from " + path_.string() + ": " +
                                  error.what());
    }
  }
  void on_batch(const Progress& progress) override {
    if (options_.every > 0 && progress.batch % options_.every == 0) write(progress);
  }
  void on_validation(const Progress& progress) override {
    written_ = -1;
    if (options_.every == 0) write(progress);
  }
  void on_end(const Progress& progress) override {
    if (written_ != progress.batch) write(progress);
    run_ = nullptr;
  }
  bool comes_last() const override { return true; }

 private:
  void write(const Progress& progress) {
    if (run_ == nullptr) {
      detail::reject("Checkpoint", "the run", "one that Trainer::run has begun", "none");
    }
    write_safetensors(place_, run_->state());
    written_ = progress.batch;
  }

  std::filesystem::path path_;   // as given, for messages
  std::filesystem::path place_;  // absolute: the program may change its working directory
  CheckpointOptions options_;
  ResumableRun* run_ = nullptr;
  Index written_ = -1;  // batches done when the file was last written
};

}  // namespace plastic
