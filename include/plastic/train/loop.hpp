#pragma once

#include <chrono>
#include <functional>
#include <limits>
#include <span>
#include <stdexcept>

#include "plastic/train/callback.hpp"

namespace plastic {

/// A loss or gradient that is not finite; the parameters are those before the batch.
class NonFiniteLoss : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The way through a training run: batches `first` .. batches - 1, each `step(batch)`, which
/// returns its loss; after every `validation_every` of them (0: never) and after the last
/// `validate()`, which returns a loss; and the callbacks. Ends early, after a last validation, when
/// `stop` returns true between two batches. Returns where it stands. What one of them throws ends
/// the run, without `on_end`.
template <class Step, class Validate>
Progress run_loop(Index batches, Index validation_every, Step&& step, Validate&& validate,
                  std::span<TrainingCallback* const> callbacks, Index first = 0,
                  const std::function<bool()>& stop = {}) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  Progress progress;
  progress.batch = first;
  progress.batches = batches;
  const auto tell = [&](void (TrainingCallback::*what)(const Progress&), double train_loss) {
    progress.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    progress.train_loss = train_loss;
    for (TrainingCallback* callback : callbacks) (callback->*what)(progress);
  };
  double recent_sum = 0, mean = std::numeric_limits<double>::quiet_NaN();
  Index recent = 0;
  bool stopped = false;
  while (progress.batch < batches && !stopped) {
    const double loss = step(progress.batch);
    ++progress.batch;
    recent_sum += loss;
    ++recent;
    tell(&TrainingCallback::on_batch, loss);
    stopped = stop && stop();
    const bool last = stopped || progress.batch == batches;
    if (validation_every > 0 && (last || progress.batch % validation_every == 0)) {
      mean = recent_sum / static_cast<double>(recent);
      progress.validation_loss = validate();
      tell(&TrainingCallback::on_validation, mean);
      recent_sum = 0;
      recent = 0;
    }
  }
  tell(&TrainingCallback::on_end, mean);
  return progress;
}

}  // namespace plastic
