#pragma once

#include <limits>
#include <string_view>

#include "plastic/core/communicator.hpp"
#include "plastic/optim/schedule.hpp"
#include "plastic/train/shards.hpp"

namespace plastic {

/// Settings of a training run; the defaults are those of the paper's experiments.
struct TrainerOptions {
  Index batch = 64;                ///< samples (episodes, images) in a batch
  Index batches = 5000;            ///< batches in a run
  double clip_norm = 5;            ///< bound on the norm of the whole gradient, in [1e-15, 1e15]
  Schedule schedule = {};          ///< learning rate of each batch; empty: the optimizer's own
  Index validation_every = 200;    ///< batches between validations; 0 never validates
  Index validation_batches = 100;  ///< batches per validation
  std::uint64_t seed = 0;          ///< seed of the training and validation samples
  int threads = 0;  ///< 0: as many as the machine has; the results do not depend on it
  Index shard = 0;  ///< samples on one tape at a time; 0 chooses by the cache. It changes rounding
  Communicator* communicator = nullptr;  ///< processes to divide each batch over; nullptr: this one

  /// Throws std::invalid_argument on the first setting out of its range.
  void validate() const {
    constexpr std::string_view here = "TrainerOptions";
    detail::check_positive(here, "batch", batch);
    detail::check_between(here, "batch", batch, 1, std::numeric_limits<Index>::max() / 1024);
    detail::check_positive(here, "batches", batches);
    detail::check_range(here, "clip_norm", clip_norm, 1e-15, 1e15);
    detail::check_not_negative(here, "validation_every", validation_every);
    detail::check_positive(here, "validation_batches", validation_batches);
    detail::check_between(here, "threads", threads, 0, 4096);
    detail::check_not_negative(here, "shard", shard);
    const int ranks = communicator == nullptr ? 1 : communicator->ranks();
    if (ranks < 1 || ranks > ShardPlan::leaves || ShardPlan::leaves % ranks != 0) {
      detail::reject(here, "the number of ranks", "1, 2, 4, 8 or 16", ranks);
    }
  }
};

}  // namespace plastic
