#include "plastic/io/checkpoint.hpp"

#include "plastic/cells/compiled.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/tasks/cue_reward.hpp"
#include "plastic/train/early_stopping.hpp"
#include "plastic/train/keep_best.hpp"
#include "plastic/train/trainer.hpp"
#include "readers.hpp"

namespace plastic::fuzz {
namespace {

using Cell = PlasticRNN<Hebbian, float>;

// What a Checkpoint does, without its file.
struct InMemory : TrainingCallback {
  void on_begin(ResumableRun& begun) override {
    run = &begun;
    if (from == nullptr) return;
    run->resume(*from, "the file", {});
    resumed = true;
  }
  void on_batch(const Progress& progress) override {
    state = run->state();
    done = progress.batch;
  }
  bool wants_stop() const override { return done >= 0; }
  bool comes_last() const override { return true; }

  const TensorFile* from = nullptr;
  ResumableRun* run = nullptr;
  TensorFile state;
  bool resumed = false;
  Index done = -1;
};

// One batch of a small run, which may go on from a file.
struct Run {
  Cell cell{{.inputs = 3, .hidden = 3, .outputs = 1, .extra = 1}};
  AdamW<float> optimizer{cell.parameters()};
  Trainer<EpisodeObjective<Cell, CueReward>, AdamW<float>> trainer{
      cell,
      CueReward({.cues = 2, .features = 1, .storage_steps = 2, .recall_steps = 1}),
      optimizer,
      {.batch = 2,
       .batches = 4,
       .schedule = CosineSchedule({.learning_rate = 1e-2, .warm_up = 2}),
       .validation_every = 2,
       .validation_batches = 1,
       .threads = 1,
       .shard = 2}};
  KeepBest<float> keep{cell.parameters()};
  EarlyStopping patience{{.patience = 3}};
  InMemory memory;

  void go(const TensorFile* from = nullptr) {
    memory.from = from;
    trainer.run(keep, patience, memory);
  }
};

void read(Bytes bytes) {
  const TensorFile file = parse_safetensors(bytes);
  Run run;
  const Vector<float> before = run.cell.parameters().values();
  try {
    run.go(&file);
  } catch (const std::invalid_argument&) {
    expect(run.memory.resumed || (run.cell.parameters().values() == before &&
                                  run.optimizer.steps() == 0 && !run.keep.found()),
           "a checkpoint that is refused changes nothing");
    throw;
  }
}

std::vector<std::string> seeds() {
  std::vector<std::string> all;
  TensorFile file;
  for (int batch = 0; batch < 4; ++batch) {
    Run run;
    run.go(all.empty() ? nullptr : &file);
    file = run.memory.state;
    all.push_back(safetensors_bytes(file));
  }
  return all;
}

}  // namespace

const Reader checkpoint{"checkpoint", read, seeds};

}  // namespace plastic::fuzz
