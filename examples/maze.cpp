// Trains a network to find a hidden reward in a maze again and again, by trial and reward alone,
// and shows how it walks.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <exception>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <new>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include "command_line.hpp"
#include "maze_picture.hpp"
#include "plastic/cells/compiled.hpp"
#include "plastic/cells/families.hpp"
#include "plastic/environments/grid_maze.hpp"
#include "plastic/io/checkpoint.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/train/early_stopping.hpp"
#include "plastic/train/policy_objective.hpp"
#include "plastic/train/progress_bar.hpp"
#include "plastic/train/trainer.hpp"

namespace {

using namespace plastic;
namespace fs = std::filesystem;

struct RunSettings {
  std::string rule = "modulated";
  Index size = 9;
  Index hidden = 100;
  Index iterations = 10000;
  double learning_rate = 1e-4;
  std::uint64_t seed = 0;
  int threads = 0;
  bool published = false;
  bool watch = false;
  fs::path picture;
  fs::path checkpoint;
};

std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free);

// The first Ctrl-C ends training after the present batch; a second one ends the program.
extern "C" void on_interrupt(int) {
  interrupted = true;
  std::signal(SIGINT, SIG_DFL);
}

// The maze as text: # wall, @ the network, $ the reward, which it does not see.
std::string text_of(const GridMaze& maze, const GridMaze::State& state) {
  std::string text;
  for (Index row = 0; row < maze.options().size; ++row) {
    for (Index column = 0; column < maze.options().size; ++column) {
      const bool here = row == state.row && column == state.column;
      const bool reward = row == state.reward_row && column == state.reward_column;
      text += here ? '@' : reward ? '$' : maze.wall(row, column) ? '#' : '.';
      text += ' ';
    }
    text.back() = '\n';
  }
  return text;
}

// Adds what the network did in the present step.
template <class Cell>
void record(const Cell& net, const Actor<Cell, GridMaze>& actor, examples::Walk& walk) {
  walk.states.push_back(actor.episodes().state(0));
  if (actor.episodes().time() == 0) return;
  walk.rewards.push_back(actor.episodes().reward(0));
  const auto rate = static_cast<double>(actor.eta()(0, 0));
  const Parameters<float>& learned = net.parameters();
  if constexpr (std::is_same_v<Cell, ModulatedRNN<float>>) {
    walk.modulator.push_back(rate);  // eta: the mean over the neurons
    walk.eta.push_back(rate * learned.matrix("rule.fanout.weight").mean() +
                       learned.matrix("rule.fanout.bias").mean());
  } else if constexpr (std::is_same_v<Cell, RetroactiveRNN<float>>) {
    walk.modulator.push_back(rate);
    walk.eta.push_back(learned.matrix("rule.eta")(0, 0));
  } else if constexpr (Cell::plastic) {
    walk.eta.push_back(rate);
  }
}

// Goes through an episode and returns it; shows it where wanted, each step in the place of the one
// before where there is a terminal.
template <class Cell>
examples::Walk walk(const Cell& net, const GridMaze& maze, bool show, bool terminal) {
  examples::Walk walk;
  Actor actor(net, maze);
  const Index sample = 0;
  actor.begin({0, Random::Purpose::test}, 0, std::span(&sample, 1));
  const char* const clear_line = terminal ? "\x1b[K" : "";
  for (bool more = true; more; more = actor.step()) {
    record(net, actor, walk);
    if (!show) continue;
    const Index t = actor.episodes().time();
    std::ostringstream frame;
    if (terminal && t > 0) frame << "\x1b[" << maze.options().size + 1 << "A";
    frame << "step " << t << "  reward " << actor.episodes().reward(0) << "  sum "
          << actor.episodes().total(0);
    if (t > 0) frame << std::setprecision(3) << "  eta " << actor.eta()(0, 0);
    frame << clear_line << "\n" << text_of(maze, actor.episodes().state(0));
    std::cout << frame.str() << std::flush;
    if (terminal) std::this_thread::sleep_for(std::chrono::milliseconds(80));
    if (interrupted) break;
  }
  return walk;
}

template <class Cell>
void train(const RunSettings& settings) {
  const GridMaze maze({.size = settings.size});
  typename Cell::Options options;
  options.inputs = environment_inputs(maze);
  options.outputs = policy_outputs(maze);
  options.hidden = settings.hidden;
  options.seed = settings.seed;
  Cell net(options);
  PolicyObjective objective(net, maze,
                            {.gamma = 0.9,
                             .value_coefficient = 0.1,
                             .entropy_bonus = 0,
                             .concentration = 0.03,
                             .first_value = settings.published});
  AdamW<float> optimizer(
      net.parameters(),
      {.learning_rate = settings.learning_rate, .epsilon = 1e-4, .amsgrad = false});
  Trainer trainer(
      objective, optimizer,
      {.batch = 30,
       .batches = settings.iterations,
       .clip_norm = 4,
       .schedule = [rate = settings.learning_rate](Index batch) { return batch < 101 ? 0 : rate; },
       .validation_every = std::clamp<Index>(settings.iterations / 20, 1, 500),
       .validation_batches = 4,
       .seed = settings.seed,
       .threads = settings.threads});

  // The signal stays ignored if the caller ignores it, as a script does for programs that it runs
  // in the background.
  if (std::signal(SIGINT, on_interrupt) == SIG_IGN) std::signal(SIGINT, SIG_IGN);
  const bool terminal = ::isatty(STDOUT_FILENO) != 0;
  ProgressBar bar(std::cout, "maze " + settings.rule, terminal);
  StopWhen stop([] { return interrupted.load(); });
  if (settings.checkpoint.empty()) {
    trainer.run(bar, stop);
  } else {
    trainer.run(bar, stop, Checkpoint(settings.checkpoint));
  }
  const Measure reward =
      trainer.evaluate_in_detail({settings.seed, Random::Purpose::test}, 20).measure("reward");
  std::cout << std::setprecision(4) << "Reward of an episode: " << reward.mean() << " +- "
            << std::setprecision(2) << reward.half_width() << " in " << std::llround(reward.count)
            << " new mazes; a random walk has 14.5 (size 9), 7.4 (11), 5.2 (13)\n";
  interrupted = false;
  if (settings.watch || !settings.picture.empty()) {
    const examples::Walk episode = walk(net, maze, settings.watch, terminal);
    if (!settings.picture.empty() && !episode.rewards.empty()) {
      draw_walk(maze, episode, "maze, " + settings.rule, settings.picture);
      std::cout << "Picture: " << settings.picture.string() << "\n";
    }
  }
  if (!std::cout.flush()) throw std::runtime_error("cannot write to standard output");
}

// Before hours of training rather than after them.
void check_file(const std::string& option, const fs::path& path) {
  if (path.empty()) return;
  const fs::path folder = fs::absolute(path).parent_path();
  if (!fs::is_directory(folder)) {
    throw std::invalid_argument(option + " " + path.string() + ": there is no folder " +
                                folder.string());
  }
  if (fs::exists(path) && !fs::is_regular_file(path)) {
    throw std::invalid_argument(option + " " + path.string() + ": it is not a regular file");
  }
}

void run(const RunSettings& settings) {
  check_file("--picture", settings.picture);
  check_file("--checkpoint", settings.checkpoint);
  if (settings.rule == None::name) return train<PlasticRNN<None, float>>(settings);
  if (settings.rule == Gradient::name) return train<PlasticRNN<Gradient, float>>(settings);
  if (settings.rule == Hebbian::name) return train<PlasticRNN<Hebbian, float>>(settings);
  if (settings.rule == Trace::name) return train<TraceRNN<float>>(settings);
  if (settings.rule == Modulated::name) return train<ModulatedRNN<float>>(settings);
  train<RetroactiveRNN<float>>(settings);
}

}  // namespace

int main(int argc, char** argv) {
  RunSettings settings;
  CLI::App app(
      "Trains a network in a maze with a hidden reward.\n\n"
      "The reward is in a cell that is new in each episode of 200 steps and that the network does "
      "not\n"
      "see. Who steps on it gets 10 and is put somewhere else, and may come back for more. It pays "
      "to\n"
      "remember, within the episode, where the reward was. Batches of 30 episodes, as "
      "published.\n\n"
      "Compare:  maze --rule modulated;  maze --rule none");
  examples::takes_word(
      app.add_option("--rule", settings.rule,
                     "plasticity rule: trace (products of activities), modulated (the network "
                     "sets\n"
                     "its rate), retroactive (the network turns traces into weights), gradient,\n"
                     "hebbian (the rules of PlasticRNN), none (plain network)"),
      {"none", "trace", "modulated", "retroactive", "gradient", "hebbian"})
      ->capture_default_str();
  examples::takes_word(app.add_option("--size", settings.size, "cells on a side"),
                       {"9", "11", "13"})
      ->capture_default_str();
  examples::takes_number(app.add_option("--hidden", settings.hidden, "hidden units"), 1, 100'000)
      ->capture_default_str();
  examples::takes_number(
      app.add_option("--iterations", settings.iterations,
                     "training batches; the first 101 leave the weights as they are"),
      1, 1'000'000'000)
      ->capture_default_str();
  app.add_option("--learning-rate", settings.learning_rate, "learning rate of Adam")
      ->type_name("NUMBER")
      ->capture_default_str();
  examples::takes_number(
      app.add_option("--seed", settings.seed, "seed of the initial weights and of the episodes"), 0,
      1'000'000'000'000'000'000)
      ->capture_default_str();
  examples::takes_number(
      app.add_option("--threads", settings.threads,
                     "number of threads (0: one per processor); the results do not depend on it"),
      0, 4096)
      ->capture_default_str();
  app.add_flag("--published", settings.published,
               "takes the value of the batch's first sample for all, as the published code does");
  app.add_flag("--watch", settings.watch, "shows an episode of the trained network as text");
  app.add_option(
         "--picture", settings.picture,
         "SVG file for a picture of that episode: its path, its rewards, the modulator and\n"
         "eta; needs gnuplot")
      ->type_name("FILE");
  app.add_option("--checkpoint", settings.checkpoint,
                 "file that the run goes on from if it exists, and that keeps it")
      ->type_name("FILE");
  examples::say_in_one_line(app, "maze");
  CLI11_PARSE(app, argc, argv);
  try {
    run(settings);
  } catch (const std::bad_alloc&) {
    std::cerr << "maze: not enough memory\n";
    return 1;
  } catch (const std::exception& error) {
    std::cerr << "maze: " << error.what() << "\n";
    return 1;
  }
}
