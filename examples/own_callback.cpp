// A training callback of one's own: it ends a run that has not improved for some validations.

#include <algorithm>
#include <iostream>
#include <limits>

#include "arguments.hpp"
#include "plastic/plastic.hpp"

class Patience : public plastic::TrainingCallback {
 public:
  explicit Patience(int most) : most_(most) {}

  void on_validation(const plastic::Progress& progress) override {
    waited_ = progress.validation_loss < best_ ? 0 : waited_ + 1;
    best_ = std::min(best_, progress.validation_loss);
  }
  void on_end(const plastic::Progress& progress) override {
    std::cout << "ended after " << progress.batch << " batches; lowest validation loss " << best_
              << "\n";
  }
  bool wants_stop() const override { return waited_ >= most_; }

 private:
  int most_, waited_ = 0;
  double best_ = std::numeric_limits<double>::infinity();
};

int main(int argc, char** argv) {
  const int batches = examples::read_arguments(
      argc, argv, "Trains on the cue-reward task until a user-defined callback ends the run.",
      2000);
  const plastic::CueReward task;
  plastic::PlasticRNN<plastic::None, float> net({.inputs = task.inputs(), .hidden = 32});
  plastic::AdamW<float> optimizer(net.parameters(), {.learning_rate = 0.01});
  plastic::Trainer trainer(net, task, optimizer,
                           {.batches = batches, .validation_every = 10, .validation_batches = 10});
  Patience patience(3);
  const plastic::Progress end = trainer.run(patience);
  return end.batch < end.batches || batches < 100 ? 0 : 1;
}
