#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plastic/cells/cell.hpp"
#include "plastic/optim/gradient_clip.hpp"
#include "plastic/tasks/episodes.hpp"
#include "plastic/train/callback.hpp"
#include "plastic/train/evaluation.hpp"
#include "plastic/train/loop.hpp"
#include "plastic/train/shards.hpp"

namespace plastic {

/// Settings of a training run; the defaults are those of the paper's experiments.
struct TrainerOptions {
  Index batch = 64;                ///< episodes per batch
  Index batches = 5000;            ///< of the run
  double clip_norm = 5;            ///< of the whole gradient, in [1e-15, 1e15]
  Index validation_every = 200;    ///< batches; 0 never validates
  Index validation_batches = 100;  ///< of a validation
  std::uint64_t seed = 0;          ///< of the episodes
  int threads = 0;  ///< 0: as many as the machine has; the results do not depend on it
  Index shard = 0;  ///< episodes on one tape at a time; 0 chooses by the cache. It changes rounding

  /// Throws std::invalid_argument on the first setting out of its range.
  void validate() const {
    constexpr std::string_view here = "TrainerOptions";
    detail::check_positive(here, "batch", batch);
    detail::check_positive(here, "batches", batches);
    detail::check_range(here, "clip_norm", clip_norm, 1e-15, 1e15);
    if (validation_every < 0) {
      detail::reject(here, "validation_every", "at least 0", validation_every);
    }
    detail::check_positive(here, "validation_batches", validation_batches);
    if (threads < 0 || threads > 4096) detail::reject(here, "threads", "in 0 .. 4096", threads);
    if (shard < 0) detail::reject(here, "shard", "at least 0", shard);
  }
};

/// Trains a cell on a task by gradient descent through whole episodes.
///
/// The loss of an episode is the mean squared error over the steps that count, that of a batch the
/// mean over its episodes. A batch is cut into shards; each is generated, run forward and backward
/// on the tape of whichever thread takes it. Shards belong to a fixed number of lanes, whose
/// gradients are summed in a fixed order, so that the same seed gives the same bits with any number
/// of threads. After the first batch a training step allocates nothing.
template <class Cell, class TaskType, class Optimizer>
class Trainer {
  using Scalar = typename Cell::ScalarType;
  static_assert(Task<TaskType, Scalar>, "the task lacks a member of Task: see tasks/episodes.hpp");

 public:
  /// `cell` and `optimizer` must outlive the trainer. Throws std::invalid_argument if task and cell
  /// disagree on the number of inputs or outputs, and as the options' `validate` does.
  Trainer(Cell& cell, TaskType task, Optimizer& optimizer, const TrainerOptions& options)
      : cell_(&cell), task_(std::move(task)), optimizer_(&optimizer), options_(options) {
    options.validate();
    const auto check_size = [](std::string_view what, Index got, Index of_task) {
      if (got != of_task) {
        detail::reject("Trainer", what, std::to_string(of_task) + ", as many as the task has", got);
      }
    };
    check_size("the number of the cell's inputs", cell.options().inputs, task_.inputs());
    check_size("the number of the cell's outputs", cell.options().outputs, task_.outputs());
    if (options_.threads == 0) options_.threads = available_threads();
    if (options_.shard == 0) options_.shard = default_shard(cell, options_.batch);
    options_.shard = std::min(options_.shard, options_.batch);
    shards_ = Shards<Scalar>(options_.batch, options_.shard, options_.threads, cell.parameters());
    for (int t = 0; t < options_.threads; ++t) workers_.push_back(std::make_unique<Worker>());
  }

  const TrainerOptions& options() const { return options_; }  ///< with what was to be chosen

  /// One batch: forward, backward, clip, optimizer. Returns the batch's loss before the step.
  /// Throws NonFiniteLoss, and changes nothing, if loss or gradient is not finite, and
  /// std::invalid_argument as `gradient` does.
  double step(Index batch) {
    const double loss = gradient(batch);
    const double norm = clip_gradient_norm(shards_.gradients(), options_.clip_norm);
    if (!std::isfinite(loss) || !std::isfinite(norm)) {
      const auto text = [](double x) {
        return std::isnan(x) ? std::string("nan") : std::to_string(x);
      };
      throw NonFiniteLoss("Trainer::step: batch " + std::to_string(batch) + " has loss " +
                          text(loss) + " and gradient norm " + text(norm) +
                          "; the parameters are those before it");
    }
    optimizer_->step(cell_->parameters(), shards_.gradients());
    return loss;
  }

  /// Loss of a training batch; leaves its gradient in `gradients()`. Throws std::invalid_argument
  /// if `batch` is negative, or the task gives matrices of other shapes than it says or an episode
  /// of which no step counts.
  double gradient(Index batch) {
    if (batch < 0) detail::reject("Trainer::gradient", "batch", "at least 0", batch);
    return shards_.gradient([&](Index shard, int thread, Vector<Scalar>& total) {
      return run_shard(*workers_[static_cast<std::size_t>(thread)], batch, shard, total);
    });
  }

  /// What `gradient` has left, of the layout of the cell's parameters; after `step`, clipped.
  const Vector<Scalar>& gradients() const { return shards_.gradients(); }

  /// Mean loss over `batches` fresh batches of a stream, without derivatives. Throws
  /// std::invalid_argument if there is none, and as `gradient` does for the task.
  double evaluate(Random::Stream stream, Index batches) {
    detail::check_positive("Trainer::evaluate", "batches", batches);
    evaluation_losses_.assign(static_cast<std::size_t>(batches * shards_.count()), 0.0);
    parallel_for(batches * shards_.count(), options_.threads, [&](Index item, int thread) {
      evaluation_losses_[static_cast<std::size_t>(item)] =
          evaluate_shard(*workers_[static_cast<std::size_t>(thread)], stream,
                         item / shards_.count(), item % shards_.count());
    });
    double loss = 0;
    for (const double part : evaluation_losses_) loss += part;
    return loss / static_cast<double>(batches);
  }

  /// The same in detail: queries alone, and the learning rate of every step. Allocates. Throws
  /// std::invalid_argument if the task's queries are all 0.
  Evaluation evaluate_in_detail(Random::Stream stream, Index batches) {
    detail::check_positive("Trainer::evaluate_in_detail", "batches", batches);
    std::vector<detail::EvaluationSums> parts(static_cast<std::size_t>(batches * shards_.count()));
    parallel_for(batches * shards_.count(), options_.threads, [&](Index item, int thread) {
      Worker& worker = *workers_[static_cast<std::size_t>(thread)];
      detail::EvaluationSums& sums = parts[static_cast<std::size_t>(item)];
      Matrix<Scalar> eta;
      sums.loss =
          evaluate_shard(worker, stream, item / shards_.count(), item % shards_.count(), &eta);
      const Data& data = data_of(worker, item % shards_.count());
      const Episodes<Scalar>& episodes = data.episodes;
      sums.add(data.output, episodes.targets,
               episodes.queries.size() > 0 ? episodes.queries : episodes.weights, eta,
               shards_.samples(item % shards_.count()));
    });
    detail::EvaluationSums total;
    for (const detail::EvaluationSums& part : parts) total.add(part);
    if (!(total.queries > 0)) {
      detail::reject("Trainer::evaluate_in_detail", "the sum of the task's queries", "positive",
                     total.queries);
    }
    return total.means(batches);
  }

  /// Trains batches `first` .. options().batches - 1 and tells the callbacks. Ends early, after a
  /// last validation, when `stop` returns true between two batches. Returns where it stands. A
  /// validation is `evaluate` on the same batches of the seed's validation stream each time.
  Progress run(std::span<TrainingCallback* const> callbacks, Index first = 0,
               const std::function<bool()>& stop = {}) {
    return run_loop(
        options_.batches, options_.validation_every, [&](Index batch) { return step(batch); },
        [&] {
          return evaluate({options_.seed, Random::Purpose::validation},
                          options_.validation_batches);
        },
        callbacks, first, stop);
  }

 private:
  /// A shard's episodes and what is computed from them.
  struct Data {
    Episodes<Scalar> episodes;
    Matrix<Scalar> step_weights;
    Matrix<Scalar> output;
  };

  /// What one thread works with. The last shard of a batch may be smaller than the others, and has
  /// data of its own so that nothing changes its size.
  struct Worker {
    Tape<Scalar> tape;
    CellState<Scalar> state;
    Data whole;
    Data last;
  };

  Data& data_of(Worker& worker, Index shard) const {
    return shards_.samples(shard) == options_.shard ? worker.whole : worker.last;
  }

  Data& generate(Worker& worker, Random::Stream stream, Index batch, Index shard) const {
    const Index n = shards_.samples(shard);
    Data& data = data_of(worker, shard);
    task_.generate(stream, static_cast<std::uint64_t>(batch), shards_.first_sample(shard), n,
                   data.episodes);
    check_episodes(data.episodes, n);
    // Each episode's weights are scaled to the sum 1 / batch: the loss is then one weighted sum.
    const Matrix<Scalar>& weights = data.episodes.weights;
    data.step_weights.resize(1, weights.cols());
    const Index steps = weights.cols() / n;
    for (Index s = 0; s < n; ++s) {
      Scalar total = 0;
      for (Index t = 0; t < steps; ++t) total += weights(0, t * n + s);
      if (!(total > 0)) {
        detail::reject("Trainer", "the sum of the task's weights of an episode", "positive", total);
      }
      const Scalar scale =
          Scalar(1) / (total * static_cast<Scalar>(options_.batch * task_.outputs()));
      for (Index t = 0; t < steps; ++t) {
        data.step_weights(0, t * n + s) = weights(0, t * n + s) * scale;
      }
    }
    return data;
  }

  void check_episodes(const Episodes<Scalar>& e, Index samples) const {
    const Index columns = e.inputs.cols();
    if (columns == 0 || columns % samples != 0) {
      detail::reject("Trainer", "the columns of the task's inputs",
                     "steps * " + std::to_string(samples), columns);
    }
    const auto check = [&](std::string_view what, const Matrix<Scalar>& m, Index rows) {
      detail::check_shape("Trainer", what, m.rows(), m.cols(), rows, columns);
    };
    check("the task's inputs", e.inputs, task_.inputs());
    check("the task's targets", e.targets, task_.outputs());
    check("the task's weights", e.weights, 1);
    if (e.queries.size() > 0) check("the task's queries", e.queries, 1);
  }

  double run_shard(Worker& worker, Index batch, Index shard, Vector<Scalar>& total) const {
    const Data& data = generate(worker, {options_.seed, Random::Purpose::training}, batch, shard);
    Tape<Scalar>& tape = worker.tape;
    tape.clear();
    Episode<Scalar> episode = cell_->begin(tape, shards_.samples(shard), &total);
    const auto result = cell_->run(episode, data.episodes.inputs, false);
    const Var<Scalar> error = result.output - tape.constant(data.episodes.targets);
    const Var<Scalar> loss = sum(sum_features(square(error)) * tape.constant(data.step_weights));
    tape.backward(loss);
    return static_cast<double>(loss.value()(0, 0));
  }

  double evaluate_shard(Worker& worker, Random::Stream stream, Index batch, Index shard,
                        Matrix<Scalar>* eta = nullptr) const {
    Data& data = generate(worker, stream, batch, shard);
    cell_->reset(worker.state, shards_.samples(shard));
    cell_->run(worker.state, data.episodes.inputs, data.output, eta);
    return static_cast<double>(
        ((data.output - data.episodes.targets).array().square().colwise().sum() *
         data.step_weights.array())
            .sum());
  }

  Cell* cell_;
  TaskType task_;
  Optimizer* optimizer_;
  TrainerOptions options_;
  Shards<Scalar> shards_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<double> evaluation_losses_;
};

}  // namespace plastic
