// Training steps of the networks of the literature: one batch of episodes forward and backward with
// AdamW.

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>

#include "harness.hpp"
#include "plastic/plastic.hpp"

namespace bench {
namespace {

using namespace plastic;

// Of the largest entry of a gradient in double.
constexpr double tolerance = 2e-3;

template <class Cell, class TaskType>
struct RuleTraining {
  RuleTraining(const typename Cell::Options& options, const TaskType& task, Index batch,
               int threads)
      : cell(options),
        adamw(cell.parameters(), {.learning_rate = 1e-4}),
        trainer(cell, task, adamw, {.batch = batch, .validation_every = 0, .threads = threads}) {}

  Cell cell;
  AdamW<typename Cell::ScalarType> adamw;
  Trainer<EpisodeObjective<Cell, TaskType>, AdamW<typename Cell::ScalarType>> trainer;
};

template <class Cell>
struct InDouble;
template <class Dynamics, class Rule>
struct InDouble<PlasticCell<Dynamics, Rule, float>> {
  using Type = PlasticCell<Dynamics, Rule, double>;
};

// The same network in double has the same gradient.
template <class Single, class Wide>
std::string compare(Single& single, Wide& wide) {
  // The two lay out their blocks with different gaps.
  const auto& narrow = single.cell.parameters();
  for (Index n = 0; n < static_cast<Index>(narrow.blocks().size()); ++n) {
    wide.cell.parameters().matrix(n) = narrow.matrix(n).template cast<double>();
  }
  single.trainer.gradient(0);
  wide.trainer.gradient(0);
  double error = 0, largest = 0;
  for (Index n = 0; n < static_cast<Index>(narrow.blocks().size()); ++n) {
    const auto got = narrow.view(single.trainer.gradients(), n).template cast<double>();
    const auto expected = wide.cell.parameters().view(wide.trainer.gradients(), n);
    error = std::max(error, (got - expected).cwiseAbs().maxCoeff());
    largest = std::max(largest, expected.cwiseAbs().maxCoeff());
  }
  return error <= tolerance * largest ? ""
                                      : "the gradient is off by " + std::to_string(error / largest);
}

template <class Cell, class TaskType>
std::string verify(const typename Cell::Options& options, const TaskType& task) {
  RuleTraining<Cell, TaskType> single(options, task, 4, 1);
  RuleTraining<typename InDouble<Cell>::Type, TaskType> wide(options, task, 4, 1);
  return compare(single, wide);
}

template <class Cell, class TaskType>
void add(const std::string& name, typename Cell::Options options, const TaskType& task, Index batch,
         int threads) {
  options.inputs = task.inputs();
  options.outputs = task.outputs();
  options.seed = 1;
  register_benchmark(name + "/threads:" + std::to_string(threads), Work{}, static_cast<int>(batch),
                     benchmark::kMillisecond,
                     {.verify = [=] { return verify<Cell, TaskType>(options, task); },
                      .prepare = [=]() -> std::function<void()> {
                        auto run = std::make_shared<RuleTraining<Cell, TaskType>>(options, task,
                                                                                  batch, threads);
                        return [run, k = Index{0}]() mutable { run->trainer.step(k++); };
                      }});
}

// hidden 128, batch 64, 20 steps of 16 inputs, as the benchmarks of the paper's rules.
template <class Cell>
void add_cue_reward(const std::string& rule, const typename Cell::Options& options = {}) {
  for (const int threads : {1, available_threads()}) {
    add<Cell>("rules/" + std::string(Cell::cell_name) + "/" + rule +
                  "/hidden:" + std::to_string(options.hidden) + "/batch:64/steps:20",
              options, CueReward(), 64, threads);
  }
}

// The maze with the published settings.
template <class Scalar>
struct MazeTraining {
  using Cell = ModulatedRNN<Scalar>;
  using Objective = PolicyObjective<Cell, GridMaze>;

  MazeTraining(Index batch, int threads)
      : cell({.inputs = environment_inputs(GridMaze()),
              .hidden = 100,
              .outputs = policy_outputs(GridMaze()),
              .seed = 1}),
        adam(cell.parameters(), {.learning_rate = 1e-4, .epsilon = 1e-4, .amsgrad = false}),
        trainer(Objective(cell, GridMaze(), {.entropy_bonus = 0, .concentration = 0.03}), adam,
                {.batch = batch, .clip_norm = 4, .validation_every = 0, .threads = threads}) {}

  Cell cell;
  AdamW<Scalar> adam;
  Trainer<Objective, AdamW<Scalar>> trainer;
};

void add_maze() {
  for (const int threads : {1, available_threads()}) {
    register_benchmark("rules/rnn/maze/modulated/size:9/hidden:100/batch:30/steps:200/threads:" +
                           std::to_string(threads),
                       Work{}, 30, benchmark::kMillisecond,
                       {.verify =
                            [] {
                              MazeTraining<float> single(4, 1);
                              MazeTraining<double> wide(4, 1);
                              return compare(single, wide);  // the two draw the same actions
                            },
                        .prepare = [=]() -> std::function<void()> {
                          auto run = std::make_shared<MazeTraining<float>>(30, threads);
                          return [run, k = Index{0}]() mutable { run->trainer.step(k++); };
                        }});
  }
}

void add_all(bool) {
  add_cue_reward<PlasticRNN<Hebbian, float>>("hebbian");
  add_cue_reward<PlasticLSTM<Hebbian, float>>("hebbian");
  add_cue_reward<TraceRNN<float>>("trace_decay");
  add_cue_reward<TraceRNN<float>>("trace_oja", {.form = TraceForm::oja});
  add_cue_reward<TraceRNN<float>>("trace_clip", {.form = TraceForm::clip});
  add_cue_reward<TraceRNN<float>>("trace_soft", {.form = TraceForm::soft});
  add_cue_reward<ModulatedRNN<float>>("modulated");
  add_cue_reward<ModulatedLSTM<float>>("modulated");
  add_cue_reward<RetroactiveRNN<float>>("retroactive");
  add_cue_reward<FastWeightsRNN<float>>("fast_weights");
  add_cue_reward<DeltaNet<float>>("delta");
  add_cue_reward<DeltaRNN<float>>("delta");
  add_cue_reward<RecurrentDeltaNet<float>>("delta");
  add_cue_reward<StpnRNN<float>>("stpn_pre");
  add_cue_reward<StpnRNN<float>>("stpn_post", {.norm = StpnNorm::post, .clip = 1});
  add_cue_reward<AbcdRNN<float>>("abcd", {.normalise = AbcdNormalise::max});
  add<TraceClampRNN<float>>("rules/clamp/pattern_completion/bits:1000",
                            {.hidden = 1001, .readout = false}, PatternCompletion(), 1, 1);
  add_maze();
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::run_main(argc, argv, bench::add_all); }
