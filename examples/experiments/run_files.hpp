#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "csv.hpp"
#include "plastic/cells/model_options.hpp"
#include "plastic/train/evaluation.hpp"
#include "settings.hpp"

// What runs on tasks and runs of networks that act have in common.
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

}  // namespace experiments
