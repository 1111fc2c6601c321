#include "plastic/train/trainer.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "plastic/cells/compiled.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/optim/sgd.hpp"
#include "plastic/rules/gradient.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/rules/none.hpp"
#include "plastic/tasks/cue_reward.hpp"
#include "plastic/train/early_stopping.hpp"
#include "plastic/train/keep_best.hpp"
#include "support/errors.hpp"

namespace {

using namespace plastic;
using plastic::testing::error_of;
using plastic::testing::mentions;

// A task of a user's own: say the number of the step before, and twice it. What counts differs from
// episode to episode: all steps but the first few.
class Echo {
 public:
  Index inputs() const { return 3; }
  Index outputs() const { return 2; }
  Index steps() const { return 5; }

  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& episodes) const {
    episodes.inputs.setConstant(inputs(), steps() * samples, Scalar(0.5));
    episodes.targets.setZero(outputs(), steps() * samples);
    episodes.weights.setZero(1, steps() * samples);
    for (Index s = 0; s < samples; ++s) {
      Random random(stream, batch, static_cast<std::uint64_t>(first + s));
      const Index silent = 1 + static_cast<Index>(random.below(3));
      double before = 0;
      for (Index t = 0; t < steps(); ++t) {
        const Index column = t * samples + s;
        episodes.targets(0, column) = static_cast<Scalar>(before);
        episodes.targets(1, column) = static_cast<Scalar>(2 * before);
        episodes.weights(0, column) = Scalar(t < silent ? 0 : 1);
        before = random.uniform(-1, 1);
        episodes.inputs(1, column) = static_cast<Scalar>(before);
      }
    }
  }
};
static_assert(Task<Echo, float> && Task<Echo, double>);

CueReward small_task() {
  return CueReward({.cues = 3, .features = 4, .storage_steps = 4, .recall_steps = 3});
}

template <class TaskType>
CellOptions cell_for(const TaskType& task, Index hidden = 9) {
  return {.inputs = task.inputs(),
          .hidden = hidden,
          .outputs = task.outputs(),
          .inner_scale = 1,
          .seed = 4};
}

// A cell, its optimizer and its trainer, with few small batches unless told otherwise.
template <class Cell, class TaskType = CueReward,
          class Optimizer = AdamW<typename Cell::ScalarType>>
struct Run {
  Run(const TrainerOptions& options, const TaskType& task, double learning_rate = 1e-2)
      : Run(options, task, learning_rate, cell_for(task)) {}
  Run(const TrainerOptions& options, const TaskType& task, double learning_rate,
      const CellOptions& cell_options)
      : cell(cell_options),
        optimizer(cell.parameters(), {.learning_rate = learning_rate}),
        trainer(cell, task, optimizer, options) {}

  const auto& weights() const { return cell.parameters().values(); }

  Cell cell;
  Optimizer optimizer;
  Trainer<EpisodeObjective<Cell, TaskType>, Optimizer> trainer;
};

TrainerOptions few(Index batches = 7, Index every = 3) {
  return {.batch = 5,
          .batches = batches,
          .validation_every = every,
          .validation_batches = 2,
          .seed = 8,
          .threads = 1};
}

template <class Scalar>
bool same_bits(const Vector<Scalar>& a, const Vector<Scalar>& b) {
  const auto bytes = static_cast<std::size_t>(a.size()) * sizeof(Scalar);
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), bytes) == 0;
}

bool same_bits(double a, double b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

// The definition of the loss, by plain loops over whole batches.
template <class Cell, class TaskType>
double loss_by_hand(const Cell& cell, const TaskType& task, Random::Stream stream, Index batch,
                    Index samples) {
  Episodes<double> episodes;
  task.generate(stream, static_cast<std::uint64_t>(batch), 0, samples, episodes);
  CellState<double> state = cell.initial_state(samples);
  Matrix<double> output;
  cell.run(state, episodes.inputs, output);
  double loss = 0;
  for (Index s = 0; s < samples; ++s) {
    double errors = 0, count = 0;
    for (Index t = 0; t < task.steps(); ++t) {
      const Index column = t * samples + s;
      if (episodes.weights(0, column) == 0) continue;
      count += static_cast<double>(task.outputs());
      for (Index k = 0; k < task.outputs(); ++k) {
        const double error = output(k, column) - episodes.targets(k, column);
        errors += error * error;
      }
    }
    loss += errors / count;
  }
  return loss / static_cast<double>(samples);
}

struct Event {
  char kind = ' ';  // b: batch, v: validation, e: end
  Progress progress;
};

class Recorder : public TrainingCallback {
 public:
  void on_batch(const Progress& p) override { events.push_back({'b', p}); }
  void on_validation(const Progress& p) override { events.push_back({'v', p}); }
  void on_end(const Progress& p) override { events.push_back({'e', p}); }

  int batches() const {
    return static_cast<int>(
        std::ranges::count_if(events, [](const Event& event) { return event.kind == 'b'; }));
  }

  // "b1 b2 v2 e2": what was told, with the number of batches done.
  std::string story() const {
    std::string text;
    for (const Event& event : events) {
      text += (text.empty() ? "" : " ") + std::string(1, event.kind) +
              std::to_string(event.progress.batch);
    }
    return text;
  }

  std::vector<Event> events;
};

using Hebb = PlasticRNN<Hebbian, double>;

}  // namespace

TEMPLATE_TEST_CASE("Weights after ten steps have the same bits with any number of threads",
                   "[train][trainer]", (PlasticRNN<Hebbian, float>), (PlasticRNN<Hebbian, double>),
                   (PlasticRNN<Gradient, float>), (PlasticRNN<Gradient, double>),
                   (PlasticRNN<None, float>), (PlasticRNN<None, double>),
                   (PlasticLSTM<Gradient, float>)) {
  const CueReward task = small_task();
  // 19 shards: more than lanes, and the last one is not full.
  TrainerOptions options{.batch = 37, .seed = 8, .threads = 1, .shard = 2};
  std::unique_ptr<Run<TestType>> expected;
  std::vector<double> losses;
  for (const int threads : {1, 2, 3}) {
    INFO(threads << " threads");
    options.threads = threads;
    auto run = std::make_unique<Run<TestType>>(options, task);
    const auto start = run->weights();
    for (Index batch = 0; batch < 10; ++batch) {
      const double loss = run->trainer.step(batch);
      if (threads == 1) losses.push_back(loss);
      CHECK(same_bits(loss, losses[static_cast<std::size_t>(batch)]));
    }
    const double evaluated = run->trainer.evaluate({8, Random::Purpose::validation}, 3);
    if (threads == 1) {
      CHECK(run->weights().allFinite());
      CHECK_FALSE(same_bits(run->weights(), start));
      losses.push_back(evaluated);
      expected = std::move(run);
    } else {
      CHECK(same_bits(run->weights(), expected->weights()));
      CHECK(same_bits(run->trainer.gradients(), expected->trainer.gradients()));
      CHECK(same_bits(evaluated, losses.back()));
    }
  }
}

TEMPLATE_TEST_CASE("The gradient does not depend on the size of the shards", "[train][trainer]",
                   (PlasticRNN<Hebbian, double>), (PlasticRNN<Gradient, double>),
                   (PlasticRNN<None, double>)) {
  Vector<double> expected;
  double loss = 0;
  for (const Index shard : {37, 1, 2, 3, 8, 36, 1000, 0}) {
    INFO("shards of " << shard);
    Run<TestType> run({.batch = 37, .seed = 8, .threads = 2, .shard = shard}, small_task());
    const double got = run.trainer.gradient(3);
    if (expected.size() == 0) {
      expected = run.trainer.gradients();
      loss = got;
      REQUIRE(expected.cwiseAbs().maxCoeff() > 1e-3);
    }
    CHECK((run.trainer.gradients() - expected).cwiseAbs().maxCoeff() <
          1e-12 * expected.cwiseAbs().maxCoeff());
    CHECK(std::abs(got - loss) < 1e-12 * loss);
  }
}

TEST_CASE("The losses are those computed by hand from the episodes of the task",
          "[train][trainer]") {
  const Echo task;
  for (const Index shard : {1, 3, 7}) {
    TrainerOptions options = few();
    options.batch = 7;
    options.shard = shard;
    Run<Hebb, Echo> run(options, task);
    const double training =
        loss_by_hand(run.cell, task, {8, Random::Purpose::training}, 6, options.batch);
    CHECK(run.trainer.gradient(6) == Approx(training).epsilon(1e-13).margin(0));

    for (const auto purpose : {Random::Purpose::validation, Random::Purpose::test}) {
      double mean = 0;
      for (Index batch = 0; batch < 3; ++batch) {
        mean += loss_by_hand(run.cell, task, {21, purpose}, batch, options.batch) / 3;
      }
      CHECK(run.trainer.evaluate({21, purpose}, 3) == Approx(mean).epsilon(1e-13).margin(0));
      CHECK(mean != training);
    }
  }
}

TEST_CASE("A detailed evaluation tells the queries and the learning rate of every step",
          "[train][trainer]") {
  const CueReward task;
  TrainerOptions options = few();
  options.batch = 7;
  options.shard = 3;
  Run<Hebb, CueReward> run(options, task);
  const Random::Stream stream{21, Random::Purpose::test};
  const Evaluation got = run.trainer.evaluate_in_detail(stream, 2);
  CHECK(got.loss == Approx(run.trainer.evaluate(stream, 2)).epsilon(1e-13).margin(0));

  double square = 0, close = 0;
  Matrix<double> etas(20, 14);
  for (Index batch = 0; batch < 2; ++batch) {
    Episodes<double> episodes;
    task.generate(stream, static_cast<std::uint64_t>(batch), 0, 7, episodes);
    CellState<double> state = run.cell.initial_state(7);
    Matrix<double> output, eta;
    run.cell.run(state, episodes.inputs, output, &eta);
    const auto error = (output - episodes.targets).rightCols(70).array();
    square += error.square().sum() / 140;
    close += static_cast<double>((error.abs() < 0.05).count()) / 140;
    for (Index t = 0; t < 20; ++t) {
      etas.row(t).segment(batch * 7, 7) = eta.row(0).segment(t * 7, 7);
    }
  }
  CHECK(got.measure("query_error").mean() == Approx(square).epsilon(1e-12).margin(0));
  CHECK(got.measure("within_bound").mean() == Approx(close).epsilon(1e-12).margin(0));
  CHECK(close > 0);
  CHECK(error_of<std::invalid_argument>([&] { got.measure("accuracy"); }) ==
        "Evaluation::measure: name must be a measure of the objective: query_error within_bound, "
        "got accuracy");
  const std::vector<double> eta_mean = got.eta_mean(), eta_deviation = got.eta_deviation();
  REQUIRE(eta_mean.size() == 20);
  for (Index t = 0; t < 20; ++t) {
    const double mean = etas.row(t).mean();
    const double variance = (etas.row(t).array() - mean).square().mean();
    CHECK(eta_mean[static_cast<std::size_t>(t)] == Approx(mean).epsilon(1e-12).margin(0));
    CHECK(eta_deviation[static_cast<std::size_t>(t)] ==
          Approx(std::sqrt(variance)).epsilon(1e-4).margin(1e-9));
  }
}

TEST_CASE("An evaluation in detail needs a query", "[train][trainer]") {
  struct NoQuery : Echo {
    void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                  Episodes<double>& e) const {
      Echo::generate(stream, batch, first, samples, e);
      e.queries = Matrix<double>::Zero(1, e.weights.cols());
    }
  };
  Run<Hebb, NoQuery> run(few(), NoQuery());
  CHECK(error_of<std::invalid_argument>([&] { run.trainer.evaluate_in_detail({}, 1); }) ==
        "Trainer::evaluate_in_detail: the sum of the task's queries must be positive, got 0");
  CHECK(error_of<std::invalid_argument>([&] { run.trainer.step(-1); }) ==
        "Trainer::gradient: batch must be at least 0, got -1");
}

TEST_CASE("Where a task names no queries, all steps that count are queries", "[train][trainer]") {
  const Echo task;
  TrainerOptions options = few();
  options.batch = 4;
  Run<Hebb, Echo> run(options, task);
  const Random::Stream stream{21, Random::Purpose::test};
  Episodes<double> episodes;
  task.generate(stream, 0, 0, 4, episodes);
  CellState<double> state = run.cell.initial_state(4);
  Matrix<double> output;
  run.cell.run(state, episodes.inputs, output);
  const auto counted = episodes.weights.array().replicate(2, 1);
  const double expected =
      ((output - episodes.targets).array().square() * counted).sum() / (2 * episodes.weights.sum());
  CHECK(run.trainer.evaluate_in_detail(stream, 1).measure("query_error").mean() ==
        Approx(expected).epsilon(1e-12).margin(0));
}

TEST_CASE("The gradient is that of the loss by hand", "[train][trainer]") {
  const Echo task;
  Run<Hebb, Echo> run(few(), task);
  run.trainer.gradient(2);
  Parameters<double>& parameters = run.cell.parameters();
  const auto loss_at = [&](Index i, double value) {
    const double kept = std::exchange(parameters.values()(i), value);
    const double loss =
        loss_by_hand(run.cell, task, {8, Random::Purpose::training}, 2, few().batch);
    parameters.values()(i) = kept;
    return loss;
  };
  for (const ParameterBlock& block : parameters.blocks()) {
    for (const Index i : {block.offset, block.offset + block.size() - 1}) {
      INFO(block.name << " " << i - block.offset);
      const double value = parameters.values()(i), h = 1e-5;
      const double slope = (loss_at(i, value + h) - loss_at(i, value - h)) / (2 * h);
      CHECK(run.trainer.gradients()(i) == Approx(slope).epsilon(1e-6).margin(1e-9));
    }
  }
}

TEST_CASE("The loss falls on cue-reward", "[train][trainer]") {
  const CueReward task;
  Run<PlasticRNN<Hebbian, float>> run({.batch = 16, .threads = 1}, task, 5e-3, cell_for(task, 16));
  const Random::Stream validation{0, Random::Purpose::validation};
  const double before = run.trainer.evaluate(validation, 10);
  for (Index batch = 0; batch < 150; ++batch) run.trainer.step(batch);
  const double after = run.trainer.evaluate(validation, 10);
  INFO(before << " -> " << after);
  // The rewards have the variance 1 / 3.
  CHECK(before > 0.28);
  CHECK(before < 0.5);
  CHECK(after < 0.2);
  CHECK(after > 0.01);
}

TEST_CASE("A task and an optimizer of another kind train too", "[train][trainer]") {
  const Echo task;
  TrainerOptions options = few(200, 0);
  options.batch = 16;
  Run<Hebb, Echo, SGD<double>> run(options, task, 0.2);
  const Random::Stream validation{0, Random::Purpose::validation};
  const double before = run.trainer.evaluate(validation, 4);
  run.trainer.run();
  const double after = run.trainer.evaluate(validation, 4);
  INFO(before << " -> " << after);
  CHECK(after < 0.25 * before);
}

TEST_CASE("A step has the length of the gradient, or of the limit where that is less",
          "[train][trainer]") {
  for (const double limit : {1e-3, 1e3}) {
    TrainerOptions options = few();
    options.clip_norm = limit;
    Run<Hebb, Echo, SGD<double>> run(options, Echo(), 1.0);
    const Vector<double> start = run.weights();
    run.trainer.gradient(0);
    const Vector<double> gradient = run.trainer.gradients();
    REQUIRE(gradient.norm() > 1e-3);
    REQUIRE(gradient.norm() < 1e3);
    run.trainer.step(0);
    const Vector<double> step = start - run.weights();
    CHECK(step.norm() == Approx(std::min(gradient.norm(), limit)).epsilon(1e-9));
    CHECK(step.dot(gradient) == Approx(step.norm() * gradient.norm()).epsilon(1e-9));
  }
}

TEST_CASE("A random network keeps its slow weights in training and learns the rest",
          "[train][trainer]") {
  const CueReward task = small_task();
  CellOptions options = cell_for(task);
  options.random_network = true;
  Run<PlasticRNN<Gradient, double>> run(few(), task, 1e-2, options);
  const Parameters<double> start = run.cell.parameters();
  for (Index batch = 0; batch < 3; ++batch) run.trainer.step(batch);
  int frozen = 0;
  for (Index n = 0; n < static_cast<Index>(start.blocks().size()); ++n) {
    const bool changed = run.cell.parameters().matrix(n) != start.matrix(n);
    INFO(start.block(n).name);
    CHECK(changed == start.block(n).trainable);
    frozen += !start.block(n).trainable;
  }
  CHECK(frozen == 8);
}

TEST_CASE("A loss that is not finite is an error and the step changes nothing",
          "[train][trainer]") {
  TrainerOptions options = few();
  options.threads = 2;
  Run<Hebb> run(options, small_task());
  Run<Hebb> healthy(options, small_task());
  run.trainer.step(0);
  healthy.trainer.step(0);
  for (const double poison :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), 1e200}) {
    double& weight = run.cell.parameters().matrix("out_fc.bias")(0, 0);
    const double kept = std::exchange(weight, poison);
    const Vector<double> weights = run.weights();
    const Index steps = run.optimizer.steps();
    const Vector<double> moment = run.optimizer.moments()[0];
    const std::string error = error_of<NonFiniteLoss>([&] { run.trainer.step(1); });
    INFO(error);
    CHECK(mentions(error, "batch 1"));
    CHECK(same_bits(run.weights(), weights));
    CHECK(run.optimizer.steps() == steps);
    CHECK(same_bits(run.optimizer.moments()[0], moment));
    weight = kept;
  }
  // The failed step leaves no trace in the steps after it.
  for (Index batch = 1; batch < 3; ++batch) {
    CHECK(same_bits(run.trainer.step(batch), healthy.trainer.step(batch)));
  }
  CHECK(same_bits(run.weights(), healthy.weights()));
}

TEST_CASE("A run that diverges ends with an error and the weights before the failing batch",
          "[train][trainer]") {
  Run<PlasticRNN<Hebbian, float>> run(few(50, 0), small_task(), 1e30);
  struct Keep : TrainingCallback {
    explicit Keep(const Vector<float>& weights) : now(&weights), last(weights) {}
    void on_batch(const Progress& p) override {
      last = *now;
      done = p.batch;
    }
    const Vector<float>* now;
    Vector<float> last;
    Index done = 0;
  } keep(run.weights());
  const std::string error = error_of<NonFiniteLoss>([&] { run.trainer.run(keep); });
  INFO(error);
  CHECK(mentions(error, "batch " + std::to_string(keep.done)));
  CHECK(keep.done >= 1);
  CHECK(keep.done < 50);
  CHECK(same_bits(run.weights(), keep.last));
}

TEST_CASE("A run validates in the rhythm asked for and at its end", "[train][trainer]") {
  const auto story = [](const TrainerOptions& options) {
    Run<Hebb, Echo> run(options, Echo());
    Recorder recorder;
    const Progress end = run.trainer.run(recorder);
    CHECK(end.batch == options.batches);
    CHECK(end.batches == options.batches);
    return recorder.story();
  };
  CHECK(story(few(7, 3)) == "b1 b2 b3 v3 b4 b5 b6 v6 b7 v7 e7");
  CHECK(story(few(4, 2)) == "b1 b2 v2 b3 b4 v4 e4");
  CHECK(story(few(2, 1)) == "b1 v1 b2 v2 e2");
  CHECK(story(few(2, 100)) == "b1 b2 v2 e2");
  CHECK(story(few(3, 0)) == "b1 b2 b3 e3");
}

TEST_CASE("A run tells the losses of its batches and validations", "[train][trainer]") {
  Run<Hebb, Echo> run(few(5, 2), Echo());
  Run<Hebb, Echo> by_step(few(5, 2), Echo());
  Recorder recorder;
  const Progress end = run.trainer.run(recorder);
  double validation = std::numeric_limits<double>::quiet_NaN(), mean = 0, sum = 0, seconds = 0;
  int count = 0;
  for (const auto& [kind, told] : recorder.events) {
    INFO(kind << told.batch);
    if (kind == 'b') {
      const double loss = by_step.trainer.step(told.batch - 1);
      CHECK(same_bits(told.train_loss, loss));
      sum += loss;
      ++count;
    } else if (kind == 'v') {
      validation = by_step.trainer.evaluate({8, Random::Purpose::validation}, 2);
      mean = sum / std::exchange(count, 0);
      sum = 0;
      CHECK(told.train_loss == Approx(mean));
    } else {
      CHECK(told.train_loss == Approx(mean));
    }
    CHECK(std::isnan(told.validation_loss) == std::isnan(validation));
    if (!std::isnan(validation)) CHECK(same_bits(told.validation_loss, validation));
    CHECK(told.batches == 5);
    CHECK(told.seconds >= seconds);
    seconds = told.seconds;
  }
  CHECK(recorder.story() == "b1 b2 v2 b3 b4 v4 b5 v5 e5");
  CHECK(same_bits(end.validation_loss, validation));
  CHECK(same_bits(run.weights(), by_step.weights()));
}

TEST_CASE("A run ends early when it is asked to, after a last validation", "[train][trainer]") {
  const auto story = [](const TrainerOptions& options, int batches) {
    Run<Hebb, Echo> run(options, Echo());
    Recorder recorder;
    StopWhen stop([&] { return recorder.batches() == batches; });
    const Progress end = run.trainer.run(stop, recorder);
    CHECK(end.batch == batches);
    CHECK(end.batches == options.batches);
    return recorder.story();
  };
  CHECK(story(few(7, 3), 4) == "b1 b2 b3 v3 b4 v4 e4");
  CHECK(story(few(7, 3), 3) == "b1 b2 b3 v3 e3");
  CHECK(story(few(7, 0), 2) == "b1 b2 e2");
  CHECK(story(few(3, 2), 3) == "b1 b2 v2 b3 v3 e3");
}

TEST_CASE("An exception of a callback ends the run", "[train][trainer]") {
  Run<Hebb, Echo> run(few(), Echo());
  struct Throws : TrainingCallback {
    void on_validation(const Progress&) override { throw std::runtime_error("disk full"); }
  } throws;
  Recorder recorder;
  CHECK(error_of<std::runtime_error>([&] { run.trainer.run(recorder, throws); }) == "disk full");
  CHECK(recorder.story() == "b1 b2 b3 v3");
}

TEST_CASE("A run in two parts gives the bits of a run in one", "[train][trainer]") {
  Run<Hebb> whole(few(6, 0), small_task());
  whole.trainer.run();

  Run<Hebb> parts(few(4, 0), small_task());
  CHECK(parts.trainer.run().batch == 4);
  CHECK_FALSE(same_bits(parts.weights(), whole.weights()));
  Trainer rest(parts.cell, small_task(), parts.optimizer, few(6, 0));
  for (Index batch = 4; batch < 6; ++batch) rest.step(batch);
  CHECK(same_bits(parts.weights(), whole.weights()));
}

TEST_CASE("Another seed or batch gives other episodes and the same again the same",
          "[train][trainer]") {
  TrainerOptions options = few();
  Run<Hebb> one(options, small_task());
  const double loss = one.trainer.gradient(0);
  CHECK(one.trainer.gradient(1) != loss);
  CHECK(same_bits(one.trainer.gradient(0), loss));
  CHECK(one.trainer.evaluate({8, Random::Purpose::validation}, 1) != Approx(loss).epsilon(1e-6));
  CHECK(one.trainer.evaluate({8, Random::Purpose::training}, 1) == Approx(loss).epsilon(1e-12));
  options.seed = 9;
  Run<Hebb> other(options, small_task());
  REQUIRE(same_bits(one.weights(), other.weights()));
  CHECK(other.trainer.gradient(0) != loss);
}

TEST_CASE("KeepBest puts back the weights of the lowest validation loss", "[train][trainer]") {
  Parameters<double> parameters;
  parameters.add("p", 2, 1);
  int saved = 0;
  KeepBest<double> keep(parameters, [&] { ++saved; });
  CHECK_FALSE(keep.found());
  CHECK(mentions(error_of<std::invalid_argument>([&] { keep.restore(); }), "KeepBest::restore"));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Index batch = 0;
  for (const double loss : {nan, 3.0, 1.0, 2.0, 1.0, nan, 0.5 + 1.0}) {
    parameters.matrix(0).setConstant(static_cast<double>(batch));
    batch += 10;
    keep.on_validation({.batch = batch, .batches = 100, .validation_loss = loss});
  }
  CHECK(saved == 2);
  CHECK(keep.batch() == 30);
  CHECK(keep.loss() == 1);
  keep.restore();
  CHECK(parameters.matrix(0)(1, 0) == 20);
}

TEST_CASE("KeepBest gives back a network that validates as it did in the run", "[train][trainer]") {
  // A rate at which the loss goes up and down.
  Run<Hebb, Echo> run(few(12, 1), Echo(), 0.3);
  KeepBest<double> keep(run.cell.parameters());
  Recorder recorder;
  run.trainer.run(recorder, keep);
  double best = std::numeric_limits<double>::infinity();
  for (const Event& event : recorder.events) best = std::min(best, event.progress.validation_loss);
  CHECK(same_bits(keep.loss(), best));
  REQUIRE(keep.batch() < 12);
  const Random::Stream validation{8, Random::Purpose::validation};
  CHECK(run.trainer.evaluate(validation, 2) > best);
  keep.restore();
  CHECK(same_bits(run.trainer.evaluate(validation, 2), best));
}

TEST_CASE("Options of the trainer out of range are rejected by name", "[train][trainer]") {
  const auto error = [](const auto& change) {
    TrainerOptions options = few();
    change(options);
    return error_of<std::invalid_argument>([&] { Run<Hebb, Echo>(options, Echo()); });
  };
  const auto rejects = [](const std::string& message, const std::string& name) {
    INFO(message);
    CHECK(mentions(message, "TrainerOptions: " + name + " must be"));
  };
  for (const Index bad : {0, -1}) {
    rejects(error([&](TrainerOptions& o) { o.batch = bad; }), "batch");
    rejects(error([&](TrainerOptions& o) { o.batches = bad; }), "batches");
    rejects(error([&](TrainerOptions& o) { o.validation_batches = bad; }), "validation_batches");
  }
  for (const double bad : {0.0, -1.0, std::numeric_limits<double>::infinity(),
                           std::numeric_limits<double>::quiet_NaN()}) {
    rejects(error([&](TrainerOptions& o) { o.clip_norm = bad; }), "clip_norm");
  }
  rejects(error([](TrainerOptions& o) { o.validation_every = -1; }), "validation_every");
  rejects(error([](TrainerOptions& o) { o.threads = -1; }), "threads");
  rejects(error([](TrainerOptions& o) { o.shard = -1; }), "shard");
  CHECK(error([](TrainerOptions&) {}) == "no error");

  Run<Hebb, Echo> run(few(), Echo());
  const std::string message = error_of<std::invalid_argument>([&] {
    run.trainer.evaluate({0, Random::Purpose::test}, 0);
  });
  CHECK(mentions(message, "Trainer::evaluate: batches must be at least 1, got 0"));
}

TEST_CASE("The trainer chooses threads and shards where it is not told", "[train][trainer]") {
  TrainerOptions options = few();
  options.threads = 0;
  const Run<Hebb, Echo> run(options, Echo());
  CHECK(run.trainer.options().threads == available_threads());
  CHECK(run.trainer.options().shard >= 1);
  CHECK(run.trainer.options().shard <= options.batch);

  // Small networks share a pass up to the number that leaves 16 shards; the plain one needs no
  // more.
  options.batch = 64;
  CHECK(Run<Hebb, Echo>(options, Echo()).trainer.options().shard == 4);
  CHECK(Run<PlasticRNN<None, double>, Echo>(options, Echo()).trainer.options().shard == 8);
  options.shard = 5;
  CHECK(Run<Hebb, Echo>(options, Echo()).trainer.options().shard == 5);
}

TEST_CASE("A task whose sizes are not those of the cell is refused", "[train][trainer]") {
  const Echo task;
  for (const auto& [inputs, outputs] : {std::pair<Index, Index>{4, 2}, {3, 1}}) {
    CellOptions options = cell_for(task);
    options.inputs = inputs;
    options.outputs = outputs;
    const std::string error =
        error_of<std::invalid_argument>([&] { Run<Hebb, Echo>(few(), task, 1e-2, options); });
    INFO(error);
    CHECK(error ==
          (inputs != 3 ? "Trainer: the number of the cell's inputs must be 3, as many as the task "
                         "has, got 4"
                       : "Trainer: the number of the cell's outputs must be 2, as many as the task "
                         "has, got 1"));
  }
}

TEST_CASE("A task whose episodes do not fit is refused by name", "[train][trainer]") {
  struct Faulty : Echo {
    std::string_view fault;
    void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                  Episodes<double>& e) const {
      Echo::generate(stream, batch, first, samples, e);
      const auto shorten = [](Matrix<double>& m) { m.conservativeResize(m.rows(), m.cols() - 1); };
      if (fault == "inputs") shorten(e.inputs);
      if (fault == "targets") shorten(e.targets);
      if (fault == "weights") shorten(e.weights);
      if (fault == "queries") e.queries.setOnes(1, 1);
      if (fault == "one target") e.targets.conservativeResize(1, e.targets.cols());
      if (fault == "no weight") e.weights.setZero();
    }
  };
  for (const auto& [fault, expected] : std::vector<std::pair<std::string_view, std::string>>{
           {"inputs", "Trainer: the columns of the task's inputs must be steps * "},
           {"targets", "Trainer: the task's targets must be 2 x "},
           {"weights", "Trainer: the task's weights must be 1 x "},
           {"queries", "Trainer: the task's queries must be 1 x "},
           {"one target", "Trainer: the task's targets must be 2 x "},
           {"no weight", "Trainer: the sum of an episode's weights must be positive"}}) {
    Faulty task;
    task.fault = fault;
    TrainerOptions options = few();
    options.shard = 2;
    Run<Hebb, Faulty> run(options, task);
    const Vector<double> before = run.weights();
    const std::string step = error_of<std::invalid_argument>([&] { run.trainer.step(0); });
    INFO(fault << ": " << step);
    CHECK(mentions(step, expected));
    CHECK(error_of<std::invalid_argument>([&] {
            run.trainer.evaluate({0, Random::Purpose::validation}, 1);
          }) == step);
    CHECK(same_bits(run.weights(), before));
  }
}

TEST_CASE("An error in a shard reaches the caller of the step", "[train][trainer]") {
  // 2^56 is beyond what the numbers of a batch may be.
  TrainerOptions options = few();
  options.threads = 2;
  Run<Hebb> run(options, small_task());
  const Vector<double> weights = run.weights();
  const std::string error =
      error_of<std::invalid_argument>([&] { run.trainer.step(Index{1} << 56); });
  INFO(error);
  CHECK(mentions(error, "batch must be below 2^56"));
  CHECK(same_bits(run.weights(), weights));
}
