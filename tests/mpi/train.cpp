// Trains a small network on cue-reward, on the ranks that mpirun gives it or alone, and writes its
// weights and losses: what tests/mpi/run.sh compares.
//
//   train OUT RULE CELL THREADS BATCHES [checkpoint FILE] [throw RANK BATCH] [slow MILLISECONDS]

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "plastic/cells/compiled.hpp"
#include "plastic/core/atomic_file.hpp"
#include "plastic/io/checkpoint.hpp"
#include "plastic/mpi/communicator.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/rules/gradient.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/tasks/cue_reward.hpp"
#include "plastic/train/csv_log.hpp"
#include "plastic/train/keep_best.hpp"
#include "plastic/train/trainer.hpp"

namespace {

using namespace plastic;

struct Arguments {
  std::string out, rule, cell, checkpoint;
  int threads = 1;
  Index batches = 50;
  int throwing_rank = -1;
  Index throwing_batch = 0;
  int pause = 0;  // milliseconds between two batches
};

// Cue-reward, of which one rank refuses a batch.
class Task : public CueReward {
 public:
  Task(const Arguments& arguments, int rank)
      : CueReward({.cues = 3, .features = 8, .storage_steps = 6, .recall_steps = 4}),
        refuses_(arguments.throwing_rank == rank ? arguments.throwing_batch : -1) {}

  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& episodes) const {
    if (stream.purpose == Random::Purpose::training && static_cast<Index>(batch) == refuses_) {
      throw std::runtime_error("this rank refuses batch " + std::to_string(batch));
    }
    CueReward::generate(stream, batch, first, samples, episodes);
  }

 private:
  Index refuses_;
};

class Pause : public TrainingCallback {
 public:
  explicit Pause(int milliseconds) : milliseconds_(milliseconds) {}
  void on_batch(const Progress&) override {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds_));
  }

 private:
  int milliseconds_;
};

template <class Cell>
void train(const Arguments& arguments, Communicator* ranks) {
  const Task task(arguments, ranks == nullptr ? 0 : ranks->rank());
  Cell cell({.inputs = task.inputs(), .hidden = 12, .outputs = task.outputs(), .seed = 3});
  AdamW<float> optimizer(cell.parameters(), {.learning_rate = 1e-2});
  Trainer trainer(cell, task, optimizer,
                  {.batch = 33,
                   .batches = arguments.batches,
                   .validation_every = 20,
                   .validation_batches = 3,
                   .seed = 7,
                   .threads = arguments.threads,
                   .shard = 2,
                   .communicator = ranks});
  KeepBest<float> keep(cell.parameters());
  CsvLog log(arguments.out + ".csv");
  std::vector<TrainingCallback*> callbacks{&keep, &log};
  Pause pause(arguments.pause);
  if (arguments.pause > 0) callbacks.push_back(&pause);
  std::unique_ptr<Checkpoint> checkpoint;
  if (!arguments.checkpoint.empty()) {
    checkpoint = std::make_unique<Checkpoint>(arguments.checkpoint, CheckpointOptions{.every = 1});
    callbacks.push_back(checkpoint.get());
  }
  const Progress end = trainer.run(callbacks);

  // Every rank has the weights; one writes.
  std::string bytes(reinterpret_cast<const char*>(cell.parameters().values().data()),
                    static_cast<std::size_t>(cell.parameters().size()) * sizeof(float));
  for (const double loss : {end.validation_loss, trainer.evaluate({0, Random::Purpose::test}, 3)}) {
    bytes.append(reinterpret_cast<const char*>(&loss), sizeof(loss));
  }
  if (ranks != nullptr && detail::broadcast_text(*ranks, bytes) != bytes) {
    throw std::runtime_error("these weights or losses are not those of rank 0");
  }
  if (detail::leads(ranks)) write_file_atomically(arguments.out, bytes);
}

template <template <class, class> class Cell>
void train_rule(const Arguments& arguments, Communicator* ranks) {
  if (arguments.rule == "hebbian") {
    train<Cell<Hebbian, float>>(arguments, ranks);
  } else {
    train<Cell<Gradient, float>>(arguments, ranks);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return on_all_ranks("train", [&](Communicator* ranks) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    Arguments arguments{
        .out = words.at(0), .rule = words.at(1), .cell = words.at(2), .checkpoint = {}};
    arguments.threads = std::stoi(words.at(3));
    arguments.batches = std::stoi(words.at(4));
    for (std::size_t k = 5; k < words.size(); ++k) {
      if (words[k] == "checkpoint") arguments.checkpoint = words.at(++k);
      if (words[k] == "slow") arguments.pause = std::stoi(words.at(++k));
      if (words[k] == "throw") {
        arguments.throwing_rank = std::stoi(words.at(++k));
        arguments.throwing_batch = std::stoi(words.at(++k));
      }
    }
    if (arguments.cell == "rnn") {
      train_rule<PlasticRNN>(arguments, ranks);
    } else {
      train_rule<PlasticLSTM>(arguments, ranks);
    }
    return 0;
  });
}
