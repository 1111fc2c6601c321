#include "plastic/io/checkpoint.hpp"

#include <catch2/catch.hpp>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "plastic/cells/compiled.hpp"
#include "plastic/io/model_file.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/optim/sgd.hpp"
#include "plastic/rules/gradient.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/tasks/cue_reward.hpp"
#include "plastic/tasks/sampled_task.hpp"
#include "plastic/train/csv_log.hpp"
#include "plastic/train/early_stopping.hpp"
#include "plastic/train/keep_best.hpp"
#include "plastic/train/trainer.hpp"
#include "support/process.hpp"

using namespace plastic;
using Catch::Matchers::Contains;
using plastic::testing::content;
using plastic::testing::Folder;
using plastic::testing::losses;
using plastic::testing::rows_of;
using plastic::testing::same_checkpoints;

namespace {

CueReward small_task(double noise = 0.1) {
  return CueReward(
      {.cues = 2, .features = 3, .storage_steps = 3, .recall_steps = 2, .noise = noise});
}

TrainerOptions small_run(Index batches = 20) {
  return {.batch = 4,
          .batches = batches,
          .validation_every = 5,
          .validation_batches = 2,
          .threads = 1,
          .shard = 2};
}

CellOptions small_cell(Index hidden = 7) { return {.inputs = 5, .hidden = hidden, .seed = 3}; }

/// Ends a run at a batch as a kill would: nothing more is written.
struct Killer : TrainingCallback {
  explicit Killer(Index batch) : at(batch) {}
  void on_batch(const Progress& p) override {
    if (p.batch == at) throw std::runtime_error("killed");
  }
  Index at;
};

// A training run with all that is written beside it.
template <class Optimizer, class LossType = SquaredError>
struct Run {
  using Cell = PlasticRNN<Hebbian, float>;

  Run(const std::filesystem::path& folder, const TrainerOptions& options,
      const CueReward& task = small_task(), Index hidden = 7, CheckpointOptions kept = {},
      std::optional<Optimizer> other = {})
      : cell(small_cell(hidden)),
        optimizer(other ? *other : Optimizer(cell.parameters())),
        trainer(cell, task, LossType(), optimizer, options),
        keep(cell.parameters()),
        log(folder / "progress.csv"),
        stop({.patience = 3}),
        checkpoint(folder / "checkpoint.safetensors", kept) {}

  void go() { trainer.run(checkpoint, log, keep, stop); }
  void go_until(Index batch) {
    CHECK_THROWS_WITH(trainer.run(checkpoint, log, Killer(batch), keep, stop), "killed");
  }

  Cell cell;
  Optimizer optimizer;
  Trainer<EpisodeObjective<Cell, CueReward, LossType>, Optimizer> trainer;
  KeepBest<float> keep;
  CsvLog log;
  EarlyStopping stop;
  Checkpoint checkpoint;
};

}  // namespace

TEMPLATE_TEST_CASE("A run that goes on from a checkpoint has the bits of one never cut off",
                   "[io][checkpoint]", AdamW<float>, SGD<float>) {
  const Folder whole, parts;
  TrainerOptions options = small_run();
  options.schedule = CosineSchedule({.learning_rate = 1e-2, .floor = 1e-4, .warm_up = 3});
  Run<TestType> expected(whole.path(), options);
  expected.go();
  for (const Index until : {3, 7, 12, 18, 0}) {
    Run<TestType> run(parts.path(), options);
    if (until > 0) {
      run.go_until(until);
      continue;
    }
    run.go();
    CHECK(run.cell.parameters().values() == expected.cell.parameters().values());
    CHECK(run.keep.best() == expected.keep.best());
    CHECK(run.keep.loss() == expected.keep.loss());
    CHECK(run.keep.batch() == expected.keep.batch());
  }
  CHECK(same_checkpoints(whole / "checkpoint.safetensors", parts / "checkpoint.safetensors"));
  CHECK(losses(parts / "progress.csv") == losses(whole / "progress.csv"));
  const auto rows = rows_of(content(parts / "progress.csv"));
  REQUIRE(rows.size() == 4);
  for (std::size_t i = 1; i < rows.size(); ++i) CHECK(rows[i].seconds >= rows[i - 1].seconds);
}

TEST_CASE("A checkpoint between two validations keeps the losses since the last one",
          "[io][checkpoint]") {
  const Folder whole, parts;
  Run<AdamW<float>>(whole.path(), small_run()).go();
  const CheckpointOptions often{.every = 1};
  for (const Index until : {4, 8, 13}) {
    Run<AdamW<float>>(parts.path(), small_run(), small_task(), 7, often).go_until(until);
  }
  // A checkpoint that is written just before a validation makes up for it on resuming.
  struct InValidation : TrainingCallback {
    void on_validation(const Progress&) override { throw std::runtime_error("killed"); }
  } killer;
  Run<AdamW<float>> late(parts.path(), small_run(), small_task(), 7, often);
  CHECK_THROWS_WITH(late.trainer.run(killer, late.keep, late.log, late.stop, late.checkpoint),
                    "killed");
  CHECK(read_safetensors(parts / "checkpoint.safetensors").metadata.at("state.batches_done") ==
        "15");
  Run<AdamW<float>>(parts.path(), small_run(), small_task(), 7, often).go();
  CHECK(losses(parts / "progress.csv") == losses(whole / "progress.csv"));
}

TEST_CASE("A learning rate that a callback changes is in force after a resume",
          "[io][checkpoint]") {
  struct Falling : TrainingCallback {
    explicit Falling(AdamW<float>& o) : optimizer(&o) {}
    void on_validation(const Progress&) override {
      optimizer->set_learning_rate(optimizer->learning_rate() / 2);
    }
    AdamW<float>* optimizer;
  };
  const auto train = [](const std::filesystem::path& folder, Index until) {
    Run<AdamW<float>> run(folder, small_run());
    Falling falling(run.optimizer);
    Killer killer(until);
    if (until > 0) {
      CHECK_THROWS(run.trainer.run(falling, run.checkpoint, killer));
    } else {
      run.trainer.run(run.checkpoint, falling);
    }
    return run.cell.parameters().values();
  };
  const Folder whole, parts;
  const Vector<float> expected = train(whole.path(), 0);
  train(parts.path(), 12);
  CHECK(train(parts.path(), 0) == expected);
}

TEST_CASE("Early stopping goes on with the patience that it had, and has stopped for good",
          "[io][checkpoint]") {
  const Folder folder, whole;
  TrainerOptions options = small_run(200);
  Run<SGD<float>> expected(
      whole.path(), options, small_task(), 7, {},
      SGD<float>(PlasticRNN<Hebbian, float>(small_cell()).parameters(), {.learning_rate = 0}));
  expected.go();  // a loss that never improves: one validation and three more
  CHECK(rows_of(content(whole / "progress.csv")).size() == 4);
  const auto run = [&](Index until) {
    Run<SGD<float>> part(
        folder.path(), options, small_task(), 7, {},
        SGD<float>(PlasticRNN<Hebbian, float>(small_cell()).parameters(), {.learning_rate = 0}));
    until > 0 ? part.go_until(until) : part.go();
  };
  run(7);
  run(13);
  run(0);
  CHECK(losses(folder / "progress.csv") == losses(whole / "progress.csv"));
  run(0);
  CHECK(losses(folder / "progress.csv") == losses(whole / "progress.csv"));
}

TEST_CASE("A log that is gone, behind or ahead of its checkpoint is as the checkpoint has it",
          "[io][checkpoint]") {
  const Folder whole, folder;
  Run<AdamW<float>>(whole.path(), small_run()).go();
  const std::string left = GENERATE("gone", "behind", "ahead", "strange");
  Run<AdamW<float>>(folder.path(), small_run()).go_until(12);
  const auto path = folder / "progress.csv";
  const std::string text = content(path);
  if (left == "gone") std::filesystem::remove(path);
  if (left == "behind") plastic::testing::write_plainly(path, text.substr(0, text.find('\n') + 1));
  if (left == "ahead") plastic::testing::write_plainly(path, text + "15,1,1,1,1,1\n");
  if (left == "strange") plastic::testing::write_plainly(path, "something else\n");
  Run<AdamW<float>>(folder.path(), small_run()).go();
  CHECK(losses(path) == losses(whole / "progress.csv"));
}

TEST_CASE("A run with other settings is refused by the name of the first that differs",
          "[io][checkpoint]") {
  const Folder folder;
  const auto path = folder / "checkpoint.safetensors";
  Run<AdamW<float>>(folder.path(), small_run(5)).go();
  const std::string before = content(path);

  const auto check_refused = [&](auto& run, const std::string& name) {
    const Vector<float> weights = run.cell.parameters().values();
    CHECK_THROWS_WITH(run.go(),
                      Contains("Checkpoint: \"" + name + "\" in " + path.string() + " must be "));
    CHECK(run.cell.parameters().values() == weights);
    CHECK(run.optimizer.steps() == 0);
    CHECK_FALSE(run.keep.found());
    CHECK(content(path) == before);
  };
  const auto with = [&](auto&& change, const std::string& name) {
    TrainerOptions options = small_run(5);
    change(options);
    Run<AdamW<float>> run(folder.path(), options);
    check_refused(run, name);
  };
  with([](TrainerOptions& o) { o.seed = 1; }, "training.seed");
  with([](TrainerOptions& o) { o.batch = 6; }, "training.batch");
  with([](TrainerOptions& o) { o.clip_norm = 4; }, "training.clip_norm");
  with([](TrainerOptions& o) { o.shard = 1; }, "training.shard");
  with([](TrainerOptions& o) { o.validation_every = 1; }, "training.validation_every");
  with([](TrainerOptions& o) { o.validation_batches = 3; }, "training.validation_batches");
  with([](TrainerOptions& o) { o.schedule = CosineSchedule({}); }, "schedule");
  with([](TrainerOptions& o) { o.schedule = [](Index) { return 1e-3; }; }, "schedule");

  const auto with_optimizer = [&](const AdamWOptions& o, const std::string& name) {
    const PlasticRNN<Hebbian, float> cell(small_cell());
    Run<AdamW<float>> run(folder.path(), small_run(5), small_task(), 7, {},
                          AdamW<float>(cell.parameters(), o));
    check_refused(run, name);
  };
  with_optimizer({.learning_rate = 2e-3}, "optimizer.learning_rate");
  with_optimizer({.beta1 = 0.8}, "optimizer.beta1");
  with_optimizer({.beta2 = 0.99}, "optimizer.beta2");
  with_optimizer({.epsilon = 1e-7}, "optimizer.epsilon");
  with_optimizer({.weight_decay = 1e-3}, "optimizer.weight_decay");
  with_optimizer({.amsgrad = false}, "optimizer.amsgrad");
  Run<SGD<float>> sgd(folder.path(), small_run(5));
  check_refused(sgd, "optimizer");

  Run<AdamW<float>> task(folder.path(), small_run(5), small_task(0.2));
  check_refused(task, "task.noise");
  Run<AdamW<float>> wider(folder.path(), small_run(5), small_task(), 8);
  check_refused(wider, "hidden");
  Run<AdamW<float>, BinaryCrossEntropy> loss(folder.path(), small_run(5));
  check_refused(loss, "loss");

  Run<AdamW<float>> frozen(folder.path(), small_run(5));
  frozen.cell.parameters().freeze(0);
  check_refused(frozen, "training.frozen");
  Run<AdamW<float>> fewer(folder.path(), small_run(5));
  CHECK_THROWS_WITH(fewer.trainer.run(fewer.keep, fewer.log, fewer.checkpoint),
                    Contains("\"callbacks\"") && Contains("early_stopping"));
  EarlyStopping patient({.patience = 4});
  CHECK_THROWS_WITH(fewer.trainer.run(fewer.keep, fewer.log, patient, fewer.checkpoint),
                    Contains("\"early_stopping.patience\""));

  SECTION("the number of threads and of batches may differ") {
    TrainerOptions options = small_run(10);
    options.threads = 2;
    Run<AdamW<float>> more(folder.path(), options);
    more.go();
    CHECK(more.optimizer.steps() == 10);
  }
  SECTION("what the caller allows may differ") {
    const PlasticRNN<Hebbian, float> cell(small_cell());
    Run<AdamW<float>> run(folder.path(), small_run(10), small_task(), 7,
                          {.allow = {"optimizer.learning_rate"}},
                          AdamW<float>(cell.parameters(), {.learning_rate = 2e-3}));
    run.go();
    CHECK(run.optimizer.learning_rate() == 2e-3);
    Run<AdamW<float>> unknown(folder.path(), small_run(10), small_task(), 7, {.allow = {"lr"}});
    CHECK_THROWS_WITH(unknown.go(),
                      Contains("CheckpointOptions::allow must be a setting of the run, got lr"));
    CHECK(run.optimizer.steps() == 10);
  }
}

TEST_CASE("A task or a loss that is only a function is known by what it gives",
          "[io][checkpoint]") {
  const Folder folder;
  const auto train = [&](double scale, double power) {
    const SampledTask task({.inputs = 2, .outputs = 1, .steps = 3}, [=](Random& random, auto e) {
      e.input(0)[0] = static_cast<float>(scale * random.uniform(-1, 1));
      e.target(2) = e.input(0).topRows(1);
      e.weight(2) = 1;
    });
    const auto loss = [=](auto&, auto output, auto target, auto weight) {
      return sum(sum_features(pow(abs(output - target) + 1e-3, power)) * weight);
    };
    PlasticRNN<Hebbian, double> cell({.inputs = 2, .hidden = 4});
    AdamW<double> optimizer(cell.parameters());
    Trainer trainer(cell, task, loss, optimizer, small_run(5));
    Checkpoint checkpoint(folder / "checkpoint.safetensors");
    trainer.run(checkpoint);
  };
  train(1, 1.5);
  CHECK_NOTHROW(train(1, 1.5));
  CHECK_THROWS_WITH(train(2, 1.5), Contains("\"tasks_first_episodes\""));
  CHECK_THROWS_WITH(train(1, 2.5), Contains("\"loss.value\""));
}

TEST_CASE("A damaged checkpoint is refused whole", "[io][checkpoint]") {
  const Folder folder;
  const auto path = folder / "checkpoint.safetensors";
  Run<AdamW<float>>(folder.path(), small_run(5)).go();
  const TensorFile whole = read_safetensors(path);
  const auto check_refused = [&](const std::string& word) {
    Run<AdamW<float>> run(folder.path(), small_run());
    const Vector<float> before = run.cell.parameters().values();
    CHECK_THROWS_WITH(run.go(), Contains(word));
    CHECK(run.cell.parameters().values() == before);
    CHECK(run.optimizer.steps() == 0);
    CHECK_FALSE(run.keep.found());
  };
  SECTION("a truncated file") {
    const std::string bytes = content(path);
    plastic::testing::write_plainly(path, bytes.substr(0, bytes.size() - 9));
    check_refused("checkpoint.safetensors");
  }
  SECTION("a model file") {
    save(path, PlasticRNN<Hebbian, float>(small_cell()));
    check_refused("checkpoint.safetensors");
  }
  SECTION("a missing tensor or text, whichever it is") {
    for (const auto& [name, tensor] : whole.tensors) {
      TensorFile file = whole;
      file.tensors.erase(name);
      write_safetensors(path, file);
      check_refused(name);
    }
    for (const auto& [name, text] : whole.metadata) {
      TensorFile file = whole;
      file.metadata.erase(name);
      write_safetensors(path, file);
      check_refused(name);
    }
  }
}

TEST_CASE("A finished run that is started again keeps its log and its best weights",
          "[io][checkpoint]") {
  const CheckpointOptions kept{.every = GENERATE(Index{0}, Index{7})};
  const Folder folder;
  const auto go = [&] {
    Run<AdamW<float>> run(folder.path(), small_run(), small_task(), 7, kept);
    run.go();
    CHECK(run.keep.found());
    return content(folder / "progress.csv");
  };
  const std::string text = go();
  CHECK(rows_of(text).size() == 4);
  for (int k = 0; k < 3; ++k) CHECK(go() == text);
  std::filesystem::remove(folder / "progress.csv");
  CHECK(go() == text);
}

TEST_CASE("Counts in a checkpoint that cannot be are refused, and nothing changes",
          "[io][checkpoint]") {
  const Folder folder;
  const auto path = folder / "checkpoint.safetensors";
  Run<AdamW<float>>(folder.path(), small_run(5)).go();
  const TensorFile whole = read_safetensors(path);
  for (const auto& [name, value] :
       std::vector<std::pair<std::string, std::string>>{{"state.batches_done", "-1"},
                                                        {"state.recent_batches", "-2"},
                                                        {"state.recent_batches", "6"},
                                                        {"state.optimizer_steps", "-1"},
                                                        {"state.learning_rate", "nan"},
                                                        {"state.keep_best.batch", "-3"},
                                                        {"state.keep_best.loss", "nan"},
                                                        {"state.early_stopping.waited", "-9"},
                                                        {"state.early_stopping.best", "nan"}}) {
    INFO(name << " " << value);
    TensorFile file = whole;
    REQUIRE(file.metadata.contains(name));
    file.metadata[name] = value;
    write_safetensors(path, file);
    Run<AdamW<float>> run(folder.path(), small_run());
    const Vector<float> before = run.cell.parameters().values();
    CHECK_THROWS_AS(run.go(), std::invalid_argument);
    CHECK(run.cell.parameters().values() == before);
    CHECK(run.optimizer.steps() == 0);
    CHECK_FALSE(run.keep.found());
  }
}

TEST_CASE("Callbacks that cannot be are refused by name", "[io][checkpoint]") {
  const Folder folder;
  CHECK_THROWS_WITH(Checkpoint(""), Contains("Checkpoint: path must be the name of a file"));
  CHECK_THROWS_WITH(Checkpoint("x", {.every = -1}), Contains("every"));
  CHECK_THROWS_WITH(StopWhen({}), Contains("StopWhen: the function"));
  CHECK_THROWS_WITH(Checkpoint("x").on_validation({}), Contains("Trainer::run"));
  Run<AdamW<float>> run(folder.path(), small_run());
  const std::vector<TrainingCallback*> none{nullptr};
  CHECK_THROWS_WITH(run.trainer.run(none), Contains("nullptr"));
}

TEST_CASE("An objective may not have settings of the trainer's names", "[io][checkpoint]") {
  struct Mine : EpisodeObjective<PlasticRNN<Hebbian, float>, CueReward> {
    using EpisodeObjective::EpisodeObjective;
    Settings settings() const { return {{"optimizer.beta1", "mine"}}; }
  };
  PlasticRNN<Hebbian, float> cell(small_cell());
  AdamW<float> optimizer(cell.parameters());
  Mine objective(cell, small_task());
  Trainer trainer(objective, optimizer, small_run());
  CHECK_THROWS_WITH(trainer.settings(5), Contains("optimizer.beta1"));
}

TEMPLATE_TEST_CASE("Every rule and cell goes on with its bits", "[io][checkpoint]",
                   (PlasticRNN<Gradient, double>), (PlasticLSTM<Hebbian, double>),
                   (PlasticLSTM<Gradient, float>)) {
  const auto train = [](const std::filesystem::path& folder, Index until) {
    using Scalar = typename TestType::ScalarType;
    TestType cell(small_cell());
    AdamW<Scalar> optimizer(cell.parameters());
    Trainer trainer(cell, small_task(), optimizer, small_run());
    Checkpoint checkpoint(folder / "checkpoint.safetensors");
    Killer killer(until);
    if (until > 0) {
      CHECK_THROWS(trainer.run(killer, checkpoint));
    } else {
      trainer.run(checkpoint);
    }
    return cell.parameters().values();
  };
  const Folder whole, parts;
  const auto expected = train(whole.path(), 0);
  train(parts.path(), 7);
  train(parts.path(), 11);
  CHECK(train(parts.path(), 0) == expected);
}

TEST_CASE("A program that changes its folder during a run finds its files where they were named",
          "[io][checkpoint]") {
  const Folder here, elsewhere;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(here.path());
  const CueReward task;
  PlasticRNN<Hebbian, float> net({.inputs = task.inputs(), .hidden = 4});
  AdamW<float> optimizer(net.parameters());
  Trainer trainer(net, task, optimizer,
                  {.batch = 4, .batches = 2, .validation_every = 1, .validation_batches = 1});
  CsvLog log("log.csv");
  Checkpoint checkpoint("checkpoint.safetensors");
  std::filesystem::current_path(elsewhere.path());
  trainer.run(log, checkpoint);
  CHECK(checkpoint.exists());
  std::filesystem::current_path(before);
  CHECK(std::filesystem::exists(here / "log.csv"));
  CHECK(std::filesystem::exists(here / "checkpoint.safetensors"));
  CHECK(std::filesystem::is_empty(elsewhere.path()));
}
