#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "plastic/core/settings.hpp"
#include "plastic/tasks/episodes.hpp"

namespace plastic {

/// Several tasks in one run, each with its weight, chosen when the program runs.
///
/// Every batch is of one task, drawn with a probability proportional to its weight, so that the
/// expected loss is the weighted mean of the tasks' losses. The network sees as many inputs as the
/// widest task has, zero where a task has fewer, and then one input per task that is 1 for the task
/// of the batch; outputs that a task does not have get the target 0. A mix of one task is that
/// task, without further inputs.
///
///     using Mix = TaskMix<CueReward, SequenceReproduction>;
///     const Mix mix({{CueReward(), 1}, {SequenceReproduction(), 2}});
///
/// Const and safe from several threads, as the tasks are.
template <class... Tasks>
class TaskMix {
 public:
  /// A task and how often it occurs.
  struct Part {
    std::variant<Tasks...> task;  ///< one of the mix's types; a type may occur several times
    double weight = 1;            ///< in [0, 1e15]
  };

  /// Throws std::invalid_argument if there is no part, or a weight is out of its range, or all are
  /// zero.
  explicit TaskMix(std::vector<Part> parts) : parts_(std::move(parts)) {
    if (parts_.empty()) detail::reject("TaskMix", "parts", "at least one task", 0);
    for (const Part& part : parts_) {
      detail::check_range("TaskMix", "weight", part.weight, 0, 1e15);
      total_ += part.weight;
    }
    if (!(total_ > 0)) detail::reject("TaskMix", "the sum of the weights", "positive", total_);
  }

  const std::vector<Part>& parts() const { return parts_; }  ///< as given to the constructor

  /// The weights and the settings of the tasks (a fingerprint for a task that has none), for a
  /// checkpoint.
  Settings settings() const {
    Settings all;
    for (std::size_t k = 0; k < parts_.size(); ++k) {
      const std::string prefix = std::to_string(k) + ".";
      all[prefix + "weight"] = detail::number_text(parts_[k].weight);
      std::visit(
          [&](const auto& task) {
            if constexpr (requires { task.settings(); }) {
              detail::add_settings(all, prefix, task.settings());
            } else {
              using Scalar =
                  std::conditional_t<Task<std::decay_t<decltype(task)>, float>, float, double>;
              all[prefix + "first_episodes"] = detail::fingerprint_of<Scalar>(task);
            }
          },
          parts_[k].task);
    }
    return all;
  }

  /// Inputs of the widest task, plus one per task if there are several.
  Index inputs() const {
    return task_inputs() + (parts_.size() > 1 ? static_cast<Index>(parts_.size()) : 0);
  }
  /// Largest number of outputs of any task.
  Index outputs() const {
    return largest([](const auto& task) { return task.outputs(); });
  }
  /// Steps of the longest task; a batch has the steps of its own task.
  Index steps() const {
    return largest([](const auto& task) { return task.steps(); });
  }

  /// Index of the part that a batch belongs to, drawn from the stream.
  std::size_t part_of(const Random::Stream& stream, std::uint64_t batch) const {
    constexpr std::uint64_t last_sample = 0xffffffff;  // no batch is that large
    double left = Random(stream, batch, last_sample).uniform(0, total_);
    std::size_t chosen = 0;
    for (std::size_t k = 0; k < parts_.size() && left >= 0; ++k) {
      if (parts_[k].weight > 0) chosen = k;
      left -= parts_[k].weight;
    }
    return chosen;
  }

  /// Whether one of the tasks has episodes of different lengths.
  template <class Scalar>
  static constexpr bool ragged = (is_ragged<Tasks, Scalar> || ...);

  /// See Task. A mix of several tasks allocates.
  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& episodes) const {
    const std::size_t chosen = part_of(stream, batch);
    // A task without queries must not inherit those of another.
    if (parts_.size() > 1) episodes.queries.resize(0, 0);
    episodes.lengths.clear();
    std::visit([&](const auto& task) { task.generate(stream, batch, first, samples, episodes); },
               parts_[chosen].task);
    if constexpr (ragged<Scalar>) {
      const Index steps = episodes.inputs.cols() / samples;
      if (episodes.lengths.empty())
        episodes.lengths.assign(static_cast<std::size_t>(samples), steps);
    }
    if (parts_.size() == 1) return;
    const Index used = episodes.inputs.rows();
    episodes.inputs.conservativeResize(inputs(), Eigen::NoChange);
    episodes.inputs.bottomRows(inputs() - used).setZero();
    episodes.inputs.row(task_inputs() + static_cast<Index>(chosen)).setOnes();
    const Index given = episodes.targets.rows();
    episodes.targets.conservativeResize(outputs(), Eigen::NoChange);
    episodes.targets.bottomRows(outputs() - given).setZero();
  }

 private:
  template <class F>
  Index largest(F&& f) const {
    Index most = 0;
    for (const Part& part : parts_) most = std::max(most, std::visit(f, part.task));
    return most;
  }

  Index task_inputs() const {
    return largest([](const auto& task) { return task.inputs(); });
  }

  std::vector<Part> parts_;
  double total_ = 0;
};

}  // namespace plastic
