#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "plastic/environments/cart_pole_motor.hpp"
#include "plastic/environments/grid_maze.hpp"
#include "plastic/environments/target_discovery.hpp"
#include "support/allocation_counter.hpp"
#include "support/errors.hpp"

namespace {

using namespace plastic;
using plastic::testing::AllocationCounter;
using plastic::testing::mentions;
using plastic::testing::rejection;

constexpr Random::Stream stream{5, Random::Purpose::test};

std::vector<Index> first_samples(Index count) {
  std::vector<Index> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), Index{0});
  return all;
}

template <class E>
std::vector<double> observation_of(const E& environment, const typename E::State& state) {
  std::vector<double> all(static_cast<std::size_t>(environment.observations()), -7);
  environment.observe(state, all);
  return all;
}

// Mean and its standard error of the rewards of `count` episodes; choose(state, random) acts.
template <class E, class Choose>
std::pair<double, double> mean_reward(const E& environment, Index count, const Choose& choose) {
  EnvironmentBatch<E> episodes(environment);
  for (episodes.begin(stream, 0, first_samples(count)); !episodes.ended(); episodes.step()) {
    for (Index s = 0; s < count; ++s) {
      episodes.set_action(s, choose(episodes.state(s), episodes.choices(s), s));
    }
  }
  double sum = 0, squares = 0;
  for (Index s = 0; s < count; ++s) {
    sum += episodes.total(s);
    squares += episodes.total(s) * episodes.total(s);
  }
  const auto n = static_cast<double>(count);
  return {sum / n, std::sqrt((squares / n - sum / n * sum / n) / n)};
}

// Steps from each cell to the goal, by breadth first.
std::vector<int> distances(const GridMaze& maze, Index goal_row, Index goal_column) {
  const Index size = maze.options().size;
  std::vector<int> all(static_cast<std::size_t>(size * size), 1000);
  std::vector<std::pair<Index, Index>> queue{{goal_row, goal_column}};
  all[static_cast<std::size_t>(goal_row * size + goal_column)] = 0;
  for (std::size_t k = 0; k < queue.size(); ++k) {
    const auto [row, column] = queue[k];
    const int next = all[static_cast<std::size_t>(row * size + column)] + 1;
    for (const auto& [i, j] : std::array<std::pair<Index, Index>, 4>{
             {{row - 1, column}, {row + 1, column}, {row, column - 1}, {row, column + 1}}}) {
      if (maze.wall(i, j)) continue;
      int& there = all[static_cast<std::size_t>(i * size + j)];
      if (there <= next) continue;
      there = next;
      queue.emplace_back(i, j);
    }
  }
  return all;
}

}  // namespace

TEST_CASE("The grid maze has walls at the border and at every even cell but the centre",
          "[environments][environments]") {
  const std::vector<std::string> nine = {"#########", "#.......#", "#.#.#.#.#",
                                         "#.......#", "#.#...#.#", "#.......#",
                                         "#.#.#.#.#", "#.......#", "#########"};
  const std::vector<std::string> eleven = {
      "###########", "#.........#", "#.#.#.#.#.#", "#.........#", "#.#.#.#.#.#", "#.........#",
      "#.#.#.#.#.#", "#.........#", "#.#.#.#.#.#", "#.........#", "###########"};
  for (const auto& plan : {nine, eleven}) {
    const auto size = static_cast<Index>(plan.size());
    const GridMaze maze({.size = size});
    Index free = 0;
    for (Index i = 0; i < size; ++i) {
      for (Index j = 0; j < size; ++j) {
        const bool wall = plan[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)] == '#';
        INFO(i << ", " << j);
        CHECK(maze.wall(i, j) == wall);
        free += wall ? 0 : 1;
      }
    }
    CHECK(maze.free_cells() == free);
  }
  const GridMaze thirteen({.size = 13});
  CHECK_FALSE(thirteen.wall(6, 6));
  CHECK(thirteen.wall(4, 6));
  CHECK(thirteen.free_cells() == 11 * 11 - 25 + 1);
}

TEST_CASE("The grid maze moves, rewards and shows what the paper's does",
          "[environments][environments]") {
  const GridMaze maze({.size = 9, .penalty = 0.5});
  Random random(stream, 0, 0);
  GridMaze::State state;
  maze.reset(state, random);
  CHECK((state.row == 4 && state.column == 4));
  CHECK_FALSE(maze.wall(state.reward_row, state.reward_column));
  state.reward_row = 1;
  state.reward_column = 5;

  //                           around the centre           9  bias t/T r  action
  std::vector<double> expected{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0};
  CHECK(observation_of(maze, state) == expected);

  const auto step = [&](Index action) { return maze.step(state, action, random).reward; };
  CHECK(step(3) == 0);  // right
  CHECK((state.row == 4 && state.column == 5));
  expected = {0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1 / 200.0, 0, 0, 0, 0, 1};
  CHECK(observation_of(maze, state) == expected);
  CHECK(step(3) == -0.5);  // into the wall at (4, 6)
  CHECK((state.row == 4 && state.column == 5));
  expected[11] = 2 / 200.0;
  expected[12] = -0.5;
  CHECK(observation_of(maze, state) == expected);
  CHECK(step(2) == 0);  // left
  CHECK((state.row == 4 && state.column == 4));
  CHECK(step(1) == 0);  // down
  CHECK((state.row == 5 && state.column == 4));
  CHECK(step(3) == 0);
  for (int k = 0; k < 3; ++k) CHECK(step(0) == 0);  // up
  CHECK((state.row == 2 && state.column == 5));
  CHECK(step(0) == 10);
  CHECK_FALSE((state.row == 1 && state.column == 5));
  CHECK_FALSE(maze.wall(state.row, state.column));
  CHECK((state.reward_row == 1 && state.reward_column == 5));
  CHECK(observation_of(maze, state)[12] == 10);
}

TEST_CASE("The grid maze draws every free cell as often, but for the centre and the reward's",
          "[environments][environments]") {
  const GridMaze maze({.size = 9});
  std::map<std::pair<int, int>, int> rewards, jumps;
  constexpr int draws = 40000;
  for (int k = 0; k < draws; ++k) {
    Random random(stream, 0, static_cast<std::uint64_t>(k));
    GridMaze::State state;
    maze.reset(state, random);
    ++rewards[{state.reward_row, state.reward_column}];
    state.row = 2;
    state.column = 5;
    state.reward_row = 1;
    state.reward_column = 5;
    maze.step(state, 0, random);
    ++jumps[{state.row, state.column}];
  }
  for (const auto& [counts, excluded] :
       {std::pair{rewards, std::pair{4, 4}}, std::pair{jumps, std::pair{1, 5}}}) {
    CHECK(static_cast<Index>(counts.size()) == maze.free_cells() - 1);
    CHECK(counts.count(excluded) == 0);
    const double mean = draws / static_cast<double>(maze.free_cells() - 1);
    for (const auto& [cell, count] : counts) {
      INFO(cell.first << ", " << cell.second << ": " << count);
      CHECK(std::abs(count - mean) < 5 * std::sqrt(mean));
    }
  }
}

TEST_CASE("A random walk through the grid maze earns 14.5, 7.4 and 5.2",
          "[environments][environments]") {
  for (const auto& [size, expected] : {std::pair<Index, double>{9, 14.5}, {11, 7.4}, {13, 5.2}}) {
    const auto [mean, error] =
        mean_reward(GridMaze({.size = size}), 20000,
                    [](const auto&, Random& random, Index) { return Index{random.below(4)}; });
    INFO(size << ": " << mean << " +- " << error);
    CHECK(std::abs(mean - expected) < 0.05 + 4 * error);
  }
}

TEST_CASE("Who knows the cell earns 417, 325 and 269 in the grid maze",
          "[environments][environments]") {
  for (const auto& [size, expected] : {std::pair<Index, double>{9, 417}, {11, 325}, {13, 269}}) {
    const GridMaze maze({.size = size});
    std::vector<std::vector<int>> to_goal(1000);
    const auto choose = [&](const GridMaze::State& state, Random&, Index s) {
      auto& steps = to_goal[static_cast<std::size_t>(s)];
      if (steps.empty()) steps = distances(maze, state.reward_row, state.reward_column);
      const auto at = [&](Index row, Index column) {
        return steps[static_cast<std::size_t>(row * maze.options().size + column)];
      };
      const std::array<int, 4> next{
          at(state.row - 1, state.column), at(state.row + 1, state.column),
          at(state.row, state.column - 1), at(state.row, state.column + 1)};
      return static_cast<Index>(std::min_element(next.begin(), next.end()) - next.begin());
    };
    const auto [mean, error] = mean_reward(maze, 1000, choose);
    INFO(size << ": " << mean << " +- " << error);
    CHECK(std::abs(mean - expected) < 1 + 4 * error);
  }
}

TEST_CASE("Target discovery shows trials as the paper's, and rewards the Go step alone",
          "[environments][environments]") {
  const TargetDiscovery task;
  Random random(stream, 0, 3);
  TargetDiscovery::State state;
  task.reset(state, random);
  const std::set<std::uint32_t> different(state.cue.begin(), state.cue.end());
  CHECK(different.size() == 4);
  std::map<Index, int> lengths;
  std::set<std::pair<Index, Index>> places;
  Index trials = 0, with_target = 0;
  std::vector<double> seen = observation_of(task, state);
  CHECK(std::count(seen.begin() + 23, seen.end(), 0.0) == 4);  // no reward, no last action
  double last_reward = 0;
  for (Index time = 0; time < 20000; ++trials) {
    std::vector<Index> shown, when;
    Index length = 0;
    bool gone = false;
    while (true) {
      seen = observation_of(task, state);
      CHECK(seen[21] == 1);
      CHECK(seen[22] == static_cast<double>(time) / 120);
      CHECK(seen[23] == last_reward);
      CHECK(seen[24] == 0);
      const auto blank = std::count(seen.begin(), seen.begin() + 20, 0.0);
      REQUIRE((blank == 0 || blank == 20));
      if (blank == 0) {
        CHECK_FALSE(gone);
        const auto cue =
            static_cast<std::size_t>(state.trial[static_cast<std::size_t>(state.place)]);
        for (std::size_t i = 0; i < 20; ++i) {
          CHECK(seen[i] == ((state.cue[cue] >> i & 1u) != 0 ? 1 : -1));
        }
        shown.push_back(static_cast<Index>(cue));
        when.push_back(length);
      }
      const bool present = std::count(shown.begin(), shown.end(), state.target) > 0;
      const bool go = seen[20] == 1;
      const Index action = (time / 3) % 2;
      last_reward = task.step(state, action, random).reward;
      CHECK(last_reward == (go ? ((action == 1) == present ? 1 : -1) : 0));
      ++time;
      ++length;
      const std::vector<double> after = observation_of(task, state);
      CHECK(after[25] == (action == 0 ? 1 : 0));
      CHECK(after[26] == (action == 1 ? 1 : 0));
      if (go) {
        with_target += present ? 1 : 0;
        CHECK_FALSE(gone);
      }
      const bool was_gone = std::exchange(gone, gone || go);
      if (was_gone) break;  // the blank after Go
    }
    REQUIRE(shown.size() == 2);
    CHECK(shown[0] != shown[1]);
    CHECK(when[0] >= 1);
    CHECK(when[1] <= length - 3);
    ++lengths[length];
    places.emplace(when[0], when[1]);
  }
  for (Index length = 5; length <= 8; ++length) {
    CHECK(std::abs(lengths[length] - static_cast<double>(trials) / 4) <
          5 * std::sqrt(static_cast<double>(trials) / 4));
  }
  CHECK(lengths.size() == 4);
  CHECK(places.size() == 10);  // two of the five places
  CHECK(std::abs(static_cast<double>(with_target) / static_cast<double>(trials) - 0.5) < 0.05);
}

TEST_CASE("Who knows the target earns about 18.2 in target discovery, who guesses nothing",
          "[environments][environments]") {
  const TargetDiscovery task;
  const auto [best, best_error] =
      mean_reward(task, 4000, [](const TargetDiscovery::State& state, Random&, Index) {
        return Index{state.present ? 1 : 0};
      });
  INFO(best << " +- " << best_error);
  CHECK(std::abs(best - 18.2) < 0.1);
  const auto [guess, error] = mean_reward(
      task, 4000, [](const auto&, Random& random, Index) { return Index{random.below(2)}; });
  CHECK(std::abs(guess) < 5 * error);
}

TEST_CASE("The cart-pole with a new motor follows its equations and changes its plant",
          "[environments][environments]") {
  const CartPoleMotor real;
  const CartPoleSwitch choice;
  for (std::uint64_t sample = 0; sample < 50; ++sample) {
    Random random({1, Random::Purpose::training}, 2, sample), again = random, other = random;
    // The draws of examples/adaptive_control.cpp, in its order.
    const double sense = again.below(2) == 0 ? 1 : -1;
    const double gain = sense * again.uniform(6, 14), pull = 9.8 / again.uniform(0.8, 1.5);
    const double sense_after = again.below(4) == 0 ? sense : -sense;
    const double gain_after = sense_after * again.uniform(6, 14);
    const double pull_after = 9.8 / again.uniform(0.8, 1.5);
    const Index change = 20 + Index{again.below(40)};
    const double theta0 = again.uniform(-0.3, 0.3), omega0 = again.uniform(-0.3, 0.3);

    struct Pole {
      double theta, omega;
    };
    const auto move = [&](Pole& pole, Index t, double u) {
      const bool early = t < change;
      pole.omega += 0.05 * ((early ? pull : pull_after) * std::sin(pole.theta) +
                            (early ? gain : gain_after) * u);
      pole.theta = std::clamp(pole.theta + pole.omega * 0.05, -1.2, 1.2);
      pole.omega = std::clamp(pole.omega, -6.0, 6.0);
      return -(pole.theta * pole.theta + 0.02 * pole.omega * pole.omega + 0.002 * u * u);
    };
    CartPoleMotor::State a;
    CartPoleSwitch::State b;
    real.reset(a, random);
    choice.reset(b, other);
    CHECK(observation_of(real, a) == std::vector<double>{3 * theta0, omega0, 0});
    Pole first{theta0, omega0}, second = first;
    for (Index t = 0; t < 80; ++t) {
      const Index action = (t * t + static_cast<Index>(sample)) % 5;
      const double u = -1 + 0.5 * static_cast<double>(action), raw = 0.8 * u;
      const double reward = move(first, t, std::tanh(raw));
      CHECK(real.step(a, std::span(&raw, 1), random).reward == Approx(reward).epsilon(1e-6));
      CHECK(choice.step(b, action, other).reward == Approx(move(second, t, u)).epsilon(1e-6));
      CHECK(observation_of(choice, b)[2] == u);
      CHECK(observation_of(real, a)[2] == std::tanh(raw));
    }
  }
}

namespace {

// Ends at a step of its own, and shows that its randomness is its own.
struct Stairs {
  struct State {
    Index end = 0, time = 0;
    double last = 0;
  };
  static constexpr bool feedback = true;
  Index observations() const { return 2; }
  Index actions() const { return 3; }
  Index steps() const { return 6; }
  void reset(State& state, Random& random) const {
    state = {};
    state.end = 2 + Index{random.below(6)};
  }
  EnvironmentStep step(State& state, Index action, Random& random) const {
    state.last = random.uniform();
    return {static_cast<double>(action) + state.last, ++state.time == state.end};
  }
  void observe(const State& state, std::span<double> x) const {
    x[0] = static_cast<double>(state.time);
    x[1] = state.last;
  }
};

}  // namespace

TEST_CASE("Episodes side by side are those of their samples alone",
          "[environments][environments]") {
  CHECK(environment_inputs(Stairs()) == 2 + 1 + 3);
  EnvironmentBatch<Stairs> all{Stairs()}, one{Stairs()};
  const std::vector<Index> samples{4, 1, 7};
  for (std::size_t k = 0; k < samples.size(); ++k) {
    const auto s = static_cast<Index>(k);
    Matrix<double> x(6, 3), y(6, 1);
    one.begin(stream, 9, std::span(samples).subspan(k, 1));
    for (all.begin(stream, 9, samples); !all.ended(); all.step()) {
      all.write_inputs<double>({x.data(), 6, 3});
      for (Index i = 0; i < 3; ++i) all.set_action(i, (i + all.time()) % 3);
      if (one.ended()) {
        CHECK(x.col(s).isZero(0));
        continue;
      }
      one.write_inputs<double>({y.data(), 6, 1});
      CHECK(x.col(s) == y);
      if (one.time() == 0) CHECK(y.isZero(0));
      if (one.time() > 0) {
        CHECK(y(2, 0) == one.reward(0));
        CHECK(y(3 + one.action(0), 0) == 1);
        CHECK(y.bottomRows(3).sum() == 1);
      }
      one.set_action(0, (s + one.time()) % 3);
      one.step();
    }
    CHECK(all.total(s) == one.total(0));
    CHECK(all.done(s) == one.done(0));
  }
}

TEST_CASE("Further episodes of as many samples allocate nothing", "[environments][environments]") {
  const auto allocations = [](auto environment) {
    using E = decltype(environment);
    EnvironmentBatch<E> episodes(environment);
    const std::vector<Index> samples = first_samples(5);
    Matrix<float> x(episodes.inputs(), 5);
    const std::vector<double> real(8, 0.1);
    const auto run = [&](Index batch) {
      for (episodes.begin(stream, batch, samples); !episodes.ended(); episodes.step()) {
        episodes.template write_inputs<float>({x.data(), x.rows(), x.cols()});
        for (Index s = 0; s < 5; ++s) {
          if constexpr (is_continuous<E>) {
            episodes.set_action(
                s, std::span(real).first(static_cast<std::size_t>(environment.actions())));
          } else {
            episodes.set_action(s, episodes.choices(s).below(2));
          }
        }
      }
    };
    run(0);
    const AllocationCounter counter;
    run(1);
    run(2);
    return counter.count();
  };
  const std::size_t maze = allocations(GridMaze()), target = allocations(TargetDiscovery());
  const std::size_t motor = allocations(CartPoleMotor()), choice = allocations(CartPoleSwitch());
  CHECK(maze == 0);
  CHECK(target == 0);
  CHECK(motor == 0);
  CHECK(choice == 0);
}

TEST_CASE("Mistakes with environments are refused by name", "[environments][environments]") {
  CHECK(rejection([] { GridMaze({.size = 8}); }) == "GridMazeOptions: size must be odd, got 8");
  CHECK(mentions(rejection([] { GridMaze({.size = 3}); }), "size must be in 5 .. 4095, got 3"));
  CHECK(mentions(rejection([] { GridMaze({.reward = -1}); }), "GridMazeOptions: reward must be"));
  CHECK(mentions(rejection([] { GridMaze({.penalty = -1}); }), "GridMazeOptions: penalty must be"));
  CHECK(mentions(rejection([] { GridMaze({.steps = 0}); }), "GridMazeOptions: steps must be"));
  CHECK(mentions(rejection([] { GridMaze().wall(9, 0); }), "GridMaze::wall: row must be"));
  CHECK(mentions(rejection([] { TargetDiscovery({.steps = 0}); }), "steps must be"));
  CHECK(mentions(rejection([] { CartPoleMotor({.steps = 0}); }), "steps must be"));
  CHECK(mentions(rejection([] { CartPoleSwitch({.commands = 1}); }), "commands must be"));

  Random random(stream, 0, 0);
  GridMaze::State maze;
  CHECK(rejection([&] { GridMaze().step(maze, 4, random); }) ==
        "GridMaze::step: action must be in 0 .. 3, got 4");
  TargetDiscovery::State target;
  CHECK(mentions(rejection([&] { TargetDiscovery().step(target, -1, random); }), "action must be"));
  CartPoleMotor::State pole;
  CHECK(mentions(rejection([&] { CartPoleMotor().step(pole, {}, random); }), "action must be"));
  std::vector<double> small(2);
  CHECK(rejection([&] { GridMaze().observe(maze, small); }) ==
        "GridMaze::observe: observation must be of 17 numbers, got 2");

  EnvironmentBatch<Stairs> episodes{Stairs()};
  const std::vector<Index> samples{0, 1};
  CHECK(mentions(rejection([&] { episodes.step(); }), "EnvironmentBatch::step: the episodes must"));
  CHECK(mentions(rejection([&] { episodes.begin(stream, 0, {}); }),
                 "EnvironmentBatch::begin: the number of samples must be at least 1, got 0"));
  CHECK(mentions(rejection([&] { episodes.begin(stream, -1, samples); }), "batch must be"));
  CHECK(mentions(rejection([&] { episodes.begin(stream, Index{1} << 55, samples); }),
                 "batch must be below 2^55"));
  episodes.begin(stream, 0, samples);
  CHECK(rejection([&] { episodes.set_action(0, 3); }) ==
        "EnvironmentBatch::set_action: action must be in 0 .. 2, got 3");
  CHECK(mentions(rejection([&] { episodes.set_action(2, 0); }), "the sample must be in 0 .. 1"));
  CHECK(mentions(rejection([&] { episodes.total(-1); }), "the sample must be in 0 .. 1, got -1"));
  Matrix<double> x(5, 2);
  CHECK(rejection([&] {
          episodes.write_inputs<double>({x.data(), 5, 2});
        }) == "EnvironmentBatch::write_inputs: x must be 6 x 2, got 5 x 2");

  EnvironmentBatch<CartPoleMotor> poles{CartPoleMotor()};
  poles.begin(stream, 0, samples);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(mentions(rejection([&] { poles.set_action(0, std::span(&nan, 1)); }), "finite"));
  CHECK(mentions(rejection([&] { poles.set_action(0, small); }), "of 1 numbers, got 2"));

  struct Endless : Stairs {
    EnvironmentStep step(State&, Index, Random&) const {
      return {std::numeric_limits<double>::infinity(), false};
    }
  };
  EnvironmentBatch<Endless> endless{Endless()};
  endless.begin(stream, 0, samples);
  CHECK(rejection([&] { endless.step(); }) ==
        "Environment: the reward of step 0 must be finite, got inf");
  struct Idle : Stairs {
    Index actions() const { return 1; }
  };
  CHECK(rejection([] { EnvironmentBatch<Idle>{Idle()}; }) ==
        "Environment: actions() must be in 2 .. 16777216, got 1");
}
