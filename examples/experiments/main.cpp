// The experiments of the paper by name: runs them, and reports on them.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "../command_line.hpp"
#include "../folder_lock.hpp"
#include "../ranks.hpp"
#include "definitions.hpp"
#include "docs_report.hpp"
#include "report.hpp"
#include "run.hpp"
#include "runner.hpp"
#include "selection.hpp"
#include "slurm.hpp"
#include "status.hpp"
#include "stop.hpp"

namespace {

namespace fs = std::filesystem;
using namespace experiments;

struct Options {
  std::string name;
  fs::path out = "experiments_out";
  Changes changes;
  Filters filters;
  int dead_after_seconds = static_cast<int>(FolderLock::default_dead_after.count());
  int jobs = 0;
  int cpus = 1;
  std::string sbatch;
  bool print = false;
  std::string docs;  // empty: the report of an experiment

  std::chrono::seconds dead_after() const { return std::chrono::seconds(dead_after_seconds); }
};

void list() {
  for (const Experiment& experiment : all_experiments()) {
    std::cout << std::left << std::setw(36) << experiment.name << std::right << std::setw(3)
              << experiment.variants.size() << " settings   " << experiment.title << "\n";
  }
}

// Puts the runs on the list that `report` and `status` read.
void list_runs(const Experiment& experiment, const std::vector<PlannedRun>& runs,
               const Options& options) {
  const fs::path folder = options.out / experiment.name;
  fs::create_directories(folder);
  const FolderLock lock(folder, FolderLock::Busy::wait, options.dead_after());
  write_list(experiment, options.changes, runs, options.out);
}

int run(const Options& options, plastic::Communicator* ranks) {
  const Experiment& experiment = find_experiment(options.name);
  const std::vector<PlannedRun> runs =
      plan(experiment, options.changes, options.filters, options.out);
  const bool writes = plastic::detail::leads(ranks);
  std::ostream nowhere(nullptr);
  if (writes) list_runs(experiment, runs, options);
  const Outcome outcome =
      do_runs(runs, options.jobs, writes ? std::cout : nowhere,
              writes && ::isatty(STDOUT_FILENO) != 0, ranks, options.dead_after());
  if (!writes) return 0;
  if (outcome.failed > 0) {
    std::cerr << "experiments: " << outcome.failed << " of " << runs.size() << " runs failed\n";
  }
  if (outcome.stopped) {
    std::cerr << "experiments: " << stopped_text << "\n";
    return 128 + SIGTERM;
  }
  if (outcome.failed > 0) return 1;
  std::cout << "All runs have finished. Next: experiments report " << experiment.name << " --out "
            << options.out << "\n";
  return 0;
}

// The command that does the runs of a task, without the filters.
std::vector<std::string> command_of(const Options& options) {
  std::vector<std::string> words{fs::read_symlink("/proc/self/exe"),
                                 "run",
                                 options.name,
                                 "--out",
                                 options.out,
                                 "--seeds",
                                 std::to_string(options.changes.seeds),
                                 "--dead-after",
                                 std::to_string(options.dead_after_seconds)};
  const auto add = [&](const char* option, Index value) {
    if (value > 0) words.insert(words.end(), {option, std::to_string(value)});
  };
  add("--batches", options.changes.batches);
  add("--hidden", options.changes.hidden);
  add("--validate-every", options.changes.validate_every);
  if (!options.changes.data.empty()) {
    words.insert(words.end(), {"--data", options.changes.data});
  }
  return words;
}

int submit(const Options& options) {
  const Experiment& experiment = find_experiment(options.name);
  const std::vector<PlannedRun> runs =
      plan(experiment, options.changes, options.filters, options.out);
  if (!options.print && !has_slurm()) {
    throw std::runtime_error(
        "Slurm is not installed here; --print shows the job that it would get");
  }
  const fs::path folder = options.out / "slurm";
  std::optional<FolderLock> lock;
  if (!options.print) {
    list_runs(experiment, runs, options);
    fs::create_directories(folder);
    lock.emplace(folder, FolderLock::Busy::wait, options.dead_after());
  }
  const Jobs jobs = read_jobs(options.out);
  if (!jobs.fault.empty() && !options.print) throw std::runtime_error(jobs.fault);
  std::vector<std::string> open;
  std::size_t finished = 0, queued = 0, held = 0;
  for (const PlannedRun& run : runs) {
    const std::string name = run.folder.filename();
    const auto holder = FolderLock::holder(run.folder, options.dead_after());
    if (is_finished(run.folder)) {
      ++finished;
    } else if (jobs.queued.contains(name)) {
      ++queued;
    } else if (holder && holder->alive) {
      ++held;
    } else {
      open.push_back(name);
    }
  }
  std::ostream& says = options.print ? std::cerr : std::cout;
  says << runs.size() << " runs: " << finished << " finished, " << queued << " in Slurm's queue, "
       << held << " at work without it\n";
  if (open.empty()) {
    says << "There is nothing to submit.\n";
    return 0;
  }
  const ArrayJob job = make_job(experiment.name, open, command_of(options), options.cpus,
                                options.sbatch, options.out);
  if (options.print) {
    std::cout << job.script;
    return 0;
  }
  const std::string number = submit_job(job, options.out);
  std::cout << "Submitted job " << number << " with " << open.size()
            << " tasks. Next: experiments status " << experiment.name << " --out " << options.out
            << "\n";
  return 0;
}

int status(const Options& options) {
  const std::vector<ListedRun> runs =
      read_list(find_experiment(options.name), options.filters, options.out);
  const Jobs jobs = read_jobs(options.out);
  std::size_t width = 0;
  std::map<RunStatus::Kind, int> counts;
  for (const ListedRun& run : runs) width = std::max(width, run.folder.filename().string().size());
  for (const ListedRun& run : runs) {
    const RunStatus status = status_of(run, jobs, options.dead_after());
    ++counts[status.kind];
    std::cout << std::left << std::setw(static_cast<int>(width)) << run.folder.filename().string()
              << "  " << status.text << "\n";
  }
  using Kind = RunStatus::Kind;
  std::cout << runs.size() << " runs: " << counts[Kind::finished] << " finished, "
            << counts[Kind::running] << " running, " << counts[Kind::waiting] << " waiting, "
            << counts[Kind::failed] << " failed\n";
  if (!jobs.fault.empty()) std::cout << jobs.fault << "; its queue is not in this list\n";
  return 0;
}

int report(const Options& options) {
  if (!options.docs.empty()) {
    const fs::path docs = options.docs;
    write_docs(docs);
    std::cout << "Page:    " << (docs / "results.md").string()
              << "\nFigures: " << (docs / "results" / "figures").string() << "\n";
    return 0;
  }
  const fs::path folder = options.out / find_experiment(options.name).name;
  std::optional<FolderLock> lock;
  if (fs::exists(folder)) lock.emplace(folder, FolderLock::Busy::wait, options.dead_after());
  std::cout << write_report(folder) << "\nReport:  " << (folder / "report.html").string()
            << "\nTables:  " << (folder / "results.md").string() << " "
            << (folder / "results.csv").string() << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app(
      "The experiments of Duan et al., ICLR 2023, with their ablations, and others.\n\n"
      "  experiments list                         names them\n"
      "  experiments run cuereward_demo           trains all its networks, several at a time\n"
      "  experiments submit cuereward_demo        gives them to Slurm, one task each\n"
      "  experiments status cuereward_demo        says how each of them stands\n"
      "  experiments report cuereward_demo        makes tables, figures and report.html\n"
      "  experiments report --docs                makes docs/results.md from docs/results/data\n\n"
      "Every run has a folder in OUT/runs. A run that was stopped or killed continues where it\n"
      "was and ends with the same bits. Finished runs are not repeated, even if another\n"
      "experiment has done them. A run with a changed setting is a new run. Several processes,\n"
      "also on several machines, may share a folder: each run is trained by one of them.\n\n"
      "Started by mpirun, all of its processes train one network after the other together.");
  app.require_subcommand(1);
  app.add_subcommand("list", "names the experiments and how many settings each has");
  CLI::App* run_command = app.add_subcommand("run", "trains what has not been trained yet");
  CLI::App* submit_command =
      app.add_subcommand("submit", "gives what has not been trained yet to Slurm, in one job");
  CLI::App* status_command = app.add_subcommand(
      "status", "shows which runs wait, are at work, where, have failed, why, or have finished");
  CLI::App* report_command =
      app.add_subcommand("report", "makes tables and figures of the runs that have finished");
  for (CLI::App* command : {run_command, submit_command, status_command, report_command}) {
    command->add_option("NAME", options.name, "an experiment that `experiments list` names")
        ->required(command != report_command)
        ->type_name("");
    command->add_option("--out", options.out, "folder for all runs and reports")
        ->type_name("FOLDER")
        ->check([](const std::string& text) {
          return text.empty() ? std::string("must be the name of a folder, got an empty one")
                              : std::string();
        })
        ->capture_default_str();
    examples::takes_number(
        command->add_option("--dead-after", options.dead_after_seconds,
                            "seconds after which a process that was not heard of is dead; the\n"
                            "same for all that share the folder"),
        60, 86'400)
        ->capture_default_str();
  }
  for (CLI::App* command : {run_command, submit_command, status_command}) {
    command->add_option("--rules", options.filters.rules, "only settings with these rules")
        ->type_name("RULE ...");
    command->add_option("--cells", options.filters.cells, "only settings with these cells")
        ->type_name("CELL ...");
    command
        ->add_option("--only", options.filters.only,
                     "only runs that have this setting, by its name in settings.json, such as\n"
                     "delay=20 or seed=0; several names narrow the choice, several values of a\n"
                     "name widen it")
        ->type_name("KEY=VALUE ...");
    command->add_option("--run", options.filters.runs, "only runs whose folders have these names")
        ->type_name("FOLDER ...");
  }
  for (CLI::App* command : {run_command, submit_command}) {
    Changes& changes = options.changes;
    examples::takes_number(command->add_option("--seeds", changes.seeds, "runs of every setting"),
                           1, 1'000'000)
        ->capture_default_str();
    examples::takes_number(
        command->add_option("--batches", changes.batches,
                            "number of training batches, instead of the experiment's own"),
        1, 1'000'000'000);
    examples::takes_number(
        command->add_option(
            "--hidden", changes.hidden,
            "hidden units, instead of 128 (maze: 100, target_discovery: 200); networks that have\n"
            "more or fewer because of their rule or cell keep their proportion to it"),
        1, 100'000);
    examples::takes_number(
        command->add_option("--validate-every", changes.validate_every,
                            "batches between validations and checkpoints, instead of the\n"
                            "experiment's own"),
        1, 1'000'000'000);
    command
        ->add_option("--data", changes.data,
                     "images for fsc and fsc_resnet: a folder as one_shot_images takes it\n"
                     "(default: glyphs)")
        ->type_name("FOLDER");
  }
  report_command->add_flag(
      "--docs{docs}", options.docs,
      "makes the page of results in this folder (--docs=FOLDER; default: docs) from the\n"
      "finished runs in its results/data, instead of a report");
  report_command->callback([&] {
    if (options.name.empty() == options.docs.empty()) {
      throw CLI::ValidationError("report", "takes either NAME or --docs");
    }
  });
  examples::takes_number(
      run_command->add_option("--jobs", options.jobs, "runs at a time; 0: one per processor"), 0,
      4096)
      ->capture_default_str();
  examples::takes_number(
      submit_command->add_option("--cpus", options.cpus, "processors, and threads, of each task"),
      1, 4096)
      ->capture_default_str();
  submit_command
      ->add_option("--sbatch", options.sbatch,
                   "more options of the command sbatch, as \"--partition=long --time=8:00:00\"")
      ->type_name("OPTIONS");
  submit_command->add_flag("--print", options.print,
                           "print the job instead of submitting it; write nothing");
  examples::say_in_one_line(app, "experiments");
  CLI11_PARSE(app, argc, argv);
  return examples::on_all_ranks("experiments", [&](plastic::Communicator* ranks) {
    int code = 0;
    if (run_command->parsed()) {
      code = run(options, ranks);
    } else if (!plastic::detail::leads(ranks)) {
      return 0;
    } else if (submit_command->parsed()) {
      code = submit(options);
    } else if (status_command->parsed()) {
      code = status(options);
    } else if (report_command->parsed()) {
      code = report(options);
    } else {
      list();
    }
    if (!std::cout.flush()) throw std::runtime_error("cannot write to standard output");
    return code;
  });
}
