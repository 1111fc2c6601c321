#pragma once

#include <filesystem>
#include <ostream>
#include <vector>

#include "plastic/core/communicator.hpp"
#include "settings.hpp"

namespace experiments {

struct PlannedRun {
  RunSettings settings;
  std::filesystem::path folder;
};

struct Outcome {
  int failed = 0;
  int busy = 0;  ///< left to another process that was at work on them
};

/// Does all runs that are not finished, `jobs` at a time (0: one per processor), and shows on
/// `stream` how they proceed: one line that is drawn again on a terminal, else plain lines. A run
/// that fails does not stop the others.
///
/// Several ranks do one run at a time, all together, and all call this; `stream` is that of the
/// first. A run that has no finite loss does not stop the others there; what else one rank throws
/// leaves this function, and must end all ranks.
Outcome do_runs(const std::vector<PlannedRun>& runs, int jobs, std::ostream& stream, bool terminal,
                plastic::Communicator* ranks = nullptr);

}  // namespace experiments
