#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plastic/cells/cell.hpp"
#include "plastic/core/parallel.hpp"
#include "plastic/tasks/episodes.hpp"
#include "plastic/train/losses.hpp"
#include "plastic/train/objective.hpp"
#include "plastic/train/shards.hpp"

namespace plastic {

/// A cell that learns a task. The loss of an episode is the weighted mean over its steps, the loss
/// of a batch the mean over its episodes.
///
/// A shard's episodes are generated, run forward and backward on the tape of the thread that takes
/// the shard. Where the task's episodes differ in length, each has its own end: what lies past it
/// changes nothing, and a shard ends with its longest episode. After each batch every thread
/// reserves as much memory as any of them needed, so that nothing is allocated after the first
/// batch or the longest episode.
template <class Cell, class TaskType, class LossType = SquaredError>
class EpisodeObjective {
 public:
  using ScalarType = typename Cell::ScalarType;  ///< float or double

 private:
  using Scalar = ScalarType;
  static_assert(Task<TaskType, Scalar>, "the task lacks a member of Task: see tasks/episodes.hpp");
  static_assert(Loss<LossType>, "the loss lacks a member of Loss: see train/losses.hpp");

 public:
  /// `cell` must outlive it. Throws std::invalid_argument if task and cell disagree on the number
  /// of inputs or outputs.
  EpisodeObjective(Cell& cell, TaskType task, LossType loss = {})
      : cell_(&cell), task_(std::move(task)), loss_(std::move(loss)) {
    const auto check_size = [](std::string_view what, Index got, Index of_task) {
      if (got != of_task) {
        detail::reject("Trainer", what, std::to_string(of_task) + ", as many as the task has", got);
      }
    };
    check_size("the number of the cell's inputs", cell.options().inputs, task_.inputs());
    check_size("the number of the cell's outputs", cell.options().outputs, task_.outputs());
  }

  /// @{
  /// See Objective.
  std::vector<Parameters<Scalar>*> parameters() { return {&cell_->parameters()}; }
  std::span<const Measure> measures() const { return LossType::measures; }
  Index default_shard(Index batch) const { return plastic::default_shard(*cell_, batch); }
  std::span<const Index> lengths() const requires(is_ragged<TaskType, Scalar>) { return lengths_; }
  void open(int threads) {
    for (int t = 0; t < threads; ++t) workers_.push_back(std::make_unique<Worker>());
  }
  /// @}

  /// Draws the episodes of a batch whose lengths differ; see Objective.
  void prepare(const BatchKey& key,
               std::span<Vector<Scalar>>) requires(is_ragged<TaskType, Scalar>) {
    drawn_.resize(static_cast<std::size_t>(key.samples));
    lengths_.resize(drawn_.size());
    parallel_for(key.samples, key.threads, [&](Index sample, int) {
      const auto at = static_cast<std::size_t>(sample);
      Episodes<Scalar>& one = drawn_[at];
      generate(key, sample, 1, one);
      const Index steps = one.inputs.cols();
      if (one.lengths.size() != 1 || one.lengths.front() < 1 || one.lengths.front() > steps) {
        detail::reject("Trainer", "the task's lengths",
                       "one for each sample, in 1 .. " + std::to_string(steps),
                       one.lengths.empty() ? "none" : std::to_string(one.lengths.front()));
      }
      lengths_[at] = one.lengths.front();
    });
  }

  /// See Objective. Throws std::invalid_argument if the task gives matrices of other shapes than it
  /// says, a length that the episode does not have, or an episode of which no step counts.
  double loss(const Shard& shard, std::span<Vector<Scalar>> gradients, Evaluation* evaluation) {
    Worker& worker = *workers_[static_cast<std::size_t>(shard.thread)];
    Data& data = worker.of_size(shard.size());
    if constexpr (is_ragged<TaskType, Scalar>) {
      gather(data, shard);
    } else {
      generate(shard.key, shard.samples.front(), shard.size(), data.episodes);
      data.columns = data.episodes.inputs.cols();
    }
    weigh(data, shard.size(), static_cast<Scalar>(shard.key.samples));
    return gradients.empty() ? evaluate(worker, data, shard, evaluation)
                             : differentiate(worker, data, shard, gradients.front());
  }

  /// Reserves as much memory for every thread as any of them needed; see Objective.
  void finish(std::span<Vector<Scalar>>) {
    detail::level(workers_, [](Worker& to, const Worker& from) { to.reserve_like(from); });
  }

  /// See Objective: the settings of cell, loss and task, with a fingerprint of its first episodes.
  Settings settings() const {
    Settings all = training_settings_of(*cell_);
    all.merge(loss_.settings());
    all["loss.value"] = detail::loss_fingerprint<Scalar>(loss_, task_.outputs());
    if constexpr (requires { task_.settings(); }) {
      detail::add_settings(all, "task.", task_.settings());
    }
    all["tasks_first_episodes"] = detail::fingerprint_of<Scalar>(task_);
    return all;
  }

  const TaskType& task() const { return task_; }  ///< as given to the constructor

 private:
  /// A shard's episodes and what is computed from them. Where lengths differ the matrices have room
  /// for the longest shard so far, of which the first columns are used.
  struct Data {
    Index samples = 0;
    Episodes<Scalar> episodes;
    Matrix<Scalar> step_weights;  // 1 x columns
    Matrix<Scalar> output;        // outputs x columns
    Matrix<Scalar> eta;           // 1 x columns
    std::vector<Index> lengths;   // steps of each sample; empty: all alike
    Index columns = 0;            // steps * samples
  };

  /// Workspace of one thread. The last shard of a batch may be smaller than the others, and has
  /// data of its own so that nothing changes its size.
  struct Worker {
    Tape<Scalar> tape;
    CellState<Scalar> state;
    std::vector<Data> data;  // one for each size of a shard

    Data& of_size(Index samples) {
      const auto found = std::find_if(data.begin(), data.end(),
                                      [samples](const Data& d) { return d.samples == samples; });
      if (found != data.end()) return *found;
      data.emplace_back().samples = samples;
      return data.back();
    }
    void reserve_like(const Worker& other) {
      tape.reserve_like(other.tape);
      for (const Data& theirs : other.data) {
        Data& mine = of_size(theirs.samples);
        if (mine.episodes.inputs.cols() < theirs.episodes.inputs.cols()) mine = theirs;
      }
    }
  };

  void generate(const BatchKey& key, Index first, Index samples, Episodes<Scalar>& episodes) const {
    task_.generate(key.stream, static_cast<std::uint64_t>(key.batch), first, samples, episodes);
    const Index columns = episodes.inputs.cols();
    if (columns == 0 || columns % samples != 0) {
      detail::reject("Trainer", "the columns of the task's inputs",
                     "steps * " + std::to_string(samples), columns);
    }
    const auto check = [&](std::string_view what, const Matrix<Scalar>& m, Index rows) {
      detail::check_shape("Trainer", what, m, rows, columns);
    };
    check("the task's inputs", episodes.inputs, task_.inputs());
    check("the task's targets", episodes.targets, task_.outputs());
    check("the task's weights", episodes.weights, 1);
    if (episodes.queries.size() > 0) check("the task's queries", episodes.queries, 1);
    if (!is_ragged<TaskType, Scalar> && !episodes.lengths.empty()) {
      detail::reject("Trainer", "the task's lengths", "empty, as the task is not `ragged`",
                     std::to_string(episodes.lengths.size()) + " of them");
    }
  }

  /// Puts drawn episodes side by side, zero past the end of each.
  void gather(Data& data, const Shard& shard) const {
    const Index n = shard.size();
    data.lengths.clear();
    for (const Index sample : shard.samples) {
      data.lengths.push_back(lengths_[static_cast<std::size_t>(sample)]);
    }
    data.columns = *std::max_element(data.lengths.begin(), data.lengths.end()) * n;
    Episodes<Scalar>& to = data.episodes;
    if (to.inputs.cols() < data.columns) {
      to.set_zero(task_.inputs(), task_.outputs(), data.columns / n, n);
      to.queries.resize(1, data.columns);
    }
    for (Matrix<Scalar>* all : {&to.inputs, &to.targets, &to.weights, &to.queries}) {
      all->leftCols(data.columns).setZero();
    }
    for (Index s = 0; s < n; ++s) {
      const Episodes<Scalar>& one =
          drawn_[static_cast<std::size_t>(shard.samples[static_cast<std::size_t>(s)])];
      const Matrix<Scalar>& queries = one.queries.size() > 0 ? one.queries : one.weights;
      const Index length = data.lengths[static_cast<std::size_t>(s)];
      for (Index t = 0; t < length; ++t) {
        const Index column = t * n + s;
        to.inputs.col(column) = one.inputs.col(t);
        to.targets.col(column) = one.targets.col(t);
        to.weights(0, column) = one.weights(0, t);
        to.queries(0, column) = queries(0, t);
      }
    }
  }

  /// Scales each episode's weights to the sum 1 / (samples of the batch * terms of the loss).
  void weigh(Data& data, Index n, Scalar batch) const {
    const Matrix<Scalar>& weights = data.episodes.weights;
    if (data.step_weights.cols() < weights.cols()) data.step_weights.resize(1, weights.cols());
    for (Index s = 0; s < n; ++s) {
      Scalar total = 0;
      for (Index column = s; column < data.columns; column += n) {
        const Scalar weight = weights(0, column);
        if (!(weight >= 0)) {
          detail::reject("Trainer", "a weight of the task", "at least 0", weight);
        }
        total += weight;
      }
      if (!(total > 0)) {
        detail::reject("Trainer", "the sum of an episode's weights", "positive", total);
      }
      const Scalar scale =
          Scalar(1) / (total * (batch * static_cast<Scalar>(LossType::terms(task_.outputs()))));
      for (Index column = s; column < data.columns; column += n) {
        data.step_weights(0, column) = weights(0, column) * scale;
      }
    }
  }

  static Var<Scalar> used(Tape<Scalar>& tape, const Matrix<Scalar>& m, Index columns) {
    return tape.borrow(m.data(), m.rows(), columns);
  }

  Var<Scalar> loss_of(Tape<Scalar>& tape, const Data& data, const Var<Scalar>& output) const {
    const Var<Scalar> loss = loss_(tape, output, used(tape, data.episodes.targets, data.columns),
                                   used(tape, data.step_weights, data.columns));
    detail::check_shape("Trainer", "the loss", loss, 1, 1);
    return loss;
  }

  static ConstMatrixMap<Scalar> inputs_of(const Data& data) {
    const Matrix<Scalar>& inputs = data.episodes.inputs;
    return {inputs.data(), inputs.rows(), data.columns};
  }

  double differentiate(Worker& worker, const Data& data, const Shard& shard,
                       Vector<Scalar>& gradient) const {
    Tape<Scalar>& tape = worker.tape;
    tape.clear();
    Episode<Scalar> episode = cell_->begin(tape, shard.size(), &gradient);
    const auto result = cell_->run(episode, inputs_of(data), data.lengths, false);
    const Var<Scalar> loss = loss_of(tape, data, result.output);
    tape.backward(loss);
    return static_cast<double>(loss.value()(0, 0));
  }

  double evaluate(Worker& worker, Data& data, const Shard& shard, Evaluation* evaluation) const {
    if (data.output.cols() < data.columns) {
      data.output.resize(task_.outputs(), data.columns);
      data.eta.resize(1, data.columns);
    }
    MatrixMap<Scalar> output(data.output.data(), data.output.rows(), data.columns);
    MatrixMap<Scalar> eta(data.eta.data(), 1, data.columns);
    cell_->reset(worker.state, shard.size());
    cell_->run(worker.state, inputs_of(data), output, eta, data.lengths);
    if (evaluation != nullptr) count(data, shard.size(), *evaluation);
    worker.tape.clear();
    const Var<Scalar> loss =
        loss_of(worker.tape, data, used(worker.tape, data.output, data.columns));
    return static_cast<double>(loss.value()(0, 0));
  }

  void count(const Data& data, Index n, Evaluation& evaluation) const {
    const Episodes<Scalar>& e = data.episodes;
    const Matrix<Scalar>& queries = e.queries.size() > 0 ? e.queries : e.weights;
    for (Index column = 0; column < data.columns; ++column) {
      const Index t = column / n, s = column % n;
      if (!data.lengths.empty() && t >= data.lengths[static_cast<std::size_t>(s)]) continue;
      if (evaluation.per_step()) {
        evaluation.add_eta(static_cast<std::size_t>(t), static_cast<double>(data.eta(0, column)));
      }
      if (queries(0, column) == Scalar(0)) continue;
      loss_.measure(data.output.col(column), e.targets.col(column), evaluation);
    }
  }

  Cell* cell_;
  TaskType task_;
  LossType loss_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Episodes<Scalar>> drawn_;  // the batch's samples, if lengths differ
  std::vector<Index> lengths_;
};

}  // namespace plastic
