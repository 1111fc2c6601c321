#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plastic/core/check.hpp"
#include "plastic/core/communicator.hpp"

namespace plastic {

/// A quantity that an evaluation reports besides the loss: the mean of what was counted, often a
/// share of right answers.
struct Measure {
  std::string_view name;  ///< name in logs and tables
  bool is_share = false;  ///< whether the mean is a share, in [0, 1]
  double sum = 0;         ///< sum of the counted values
  double count = 0;       ///< number of counted values
  double square = 0;      ///< sum of their squares

  double mean() const { return sum / count; }  ///< NaN if nothing was counted
  /// Half the width of the mean's 95% interval, by the normal approximation.
  double half_width() const {
    const double variance = is_share ? mean() * (1 - mean()) : square / count - mean() * mean();
    return 1.96 * std::sqrt(std::max(0.0, variance) / count);
  }
};

/// The largest number of measures that one loss or objective may have.
inline constexpr std::size_t max_measures = 4;

/// Results of a network on a number of batches. An objective fills in one for each shard; they are
/// summed in the order of batches and shards.
class Evaluation {
 public:
  Evaluation() = default;  ///< without measures
  /// With these measures, at most max_measures, which must outlive it. `per_step`: with statistics
  /// of eta.
  explicit Evaluation(std::span<const Measure> measures, bool per_step = false)
      : size_(measures.size()), per_step_(per_step) {
    if (size_ > max_measures) {
      detail::reject("Evaluation", "the number of measures", "at most 4", size_);
    }
    std::copy(measures.begin(), measures.end(), measures_.begin());
  }

  double loss = 0;  ///< sum over the batches; in the end, their mean

  /// Counts `value` for measure k, `count` times.
  void add(std::size_t k, double value, double count = 1) {
    measures_.at(k).sum += value * count;
    measures_.at(k).count += count;
    measures_.at(k).square += value * value * count;
  }

  bool per_step() const { return per_step_; }  ///< whether `add_eta` is wanted
  /// Counts the learning rate of the fast weights at a step of one sample.
  void add_eta(std::size_t step, double eta) {
    if (step >= steps_.size()) steps_.resize(step + 1);
    steps_[step].count += 1;
    steps_[step].sum += eta;
    steps_[step].square += eta * eta;
  }

  /// Adds everything that another has counted.
  void add(const Evaluation& other) {
    loss += other.loss;
    for (std::size_t k = 0; k < size_; ++k) {
      measures_[k].sum += other.measures_[k].sum;
      measures_[k].count += other.measures_[k].count;
      measures_[k].square += other.measures_[k].square;
    }
    if (steps_.size() < other.steps_.size()) steps_.resize(other.steps_.size());
    for (std::size_t t = 0; t < other.steps_.size(); ++t) {
      steps_[t].count += other.steps_[t].count;
      steps_[t].sum += other.steps_[t].sum;
      steps_[t].square += other.steps_[t].square;
    }
  }

  /// Completes the parts of a sum, of which this rank has counted those from `begin` to before
  /// `end` and the others are empty, with what the other ranks have counted.
  static void merge(Communicator& communicator, std::span<Evaluation> parts, Index begin,
                    Index end) {
    const std::span<Evaluation> mine =
        parts.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    std::size_t steps = 0;
    for (const Evaluation& part : mine) steps = std::max(steps, part.steps_.size());
    std::vector<std::byte> memory;
    std::vector<std::size_t> longest(static_cast<std::size_t>(communicator.ranks()));
    longest[static_cast<std::size_t>(communicator.rank())] = steps;
    detail::merge(communicator, std::as_writable_bytes(std::span(longest)), memory);
    steps = *std::max_element(longest.begin(), longest.end());

    const std::size_t width = 1 + 3 * max_measures + 3 * steps;
    std::vector<double> all(parts.size() * width);
    const auto row = [&](std::size_t k) { return std::span(all).subspan(k * width, width); };
    for (std::size_t k = 0; k < mine.size(); ++k) {
      mine[k].for_each_number(row(static_cast<std::size_t>(begin) + k),
                              [](double& number, double& counted) { number = counted; });
    }
    detail::merge(communicator, std::as_writable_bytes(std::span(all)), memory);
    for (std::size_t k = 0; k < parts.size(); ++k) {
      parts[k].steps_.resize(steps);
      parts[k].for_each_number(row(k), [](double& number, double& counted) { counted = number; });
    }
  }

  /// The measures, in the objective's order.
  std::span<const Measure> measures() const { return std::span(measures_).first(size_); }
  /// The measure called `name`. Throws std::invalid_argument if there is none.
  const Measure& measure(std::string_view name) const {
    const auto all = measures();
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const Measure& one) { return one.name == name; });
    if (found != all.end()) return *found;
    std::string expected = "a measure of the objective:";
    for (const Measure& one : all) expected.append(" ").append(one.name);
    detail::reject("Evaluation::measure", "name", expected, name);
  }

  /// Mean learning rate of the fast weights at each step, over the samples that have the step.
  std::vector<double> eta_mean() const {
    std::vector<double> means;
    for (const Step& s : steps_) means.push_back(s.sum / s.count);
    return means;
  }
  /// Standard deviation of that learning rate.
  std::vector<double> eta_deviation() const {
    std::vector<double> deviations;
    for (const Step& s : steps_) {
      const double mean = s.sum / s.count;
      deviations.push_back(std::sqrt(std::max(0.0, s.square / s.count - mean * mean)));
    }
    return deviations;
  }

 private:
  struct Step {
    double count = 0, sum = 0, square = 0;
  };

  /// Calls f(number, counted) for all that is counted, with a number for each.
  template <class F>
  void for_each_number(std::span<double> numbers, F&& f) {
    std::size_t next = 0;
    f(numbers[next++], loss);
    for (Measure& measure : measures_) {
      for (double* counted : {&measure.sum, &measure.count, &measure.square}) {
        f(numbers[next++], *counted);
      }
    }
    for (Step& step : steps_) {
      for (double* counted : {&step.count, &step.sum, &step.square}) f(numbers[next++], *counted);
    }
  }

  std::array<Measure, max_measures> measures_{};
  std::size_t size_ = 0;
  bool per_step_ = false;
  std::vector<Step> steps_;
};

}  // namespace plastic
