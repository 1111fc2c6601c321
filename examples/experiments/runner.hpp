#pragma once

#include <chrono>
#include <filesystem>
#include <ostream>
#include <vector>

#include "../folder_lock.hpp"
#include "plastic/core/communicator.hpp"
#include "settings.hpp"

namespace experiments {

struct PlannedRun {
  RunSettings settings;
  std::filesystem::path folder;
};

struct Outcome {
  int failed = 0;
  bool stopped = false;  ///< by SIGTERM: some runs are not finished
};

/// Does all runs that are not finished, `jobs` at a time (0: one per processor), and shows on
/// `stream` how they proceed: one line that is drawn again on a terminal, else plain lines. A run
/// that fails does not stop the others.
///
/// Where another process has a run, it is asked for again and again after all others, until that
/// process has finished it, or has given it back or is dead: then this one goes on with it.
///
/// Several ranks do one run at a time, all together, and all call this; `stream` is that of the
/// first. A run that has no finite loss does not stop the others there; what else one rank throws
/// leaves this function, and must end all ranks.
Outcome do_runs(const std::vector<PlannedRun>& runs, int jobs, std::ostream& stream, bool terminal,
                plastic::Communicator* ranks = nullptr,
                std::chrono::seconds dead_after = FolderLock::default_dead_after);

}  // namespace experiments
