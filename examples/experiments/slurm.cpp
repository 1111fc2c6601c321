#include "slurm.hpp"

#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "plastic/core/atomic_file.hpp"

namespace experiments {
namespace {

namespace fs = std::filesystem;

struct Answer {
  int status = 0;
  std::string text;

  std::string line() const { return text.substr(0, text.find('\n')); }
};

// What a command prints, with its errors.
Answer ask(const std::string& command) {
  std::FILE* const pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot start " + command);
  Answer answer;
  std::array<char, 4096> part{};
  while (const std::size_t size = std::fread(part.data(), 1, part.size(), pipe)) {
    answer.text.append(part.data(), size);
  }
  const int status = ::pclose(pipe);
  answer.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  while (answer.text.ends_with('\n')) answer.text.pop_back();
  return answer;
}

// A word of a shell.
std::string quoted(const std::string& text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_-+=./,:@").find(c) != std::string_view::npos;
  });
  if (plain) return text;
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

void check_line(const std::string& what, const std::string& text, const char* forbidden) {
  const std::size_t at = text.find_first_of(forbidden);
  if (at == std::string::npos) return;
  throw std::invalid_argument("submit: " + what + " must be without " +
                              (text[at] == '\n' ? "line ends" : std::string(1, text[at])) +
                              ", got " + text);
}

// NAME-TIME-RANDOM; the time is that of sending, so that names are in order.
std::string job_name(const std::string& experiment) {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  std::array<char, 32> time{}, random{};
  std::strftime(time.data(), time.size(), "%Y%m%dT%H%M%S", &utc);
  std::snprintf(random.data(), random.size(), "%04x", std::random_device()() & 0xffffU);
  return experiment + "-" + time.data() + "-" + random.data();
}

// When the job of this name was sent.
std::string time_of(const std::string& name) {
  return name.size() < 20 ? name : name.substr(name.size() - 20);
}

constexpr const char* runs_begin = "runs=(";
constexpr const char* runs_end = ")";

// The runs of a script that `make_job` has written.
std::vector<std::string> runs_of(const fs::path& script) {
  std::ifstream file(script);
  std::vector<std::string> runs;
  std::string line;
  while (std::getline(file, line) && line != runs_begin) {
  }
  while (std::getline(file, line) && line != runs_end) runs.push_back(line);
  return runs;
}

// The tasks of this user's jobs, by the name of the job and the number of the task.
std::map<std::pair<std::string, std::string>, QueuedTask> read_queue() {
  const Answer answer = ask("squeue --me --noheader --array --format='%F|%K|%T|%N|%r|%j'");
  if (answer.status != 0) throw std::runtime_error("Slurm does not answer: " + answer.line());
  std::map<std::pair<std::string, std::string>, QueuedTask> queue;
  std::istringstream lines(answer.text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string job, task, name;
    QueuedTask queued;
    std::getline(fields, job, '|');
    std::getline(fields, task, '|');
    std::getline(fields, queued.state, '|');
    std::getline(fields, queued.node, '|');
    std::getline(fields, queued.reason, '|');
    std::getline(fields, name);
    queued.task = job + "_" + task;
    queue[{name, task}] = queued;
  }
  return queue;
}

}  // namespace

bool has_slurm() { return ask("command -v squeue").status == 0; }

Jobs read_jobs(const fs::path& out) {
  const fs::path folder = out / "slurm";
  std::vector<std::string> names;
  if (fs::exists(folder)) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() == ".sh") names.push_back(entry.path().stem());
    }
  }
  Jobs jobs;
  if (names.empty()) return jobs;
  std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
    return std::pair(time_of(a), a) < std::pair(time_of(b), b);
  });
  decltype(read_queue()) queue;
  try {
    if (has_slurm()) queue = read_queue();
  } catch (const std::runtime_error& error) {
    jobs.fault = error.what();
  }
  for (const std::string& name : names) {
    const std::vector<std::string> runs = runs_of(folder / (name + ".sh"));
    for (std::size_t k = 0; k < runs.size(); ++k) {
      const std::string task = std::to_string(k);
      jobs.logs[runs[k]] = folder / (name + "-" + task + ".log");
      if (const auto at = queue.find({name, task}); at != queue.end()) {
        jobs.queued[runs[k]] = at->second;
      }
    }
  }
  return jobs;
}

ArrayJob make_job(const std::string& experiment, const std::vector<std::string>& runs,
                  const std::vector<std::string>& command, int cpus, const std::string& sbatch,
                  const fs::path& out) {
  ArrayJob job{.name = job_name(experiment), .script = {}};
  const std::string here = fs::current_path(), logs = fs::absolute(out) / "slurm" / job.name;
  check_line("the working folder", here, "\n\"");
  check_line("--out", logs, "\n\"%\\");
  check_line("--sbatch", sbatch, "\n");
  std::ostringstream script;
  script << "#!/bin/bash\n"
         << "#SBATCH --job-name=" << job.name << "\n"
         << "#SBATCH --array=0-" << runs.size() - 1 << "\n"
         << "#SBATCH --cpus-per-task=" << cpus << "\n"
         << "#SBATCH --chdir=\"" << here << "\"\n"
         << "#SBATCH --output=\"" << logs << "-%a.log\"\n"
         << "#SBATCH --open-mode=append\n"
         << "#SBATCH --requeue\n"
         << "#SBATCH --signal=B:TERM@120\n";
  if (!sbatch.empty()) script << "#SBATCH " << sbatch << "\n";
  script << "\n" << runs_begin << "\n";
  for (const std::string& run : runs) script << run << "\n";
  script << runs_end << "\n\nexport OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}\n";
  for (const std::string& word : command) script << quoted(word) << " ";
  script << R"(--run "${runs[SLURM_ARRAY_TASK_ID]}" &
program=$!

# SIGTERM comes before the time is over, and when the node is wanted: the run then writes its
# checkpoint, and this task goes back into the queue unless Slurm has already put it there, or the
# user has cancelled it.
trap 'kill -TERM "$program" 2>/dev/null' TERM
wait "$program"
status=$?
while kill -0 "$program" 2>/dev/null; do
  wait "$program"
  status=$?
done
task=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
if ((status == 143)) && [[ $(squeue --noheader --jobs="$task" --format=%T) == RUNNING ]]; then
  exec scontrol requeue "$task"
fi
exit "$status"
)";
  job.script = script.str();
  return job;
}

std::string submit_job(const ArrayJob& job, const fs::path& out) {
  // The script is there before the job: it says which task has which run.
  const fs::path script = out / "slurm" / (job.name + ".sh");
  plastic::write_file_atomically(script, job.script);
  const Answer answer = ask("sbatch --parsable " + quoted(script));
  if (answer.status != 0) {
    fs::remove(script);
    throw std::runtime_error(answer.line());
  }
  return answer.text.substr(0, answer.text.find(';'));
}

std::string last_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line, last;
  while (std::getline(file, line)) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) last = line;
  }
  return last;
}

}  // namespace experiments
