// A whole training run: learning-rate schedule, early stop, best weights, log, bar, Ctrl-C, and a
// checkpoint, from which the same command goes on after it was killed.

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <exception>
#include <iostream>

#include "arguments.hpp"
#include "plastic/io/checkpoint.hpp"
#include "plastic/io/model_file.hpp"
#include "plastic/plastic.hpp"
using namespace plastic;

std::atomic<bool> interrupted = false;

int main(int argc, char** argv) try {
  const int batches = examples::read_arguments(
      argc, argv,
      "Trains a network on the cue-reward task; continues an earlier run in this folder that\n"
      "was stopped.\n"
      "Writes train.csv, train.safetensors (the best weights) and train.checkpoint.",
      3000);
  // The signal stays ignored if the caller ignores it, as a script does for programs that it runs
  // in the background.
  if (std::signal(SIGINT, [](int) { interrupted = true; }) == SIG_IGN) {
    std::signal(SIGINT, SIG_IGN);
  }
  const CueReward task;
  PlasticRNN<Hebbian, float> net({.inputs = task.inputs(), .hidden = 64});
  AdamW<float> optimizer(net.parameters());
  Trainer trainer(net, task, optimizer,
                  {.batches = batches,
                   .schedule = CosineSchedule({.learning_rate = 2e-3, .warm_up = 100}),
                   .validation_every = 100});
  ProgressBar bar(std::cout, "cue-reward", ::isatty(STDOUT_FILENO) != 0);
  CsvLog log("train.csv");
  KeepBest<float> best(net.parameters(), [&] { save("train.safetensors", net); });
  EarlyStopping patience({.patience = 10});
  Checkpoint checkpoint("train.checkpoint");
  const Progress end = trainer.run(bar, log, best, patience, checkpoint,
                                   StopWhen([] { return interrupted.load(); }));
  best.restore();
  std::cout << "stopped after " << end.batch << " batches; best after " << best.batch()
            << ": test loss " << trainer.evaluate({0, Random::Purpose::test}, 100) << "\n";
} catch (const std::exception& error) {
  std::cerr << "train: " << error.what() << "\n";
  return 1;
}
