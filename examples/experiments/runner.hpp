#pragma once

#include <filesystem>
#include <ostream>
#include <vector>

#include "settings.hpp"

namespace experiments {

struct PlannedRun {
  RunSettings settings;
  std::filesystem::path folder;
};

/// Does all runs that are not finished, `jobs` at a time, and shows on `stream` how they proceed:
/// one line that is drawn again on a terminal, else plain lines. A run that fails does not stop the
/// others. Returns the number of runs that failed.
int do_runs(const std::vector<PlannedRun>& runs, int jobs, std::ostream& stream, bool terminal);

}  // namespace experiments
