#include "plastic/io/checkpoint.hpp"

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "plastic/cells/rnn.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/optim/sgd.hpp"
#include "plastic/rules/gradient.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/tasks/cue_reward.hpp"
#include "plastic/train/csv_log.hpp"
#include "plastic/train/trainer.hpp"
#include "process.hpp"

using namespace plastic;
using plastic::testing::content;
using plastic::testing::Folder;
using plastic::testing::rows_of;

namespace {

// A training run with all that is written beside it.
template <class Optimizer>
struct Run {
  using Cell = PlasticRNN<Hebbian, float>;

  Run(const std::filesystem::path& folder, Index batches, Index hidden = 7)
      : cell({.inputs = 16, .hidden = hidden, .seed = 3}),
        optimizer(cell.parameters()),
        trainer(cell, CueReward(), optimizer,
                {.batch = 4, .batches = batches, .validation_every = 5, .validation_batches = 2}),
        keep(cell.parameters()),
        log(folder / "progress.csv"),
        checkpoint(folder / "checkpoint.safetensors", cell, optimizer, keep) {}

  void go() {
    const Index first = checkpoint.exists() ? checkpoint.resume() : 0;
    if (first > 0) log.resume(first);
    TrainingCallback* callbacks[] = {&keep, &log, &checkpoint};
    trainer.run(callbacks, first);
  }

  Cell cell;
  Optimizer optimizer;
  Trainer<Cell, CueReward, Optimizer> trainer;
  KeepBest<float> keep;
  CsvLog log;
  Checkpoint<Cell, Optimizer> checkpoint;
};

// The rows without the seconds, which differ from run to run.
std::vector<std::string> losses(const std::filesystem::path& csv) {
  std::vector<std::string> rows;
  std::istringstream lines(content(csv));
  for (std::string line; std::getline(lines, line);)
    rows.push_back(line.substr(0, line.rfind(',')));
  return rows;
}

}  // namespace

TEMPLATE_TEST_CASE("A run that goes on from a checkpoint has the bits of one never cut off",
                   "[checkpoint]", AdamW<float>, SGD<float>) {
  const Folder whole, parts;
  Run<TestType> expected(whole.path(), 20);
  expected.go();
  for (const Index batches : {5, 10, 20}) {
    Run<TestType> run(parts.path(), batches);
    run.go();
    if (batches < 20) continue;
    CHECK(run.cell.parameters().values() == expected.cell.parameters().values());
    CHECK(run.keep.best() == expected.keep.best());
    CHECK(run.keep.loss() == expected.keep.loss());
    CHECK(run.keep.batch() == expected.keep.batch());
  }
  CHECK(content(parts / "checkpoint.safetensors") == content(whole / "checkpoint.safetensors"));
  CHECK(losses(parts / "progress.csv") == losses(whole / "progress.csv"));
  const auto rows = rows_of(content(parts / "progress.csv"));
  REQUIRE(rows.size() == 4);
  for (std::size_t i = 1; i < rows.size(); ++i) CHECK(rows[i].seconds >= rows[i - 1].seconds);
}

TEST_CASE("A checkpoint is refused where it does not fit, and nothing changes", "[checkpoint]") {
  const Folder folder;
  const auto path = folder / "checkpoint.safetensors";
  Run<AdamW<float>>(folder.path(), 5).go();

  const auto check_refused = [&](auto& run, const std::string& word) {
    const Vector<float> before = run.cell.parameters().values();
    CHECK_THROWS_WITH(run.checkpoint.resume(), Catch::Matchers::Contains(word));
    CHECK(run.cell.parameters().values() == before);
    CHECK(run.optimizer.steps() == 0);
    CHECK_FALSE(run.keep.found());
  };
  SECTION("other settings") {
    Run<AdamW<float>> wider(folder.path(), 5, 8);
    check_refused(wider, "\"hidden\"");
  }
  SECTION("another optimizer") {
    SGDOptions with_momentum;
    with_momentum.momentum = 0.9;
    Run<AdamW<float>> run(folder.path(), 5);
    SGD<float> sgd(run.cell.parameters(), with_momentum);
    Checkpoint<PlasticRNN<Hebbian, float>, SGD<float>> other(path, run.cell, sgd, run.keep);
    CHECK_THROWS_WITH(other.resume(), Catch::Matchers::Contains("optimizer.momentum"));
    SGD<float> plain(run.cell.parameters());
    Checkpoint<PlasticRNN<Hebbian, float>, SGD<float>> without(path, run.cell, plain, run.keep);
    CHECK_THROWS_WITH(without.resume(), Catch::Matchers::Contains("optimizer"));
  }
  SECTION("another rule") {
    PlasticRNN<Gradient, float> cell({.inputs = 16, .hidden = 7, .seed = 3});
    AdamW<float> optimizer(cell.parameters());
    KeepBest<float> keep(cell.parameters());
    Checkpoint checkpoint(path, cell, optimizer, keep);
    CHECK_THROWS_WITH(checkpoint.resume(), Catch::Matchers::Contains("rule"));
  }
  SECTION("a truncated file") {
    const std::string bytes = content(path);
    plastic::testing::write_plainly(path, bytes.substr(0, bytes.size() - 9));
    Run<AdamW<float>> run(folder.path(), 5);
    check_refused(run, "checkpoint.safetensors");
  }
  SECTION("a model file without an optimizer") {
    Run<AdamW<float>> run(folder.path(), 5);
    save(path, run.cell);
    check_refused(run, "optimizer");
  }
}

TEST_CASE("A log goes on only from a row that it has", "[checkpoint]") {
  const Folder folder;
  const auto path = folder / "progress.csv";
  CsvLog log(path);
  CHECK_THROWS_WITH(log.resume(5), Catch::Matchers::Contains("progress.csv"));
  plastic::testing::write_plainly(path, "something else\n");
  CHECK_THROWS_WITH(log.resume(5), Catch::Matchers::Contains("not a log"));
  plastic::testing::write_plainly(
      path, "batch,train_loss,validation_loss,seconds\n5,0.5,0.4,1.5\n10,0.3,0.2,2.5\n");
  CHECK_THROWS_WITH(log.resume(7), Catch::Matchers::Contains("batch 7"));
  CHECK_THROWS_WITH(log.resume(15), Catch::Matchers::Contains("batch 15"));

  log.resume(5);
  Progress progress;
  progress.batch = 10;
  progress.train_loss = 0.25;
  progress.validation_loss = 0.125;
  progress.seconds = 1;
  log.on_validation(progress);
  CHECK(content(path) ==
        "batch,train_loss,validation_loss,seconds\n5,0.5,0.4,1.5\n10,0.25,0.125,2.5\n");
}
