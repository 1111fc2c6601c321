#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <numbers>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plastic/tape/functions.hpp"
#include "plastic/train/actor.hpp"
#include "plastic/train/objective.hpp"
#include "plastic/train/shards.hpp"

namespace plastic {

/// Settings of a PolicyObjective.
struct PolicyOptions {
  double gamma = 0.9;              ///< discount of later rewards
  double lambda = 1;               ///< of generalised advantage estimation; 1: whole returns
  bool bootstrap = false;          ///< whether the value stands for rewards after a cut-off
  double value_coefficient = 0.1;  ///< weight of the value's squared error
  double entropy_bonus = 0.03;     ///< weight of the policy's entropy
  double concentration = 0;        ///< weight of the sum of squared probabilities
  bool first_value = false;        ///< takes the value of the batch's first sample for all
  bool greedy = false;             ///< whether evaluations take the likeliest action

  /// Throws std::invalid_argument on the first setting out of its range.
  void validate() const {
    constexpr std::string_view here = "PolicyOptions";
    constexpr double huge = 1e15;
    detail::check_range(here, "gamma", gamma, 0, 1);
    detail::check_range(here, "lambda", lambda, 0, 1);
    detail::check_range(here, "value_coefficient", value_coefficient, 0, huge);
    detail::check_range(here, "entropy_bonus", entropy_bonus, 0, huge);
    detail::check_range(here, "concentration", concentration, 0, huge);
  }
};

/// A cell that learns to act in an environment: advantage actor-critic by backpropagation through
/// whole episodes. With v_t the value, p_t the probabilities of the actions, a_t the action drawn,
/// r_t its reward, T the environment's steps, the loss of an episode is
///
///     1 / T  sum over t  [ -log p_t(a_t) (R_t - v_t)  +  value_coefficient (R_t - v_t)^2
///                          -  entropy_bonus H(p_t)  +  concentration sum p_t^2 ]
///     R_t = r_t + gamma ((1 - lambda) v_{t+1} + lambda R_{t+1})
///
/// R and the R - v beside log p are constants of the gradient. lambda = 1 gives whole returns, less
/// the generalised advantage estimate (Schulman et al., ICLR 2016). Past the end R and v are 0;
/// with `bootstrap`, in an episode that was cut off, both are the value of what follows the last
/// step. The loss of a batch is the mean over its episodes. The cell's outputs are
/// policy_outputs(environment), its inputs environment_inputs(environment).
///
/// A shard steps its own environments on its own thread, and acts while it records: actions follow
/// from (seed, purpose, batch, sample) and the network. `first_value` is the form of published
/// code: in R_t - v_t, both times, v_t is that of the batch's first sample (0 once that has ended);
/// every shard then runs that sample too.
///
/// Evaluations count the measure `reward`, the sum of an episode's rewards; their loss is the mean
/// reward with its sign changed, so that less is better. After the first batch a step allocates
/// nothing. Source: Miconi, Rawal, Clune, Stanley, "Backpropamine", ICLR 2019; Mnih et al., ICML
/// 2016.
template <class Cell, class E>
class PolicyObjective {
 public:
  using ScalarType = typename Cell::ScalarType;  ///< float or double

 private:
  using Scalar = ScalarType;
  static_assert(Environment<E>,
                "the environment lacks a member of Environment: see environments/environment.hpp");

 public:
  /// `cell` must outlive it. Throws std::invalid_argument if cell and environment do not fit each
  /// other, on an option out of its range, and if the actions are real numbers and `concentration`
  /// is not 0.
  PolicyObjective(Cell& cell, E environment, const PolicyOptions& options = {})
      : cell_(&cell), environment_(std::move(environment)), options_(options) {
    options.validate();
    if (is_continuous<E> && options.concentration != 0) {
      detail::reject("PolicyOptions", "concentration", "0 where actions are real numbers",
                     options.concentration);
    }
    const EnvironmentBatch<E> checked(environment_);
    detail::check_actor("PolicyObjective", cell, environment_);
  }

  const E& environment() const { return environment_; }      ///< as given to the constructor
  const PolicyOptions& options() const { return options_; }  ///< likewise

  /// @{
  /// See Objective.
  std::vector<Parameters<Scalar>*> parameters() { return {&cell_->parameters()}; }
  std::span<const Measure> measures() const {
    static constexpr std::array<Measure, 1> all{{{"reward"}}};
    return all;
  }
  Index default_shard(Index batch) const { return plastic::default_shard(*cell_, batch); }
  void open(int threads) {
    for (int t = 0; t < threads; ++t) workers_.push_back(std::make_unique<Worker>());
  }
  double loss(const Shard& shard, std::span<Vector<Scalar>> gradients, Evaluation* evaluation) {
    Worker& worker = *workers_[static_cast<std::size_t>(shard.thread)];
    if (gradients.empty()) return evaluate(worker, shard, evaluation);
    return differentiate(worker, shard, gradients.front());
  }
  void finish(std::span<Vector<Scalar>>) {
    detail::level(workers_, [this](Worker& to, const Worker& from) {
      to.tape.reserve_like(from.tape);
      for (const auto& data : from.data) data_of(to, data->samples);
    });
  }
  Settings settings() const {
    using detail::number_text, detail::bool_text;
    Settings all = training_settings_of(*cell_);
    all["policy.gamma"] = number_text(options_.gamma);
    all["policy.lambda"] = number_text(options_.lambda);
    all["policy.bootstrap"] = bool_text(options_.bootstrap);
    all["policy.value_coefficient"] = number_text(options_.value_coefficient);
    all["policy.entropy_bonus"] = number_text(options_.entropy_bonus);
    all["policy.concentration"] = number_text(options_.concentration);
    all["policy.first_value"] = bool_text(options_.first_value);
    all["policy.greedy"] = bool_text(options_.greedy);
    if constexpr (requires { environment_.settings(); }) {
      detail::add_settings(all, "environment.", environment_.settings());
    }
    all["environments_first_episodes"] = detail::environment_fingerprint(environment_);
    return all;
  }
  /// @}

 private:
  /// The episodes of a shard and what is computed from them, column t * samples + s.
  struct Data {
    Data(const Cell& cell, const E& environment, bool greedy, Index n)
        : samples(n), episodes(environment), actor(cell, environment, greedy) {
      const Index columns = Index{environment.steps()} * n;
      inputs.setZero(episodes.inputs(), columns + n);
      actions.setZero(environment.actions(), columns);
      for (Matrix<Scalar>* row : {&running, &weights, &targets, &policy_weights}) {
        row->setZero(1, columns);
      }
      rewards.setZero(1, columns);
      first_columns.reserve(static_cast<std::size_t>(columns));
      indices.assign(static_cast<std::size_t>(n), 0);
      next_values.assign(static_cast<std::size_t>(n), 0);
      workspace.reserve(static_cast<std::size_t>(Index{environment.actions()}));
      episodes.begin({}, 0, indices);
    }

    Index samples;
    EnvironmentBatch<E> episodes;
    Actor<Cell, E> actor;
    std::vector<Index> indices;  // of the samples in the batch
    Matrix<Scalar> inputs;
    Matrix<Scalar> actions;           // one-hot, or real numbers
    Matrix<double> rewards;           // 1 x columns, as the rows below
    Matrix<Scalar> running;           // 1 until the episode's end
    Matrix<Scalar> weights;           // 1 / (T batch) until then
    Matrix<Scalar> targets;           // R
    Matrix<Scalar> policy_weights;    // weights * (R - v)
    std::vector<double> next_values;  // v past the end of episodes that were cut off
    std::vector<Index> first_columns;
    std::vector<double> workspace;
  };

  /// Workspace of one thread, with data for each size of a shard.
  struct Worker {
    Tape<Scalar> tape;
    std::vector<std::unique_ptr<Data>> data;
  };

  Data& data_of(Worker& worker, Index samples) const {
    for (const auto& data : worker.data) {
      if (data->samples == samples) return *data;
    }
    worker.data.push_back(std::make_unique<Data>(*cell_, environment_, options_.greedy, samples));
    return *worker.data.back();
  }

  double evaluate(Worker& worker, const Shard& shard, Evaluation* evaluation) const {
    Actor<Cell, E>& actor = data_of(worker, shard.size()).actor;
    actor.begin(shard.key.stream, shard.key.batch, shard.samples);
    const EnvironmentBatch<E>& episodes = actor.episodes();
    const bool etas = evaluation != nullptr && evaluation->per_step();
    std::vector<char> running;
    for (;;) {
      const auto t = static_cast<std::size_t>(episodes.time());
      if (etas) {
        running.clear();
        for (Index s = 0; s < shard.size(); ++s) running.push_back(episodes.done(s) ? 0 : 1);
      }
      if (!actor.step()) break;
      for (std::size_t s = 0; s < running.size(); ++s) {
        const auto eta = static_cast<double>(actor.eta()(0, static_cast<Index>(s)));
        if (running[s] != 0) evaluation->add_eta(t, eta);
      }
    }
    double total = 0;
    for (Index s = 0; s < shard.size(); ++s) {
      total += episodes.total(s);
      if (evaluation != nullptr) evaluation->add(0, episodes.total(s));
    }
    return -total / static_cast<double>(shard.key.samples);
  }

  double differentiate(Worker& worker, const Shard& shard, Vector<Scalar>& gradient) const {
    const auto all = shard.samples;
    const auto found = std::find(all.begin(), all.end(), Index{0});
    const bool guest = options_.first_value && found == all.end();
    const Index first = static_cast<Index>(found - all.begin());  // of a guest: the last one
    Data& data = data_of(worker, shard.size() + (guest ? 1 : 0));
    std::fill(data.indices.begin(), data.indices.end(), Index{0});
    std::copy(all.begin(), all.end(), data.indices.begin());

    using Vars = Var<Scalar>;
    Tape<Scalar>& tape = worker.tape;
    tape.clear();
    const Index most = environment_.steps();
    Episode<Scalar> episode = cell_->begin(tape, data.samples, &gradient);
    auto* outputs = tape.arena().template allocate_array<Vars>(static_cast<std::size_t>(most));
    data.episodes.begin(shard.key.stream, shard.key.batch, data.indices);
    Index steps = 0;
    for (; !data.episodes.ended(); ++steps) {
      outputs[steps] = advance(tape, episode, data, options_.bootstrap || steps + 1 < most);
      act(data, outputs[steps].value());
    }
    const Vars output =
        concatenate_samples(std::span<const Vars>(outputs, static_cast<std::size_t>(steps)));
    std::fill(data.next_values.begin(), data.next_values.end(), 0.0);
    if (options_.bootstrap && steps == most) {
      const Vars beyond = advance(tape, episode, data, false);
      for (Index s = 0; s < data.samples; ++s) {
        if (data.episodes.done(s)) continue;
        data.next_values[static_cast<std::size_t>(s)] =
            static_cast<double>(beyond.value()(beyond.rows() - 1, s));
      }
    }
    const double share = 1 / (static_cast<double>(most) * static_cast<double>(shard.key.samples));
    estimate(data, output.value(), first, guest, share);
    const Vars loss = loss_of(tape, data, output, first);
    tape.backward(loss);
    return static_cast<double>(loss.value()(0, 0));
  }

  /// The network's outputs for what the environments show now.
  Var<Scalar> advance(Tape<Scalar>& tape, Episode<Scalar>& episode, Data& data, bool update) const {
    Scalar* x = data.inputs.col(data.episodes.time() * data.samples).data();
    data.episodes.template write_inputs<Scalar>({x, data.inputs.rows(), data.samples});
    return cell_->step(episode, tape.borrow(x, data.inputs.rows(), data.samples), update).output;
  }

  /// Draws actions, lets the environments take them, and keeps actions and rewards.
  static void act(Data& data, const ConstMatrixMap<Scalar>& outputs) {
    detail::choose_actions(data.episodes, outputs, false, data.workspace);
    const Index first = data.episodes.time() * data.samples;
    for (Index s = 0; s < data.samples; ++s) {
      data.running(0, first + s) = data.episodes.done(s) ? Scalar(0) : Scalar(1);
      const auto action = data.episodes.action(s);
      if constexpr (is_continuous<E>) {
        for (std::size_t k = 0; k < action.size(); ++k) {
          data.actions(static_cast<Index>(k), first + s) = static_cast<Scalar>(action[k]);
        }
      } else {
        data.actions.col(first + s).setZero();
        data.actions(action, first + s) = 1;
      }
    }
    data.episodes.step();
    for (Index s = 0; s < data.samples; ++s) data.rewards(0, first + s) = data.episodes.reward(s);
  }

  /// Returns R, weights, and weighted advantages, from the last step to the first.
  void estimate(Data& data, const ConstMatrixMap<Scalar>& outputs, Index first, bool guest,
                double share) const {
    const Index n = data.samples, steps = outputs.cols() / n, value_row = outputs.rows() - 1;
    const auto value = [&](Index column) {
      return static_cast<double>(outputs(value_row, column) * data.running(0, column));
    };
    for (Index s = 0; s < n; ++s) {
      double next = data.next_values[static_cast<std::size_t>(s)], target = next;
      for (Index t = steps - 1; t >= 0; --t) {
        const Index column = t * n + s;
        const bool runs = data.running(0, column) != 0;
        if (runs) {
          const double later = (1 - options_.lambda) * next + options_.lambda * target;
          target = data.rewards(0, column) + options_.gamma * later;
          next = value(column);
        }
        const double weight = runs && !(guest && s == first) ? share : 0;
        const double judged = options_.first_value ? value(t * n + first) : next;
        data.weights(0, column) = static_cast<Scalar>(weight);
        data.targets(0, column) = static_cast<Scalar>(target);
        data.policy_weights(0, column) = static_cast<Scalar>(weight * (target - judged));
      }
    }
  }

  Var<Scalar> loss_of(Tape<Scalar>& tape, Data& data, const Var<Scalar>& output,
                      Index first) const {
    const auto used = [&](const Matrix<Scalar>& m) {
      return tape.borrow(m.data(), m.rows(), output.cols());
    };
    const Var<Scalar> weight = used(data.weights), policy_weight = used(data.policy_weights);
    const Index actions = environment_.actions();
    Var<Scalar> value = rows(output, output.rows() - 1, 1);
    if (options_.first_value) {
      data.first_columns.clear();
      for (Index column = 0; column < output.cols(); ++column) {
        data.first_columns.push_back(column - column % data.samples + first);
      }
      const std::span<const Index> which(data.first_columns);
      value = columns(value * used(data.running), which);
    }
    Var<Scalar> loss =
        sum(square(used(data.targets) - value) * weight) * options_.value_coefficient;
    if constexpr (is_continuous<E>) {
      const double constant = 0.5 * std::log(2 * std::numbers::pi) * static_cast<double>(actions);
      const Var<Scalar> deviation =
          softplus(rows(output, actions, actions)) + detail::least_deviation;
      const Var<Scalar> spread = sum_features(log(deviation));
      const Var<Scalar> z = (used(data.actions) - rows(output, 0, actions)) / deviation;
      const Var<Scalar> surprise = sum_features(square(z)) * 0.5 + spread + constant;
      const Var<Scalar> entropy = spread + (constant + 0.5 * static_cast<double>(actions));
      return loss + sum(surprise * policy_weight) - sum(entropy * weight) * options_.entropy_bonus;
    } else {
      const Var<Scalar> log_p = log_softmax(rows(output, 0, actions));
      loss = loss - sum(sum_features(log_p * used(data.actions)) * policy_weight);
      if (options_.entropy_bonus == 0 && options_.concentration == 0) return loss;
      const Var<Scalar> p = exp(log_p);
      const Var<Scalar> even = p * (log_p * options_.entropy_bonus + p * options_.concentration);
      return loss + sum(sum_features(even) * weight);
    }
  }

  Cell* cell_;
  E environment_;
  PolicyOptions options_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace plastic
