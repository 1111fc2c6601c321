#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "plot.hpp"
#include "results.hpp"

namespace experiments {

/// Learning curves, the error against what is varied, and eta(t), as far as the results allow them:
/// "learning_curves", "error" (of networks that do not act), "eta". Every panel says of how many
/// runs it is.
std::vector<Drawing> figures_of(const Results& results);

/// One episode at work for each cell and rule with fast weights. The scripts read the episode from
/// its run's folder, and are to lie in `folder`.
std::vector<Drawing> episodes_of(const Results& results, const std::filesystem::path& folder);

/// Whether the results are of networks of many rules, each with options of its own.
bool is_of_networks(const Results& results);

/// Whether the networks act, for rewards.
bool of_acting(const Results& results);

/// What the error of the queries is, by the task.
std::string query_measure(const Results& results);

/// A network as readers know it: "modulated, LSTM", "fast weights (activation=tanh)".
std::string network_name(const Results& results, const Variant& variant);

/// The varied settings that are not the series, as readers know them: "LSTM, delay 20".
std::string panel_title(const Results& results, const Variant& variant);

}  // namespace experiments
