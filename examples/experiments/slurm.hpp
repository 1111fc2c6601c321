#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace experiments {

/// A task of an array job in Slurm's queue: which it is, its state (PENDING, RUNNING, ...), and
/// where it runs, or why it waits.
struct QueuedTask {
  std::string task, state, node, reason;
};

/// What OUT/slurm, the folder of the jobs that `submit` has sent, and Slurm's queue say of runs, by
/// the names of their folders. A run may have been in several jobs; the last one counts.
struct Jobs {
  std::map<std::string, QueuedTask> queued;           ///< runs that wait or run
  std::map<std::string, std::filesystem::path> logs;  ///< what the run's last task has said
  std::string fault;  ///< why the queue is not known, if Slurm is installed and does not answer
};

/// Whether there are Slurm's commands here.
bool has_slurm();

/// Asks Slurm only where a job has been sent, and Slurm is installed.
Jobs read_jobs(const std::filesystem::path& out);

/// An array job with one task a run.
struct ArrayJob {
  std::string name;
  std::string script;
};

/// The job that does `runs`, names of folders, each by `command` with the option --run. `sbatch`
/// are more options of the command sbatch; the later one of two that disagree counts. Throws
/// std::invalid_argument if a path or an option cannot be written into a script.
ArrayJob make_job(const std::string& experiment, const std::vector<std::string>& runs,
                  const std::vector<std::string>& command, int cpus, const std::string& sbatch,
                  const std::filesystem::path& out);

/// Writes the script into OUT/slurm and submits it; returns the job's number. Throws
/// std::runtime_error with what sbatch says.
std::string submit_job(const ArrayJob& job, const std::filesystem::path& out);

/// The last line that is not empty, or "".
std::string last_line(const std::filesystem::path& file);

}  // namespace experiments
