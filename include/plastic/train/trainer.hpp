#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "plastic/optim/optimizer.hpp"
#include "plastic/train/episode_objective.hpp"
#include "plastic/train/loop.hpp"
#include "plastic/train/trainer_options.hpp"

namespace plastic {

/// Minimises an objective by gradient descent: draws a batch, cuts it into shards, sums their
/// gradients, clips the sum, checks that it is finite, sets the learning rate and makes an
/// optimizer step.
///
///     Trainer trainer(net, task, optimizer, {.batches = 2000});        // squared error
///     Trainer trainer(net, task, CrossEntropy(), optimizer, {});       // or any other Loss
///     Trainer trainer(objective, optimizer, {});                       // or any other Objective
///     trainer.run(bar, log, best);
///
/// An objective passed as an lvalue is referenced and must outlive the trainer; a temporary is
/// stored. The same seed gives the same bits with any number of threads. In the steady state, after
/// the first batch or the one with the longest episode, a training step of the library's objectives
/// allocates nothing on any thread; some OpenMP runtimes do.
///
/// With a communicator, which must outlive the trainer, each of its ranks has a trainer of its own
/// with the same settings, and all make the same calls. Each rank does its part of every batch,
/// gets the whole gradient and makes the same step: the same bits as one process. `run` begins with
/// the state of rank 0, and evaluations are of the network of rank 0, also where others differ.
/// Ranks on processors of different kinds may round differently. What one rank throws must end all.
template <class ObjectiveType, class Optimizer>
class Trainer final : public RunnableTrainer {
  using Goal = std::remove_reference_t<ObjectiveType>;
  static_assert(Objective<Goal>,
                "the objective lacks a member of Objective: see train/objective.hpp");
  using Scalar = typename Goal::ScalarType;

 public:
  /// @{
  /// Trains an objective, or a cell that learns a task with a loss, by default SquaredError. Cell
  /// and optimizer must outlive the trainer. Throws std::invalid_argument if task and cell do not
  /// fit each other, if the optimizer is for other parameters, and as the options' `validate` does.
  Trainer(ObjectiveType&& objective, Optimizer& optimizer, const TrainerOptions& options)
      : objective_(std::forward<ObjectiveType>(objective)),
        optimizer_(&optimizer),
        options_(resolved(objective_, options)),
        sets_(objective_.parameters()),
        plan_(options_.batch, options_.shard),
        lanes_(plan_, std::span(sets_).subspan(shared_sets()), options_.communicator) {
    if (shared_sets() > 0 && !leaves_matrices && lanes_.communicator() != nullptr) {
      detail::reject("Trainer", "an objective with shared_sets that several ranks divide",
                     "one with left_by_loss()", "one without");
    }
    if (optimizer.sets() != sets_.size()) {
      detail::reject("Trainer", "the optimizer",
                     "for the " + std::to_string(sets_.size()) + " parameter sets of the objective",
                     optimizer.sets());
    }
    for (std::size_t k = 0; k < sets_.size(); ++k) {
      if (optimizer.size(k) != sets_[k]->size()) {
        detail::reject(
            "Trainer", "the optimizer's parameters",
            "of length " + std::to_string(sets_[k]->size()) + ", that of the objective's",
            optimizer.size(k));
      }
    }
    if constexpr (requires { objective_.open(1); }) objective_.open(options_.threads);
    for (const Parameters<Scalar>* set : sets_) {
      gradients_.push_back(Vector<Scalar>::Zero(set->size()));
    }
  }
  template <class Cell, class TaskType>
  Trainer(Cell& cell, TaskType task, Optimizer& optimizer, const TrainerOptions& options)
      : Trainer(ObjectiveType(cell, std::move(task)), optimizer, options) {}
  template <class Cell, class TaskType, class LossType>
  Trainer(Cell& cell, TaskType task, LossType loss, Optimizer& optimizer,
          const TrainerOptions& options)
      : Trainer(ObjectiveType(cell, std::move(task), std::move(loss)), optimizer, options) {}
  /// @}

  const TrainerOptions& options() const { return options_; }  ///< with threads and shard resolved
  /// @{
  /// The objective that is minimised.
  Goal& objective() { return objective_; }
  const Goal& objective() const { return objective_; }
  /// @}

  /// One batch: forward, backward, clip, optimizer. Returns the batch's loss before the step.
  /// Throws NonFiniteLoss, and changes no parameter, if loss or gradient is not finite (running
  /// statistics of batch norm have then seen the batch), and std::invalid_argument as `gradient`
  /// does.
  double step(Index batch) override {
    const double loss = gradient(batch);
    const double norm = clip_gradient_norm(std::span(gradients_), options_.clip_norm);
    if (!std::isfinite(loss) || !std::isfinite(norm)) {
      const auto text = [](double x) {
        return std::isnan(x) ? std::string("nan") : std::to_string(x);
      };
      throw NonFiniteLoss("Trainer::step: batch " + std::to_string(batch) + " has loss " +
                          text(loss) + " and gradient norm " + text(norm) +
                          "; the parameters are those from before this batch");
    }
    if (!options_.schedule.empty()) {
      optimizer_->set_learning_rate(options_.schedule(batch, options_.batches));
    }
    optimizer_->step(sets_, gradients_);
    return loss;
  }

  /// Loss of a training batch; leaves its gradient in `gradients`. Throws std::invalid_argument if
  /// `batch` is negative, and as the objective does.
  double gradient(Index batch) {
    detail::check_not_negative("Trainer::gradient", "batch", batch);
    const std::span<Vector<Scalar>> all(gradients_);
    for (Vector<Scalar>& shared : all.first(shared_sets())) shared.setZero();
    const BatchKey key = key_of({options_.seed, Random::Purpose::training}, batch);
    prepare(key, all);
    plan_.deal(lengths());
    const double loss =
        lanes_.gradient(plan_, options_.threads, all.subspan(shared_sets()),
                        [&](Index shard, int thread, std::span<Vector<Scalar>> total) {
                          return objective_.loss(shard_of(key, shard, thread), total, nullptr);
                        });
    if constexpr (leaves_matrices) {
      if (Communicator* const others = lanes_.communicator()) {
        for (Matrix<Scalar>* left : objective_.left_by_loss()) {
          detail::merge(*others, detail::bytes_of(*left), merged_);
        }
      }
    }
    if constexpr (requires { objective_.finish(all); }) objective_.finish(all);
    return loss;
  }

  /// The latest gradient of a set of parameters, in its layout; it is clipped after `step`.
  const Vector<Scalar>& gradients(std::size_t set = 0) const { return gradients_.at(set); }

  /// Mean loss over `batches` fresh batches of a stream, without derivatives. Throws
  /// std::invalid_argument if there is none, and as the objective does.
  double evaluate(Random::Stream stream, Index batches) {
    return evaluation(stream, batches, false).loss;
  }

  /// The same with the measures of the objective and, for episodes, the learning rate of every
  /// step. Throws std::invalid_argument likewise, and if a measure has nothing to count: no step of
  /// the task is a query.
  Evaluation evaluate_in_detail(Random::Stream stream, Index batches) {
    Evaluation result = evaluation(stream, batches, true);
    for (const Measure& measure : result.measures()) {
      if (measure.count > 0) continue;
      detail::reject("Trainer::evaluate_in_detail", "the sum of the task's queries", "positive",
                     measure.count);
    }
    return result;
  }

  Index batches() const override { return options_.batches; }
  Index validation_every() const override { return options_.validation_every; }

  Communicator* communicator() const override { return options_.communicator; }

  /// Evaluates on the same batches of the seed's validation stream each time.
  Evaluation validate() override {
    return evaluation({options_.seed, Random::Purpose::validation}, options_.validation_batches,
                      false);
  }

  /// All settings that affect the bits of a run: those of objective, optimizer, schedule and
  /// trainer, and which parameters are frozen; not the number of threads, nor that of the batches
  /// if no schedule depends on it. Throws std::invalid_argument if a setting of the objective has a
  /// name of the trainer's.
  Settings settings(Index batches) const override {
    Settings all = optimizer_->settings();
    using detail::number_text;
    all["schedule"] = options_.schedule.rates(batches);
    all["training.batch"] = number_text(options_.batch);
    all["training.clip_norm"] = number_text(options_.clip_norm);
    all["training.seed"] = number_text(options_.seed);
    all["training.shard"] = number_text(options_.shard);
    all["training.validation_batches"] = number_text(options_.validation_batches);
    all["training.validation_every"] = number_text(options_.validation_every);
    std::string& frozen = all["training.frozen"];
    for (const Parameters<Scalar>* set : sets_) {
      for (const ParameterBlock& block : set->blocks()) {
        if (!block.trainable) frozen.append(frozen.empty() ? "" : " ").append(block.name);
      }
    }
    if constexpr (requires { objective_.settings(); }) {
      for (const auto& [name, value] : Settings(objective_.settings())) {
        if (!all.emplace(name, value).second) {
          detail::reject("Trainer", "the name of every setting of the objective",
                         "one that the trainer does not use", name);
        }
      }
    }
    return all;
  }

  void save(TensorFile& file) const override {
    const std::vector<Vector<Scalar>*> state = state_vectors();
    for (std::size_t k = 0; k < state.size(); ++k) file.set_vector(state_name(k), *state[k]);
    file.metadata["state.optimizer_steps"] = detail::number_text(optimizer_->steps());
    file.metadata["state.learning_rate"] = detail::number_text(optimizer_->learning_rate());
    for_each_moment([&](std::size_t set, std::size_t m, const std::string& name) {
      file.set_vector(name, optimizer_->moments(set)[m]);
    });
  }

  void share() override {
    share_network();
    std::vector<std::vector<Vector<Scalar>>> moments;
    for (std::size_t set = 0; set < sets_.size(); ++set) {
      const auto& own = optimizer_->moments(set);
      for (Vector<Scalar>& m : moments.emplace_back(own.begin(), own.end())) {
        options_.communicator->broadcast(detail::bytes_of(m));
      }
    }
    const Index steps = detail::broadcast_value(*options_.communicator, optimizer_->steps());
    const double rate =
        detail::broadcast_value(*options_.communicator, optimizer_->learning_rate());
    optimizer_->restore(steps, rate, moments);
  }

  std::function<void()> restore(const TensorFile& file) override {
    std::vector<Vector<Scalar>> values;
    for (const Vector<Scalar>* vector : state_vectors()) {
      values.push_back(file.vector<Scalar>(state_name(values.size()), vector->size()));
    }
    std::vector<std::vector<Vector<Scalar>>> moments(sets_.size());
    for_each_moment([&](std::size_t set, std::size_t, const std::string& name) {
      moments[set].push_back(file.vector<Scalar>(name, sets_[set]->size()));
    });
    const auto steps = detail::number_setting<Index>(file.metadata, "state.optimizer_steps");
    auto rate = detail::number_setting<double>(file.metadata, "state.learning_rate");
    const std::string option = "optimizer.learning_rate";
    if (setting(file.metadata, option) != optimizer_->settings().at(option)) {  // on purpose
      rate = optimizer_->options().learning_rate;
    }
    return [this, values = std::move(values), moments = std::move(moments), steps, rate] {
      optimizer_->restore(steps, rate, moments);
      const std::vector<Vector<Scalar>*> state = state_vectors();
      for (std::size_t k = 0; k < state.size(); ++k) *state[k] = values[k];
    };
  }

 private:
  static constexpr std::size_t shared_sets() {
    if constexpr (requires { Goal::shared_sets; }) return Goal::shared_sets;
    return 0;
  }

  static TrainerOptions resolved(const Goal& objective, TrainerOptions options) {
    options.validate();
    Communicator* const others = options.communicator;
    if (options.threads == 0 && others != nullptr) options.threads = others->threads();
    if (options.threads == 0) options.threads = available_threads();
    if (options.shard == 0) {
      if constexpr (requires { objective.default_shard(Index{1}); }) {
        options.shard = objective.default_shard(options.batch);
        if (others != nullptr) options.shard = detail::broadcast_value(*others, options.shard);
      } else {
        options.shard = 1;
      }
    }
    options.shard = std::min(options.shard, options.batch);
    return options;
  }

  BatchKey key_of(Random::Stream stream, Index batch) const {
    return {stream, batch, options_.batch, options_.threads};
  }

  Shard shard_of(const BatchKey& key, Index shard, int thread) const {
    return {key, plan_.samples(shard), thread, plan_.count() == 1 ? options_.threads : 1};
  }

  void prepare(const BatchKey& key, std::span<Vector<Scalar>> gradients) {
    if constexpr (has_prepare) objective_.prepare(key, gradients);
  }

  std::span<const Index> lengths() const {
    if constexpr (requires { objective_.lengths(); }) return objective_.lengths();
    return {};
  }

  Evaluation empty_evaluation(bool in_detail) const {
    if constexpr (requires { objective_.measures(); }) {
      return Evaluation(objective_.measures(), in_detail);
    }
    return Evaluation({}, in_detail);
  }

  Evaluation evaluation(Random::Stream stream, Index batches, bool in_detail) {
    detail::check_positive("Trainer::evaluate", "batches", batches);
    const bool divided = detail::is_divided(options_.communicator);
    if (divided) share_network();
    if constexpr (requires { objective_.evaluate(stream, batches, batches, 1); }) {
      return objective_.evaluate(stream, batches, options_.batch, options_.threads);
    } else {
      // A prepared batch must be finished before the next; others need not wait.
      const Index together = has_prepare ? 1 : batches, items = together * plan_.count();
      const Index ranks = divided ? options_.communicator->ranks() : 1;
      const Index rank = divided ? options_.communicator->rank() : 0;
      const Index begin = rank * items / ranks, end = (rank + 1) * items / ranks;
      Evaluation total = empty_evaluation(in_detail);
      parts_.resize(static_cast<std::size_t>(items));
      for (Index first = 0; first < batches; first += together) {
        prepare(key_of(stream, first), {});
        plan_.deal(lengths());
        if (divided) std::fill(parts_.begin(), parts_.end(), empty_evaluation(in_detail));
        parallel_for(end - begin, options_.threads, [&](Index k, int thread) {
          const Index item = begin + k;
          const BatchKey key = key_of(stream, first + item / plan_.count());
          Evaluation& part = parts_[static_cast<std::size_t>(item)];
          part = empty_evaluation(in_detail);
          part.loss = objective_.loss(shard_of(key, item % plan_.count(), thread), {}, &part);
        });
        if (divided) Evaluation::merge(*options_.communicator, parts_, begin, end);
        for (const Evaluation& part : parts_) total.add(part);
      }
      total.loss /= static_cast<double>(batches);
      return total;
    }
  }

  static std::string state_name(std::size_t k) { return "state." + std::to_string(k); }

  std::vector<Vector<Scalar>*> state_vectors() const {
    std::vector<Vector<Scalar>*> all;
    for (Parameters<Scalar>* set : sets_) all.push_back(&set->values());
    if constexpr (requires { objective_.state(); }) {
      for (Vector<Scalar>* more : objective_.state()) all.push_back(more);
    }
    return all;
  }

  /// Gives all ranks the network of rank 0.
  void share_network() {
    for (Vector<Scalar>* vector : state_vectors()) {
      options_.communicator->broadcast(detail::bytes_of(*vector));
    }
  }

  template <class F>
  void for_each_moment(F&& f) const {
    const auto names = optimizer_->moment_names();
    for (std::size_t set = 0; set < sets_.size(); ++set) {
      for (std::size_t m = 0; m < names.size(); ++m) {
        f(set, m, "optimizer." + std::to_string(set) + "." + std::string(names[m]));
      }
    }
  }

  static constexpr bool has_prepare = requires(Goal & o, const BatchKey& key) {
    o.prepare(key, std::span<Vector<Scalar>>());
  };
  static constexpr bool leaves_matrices = requires(Goal & o) {
    std::vector<Matrix<Scalar>*>(o.left_by_loss());
  };

  ObjectiveType objective_;
  Optimizer* optimizer_;
  TrainerOptions options_;
  std::vector<Parameters<Scalar>*> sets_;
  ShardPlan plan_;
  Lanes<Scalar> lanes_;
  std::vector<Vector<Scalar>> gradients_;  // gradient of each set
  std::vector<Evaluation> parts_;
  std::vector<std::byte> merged_;  // what another rank has left
};

/// For a cell that learns a task by squared error.
template <class Cell, class TaskType, class Optimizer>
Trainer(Cell&, TaskType, Optimizer&, TrainerOptions)
    -> Trainer<EpisodeObjective<Cell, TaskType>, Optimizer>;
/// For a cell that learns a task by another loss, a policy or a function.
template <class Cell, class TaskType, class LossType, class Optimizer>
Trainer(Cell&, TaskType, LossType, Optimizer&, TrainerOptions)
    -> Trainer<EpisodeObjective<Cell, TaskType, detail::LossOf<LossType>>, Optimizer>;
/// For an objective.
template <class ObjectiveType, class Optimizer>
Trainer(ObjectiveType&&, Optimizer&, TrainerOptions) -> Trainer<ObjectiveType, Optimizer>;

}  // namespace plastic
