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
  Index samples = 1;      ///< samples in the batch
  int threads = 1;        ///< threads that work on it
};

/// Some samples of a batch that go through the network together, on one thread.
struct Shard {
  BatchKey key;                    ///< the batch that the samples belong to
  std::span<const Index> samples;  ///< indices in the batch
  int thread = 0;   ///< in 0 .. key.threads - 1; no other shard uses it at the same time
  int threads = 1;  ///< threads that the shard itself may use

  /// Number of samples.
  Index size() const { return static_cast<Index>(samples.size()); }
};

/// What a training run minimises: it defines a batch, its loss and its gradient.
///
/// - `ScalarType`: float or double.
/// - `parameters()`: the sets of parameters that are trained, a `std::vector<Parameters<Scalar>*>`.
/// - `loss(shard, gradients, evaluation)`: the shard's part of the batch's loss, so that the parts
///   of all shards sum to it. With derivatives, `gradients` has a vector for each set, of its
///   layout, and the shard's gradient is added to them. Without, `gradients` is empty, and the
///   measures are counted in `evaluation`, which is nullptr otherwise. Called from several
///   threads at once, with different `shard.thread`. What it does must follow from stream, batch
///   and samples alone.
///
/// It may also have:
///
/// - `open(threads)`: allocates for that many threads. Called once, before anything else.
/// - `measures()`: what `evaluation` counts, a std::span<const Measure>. None without it.
/// - `default_shard(batch)`: preferred number of samples in a shard. 1 without it.
/// - `prepare(key, gradients)`: called before the shards of a batch, on one thread; it may use
///   key.threads. `gradients` are those of all sets.
/// - `lengths()`: the time steps of each sample of the prepared batch. Samples of similar length
///   share a shard, and the longest begin first. Empty: all alike.
/// - `finish(gradients)`: called after the shards, on one thread, with the gradients of all sets.
/// - `shared_sets`: how many of the sets, from the first, are left to `prepare` and `finish`, which
///   add to their gradients, zero at first; `loss` gets the gradients of the others. 0 without it.
/// - `evaluate(stream, batches, samples, threads)`: returns an Evaluation whose loss is the mean
///   over the batches. Without it the trainer calls `loss` for the shards of them. Each of several
///   ranks does all of it.
/// - `left_by_loss()`: pointers to the matrices in which `loss` leaves what `finish` needs, each
///   shard in places of its own, zero before; a std::vector<Matrix<Scalar>*>. Ranks that have
///   divided the shards put them together. Needed there where `shared_sets` is not 0.
/// - `state()`: vectors that training changes beside the parameters, std::vector<Vector<Scalar>*>.
/// - `settings()`: settings that must be the same for a run to resume, as strings.
///
/// EpisodeObjective is the one most programs need; examples/own_objective.cpp is the smallest.
template <class O>
concept Objective = requires(O& objective, const Shard& shard,
                             std::span<Vector<typename O::ScalarType>> gradients,
                             Evaluation* evaluation) {
  requires std::floating_point<typename O::ScalarType>;
  { objective.parameters() } -> std::same_as<std::vector<Parameters<typename O::ScalarType>*>>;
  { objective.loss(shard, gradients, evaluation) } -> std::convertible_to<double>;
};

}  // namespace plastic
