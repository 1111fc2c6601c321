#include "acting_run.hpp"

#include <array>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "csv.hpp"
#include "episode_files.hpp"
#include "plastic/cells/compiled.hpp"
#include "plastic/cells/families.hpp"
#include "plastic/environments/grid_maze.hpp"
#include "plastic/environments/target_discovery.hpp"
#include "plastic/io/model_file.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/train/policy_objective.hpp"
#include "plastic/train/trainer.hpp"
#include "run_files.hpp"
#include "stop.hpp"

namespace experiments {
namespace {

using namespace plastic;
namespace fs = std::filesystem;

template <class F>
void with_network(const RunSettings& settings, F&& f) {
  const std::string& rule = settings.rule;
  if (settings.cell != Rnn::name) detail::reject("experiments", "cell", "rnn", settings.cell);
  if (rule == None::name) return f(std::type_identity<PlasticRNN<None, float>>());
  if (rule == Gradient::name) return f(std::type_identity<PlasticRNN<Gradient, float>>());
  if (rule == Hebbian::name) return f(std::type_identity<PlasticRNN<Hebbian, float>>());
  if (rule == Trace::name) return f(std::type_identity<TraceRNN<float>>());
  if (rule == Modulated::name) return f(std::type_identity<ModulatedRNN<float>>());
  if (rule == Retroactive::name) return f(std::type_identity<RetroactiveRNN<float>>());
  detail::reject("experiments", "rule", "none, gradient, hebbian, trace, modulated or retroactive",
                 rule);
}

template <class Cell, class E>
void train_actor(const RunSettings& settings, const E& environment, const fs::path& folder,
                 int threads, TrainingCallback& observer, FolderLock* lock, Communicator* ranks) {
  Cell cell(
      make_options<Cell>(settings, environment_inputs(environment), policy_outputs(environment)));
  AdamW<float> optimizer(
      cell.parameters(),
      {.learning_rate = settings.learning_rate, .epsilon = settings.epsilon, .amsgrad = false});
  const auto make_trainer = [&](bool greedy) {
    return Trainer(PolicyObjective(cell, environment,
                                   {.gamma = settings.gamma,
                                    .value_coefficient = settings.value_coefficient,
                                    .entropy_bonus = 0,
                                    .concentration = settings.concentration,
                                    .greedy = greedy}),
                   optimizer,
                   {.batch = settings.batch,
                    .batches = settings.batches,
                    .clip_norm = settings.clip_norm,
                    .schedule = [rate = settings.learning_rate, still = settings.still](
                                    Index batch) { return batch < still ? 0 : rate; },
                    .validation_every = settings.validate_every,
                    .validation_batches = 4,
                    .seed = settings.seed,
                    .threads = threads,
                    .shard = Cell::plastic ? 2 : 8,  // as in run.cpp, of any machine
                    .communicator = ranks});
  };
  auto trainer = make_trainer(false);
  StopWhenLost lost(lock);
  const auto write = [&] { save(folder / "best.safetensors", cell); };
  train_and_keep_best(trainer, cell.parameters(), write, folder, observer, lost, ranks);
  constexpr Index batches = 50;
  const Random::Stream stream{0, Random::Purpose::test};
  const Evaluation sampled = trainer.evaluate_in_detail(stream, batches);
  const Evaluation greedy = make_trainer(true).evaluate_in_detail(stream, batches);
  if (!plastic::detail::leads(ranks)) return;
  lost.check();
  if constexpr (Cell::plastic) {
    write_eta(sampled, folder / "eta.csv");
    Actor actor(cell, environment);
    const Index sample = 0;
    actor.begin(stream, 0, std::span(&sample, 1));
    const auto advance = [&](Index) {
      actor.step();
      return actor.eta()(0, 0);
    };
    write_episode(cell, actor.state(), environment.steps(), advance, folder);
  }
  const Measure &drawn = sampled.measure("reward"), &likeliest = greedy.measure("reward");
  Csv csv;
  for (const char* name :
       {"reward", "reward_half_width", "greedy_reward", "greedy_reward_half_width", "episodes"}) {
    csv << name;
  }
  csv.end_row();
  csv << drawn.mean() << drawn.half_width() << likeliest.mean() << likeliest.half_width()
      << drawn.count;
  csv.end_row();
  csv.write(folder / "test.csv");
}

}  // namespace

void train_to_act(const RunSettings& settings, const fs::path& folder, int threads,
                  const Observers& observers, FolderLock* lock, Communicator* ranks) {
  with_network(settings, [&]<class Cell>(std::type_identity<Cell>) {
    if (settings.task == "maze") {
      train_actor<Cell>(settings, GridMaze({.size = settings.size}), folder, threads,
                        observers.training, lock, ranks);
    } else {
      train_actor<Cell>(settings, TargetDiscovery(), folder, threads, observers.training, lock,
                        ranks);
    }
  });
}

}  // namespace experiments
