#include "plastic/train/policy_objective.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "plastic/cells/compiled.hpp"
#include "plastic/cells/families.hpp"
#include "plastic/environments/cart_pole_motor.hpp"
#include "plastic/environments/grid_maze.hpp"
#include "plastic/io/checkpoint.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/rules/gradient.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/rules/none.hpp"
#include "plastic/train/trainer.hpp"
#include "support/allocation_counter.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"

namespace {

using namespace plastic;
using plastic::testing::AllocationCounter;
using plastic::testing::error_of;
using plastic::testing::Folder;
using plastic::testing::mentions;
using plastic::testing::rejection;

// An environment of a user's own. Each action is an arm that pays; episodes end by chance.
struct Arms {
  struct State {
    std::array<double, 3> pays{};
    Index end = 0, time = 0;
  };
  static constexpr bool feedback = true;
  Index length = 6;
  Index observations() const { return 1; }
  Index actions() const { return 3; }
  Index steps() const { return length; }
  void reset(State& state, Random& random) const {
    state.time = 0;
    for (double& p : state.pays) p = random.uniform(-1, 1);
    state.end = 2 + Index{random.below(static_cast<std::uint32_t>(length))};
  }
  EnvironmentStep step(State& state, Index action, Random& random) const {
    const double reward = state.pays[static_cast<std::size_t>(action)] + 0.1 * random.normal();
    return {reward, ++state.time == state.end};
  }
  void observe(const State& state, std::span<double> x) const {
    x[0] = 0.1 * static_cast<double>(1 + state.time);
  }
};

// The same with real actions: two numbers to guess from the rewards.
struct Guess {
  struct State {
    std::array<double, 2> goal{};
  };
  static constexpr bool continuous = true;
  static constexpr bool feedback = true;
  Index observations() const { return 0; }
  Index actions() const { return 2; }
  Index steps() const { return 5; }
  void reset(State& state, Random& random) const {
    for (double& g : state.goal) g = random.uniform(0.5, 1);
  }
  EnvironmentStep step(State& state, std::span<const double> action, Random&) const {
    const double x = action[0] - state.goal[0], y = action[1] + state.goal[1];
    return {1 - x * x - y * y, false};
  }
  void observe(const State&, std::span<double>) const {}
};

template <class Cell, class E>
Cell cell_for(const E& environment, Index hidden = 5) {
  typename Cell::Options options;
  options.inputs = environment_inputs(environment);
  options.outputs = policy_outputs(environment);
  options.hidden = hidden;
  options.seed = 3;
  Cell cell(options);
  // Large enough that nothing is nearly linear.
  auto& values = cell.parameters().values();
  Random random({4, Random::Purpose::initial_weights}, 0, 0);
  using Scalar = typename Cell::ScalarType;
  for (Index i = 0; i < values.size(); ++i) values[i] += static_cast<Scalar>(0.2 * random.normal());
  return cell;
}

TrainerOptions few(Index batch = 5, Index shard = 2, int threads = 1) {
  return {.batch = batch,
          .batches = 12,
          .validation_every = 4,
          .validation_batches = 2,
          .seed = 8,
          .threads = threads,
          .shard = shard};
}

// What a batch did, and the constants of its loss, by plain loops.
struct Story {
  Matrix<double> inputs;  // column t * samples + s
  std::vector<Index> lengths;
  std::vector<std::vector<double>> actions;          // of each column
  std::vector<double> rewards, targets, advantages;  // likewise
};

template <class Cell, class E>
Story play(const Cell& cell, const E& environment, const PolicyOptions& options, Index n) {
  const Index steps = environment.steps(), value_row = policy_outputs(environment) - 1;
  EnvironmentBatch<E> episodes(environment);
  std::vector<Index> samples(static_cast<std::size_t>(n));
  std::iota(samples.begin(), samples.end(), Index{0});
  CellState<double> state = cell.initial_state(n);
  Matrix<double> x(episodes.inputs(), n), values = Matrix<double>::Zero(steps + 1, n);
  Story story;
  story.inputs.setZero(episodes.inputs(), steps * n);
  story.lengths.assign(samples.size(), steps);
  std::vector<double> workspace;
  for (episodes.begin({8, Random::Purpose::training}, 1, samples); !episodes.ended();) {
    const Index t = episodes.time();
    episodes.template write_inputs<double>({x.data(), x.rows(), n});
    story.inputs.middleCols(t * n, n) = x;
    const Matrix<double> outputs = cell.step(state, x).output;
    detail::choose_actions(episodes, outputs, false, workspace);
    for (Index s = 0; s < n; ++s) {
      if (!episodes.done(s)) values(t, s) = outputs(value_row, s);
      if constexpr (is_continuous<E>) {
        const auto action = episodes.action(s);
        story.actions.emplace_back(action.begin(), action.end());
      } else {
        story.actions.push_back({static_cast<double>(episodes.action(s))});
      }
    }
    episodes.step();
    for (Index s = 0; s < n; ++s) {
      story.rewards.push_back(episodes.reward(s));
      Index& length = story.lengths[static_cast<std::size_t>(s)];
      if (episodes.done(s)) length = std::min(length, t + 1);
    }
  }
  story.inputs.conservativeResize(x.rows(), episodes.time() * n);
  if (options.bootstrap && episodes.time() == steps) {
    episodes.template write_inputs<double>({x.data(), x.rows(), n});
    const Matrix<double> outputs = cell.step(state, x).output;
    for (Index s = 0; s < n; ++s) {
      if (!episodes.done(s)) values(steps, s) = outputs(value_row, s);
    }
  }
  story.targets.resize(story.rewards.size());
  story.advantages.resize(story.rewards.size());
  for (Index s = 0; s < n; ++s) {
    const Index length = story.lengths[static_cast<std::size_t>(s)];
    for (Index t = 0; t < length; ++t) {
      // The sum of discounted errors, forward.
      double advantage = 0, factor = 1;
      for (Index k = t; k < length; ++k) {
        const double reward = story.rewards[static_cast<std::size_t>(k * n + s)];
        const double next = k + 1 < length || length == steps ? values(k + 1, s) : 0;
        advantage += factor * (reward + options.gamma * next - values(k, s));
        factor *= options.gamma * options.lambda;
      }
      const auto column = static_cast<std::size_t>(t * n + s);
      story.targets[column] = advantage + values(t, s);
      const double judged = options.first_value ? values(t, 0) : values(t, s);
      story.advantages[column] = story.targets[column] - judged;
    }
  }
  return story;
}

// The loss of the story, with actions, targets and advantages as constants.
template <class Cell, class E>
double loss_by_hand(const Cell& cell, const E& environment, const PolicyOptions& options,
                    const Story& story) {
  const auto n = static_cast<Index>(story.lengths.size());
  const Index actions = environment.actions();
  CellState<double> state = cell.initial_state(n);
  Matrix<double> output;
  cell.run(state, story.inputs, output, nullptr, story.lengths);
  double loss = 0;
  for (Index s = 0; s < n; ++s) {
    for (Index t = 0; t < story.lengths[static_cast<std::size_t>(s)]; ++t) {
      const Index column = t * n + s;
      const auto at = static_cast<std::size_t>(column);
      const auto o = output.col(column);
      const double first = t < story.lengths[0] ? output(output.rows() - 1, t * n) : 0;
      const double value = options.first_value ? first : o[output.rows() - 1];
      double log_p = 0, entropy = 0, squares = 0;
      if constexpr (is_continuous<E>) {
        for (Index k = 0; k < actions; ++k) {
          const double sigma = std::log1p(std::exp(o[actions + k])) + 1.0 / 1024;
          const double z = (story.actions[at][static_cast<std::size_t>(k)] - o[k]) / sigma;
          log_p -= z * z / 2 + std::log(sigma) + std::log(2 * std::numbers::pi) / 2;
          entropy += std::log(sigma * std::sqrt(2 * std::numbers::pi * std::numbers::e));
        }
      } else {
        double total = 0;
        for (Index k = 0; k < actions; ++k) total += std::exp(o[k]);
        for (Index k = 0; k < actions; ++k) {
          const double p = std::exp(o[k]) / total;
          entropy -= p * std::log(p);
          squares += p * p;
        }
        log_p = o[static_cast<Index>(story.actions[at][0])] - std::log(total);
      }
      const double error = story.targets[at] - value;
      loss += -log_p * story.advantages[at] + options.value_coefficient * error * error -
              options.entropy_bonus * entropy + options.concentration * squares;
    }
  }
  return loss / static_cast<double>(n * environment.steps());
}

template <class Cell, class E>
void check_against_differences(const E& environment, const PolicyOptions& options) {
  Cell cell = cell_for<Cell>(environment);
  INFO(Cell::cell_name << " " << Cell::rule_name << ", lambda " << options.lambda
                       << ", first value " << options.first_value);
  AdamW<double> optimizer(cell.parameters());
  Trainer trainer(PolicyObjective(cell, environment, options), optimizer, few());
  const double loss = trainer.gradient(1);
  const Vector<double> gradient = trainer.gradients();
  const Story story = play(cell, environment, options, 5);
  CHECK(loss == Approx(loss_by_hand(cell, environment, options, story)).epsilon(1e-11));
  Vector<double> expected = gradient;
  for (Index i = 0; i < gradient.size(); ++i) {
    double& value = cell.parameters().values()[i];
    const double kept = value, h = 2e-6;
    value = kept + h;
    const double above = loss_by_hand(cell, environment, options, story);
    value = kept - h;
    const double below = loss_by_hand(cell, environment, options, story);
    value = kept;
    expected[i] = (above - below) / (2 * h);
  }
  CHECK(gradient.norm() > 1e-2);
  CHECK((gradient - expected).cwiseAbs().maxCoeff() < 1e-7 * expected.cwiseAbs().maxCoeff() + 1e-9);
}

template <class Scalar>
bool same_bits(const Vector<Scalar>& a, const Vector<Scalar>& b) {
  const auto bytes = static_cast<std::size_t>(a.size()) * sizeof(Scalar);
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), bytes) == 0;
}

using ActingCells =
    std::tuple<PlasticRNN<Gradient, double>, PlasticRNN<Hebbian, double>, PlasticRNN<None, double>,
               TraceRNN<double>, ModulatedRNN<double>, RetroactiveRNN<double>>;

}  // namespace

TEMPLATE_LIST_TEST_CASE("The gradient of the policy's whole loss is that of central differences",
                        "[train][policy_objective]", ActingCells) {
  check_against_differences<TestType>(Arms(), {.concentration = 0.2});
  check_against_differences<TestType>(
      Arms(), {.gamma = 0.8, .lambda = 0.6, .bootstrap = true, .value_coefficient = 0.7});
}

TEST_CASE("So are those of the published form and of real actions", "[train][policy_objective]") {
  using Cell = ModulatedRNN<double>;
  check_against_differences<Cell>(Arms(),
                                  {.entropy_bonus = 0, .concentration = 0.03, .first_value = true});
  check_against_differences<Cell>(Arms{.length = 3}, {.lambda = 0, .bootstrap = true});
  check_against_differences<Cell>(Guess(), {.entropy_bonus = 0.2});
  check_against_differences<Cell>(Guess(), {.lambda = 0.5, .bootstrap = true, .first_value = true});
}

TEST_CASE("A batch of episodes is the sum of its samples alone", "[train][policy_objective]") {
  using Cell = TraceRNN<double>;
  for (const bool first_value : {false, true}) {
    Cell cell = cell_for<Cell>(Arms());
    PolicyObjective objective(cell, Arms(), {.bootstrap = true, .first_value = first_value});
    AdamW<double> optimizer(cell.parameters());
    const double loss = [&] {
      Trainer trainer(objective, optimizer, few(5, 5));
      return trainer.gradient(3);
    }();
    Trainer trainer(objective, optimizer, few(5, 5));
    trainer.gradient(3);
    const Vector<double> gradient = trainer.gradients();
    std::vector<Vector<double>> sum{cell.zero_gradients()};
    double total = 0;
    for (Index s = 0; s < 5; ++s) {
      const Shard alone{.key = {{8, Random::Purpose::training}, 3, 5, 1},
                        .samples = std::span(&s, 1)};
      total += objective.loss(alone, sum, nullptr);
    }
    CHECK(total == Approx(loss).epsilon(1e-11));
    CHECK((sum[0] - gradient).norm() < 1e-10 * gradient.norm());
  }
}

TEST_CASE("A network that acts learns with the same bits on one and on two threads",
          "[train][policy_objective]") {
  using Cell = RetroactiveRNN<float>;
  std::vector<Cell> cells;
  std::vector<double> losses;
  for (const int threads : {1, 2}) {
    Cell& cell = cells.emplace_back(cell_for<Cell>(GridMaze({.steps = 20}), 9));
    AdamW<float> optimizer(cell.parameters());
    Trainer trainer(PolicyObjective(cell, GridMaze({.steps = 20}), {.first_value = true}),
                    optimizer, few(7, 2, threads));
    for (Index batch = 0; batch < 4; ++batch) trainer.step(batch);
    losses.push_back(trainer.evaluate({8, Random::Purpose::test}, 3));
    cells.reserve(2);
  }
  CHECK(same_bits(cells[0].parameters().values(), cells[1].parameters().values()));
  CHECK(losses[0] == losses[1]);
}

TEST_CASE("After the first batch acting and learning allocate nothing",
          "[train][policy_objective]") {
  const auto allocations = [](auto environment, const PolicyOptions& options) {
    using Cell = ModulatedRNN<float>;
    Cell cell = cell_for<Cell>(environment, 9);
    AdamW<float> optimizer(cell.parameters());
    Trainer trainer(PolicyObjective(cell, environment, options), optimizer, few());
    trainer.step(0);
    trainer.evaluate({8, Random::Purpose::validation}, 1);
    const AllocationCounter counter;
    trainer.step(1);
    trainer.step(2);
    trainer.evaluate({8, Random::Purpose::validation}, 1);
    return counter.count();
  };
  const std::size_t maze = allocations(GridMaze({.steps = 10}), {.first_value = true});
  const std::size_t arms = allocations(Arms(), {.bootstrap = true});
  const std::size_t pole = allocations(CartPoleMotor({.steps = 10}), {.bootstrap = true});
  CHECK(maze == 0);
  CHECK(arms == 0);
  CHECK(pole == 0);
}

TEST_CASE("An evaluation tells the mean reward of episodes, and its interval",
          "[train][policy_objective]") {
  using Cell = PlasticRNN<Hebbian, float>;
  Cell cell = cell_for<Cell>(Arms());
  AdamW<float> optimizer(cell.parameters());
  double rewards[2];
  for (const bool greedy : {false, true}) {
    Trainer trainer(PolicyObjective(cell, Arms(), {.greedy = greedy}), optimizer, few());
    const Random::Stream stream{8, Random::Purpose::test};
    const Evaluation all = trainer.evaluate_in_detail(stream, 3);
    std::vector<double> totals;
    Actor actor(cell, Arms(), greedy);
    for (Index batch = 0; batch < 3; ++batch) {
      for (const Index sample : {0, 1, 2, 3, 4}) {
        actor.begin(stream, batch, std::span(&sample, 1));
        while (actor.step()) {
          if (!greedy) continue;
          Index likeliest = 0;
          actor.outputs().col(0).head(3).maxCoeff(&likeliest);
          CHECK(actor.episodes().action(0) == likeliest);
        }
        totals.push_back(actor.episodes().total(0));
      }
    }
    double sum = 0, squares = 0;
    for (const double total : totals) {
      sum += total / 15;
      squares += total * total / 15;
    }
    const Measure& reward = all.measure("reward");
    CHECK(reward.mean() == Approx(sum));
    CHECK(reward.count == 15);
    CHECK(reward.half_width() == Approx(1.96 * std::sqrt((squares - sum * sum) / 15)));
    CHECK(all.loss == Approx(-sum));
    CHECK(all.eta_mean().size() == 6);
    rewards[greedy ? 1 : 0] = sum;
  }
  CHECK(rewards[0] != rewards[1]);
}

TEST_CASE("Networks that act learn which arm pays and which numbers to give",
          "[train][policy_objective]") {
  const auto learn = [](auto environment) {
    using Cell = PlasticRNN<None, float>;
    typename Cell::Options options;
    options.inputs = environment_inputs(environment);
    options.outputs = policy_outputs(environment);
    options.hidden = 24;
    Cell cell(options);
    AdamW<float> optimizer(cell.parameters(), {.learning_rate = 3e-3});
    Trainer trainer(PolicyObjective(cell, environment, {.entropy_bonus = 0.01}), optimizer,
                    {.batch = 32, .batches = 400, .validation_every = 0, .threads = 1});
    const Random::Stream stream{8, Random::Purpose::test};
    const double before = -trainer.evaluate(stream, 10);
    trainer.run();
    return std::pair{before, -trainer.evaluate(stream, 10)};
  };
  const auto [arms_before, arms_after] = learn(Arms{.length = 12});
  INFO(arms_before << " -> " << arms_after);
  CHECK(std::abs(arms_before) < 0.6);
  CHECK(arms_after > 1.2);
  const auto [guess_before, guess_after] = learn(Guess());
  INFO(guess_before << " -> " << guess_after);
  CHECK(guess_after > guess_before + 3);
}

TEST_CASE("A network that acts goes on from a checkpoint with the bits of one never cut off",
          "[train][policy_objective]") {
  using Cell = ModulatedRNN<float>;
  struct Killer : TrainingCallback {
    void on_batch(const Progress& p) override {
      if (p.batch == at) throw std::runtime_error("killed");
    }
    Index at = 0;
  };
  struct Run {
    Cell cell = cell_for<Cell>(Arms());
    AdamW<float> optimizer{cell.parameters()};
    Trainer<PolicyObjective<Cell, Arms>, AdamW<float>> trainer{
        PolicyObjective<Cell, Arms>(cell, Arms()), optimizer, few()};
  };
  const Folder folder;
  const auto file = folder / "checkpoint";
  Run whole;
  whole.trainer.run();
  for (const Index until : {3, 7, 0}) {
    Run run;
    Killer killer;
    killer.at = until;
    Checkpoint checkpoint(file, {.every = 2});
    if (until > 0) {
      CHECK_THROWS_WITH(run.trainer.run(checkpoint, killer), "killed");
      continue;
    }
    run.trainer.run(checkpoint);
    CHECK(same_bits(run.cell.parameters().values(), whole.cell.parameters().values()));
  }
  // With other settings it does not go on.
  Cell cell = cell_for<Cell>(Arms());
  AdamW<float> optimizer(cell.parameters());
  const auto refusal = [&](const Arms& arms, const PolicyOptions& options) {
    Trainer trainer(PolicyObjective(cell, arms, options), optimizer, few());
    return rejection([&] { trainer.run(Checkpoint(file)); });
  };
  CHECK(mentions(refusal(Arms(), {.gamma = 0.5}), "\"policy.gamma\""));
  CHECK(mentions(refusal(Arms{.length = 7}, {}), "\"environments_first_episodes\""));
}

TEST_CASE("Mistakes with networks that act are refused by name", "[train][policy_objective]") {
  using Cell = PlasticRNN<None, double>;
  const auto refusal = [](const PolicyOptions& options) {
    Cell cell = cell_for<Cell>(Arms());
    return rejection([&] { PolicyObjective(cell, Arms(), options); });
  };
  CHECK(mentions(refusal({.gamma = 1.5}), "PolicyOptions: gamma must be"));
  CHECK(mentions(refusal({.lambda = -0.1}), "PolicyOptions: lambda must be"));
  CHECK(mentions(refusal({.value_coefficient = -1}), "PolicyOptions: value_coefficient must be"));
  CHECK(mentions(refusal({.entropy_bonus = -1}), "PolicyOptions: entropy_bonus must be"));
  CHECK(mentions(refusal({.concentration = -1}), "PolicyOptions: concentration must be"));
  CHECK(refusal({}) == "no error");
  Cell real = cell_for<Cell>(Guess());
  CHECK(rejection([&] { PolicyObjective(real, Guess(), {.concentration = 0.1}); }) ==
        "PolicyOptions: concentration must be 0 where actions are real numbers, got 0.1");
  Cell narrow({.inputs = 4, .hidden = 3, .outputs = 4});
  CHECK(rejection([&] { PolicyObjective(narrow, Arms()); }) ==
        "PolicyObjective: the number of the cell's inputs must be 5, as the environment needs, "
        "got 4");
  Cell mute({.inputs = 5, .hidden = 3, .outputs = 3});
  CHECK(rejection([&] { Actor(mute, Arms()); }) ==
        "Actor: the number of the cell's outputs must be 4, as the environment needs, got 3");
  Cell right = cell_for<Cell>(Arms());
  Actor actor(right, Arms());
  CHECK(mentions(rejection([&] { actor.step(); }), "Actor::step: the episodes must be begun"));

  // Weights that are not finite end a run as in any other objective.
  right.parameters().matrix("out_fc.bias")(0, 0) = std::numeric_limits<double>::quiet_NaN();
  AdamW<double> optimizer(right.parameters());
  Trainer trainer(PolicyObjective(right, Arms()), optimizer, few());
  CHECK(mentions(error_of<NonFiniteLoss>([&] { trainer.step(0); }), "batch 0"));
}
