#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "definitions.hpp"
#include "results.hpp"
#include "runner.hpp"

namespace experiments {

/// Runs to choose from those of an experiment: those with one of the rules, one of the cells, and
/// for each name among `only`, one of its values. An empty list takes all.
struct Filters {
  std::vector<std::string> rules, cells;
  std::vector<std::string> only;  ///< KEY=VALUE, with a setting's name
  std::vector<std::string> runs;  ///< names of folders
};

/// What a command changes in an experiment's own settings; 0 and "" change nothing.
struct Changes {
  int seeds = 4;
  Index batches = 0;
  Index hidden = 0;
  Index validate_every = 0;
  std::string data;
};

/// The runs of an experiment, in the folder `out`. All settings with one seed come before the next
/// seed, so that runs that are stopped early have seen every setting. Throws std::invalid_argument,
/// which lists what there is, where a filter chooses nothing.
std::vector<PlannedRun> plan(const Experiment& experiment, const Changes& changes,
                             const Filters& filters, const std::filesystem::path& out);

/// Adds runs to the list OUT/NAME/experiment.json, which a report reads. Runs of an older list stay
/// in it where only their seeds or what filters choose from are not among the new ones.
void write_list(const Experiment& experiment, const Changes& changes,
                const std::vector<PlannedRun>& runs, const std::filesystem::path& out);

/// The runs of that list that the filters choose. Throws as `plan` does, and std::runtime_error
/// naming a list that is missing or damaged.
std::vector<ListedRun> read_list(const Experiment& experiment, const Filters& filters,
                                 const std::filesystem::path& out);

}  // namespace experiments
