// Trains a plastic network on the cue-reward task and writes what it learned to a folder.

#include "plastic/tasks/cue_reward.hpp"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <optional>
#include <set>
#include <string>

#include "command_line.hpp"
#include "experiments/csv.hpp"
#include "experiments/episode_files.hpp"
#include "folder_lock.hpp"
#include "plastic/cells/dispatch.hpp"
#include "plastic/io/model_file.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/train/csv_log.hpp"
#include "plastic/train/early_stopping.hpp"
#include "plastic/train/keep_best.hpp"
#include "plastic/train/progress_bar.hpp"
#include "plastic/train/trainer.hpp"
#include "ranks.hpp"

namespace {

using namespace plastic;
namespace fs = std::filesystem;

struct RunSettings {
  std::string rule = "hebbian";
  std::string cell = "rnn";
  CellOptions cell_options{.hidden = 0};
  TrainerOptions training;
  double learning_rate = 1e-3;
  fs::path out = "cue_reward_out";
};

std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free);

// The first Ctrl-C ends training after the present batch; a second one ends the program.
extern "C" void on_interrupt(int) {
  interrupted = true;
  std::signal(SIGINT, SIG_DFL);
}

// One word of a shell command.
std::string in_shell(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

// Draws progress.csv of a folder into its learning_curve.svg; false without gnuplot, which works
// inside the folder so that the folder's name is no part of its script.
bool plot(const fs::path& folder, const std::string& title, const std::string& colour) {
  if (std::system("command -v gnuplot >/dev/null 2>&1") != 0) return false;
  const std::string command = "cd " + in_shell(fs::absolute(folder).string()) + " && gnuplot";
  std::FILE* gnuplot = ::popen(command.c_str(), "w");
  if (gnuplot == nullptr) return false;
  const std::string script =
      "set terminal svg noenhanced font 'Helvetica,Arial,sans-serif,14' size 800,500 "
      "background 'white'\nset output 'learning_curve.svg.tmp'\nset encoding utf8\n"
      "set datafile separator comma\nset title \"" +
      title +
      ", n = 1\"\nset xlabel 'training batches'\nset ylabel 'mean squared error'\n"
      "set xrange [0:*]\nset yrange [0:]\nset border 3 lc rgb '#555555'\nset tics nomirror\n"
      "set grid lc rgb '#e4e4e4'\nset key outside top center horizontal\n"
      "set label 'cue ignored 0.137' at graph 0.99, first 0.1369 right offset 0,-0.6 tc rgb "
      "'#666666'\nset label 'perfect memory 0.0179' at graph 0.99, first 0.0179 right offset "
      "0,-0.6 tc rgb '#666666'\n"
      "plot 'progress.csv' using 'batch':'train_loss' with lines lw 1 lc rgb '#aaaaaa' title "
      "'training', '' using 'batch':'validation_loss' with lines lw 2.2 lc rgb '" +
      colour +
      "' title 'validation', 0.1369 with lines dt 2 lw 1.5 lc rgb '#777777' notitle, "
      "0.0179 with lines dt 2 lw 1.5 lc rgb '#777777' notitle\n";
  const bool written = std::fputs(script.c_str(), gnuplot) >= 0;
  if (::pclose(gnuplot) != 0 || !written) {
    throw std::runtime_error("gnuplot could not draw the learning curve in " + folder.string());
  }
  fs::rename(folder / "learning_curve.svg.tmp", folder / "learning_curve.svg");
  return true;
}

// What the network did in the episode of episode.csv: which cue a step shows, numbered in the order
// of their rewards, its reward, whether that was shown or asked for, and the answer.
template <class Cell>
void write_answers(const Cell& cell, const CueReward& task, const fs::path& folder) {
  Episodes<float> episodes;
  task.generate({0, Random::Purpose::test}, 0, 0, 1, episodes);
  const Index steps = episodes.inputs.cols();
  Matrix<float> answers(task.outputs(), steps);
  CellState<float> state = cell.initial_state(1);
  const auto advance = [&](Index t) {
    const auto step = cell.step(state, episodes.inputs.col(t));
    answers.col(t) = step.output;
    return step.eta(0, 0);
  };
  experiments::write_episode(cell, state, steps, advance, folder);
  const Matrix<float>& rewards = episodes.targets;
  const std::set<float> cues(rewards.data(), rewards.data() + rewards.size());
  experiments::Csv csv;
  for (const char* name : {"step", "cue", "reward", "asked", "answer"}) csv << name;
  csv.end_row();
  for (Index t = 0; t < rewards.cols(); ++t) {
    csv << t << std::distance(cues.begin(), cues.find(rewards(0, t))) << rewards(0, t)
        << (t < task.options().storage_steps ? 0 : 1) << answers(0, t);
    csv.end_row();
  }
  csv.write(folder / "answers.csv");
}

// Of several ranks, the first writes the files and says how it goes.
template <class Cell>
void train(const RunSettings& settings) {
  const bool writes = plastic::detail::leads(settings.training.communicator);
  Cell cell(settings.cell_options);
  const CueReward task;
  AdamW<float> optimizer(cell.parameters(), {.learning_rate = settings.learning_rate});
  Trainer trainer(cell, task, optimizer, settings.training);

  // The signal stays ignored if the caller ignores it, as a script does for programs that it runs
  // in the background.
  if (std::signal(SIGINT, on_interrupt) == SIG_IGN) std::signal(SIGINT, SIG_IGN);
  std::optional<FolderLock> lock;
  if (writes) {
    fs::create_directories(settings.out);
    lock.emplace(settings.out);
  }
  const fs::path progress = settings.out / "progress.csv";
  const fs::path best = settings.out / "best.safetensors";
  const fs::path test = settings.out / "test.csv";
  const fs::path curve = settings.out / "learning_curve.svg";
  const std::string title = "cue-reward, " + settings.cell + " " + settings.rule;
  ProgressBar bar(std::cout, settings.cell + " " + settings.rule, ::isatty(STDOUT_FILENO) != 0);
  CsvLog log(progress);
  KeepBest<float> keep(cell.parameters(), [&] {
    for (const fs::path& old : {test, curve, settings.out / "episode.csv",
                                settings.out / "fast.csv", settings.out / "answers.csv"}) {
      // of an older run
      if (fs::is_regular_file(old)) fs::remove(old);
    }
    save(best, cell, task);
  });

  const Progress end = trainer.run(keep, log, bar, StopWhen([] { return interrupted.load(); }));
  if (writes) {
    if (end.batch < end.batches) std::cout << "Stopped after " << end.batch << " batches.\n";
    if (!keep.found()) throw std::runtime_error("no validation loss was finite");
    keep.restore();
  }
  const double test_loss = trainer.evaluate({0, Random::Purpose::test}, 100);
  if (!writes) return;
  if constexpr (Cell::plastic) write_answers(cell, task, settings.out);
  write_file_atomically(test, "test_loss\n" + std::to_string(test_loss) + "\n");
  std::cout << std::setprecision(4) << "Best after " << keep.batch() << " batches: validation loss "
            << keep.loss() << ", test loss " << test_loss << "\n"
            << "Weights:  " << best.string() << "\nProgress: " << progress.string() << "\n";
  // The colours that the rules have in every figure.
  const std::string colour = settings.rule == "hebbian"    ? "#D55E00"
                             : settings.rule == "gradient" ? "#0072B2"
                                                           : "#555555";
  if (plot(settings.out, title, colour)) {
    std::cout << "Plot:     " << curve.string() << "\n";
  } else {
    std::cout << "No plot: gnuplot is not installed.\n";
  }
  if (!std::cout.flush()) throw std::runtime_error("cannot write to standard output");
}

}  // namespace

int main(int argc, char** argv) {
  RunSettings settings;
  CellOptions& cell = settings.cell_options;
  TrainerOptions& training = settings.training;
  CLI::App app(
      "Trains a plastic recurrent network on the cue-reward task.\n\n"
      "In each episode the network sees 5 new cues, each with a reward, for 10 steps; for 10 more\n"
      "steps it sees the cues alone and must name the rewards. Its slow weights are the same in "
      "all\n"
      "episodes; it can keep what belongs together in this one only in its fast weights or its\n"
      "hidden state. Guessing without the cue leaves an error of 0.137, a perfect memory 0.018.\n\n"
      "Started by mpirun, all of its processes train one network: mpirun -n 4 cue_reward ...\n"
      "Compare:  cue_reward --rule hebbian --out hebbian;  cue_reward --rule none --out none");
  examples::takes_word(
      app.add_option(
          "--rule", settings.rule,
          "plasticity rule: hebbian (strengthens what fires together), gradient (descends a loss\n"
          "that the network defines itself), none (plain network)"),
      {"hebbian", "gradient", "none"})
      ->capture_default_str();
  examples::takes_word(app.add_option("--cell", settings.cell, "recurrent cell"), {"rnn", "lstm"})
      ->capture_default_str();
  examples::takes_number(
      app.add_option("--hidden", cell.hidden, "hidden units (default: 128, or 192 for rule none)"),
      1, 100'000);
  examples::takes_number(
      app.add_option("--batches", training.batches, "training batches of 64 episodes"), 1,
      1'000'000'000)
      ->capture_default_str();
  examples::takes_number(
      app.add_option("--seed", cell.seed, "seed of the initial weights and the training episodes"),
      0, 1'000'000'000'000'000'000)
      ->capture_default_str();
  examples::takes_number(
      app.add_option("--threads", training.threads,
                     "number of threads (0: one per processor); the results do not depend on it"),
      0, 4096)
      ->capture_default_str();
  app.add_option("--inner-scale", cell.inner_scale, "scale s of the gradient rule's own loss")
      ->type_name("NUMBER")
      ->capture_default_str();
  app.add_option("--learning-rate", settings.learning_rate,
                 "learning rate of AdamW for the slow weights")
      ->type_name("NUMBER")
      ->capture_default_str();
  examples::takes_number(app.add_option("--validate-every", training.validation_every,
                                        "batches between validations on 100 fresh batches"),
                         1, 1'000'000'000)
      ->capture_default_str();
  app.add_option("--out", settings.out,
                 "folder for progress.csv, best.safetensors (for replay), test.csv,\n"
                 "learning_curve.svg and, with a plastic rule, one test episode: episode.csv,\n"
                 "fast.csv and answers.csv")
      ->type_name("FOLDER")
      ->capture_default_str();
  examples::say_in_one_line(app, "cue_reward");
  CLI11_PARSE(app, argc, argv);
  return examples::on_all_ranks("cue_reward", [&](Communicator* ranks) {
    const CueReward task;
    cell.inputs = task.inputs();
    cell.outputs = task.outputs();
    if (app.count("--hidden") == 0) cell.hidden = settings.rule == None::name ? 192 : 128;
    training.seed = cell.seed;
    training.communicator = ranks;
    with_layered_cell_type<float>(
        settings.cell, settings.rule,
        [&]<class Cell>(std::type_identity<Cell>) { train<Cell>(settings); });
    return 0;
  });
}
