#pragma once

#include <concepts>
#include <cstdint>

#include "plastic/random/random.hpp"
#include "plastic/tape/types.hpp"

namespace plastic {

/// Episodes of some samples, all of the same length. Column t * samples + s is step t of sample s.
template <class Scalar>
struct Episodes {
  Matrix<Scalar> inputs;   ///< inputs x (steps * samples)
  Matrix<Scalar> targets;  ///< outputs x (steps * samples)
  Matrix<Scalar> weights;  ///< 1 x (steps * samples): 1 where the loss counts the step, else 0
};

/// A source of episodes.
///
/// `generate(stream, batch, first, samples, episodes)` fills `episodes` with samples first,
/// first + 1, ... of a batch. A sample depends on (stream, batch, its number) alone, so that any
/// division into shards sees the same data. It is called from several threads at once, on
/// different `episodes`; where their sizes already fit it allocates nothing.
template <class T, class Scalar>
concept Task = requires(const T& task, const Random::Stream& stream, std::uint64_t batch,
                        Index count, Episodes<Scalar>& episodes) {
  { task.inputs() } -> std::convertible_to<Index>;
  { task.outputs() } -> std::convertible_to<Index>;
  { task.steps() } -> std::convertible_to<Index>;
  task.generate(stream, batch, count, count, episodes);
};

}  // namespace plastic
