#pragma once

#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "plastic/tasks/episodes.hpp"

namespace plastic {

/// A column of a sample's episode, features x 1, as a view that may be written to. An entry that it
/// does not have throws std::invalid_argument.
template <class Scalar>
class EpisodeColumn : public Matrix<Scalar>::ColXpr {
 public:
  using Base = typename Matrix<Scalar>::ColXpr;  ///< Eigen's view of a column
  using Base::operator=;

  /// The column `all`, called `name` in messages.
  EpisodeColumn(const Base& all, std::string_view name) : Base(all), name_(name) {}

  /// @{
  /// Entry i, from 0 on.
  Scalar& operator[](Index i) { return checked(i); }
  Scalar& operator()(Index i) { return checked(i); }
  /// @}

 private:
  Scalar& checked(Index i) {
    if (i < 0 || i >= this->rows()) {
      detail::check_between("SampleEpisode::" + std::string(name_), "the row", i, 0,
                            this->rows() - 1);
    }
    return this->coeffRef(i);
  }

  std::string_view name_;
};

/// The episode of one sample, to be filled in: at first it is zero everywhere and no step counts. A
/// view of Episodes; what it returns may be written to. Throws std::invalid_argument on a step or a
/// row that the episode does not have.
template <class Scalar>
class SampleEpisode {
 public:
  using Column = EpisodeColumn<Scalar>;  ///< a column to be read or written in place

  /// A view of sample `sample` of the `samples` in `episodes`, which must outlive it.
  SampleEpisode(Episodes<Scalar>& episodes, Index samples, Index sample)
      : episodes_(&episodes), samples_(samples), sample_(sample) {}

  Index steps() const { return episodes_->inputs.cols() / samples_; }  ///< steps of the episode

  /// The network's input in step t: inputs x 1.
  Column input(Index t) { return {episodes_->inputs.col(column("input", t)), "input"}; }
  /// The target in step t: outputs x 1.
  Column target(Index t) { return {episodes_->targets.col(column("target", t)), "target"}; }
  /// Weight of step t in the loss, relative to the other steps of the episode; at least one must be
  /// positive.
  Scalar& weight(Index t) { return episodes_->weights(0, column("weight", t)); }

 private:
  Index column(std::string_view what, Index t) const {
    if (t < 0 || t >= steps()) {
      detail::check_between("SampleEpisode::" + std::string(what), "t", t, 0, steps() - 1);
    }
    return t * samples_ + sample_;
  }

  Episodes<Scalar>* episodes_;
  Index samples_;
  Index sample_;
};

/// Sizes of a SampledTask, each at least 1.
struct SampledTaskOptions {
  Index inputs = 1;   ///< rows of an input
  Index outputs = 1;  ///< rows of a target
  Index steps = 1;    ///< steps of every episode, or of the longest
};

/// A task from a function that fills in one sample: `fill(random, episode)` with a Random of that
/// sample's own and a SampleEpisode. If it returns a number, that is the length of the sample's
/// episode, from 1 to the steps of the options.
///
///     const SampledTask task({.inputs = 2, .steps = 10}, [](Random& random, auto episode) {
///       episode.input(0)[0] = episode.target(9)[0] = random.uniform(-1, 1);
///       episode.input(9)[1] = 1;
///       episode.weight(9) = 1;
///     });
///
/// `fill` is called from several threads at once; what it does must follow from `random` alone. It
/// allocates nothing of its own once the sizes fit.
template <class Fill>
class SampledTask {
 public:
  /// Throws std::invalid_argument on a size that is not positive.
  SampledTask(const SampledTaskOptions& options, Fill fill)
      : options_(options), fill_(std::move(fill)) {
    detail::check_count("SampledTask", "inputs", options.inputs);
    detail::check_count("SampledTask", "outputs", options.outputs);
    detail::check_count("SampledTask", "steps", options.steps);
  }

  Index inputs() const { return options_.inputs; }    ///< rows of an input
  Index outputs() const { return options_.outputs; }  ///< rows of a target
  Index steps() const { return options_.steps; }      ///< steps of every episode, or of the longest
  /// Whether the function gives each episode a length of its own.
  template <class Scalar>
  static constexpr bool ragged =
      !std::is_void_v<std::invoke_result_t<const Fill&, Random&, SampleEpisode<Scalar>>>;

  /// See Task.
  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& episodes) const {
    detail::check_samples("SampledTask::generate", first, samples);
    episodes.set_zero(options_.inputs, options_.outputs, options_.steps, samples);
    detail::for_each_sample(stream, batch, first, samples, [&](Random random, Index s) {
      const SampleEpisode<Scalar> episode(episodes, samples, s);
      if constexpr (ragged<Scalar>) {
        const auto length = static_cast<Index>(fill_(random, episode));
        detail::check_between("SampledTask", "the length that the function returns", length, 1,
                              options_.steps);
        episodes.lengths.push_back(length);
      } else {
        fill_(random, episode);
      }
    });
  }

 private:
  SampledTaskOptions options_;
  Fill fill_;
};

}  // namespace plastic
