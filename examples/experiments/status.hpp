#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "selection.hpp"
#include "slurm.hpp"

namespace experiments {

/// How a run stands.
struct RunStatus {
  enum class Kind { waiting, running, failed, finished };
  Kind kind = Kind::waiting;
  std::string text;  ///< as shown: where it runs, batches done, why it failed
};

/// What the run's folder, the lock on it, and Slurm say. A holder of the folder of which nothing
/// was heard for `dead_after` does not count as at work.
RunStatus status_of(const ListedRun& run, const Jobs& jobs, std::chrono::seconds dead_after);

/// Batches that the checkpoint in a run's folder holds, 0 if there is none. Throws
/// std::runtime_error naming a file that is damaged.
Index batches_done(const std::filesystem::path& folder);

}  // namespace experiments
