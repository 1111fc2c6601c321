#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "plastic/core/random.hpp"

namespace plastic {

/// Episodes of some samples. Column t * samples + s is step t of sample s; the matrices have as
/// many steps as the longest episode.
template <class Scalar>
struct Episodes {
  Matrix<Scalar> inputs;   ///< inputs x (steps * samples)
  Matrix<Scalar> targets;  ///< outputs x (steps * samples)
  Matrix<Scalar> weights;  ///< 1 x (steps * samples): how much the step counts in the loss,
                           ///< relative to the other steps of its sample; not negative, 0 where it
                           ///< does not count, and positive at one step of each sample at least
  Matrix<Scalar> queries;  ///< 1 x (steps * samples): 1 where the step asks for what the episode
                           ///< has taught, else 0; for evaluation. Empty: as `weights`.
  std::vector<Index> lengths;  ///< steps of each sample, at least 1; what the matrices hold past
                               ///< them is not used. Empty: all samples have all steps.

  /// Sets all matrices to zero and removes `queries` and `lengths`; allocates nothing if the sizes
  /// already fit. Throws std::invalid_argument if no memory can hold them.
  void set_zero(Index input_rows, Index output_rows, Index steps, Index samples) {
    const auto check = [](const char* what, Index rows, Index cols) {
      detail::check_matrix_size<Scalar>("Episodes::set_zero", what, rows, cols);
    };
    check("steps * samples", steps, samples);
    const Index columns = steps * samples;
    check("inputs", input_rows, columns);
    check("targets", output_rows, columns);
    inputs.setZero(input_rows, columns);
    targets.setZero(output_rows, columns);
    weights.setZero(1, columns);
    queries.resize(1, 0);
    lengths.clear();
  }
};

/// A source of episodes.
///
/// `inputs()` and `outputs()` are the rows of Episodes::inputs and targets, `steps()` is the length
/// of an episode, or of the longest. A task whose episodes differ in length has a
/// `static constexpr bool ragged = true` and fills in Episodes::lengths.
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

/// Whether a task's episodes differ in length; see Task. `ragged` may be a template over the
/// Scalar.
template <class T, class Scalar>
inline constexpr bool is_ragged = [] {
  if constexpr (requires { bool(T::ragged); }) {
    return T::ragged;
  } else if constexpr (requires { bool(T::template ragged<Scalar>); }) {
    return T::template ragged<Scalar>;
  } else {
    return false;
  }
}();

namespace detail {

/// Identifies a task by its first episodes, one from each of 64 batches: a 64-bit fingerprint
/// (FNV-1a) of their numbers, as a string. What lies past the end of an episode does not count.
template <class Scalar, class TaskType>
std::string fingerprint_of(const TaskType& task) {
  std::uint64_t hash = 14695981039346656037u;
  const auto add = [&hash](const void* data, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) {
      hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 1099511628211u;
    }
  };
  Episodes<Scalar> episode;
  for (std::uint64_t batch = 0; batch < 64; ++batch) {
    task.generate(Random::Stream{}, batch, 0, 1, episode);
    const std::int64_t steps =
        episode.lengths.empty() ? episode.inputs.cols() : episode.lengths.front();
    add(&steps, sizeof steps);
    for (const Matrix<Scalar>* m : {&episode.inputs, &episode.targets, &episode.weights}) {
      const Index used = m->rows() * std::min(static_cast<Index>(steps), m->cols());
      add(m->data(), static_cast<std::size_t>(used) * sizeof(Scalar));
    }
  }
  return std::to_string(hash);
}

inline void check_count(std::string_view task, std::string_view name, Index value,
                        Index least = 1) {
  if (value < least || std::int64_t{value} >= std::int64_t{1} << 31) {
    reject(task, name, "an integer in [" + std::to_string(least) + ", 2^31)", value);
  }
}

/// A check for `generate`: a sample's number must fit the counter of Random.
inline void check_samples(std::string_view function, Index first, Index samples) {
  constexpr std::int64_t limit = std::int64_t{1} << 32;
  check_positive(function, "samples", samples);
  check_not_negative(function, "first", first);
  if (std::int64_t{first} > limit - samples) {
    reject(function, "first", "at most 2^32 - samples", first);
  }
}

/// Calls fill(random, s) for samples first + s with the random numbers of each.
template <class Fill>
void for_each_sample(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                     Fill&& fill) {
  for (Index s = 0; s < samples; ++s) {
    fill(Random(stream, batch, static_cast<std::uint64_t>(first + s)), s);
  }
}

/// Sizes the matrices for `steps` steps that all count in the loss, the last `queries` of them as
/// queries.
template <class Scalar>
void resize(Episodes<Scalar>& episodes, Index inputs, Index outputs, Index steps, Index queries,
            Index samples) {
  const Index columns = steps * samples;
  episodes.inputs.resize(inputs, columns);
  episodes.targets.resize(outputs, columns);
  episodes.weights.setOnes(1, columns);
  episodes.queries.setZero(1, columns);
  episodes.queries.rightCols(queries * samples).setOnes();
  episodes.lengths.clear();
}

}  // namespace detail
}  // namespace plastic
