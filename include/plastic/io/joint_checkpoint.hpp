#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "plastic/cells/settings.hpp"
#include "plastic/io/safetensors.hpp"
#include "plastic/optim/joint_adamw.hpp"
#include "plastic/train/keep_best.hpp"

namespace plastic {

/// `Checkpoint` for a run that trains several sets of parameters with JointAdamW: writes, at every
/// validation, the state of model and optimizer, the best state so far and the number of batches
/// done. The same holds: put it last among the callbacks; the file is replaced whole; a run that
/// goes on has the bits of one that was never cut off.
///
/// The file has flat vectors state.K, best.K and optimizer.PART.MOMENT: it is meant for this class
/// alone.
template <class Scalar>
class JointCheckpoint : public TrainingCallback {
 public:
  /// state: all vectors that training changes (`ImageClassifier::state`, `Encoder::state`);
  /// settings: what must be the same for a run to go on. Touches no file. What is pointed to must
  /// outlive the object.
  JointCheckpoint(std::filesystem::path path, Settings settings, std::vector<Vector<Scalar>*> state,
                  JointAdamW<Scalar>& optimizer, KeepBest<Scalar>& keep)
      : path_(std::move(path)),
        settings_(std::move(settings)),
        state_(std::move(state)),
        optimizer_(&optimizer),
        keep_(&keep) {}

  bool exists() const { return std::filesystem::exists(path_); }  ///< whether there is the file

  /// Brings state, optimizer and `keep` to where the file says, and returns the number of batches
  /// done. Throws std::runtime_error if the file cannot be read, and std::invalid_argument if it is
  /// not such a checkpoint, or one with other settings; then it changes nothing.
  Index resume() {
    const TensorFile file = read_safetensors(path_);
    detail::check_settings("JointCheckpoint::resume", path_, file.metadata, settings_);
    const auto read = [&](const std::string& name, Index size) -> Vector<Scalar> {
      const auto values = file.values<Scalar>(name, {size});
      return ConstMatrixMap<Scalar>(values.data(), size, 1);
    };
    const auto read_all = [&](const std::string& name) {
      std::vector<Vector<Scalar>> all;
      for (std::size_t k = 0; k < state_.size(); ++k) {
        all.push_back(read(name + "." + std::to_string(k), state_[k]->size()));
      }
      return all;
    };
    const auto batch = detail::number_setting<Index>(file.metadata, "batches_done");
    const auto steps = detail::number_setting<Index>(file.metadata, "optimizer_steps");
    const auto best_batch = detail::number_setting<Index>(file.metadata, "best_batch");
    const auto best_loss = detail::number_setting<double>(file.metadata, "best_loss");
    std::vector<std::vector<Vector<Scalar>>> moments;
    each_optimizer([&](const std::string& name, AdamW<Scalar>& optimizer) {
      auto& all = moments.emplace_back();
      for (const std::string_view moment : optimizer.moment_names()) {
        all.push_back(read(name + std::string(moment), optimizer.moments().front().size()));
      }
    });
    const std::vector<Vector<Scalar>> state = read_all("state");
    const std::vector<Vector<Scalar>> best =
        best_batch > 0 ? read_all("best") : std::vector<Vector<Scalar>>();
    std::size_t part = 0;
    each_optimizer([&](const std::string&, AdamW<Scalar>& optimizer) {
      optimizer.restore(steps, moments[part++]);
    });
    if (best_batch > 0) keep_->resume(best, best_loss, best_batch);
    for (std::size_t k = 0; k < state_.size(); ++k) *state_[k] = state[k];
    return batch;
  }

  void on_validation(const Progress& progress) override {
    using detail::number_text;
    TensorFile file;
    file.metadata = settings_;
    file.metadata["batches_done"] = number_text(progress.batch);
    file.metadata["optimizer_steps"] = number_text(optimizer_->optimizers().front().steps());
    file.metadata["best_batch"] = number_text(keep_->batch());
    file.metadata["best_loss"] = number_text(keep_->loss());
    const auto add = [&](const std::string& name, const Vector<Scalar>& values) {
      file.tensors[name] = Tensor::from<Scalar>({values.size()}, values.data());
    };
    for (std::size_t k = 0; k < state_.size(); ++k) {
      add("state." + std::to_string(k), *state_[k]);
      if (keep_->found()) add("best." + std::to_string(k), keep_->best()[k]);
    }
    each_optimizer([&](const std::string& name, AdamW<Scalar>& optimizer) {
      for (std::size_t m = 0; m < optimizer.moments().size(); ++m) {
        add(name + std::string(optimizer.moment_names()[m]), optimizer.moments()[m]);
      }
    });
    write_safetensors(path_, file);
  }

 private:
  template <class F>
  void each_optimizer(F&& f) {
    for (std::size_t k = 0; k < optimizer_->optimizers().size(); ++k) {
      f("optimizer." + std::to_string(k) + ".", optimizer_->optimizers()[k]);
    }
  }

  std::filesystem::path path_;
  Settings settings_;
  std::vector<Vector<Scalar>*> state_;
  JointAdamW<Scalar>* optimizer_;
  KeepBest<Scalar>* keep_;
};

}  // namespace plastic
