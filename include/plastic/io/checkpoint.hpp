#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "plastic/io/model_file.hpp"
#include "plastic/train/keep_best.hpp"

namespace plastic {

/// Writes, at every validation, all that a run needs to go on from there: parameters, optimizer
/// state, the best parameters so far and the number of batches done.
///
/// Put it last among the callbacks, so that what the others have written is complete when the
/// checkpoint says so. The file is replaced whole (write_file_atomically): a process may be killed
/// at any moment. A run that goes on from a checkpoint, on the same machine and with the same
/// TrainerOptions::shard, has the bits of one that was never cut off, unless it was ended by
/// Trainer::run's `stop`: that adds a validation, and so a candidate for the best. A file that
/// cannot be written ends the run with what write_safetensors throws.
///
///     Checkpoint checkpoint("run/checkpoint.safetensors", cell, optimizer, keep);
///     Index first = checkpoint.exists() ? checkpoint.resume() : 0;
///     if (first > 0) log.resume(first);
///     trainer.run(callbacks, first);
template <class Cell, class Optimizer>
class Checkpoint : public TrainingCallback {
  using Scalar = typename Cell::ScalarType;

 public:
  /// Touches no file. `cell`, `optimizer` and `keep` must outlive the object.
  Checkpoint(std::filesystem::path path, Cell& cell, Optimizer& optimizer, KeepBest<Scalar>& keep)
      : path_(std::move(path)), cell_(&cell), optimizer_(&optimizer), keep_(&keep) {}

  bool exists() const { return std::filesystem::exists(path_); }  ///< whether there is the file

  /// Brings cell, optimizer and `keep` to where the file says, and returns the number of batches
  /// done. Throws std::runtime_error if the file cannot be read, and std::invalid_argument if it is
  /// not a checkpoint, or one of a cell or optimizer with other settings; then it changes nothing.
  Index resume() {
    const TensorFile file = read_safetensors(path_);
    const Cell saved = from_file<Cell>(file);
    detail::check_settings("Checkpoint::resume", path_, file.metadata,
                           to_settings(cell_->options()));
    const Parameters<Scalar>& parameters = cell_->parameters();
    std::vector<Vector<Scalar>> moments;
    for (const std::string_view name : optimizer_->moment_names()) {
      moments.push_back(read_tensors(file, "optimizer." + std::string(name), parameters));
    }
    const auto of_optimizer = [](const auto& entry) {
      return entry.first.starts_with("optimizer.");
    };
    const auto expected = static_cast<std::ptrdiff_t>(moments.size() * parameters.blocks().size());
    if (std::ranges::count_if(file.tensors, of_optimizer) != expected) {
      detail::reject("Checkpoint::resume", "the optimizer of " + path_.string(), "the same",
                     "another");
    }
    const auto steps = detail::number_setting<Index>(file.metadata, "optimizer_steps");
    const auto batch = detail::number_setting<Index>(file.metadata, "batches_done");
    const auto best_batch = detail::number_setting<Index>(file.metadata, "best_batch");
    const auto best_loss = detail::number_setting<double>(file.metadata, "best_loss");
    Vector<Scalar> best;
    if (best_batch > 0) best = read_tensors(file, "best", parameters);
    optimizer_->restore(steps, moments);
    if (best_batch > 0) keep_->resume({best}, best_loss, best_batch);
    cell_->parameters().values() = saved.parameters().values();
    return batch;
  }

  void on_validation(const Progress& progress) override {
    using detail::number_text;
    TensorFile file = to_file(*cell_);
    file.metadata["batches_done"] = number_text(progress.batch);
    file.metadata["optimizer_steps"] = number_text(optimizer_->steps());
    file.metadata["best_batch"] = number_text(keep_->batch());
    file.metadata["best_loss"] = number_text(keep_->loss());
    const Parameters<Scalar>& parameters = cell_->parameters();
    const auto names = optimizer_->moment_names();
    for (std::size_t k = 0; k < names.size(); ++k) {
      add_tensors(file, "optimizer." + std::string(names[k]), parameters, optimizer_->moments()[k]);
    }
    if (keep_->found()) add_tensors(file, "best", parameters, keep_->best().front());
    write_safetensors(path_, file);
  }

 private:
  std::filesystem::path path_;
  Cell* cell_;
  Optimizer* optimizer_;
  KeepBest<Scalar>* keep_;
};

}  // namespace plastic
