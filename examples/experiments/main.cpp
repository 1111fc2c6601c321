// The experiments of the paper by name: runs them, and reports on them.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "../command_line.hpp"
#include "../folder_lock.hpp"
#include "../ranks.hpp"
#include "definitions.hpp"
#include "plastic/core/atomic_file.hpp"
#include "report.hpp"
#include "results.hpp"
#include "runner.hpp"

namespace {

namespace fs = std::filesystem;
using namespace experiments;

struct Options {
  std::string name;
  fs::path out = "experiments_out";
  int seeds = 4;
  int jobs = 0;
  Index batches = 0;
  Index hidden = 0;
  Index validate_every = 0;
  std::vector<std::string> cells;
  std::string data;
};

void list() {
  for (const Experiment& experiment : all_experiments()) {
    std::cout << std::left << std::setw(36) << experiment.name << std::right << std::setw(3)
              << experiment.variants.size() << " settings   " << experiment.title << "\n";
  }
}

// The variant with what the options change in it, except the seed.
RunSettings adjusted(RunSettings settings, const Options& options) {
  if (options.batches > 0) settings.batches = options.batches;
  if (options.hidden > 0) {
    settings.hidden = std::max<Index>(1, settings.hidden * options.hidden / RunSettings().hidden);
  }
  if (options.validate_every > 0) settings.validate_every = options.validate_every;
  if (!options.data.empty()) {
    if (settings.task != "one_shot_images") {
      throw std::invalid_argument("--data: the experiment " + options.name + " has no images");
    }
    settings.data = options.data;
  }
  return settings;
}

std::vector<PlannedRun> plan(const Experiment& experiment, const Options& options) {
  std::vector<PlannedRun> runs;
  // All settings with one seed come before the next seed, so that a run that is stopped early has
  // seen every setting.
  for (int seed = 0; seed < options.seeds; ++seed) {
    for (const RunSettings& variant : experiment.variants) {
      if (!options.cells.empty() && std::find(options.cells.begin(), options.cells.end(),
                                              variant.cell) == options.cells.end()) {
        continue;
      }
      RunSettings settings = adjusted(variant, options);
      settings.seed = static_cast<std::uint64_t>(seed);
      runs.push_back({settings, options.out / "runs" / folder_name(settings)});
    }
  }
  if (runs.empty()) throw std::invalid_argument("this experiment has no setting with that cell");
  return runs;
}

// The list of runs that a report reads. Runs of an older list stay in it where only their seeds or
// cells are not among the new ones.
void write_list(const Experiment& experiment, const std::vector<PlannedRun>& runs,
                const Options& options, const fs::path& path) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const PlannedRun& run : runs) {
    list.push_back({{"folder", "../runs/" + run.folder.filename().string()},
                    {"settings", to_json(run.settings)}});
  }
  std::ifstream file(path);
  const auto old = nlohmann::ordered_json::parse(file, nullptr, false);
  if (file.is_open() && !is_experiment(old))
    throw std::runtime_error(path.string() + " is damaged");
  if (file.is_open()) {
    const auto without_seed = [](nlohmann::ordered_json settings) {
      settings.erase("seed");
      return settings;
    };
    for (const auto& run : old.at("runs")) {
      const bool kept = std::any_of(experiment.variants.begin(), experiment.variants.end(),
                                    [&](const RunSettings& variant) {
                                      return without_seed(to_json(adjusted(variant, options))) ==
                                             without_seed(run.at("settings"));
                                    });
      if (kept && std::find(list.begin(), list.end(), run) == list.end()) list.push_back(run);
    }
  }
  const nlohmann::ordered_json json = {
      {"name", experiment.name}, {"title", experiment.title}, {"runs", list}};
  plastic::write_file_atomically(path, json.dump(2) + "\n");
}

int run(const Options& options, plastic::Communicator* ranks) {
  const Experiment& experiment = find_experiment(options.name);
  const std::vector<PlannedRun> runs = plan(experiment, options);
  const fs::path folder = options.out / experiment.name;
  const bool writes = plastic::detail::leads(ranks);
  std::ostream nowhere(nullptr);
  if (writes) {
    fs::create_directories(folder);
    const FolderLock lock(folder, FolderLock::Busy::wait);
    write_list(experiment, runs, options, folder / "experiment.json");
  }
  const Outcome outcome = do_runs(runs, options.jobs, writes ? std::cout : nowhere,
                                  writes && ::isatty(STDOUT_FILENO) != 0, ranks);
  if (!writes) return 0;
  if (outcome.failed > 0) {
    std::cerr << "experiments: " << outcome.failed << " of " << runs.size() << " runs failed\n";
    return 1;
  }
  if (outcome.busy > 0) {
    std::cerr << "experiments: " << outcome.busy << " of " << runs.size()
              << " runs are being trained by other processes; all others have finished\n";
    return 1;
  }
  std::cout << "All runs have finished. Next: experiments report " << experiment.name << " --out "
            << options.out << "\n";
  return 0;
}

int report(const Options& options) {
  const fs::path folder = options.out / find_experiment(options.name).name;
  std::optional<FolderLock> lock;
  if (fs::exists(folder)) lock.emplace(folder, FolderLock::Busy::wait);
  std::cout << write_report(folder) << "\nReport:  " << (folder / "report.html").string()
            << "\nTables:  " << (folder / "results.md").string() << " "
            << (folder / "results.csv").string() << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app(
      "The experiments of Duan et al., ICLR 2023, with their ablations.\n\n"
      "  experiments list                         names them\n"
      "  experiments run cuereward_demo           trains all its networks, several at a time\n"
      "  experiments report cuereward_demo        makes tables, figures and report.html\n\n"
      "Every run has a folder in OUT/runs. A run that was stopped or killed continues where it\n"
      "was and ends with the same bits. Finished runs are not repeated, even if another\n"
      "experiment has done them. A run with a changed setting is a new run.\n\n"
      "Started by mpirun, all of its processes train one network after the other together.");
  app.require_subcommand(1);
  app.add_subcommand("list", "names the experiments and how many settings each has");
  CLI::App* run_command = app.add_subcommand("run", "trains what has not been trained yet");
  CLI::App* report_command =
      app.add_subcommand("report", "makes tables and figures of the runs that have finished");
  for (CLI::App* command : {run_command, report_command}) {
    command->add_option("NAME", options.name, "an experiment that `experiments list` names")
        ->required()
        ->type_name("");
    command->add_option("--out", options.out, "folder for all runs and reports")
        ->type_name("FOLDER")
        ->check([](const std::string& text) {
          return text.empty() ? std::string("must be the name of a folder, got an empty one")
                              : std::string();
        })
        ->capture_default_str();
  }
  examples::takes_number(run_command->add_option("--seeds", options.seeds, "runs of every setting"),
                         1, 1'000'000)
      ->capture_default_str();
  examples::takes_number(
      run_command->add_option("--jobs", options.jobs, "runs at a time; 0: one per processor"), 0,
      4096)
      ->capture_default_str();
  examples::takes_number(
      run_command->add_option("--batches", options.batches,
                              "number of training batches, instead of the experiment's own"),
      1, 1'000'000'000);
  examples::takes_number(
      run_command->add_option(
          "--hidden", options.hidden,
          "hidden units, instead of 128; networks that have more because of their rule or cell\n"
          "keep their proportion to it"),
      1, 100'000);
  examples::takes_number(
      run_command->add_option("--validate-every", options.validate_every,
                              "batches between validations and checkpoints (default: 200)"),
      1, 1'000'000'000);
  examples::takes_word(run_command->add_option("--cells", options.cells,
                                               "only settings with these cells: rnn, lstm"),
                       {"rnn", "lstm"});
  run_command
      ->add_option(
          "--data", options.data,
          "images for fsc and fsc_resnet: a folder as one_shot_images takes it (default: glyphs)")
      ->type_name("FOLDER");
  examples::say_in_one_line(app, "experiments");
  CLI11_PARSE(app, argc, argv);
  return examples::on_all_ranks("experiments", [&](plastic::Communicator* ranks) {
    if (run_command->parsed()) return run(options, ranks);
    if (!plastic::detail::leads(ranks)) return 0;
    if (report_command->parsed()) return report(options);
    list();
    return 0;
  });
}
