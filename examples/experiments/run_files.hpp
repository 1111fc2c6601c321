#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "csv.hpp"
#include "plastic/cells/model_options.hpp"
#include "plastic/io/checkpoint.hpp"
#include "plastic/train/csv_log.hpp"
#include "plastic/train/evaluation.hpp"
#include "plastic/train/keep_best.hpp"
#include "settings.hpp"
#include "stop.hpp"

// What runs of all kinds have in common.
namespace experiments {

/// The options of a network of this type. Throws std::invalid_argument on a bad setting.
template <class Cell>
typename Cell::Options make_options(const RunSettings& settings, Index inputs, Index outputs) {
  if constexpr (Cell::is_model) {
    plastic::Settings all = plastic::to_settings(typename Cell::Options{});
    all["inputs"] = std::to_string(inputs);
    all["hidden"] = std::to_string(settings.hidden);
    all["outputs"] = std::to_string(outputs);
    all["seed"] = std::to_string(settings.seed);
    apply_options(settings, all);
    return plastic::detail::options_from<typename Cell::Options>(all);
  } else {
    return make_cell_options(settings, inputs, outputs);
  }
}

/// The learning rate of the fast weights at every step: mean and deviation over the episodes.
inline void write_eta(const plastic::Evaluation& test, const std::filesystem::path& path) {
  Csv csv;
  csv << "step"
      << "mean"
      << "sd";
  csv.end_row();
  const std::vector<double> mean = test.eta_mean(), deviation = test.eta_deviation();
  for (std::size_t t = 0; t < mean.size(); ++t) {
    csv << t << mean[t] << deviation[t];
    csv.end_row();
  }
  csv.write(path);
}

/// Trains from the folder's checkpoint if there is one, writes progress.csv, and leaves the network
/// in the state that validated best, which `write` has then written. `state`: what KeepBest takes.
/// Throws std::runtime_error if no validation loss was finite, Stopped and FolderLost.
template <class Trainer, class State, class Write>
void train_and_keep_best(Trainer& trainer, State&& state, const Write& write,
                         const std::filesystem::path& folder, plastic::TrainingCallback& observer,
                         StopWhenLost& lost, plastic::Communicator* ranks) {
  plastic::KeepBest<float> keep(std::forward<State>(state), write);
  plastic::CsvLog log(folder / "progress.csv");
  plastic::Checkpoint checkpoint(folder / "checkpoint.safetensors");
  StopOnSignal stop(folder / "checkpoint.safetensors", lost);
  trainer.run(lost, keep, log, checkpoint, stop, observer);
  if (!plastic::detail::leads(ranks)) return;
  if (!keep.found()) throw std::runtime_error("no validation loss was finite");
  keep.restore();
  write();
}

}  // namespace experiments
