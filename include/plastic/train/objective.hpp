#pragma once

#include <concepts>
#include <span>
#include <vector>

#include "plastic/core/parameters.hpp"
#include "plastic/core/random.hpp"
#include "plastic/train/evaluation.hpp"

namespace plastic {

/// A batch of a stream.
struct BatchKey {
  Random::Stream stream;  ///< seed and purpose
  Index batch = 0;        ///< number in the stream
  Index samples = 1;      ///< of the batch
  int threads = 1;        ///< that work on it
};

/// Some samples of a batch that go through the network together, on one thread.
struct Shard {
  BatchKey key;                    ///< the whole batch; the samples alone say nothing of it
  std::span<const Index> samples;  ///< their numbers in the batch
  int thread = 0;                  ///< in 0 .. key.threads - 1; no other shard has it meanwhile
  int threads = 1;                 ///< that the shard may use itself

  /// Number of samples.
  Index size() const { return static_cast<Index>(samples.size()); }
  /// Whether the numbers follow each other.
  bool is_run() const { return samples.back() - samples.front() + 1 == size(); }
};

/// What a training run minimises: what a batch is, its loss, and its gradient.
///
/// - `ScalarType`: float or double.
/// - `parameters()`: the sets of parameters that are trained, a `std::vector<Parameters<Scalar>*>`.
/// - `loss(shard, gradients, evaluation)`: the shard's part of the batch's loss, so that the parts
///   of all shards sum to it. With derivatives, `gradients` has a vector for each set, of its
///   layout, and the shard's gradient is added to them. Without, `gradients` is empty, and what is
///   worth knowing is counted in `evaluation`, which is nullptr otherwise. Called from several
///   threads at once, with different `shard.thread`. What it does must follow from stream, batch
///   and samples alone.
///
/// It may also have:
///
/// - `open(threads)`: makes room for so many threads; called once, before anything else.
/// - `measures()`: what `evaluation` counts (std::span<const Measure>). None without it.
/// - `default_shard(batch)`: the number of samples that a shard should have. 1 without it.
/// - `prepare(key, gradients)`: before the shards of a batch, on one thread; may use key.threads.
///   `gradients` are those of all sets; those of the shared sets are zero.
/// - `lengths()`: of the samples of the prepared batch, in time steps, if they differ: longer ones
///   begin earlier, and samples of one length share a shard. Empty: all alike.
/// - `shared_sets`: how many of the sets, from the first, have a gradient that `prepare` and
/// `finish`
///   alone give; `loss` sees the gradients of the others. 0 without it.
/// - `finish(gradients)`: after the shards, with all gradients.
/// - `evaluate(stream, batches, samples, threads)`: an Evaluation of its own making, the loss a
/// mean
///   over the batches. Without it the trainer calls `loss` for shards of them.
/// - `state()`: vectors that training changes beside the parameters (std::vector<Vector<Scalar>*>).
/// - `settings()`: what a run may only go on with, as texts.
///
/// EpisodeObjective is what most need; examples/own_objective.cpp is the smallest.
template <class O>
concept Objective = requires(O& objective, const Shard& shard,
                             std::span<Vector<typename O::ScalarType>> gradients,
                             Evaluation* evaluation) {
  requires std::floating_point<typename O::ScalarType>;
  { objective.parameters() } -> std::same_as<std::vector<Parameters<typename O::ScalarType>*>>;
  { objective.loss(shard, gradients, evaluation) } -> std::convertible_to<double>;
};

}  // namespace plastic
