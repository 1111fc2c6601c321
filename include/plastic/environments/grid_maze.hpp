#pragma once

#include <algorithm>
#include <cstdint>

#include "plastic/core/settings.hpp"
#include "plastic/environments/environment.hpp"

namespace plastic {

/// Settings of GridMaze.
struct GridMazeOptions {
  Index size = 9;      ///< cells on a side, odd; the paper's are 9, 11 and 13
  double reward = 10;  ///< reward of the cell that is to be found
  double penalty = 0;  ///< what walking into a wall costs
  Index steps = 200;   ///< steps of an episode
};

/// A maze with a rewarded cell that is not seen: it is found once, and then again after each
/// teleport, by remembering where it is.
///
/// size x size cells, walls at the border and wherever row and column are even; the centre is
/// free. The rewarded cell is drawn uniformly from the free cells except the centre, once in an
/// episode. The episode begins at the centre. Actions 0 .. 3: up (row - 1), down, left, right. Into
/// a wall: the place stays, reward -penalty. On the rewarded cell: +reward, then a jump to a free
/// cell other than it, drawn uniformly.
///
///     observation   0 .. 8                          9   10   11      12            13 .. 16
///                   the 3 x 3 cells around, row     0   1    t / T   last reward   last action,
///                   by row, 1 for a wall                                           one-hot
///
/// At t = 0 the last action is 0. Mean reward of a random walk: 14.5 (size 9), 7.4 (11), 5.2 (13);
/// of one who knows the cell from the start: 417, 325, 269. Source: Miconi, Rawal, Clune, Stanley,
/// "Backpropamine", ICLR 2019. Const and safe from several threads.
class GridMaze {
 public:
  /// One episode.
  struct State {
    std::int32_t row = 0;            ///< where the agent is
    std::int32_t column = 0;         ///< likewise
    std::int32_t reward_row = 0;     ///< where the reward is
    std::int32_t reward_column = 0;  ///< likewise
    Index time = 0;                  ///< steps taken
    Index last_action = 0;           ///< 0 at first
    double last_reward = 0;          ///< 0 at first
  };

  /// Throws std::invalid_argument if the size is even or not in 5 .. 4095, a reward is not in
  /// [0, 1e15], or steps is not in 1 .. 2^24.
  explicit GridMaze(const GridMazeOptions& options = {}) : options_(options) {
    constexpr std::string_view here = "GridMazeOptions";
    detail::check_between(here, "size", options.size, 5, 4095);
    if (options.size % 2 == 0) detail::reject(here, "size", "odd", options.size);
    detail::check_range(here, "reward", options.reward, 0, 1e15);
    detail::check_range(here, "penalty", options.penalty, 0, 1e15);
    detail::check_between(here, "steps", options.steps, 1, Index{1} << 24);
    const Index inner = options.size - 2, pillars = (options.size - 3) / 2;
    const bool pillar_at_centre = options.size / 2 % 2 == 0;
    free_ = inner * inner - pillars * pillars + (pillar_at_centre ? 1 : 0);
  }

  const GridMazeOptions& options() const { return options_; }  ///< as given to the constructor
  Index free_cells() const { return free_; }                   ///< cells without a wall

  /// Whether there is a wall. Throws std::invalid_argument if there is no such cell.
  bool wall(Index row, Index column) const {
    detail::check_between("GridMaze::wall", "row", row, 0, options_.size - 1);
    detail::check_between("GridMaze::wall", "column", column, 0, options_.size - 1);
    return is_wall(row, column);
  }

  /// @{
  /// See Environment.
  Index observations() const { return 17; }
  Index actions() const { return 4; }
  Index steps() const { return options_.steps; }
  Settings settings() const {
    using detail::number_text;
    return {{"name", "grid_maze"},
            {"size", number_text(options_.size)},
            {"reward", number_text(options_.reward)},
            {"penalty", number_text(options_.penalty)},
            {"steps", number_text(options_.steps)}};
  }
  void reset(State& state, Random& random) const {
    state = {};
    const auto centre = static_cast<std::int32_t>(options_.size / 2);
    state.row = state.column = centre;
    draw_free_cell(random, centre, centre, state.reward_row, state.reward_column);
  }
  EnvironmentStep step(State& state, Index action, Random& random) const {
    detail::check_action("GridMaze::step", action, actions());
    const std::int32_t row = state.row + (action == 1 ? 1 : action == 0 ? -1 : 0);
    const std::int32_t column = state.column + (action == 3 ? 1 : action == 2 ? -1 : 0);
    double reward = 0;
    if (is_wall(row, column)) {
      reward = 0 - options_.penalty;
    } else {
      state.row = row;
      state.column = column;
    }
    if (state.row == state.reward_row && state.column == state.reward_column) {
      reward += options_.reward;
      draw_free_cell(random, state.reward_row, state.reward_column, state.row, state.column);
    }
    ++state.time;
    state.last_action = action;
    state.last_reward = reward;
    return {reward, false};
  }
  void observe(const State& state, std::span<double> observation) const {
    detail::check_observation("GridMaze::observe", observation, 17);
    std::fill(observation.begin(), observation.end(), 0.0);
    for (int i = 0; i < 9; ++i) {
      observation[static_cast<std::size_t>(i)] =
          is_wall(state.row + i / 3 - 1, state.column + i % 3 - 1) ? 1 : 0;
    }
    observation[10] = 1;
    observation[11] = static_cast<double>(state.time) / static_cast<double>(options_.steps);
    observation[12] = state.last_reward;
    observation[static_cast<std::size_t>(13 + state.last_action)] = 1;
  }
  /// @}

 private:
  bool is_wall(Index row, Index column) const {
    const Index last = options_.size - 1, centre = options_.size / 2;
    if (row == centre && column == centre) return false;
    return row <= 0 || column <= 0 || row >= last || column >= last ||
           (row % 2 == 0 && column % 2 == 0);
  }

  /// A free cell other than (not_row, not_column), which is free.
  void draw_free_cell(Random& random, std::int32_t not_row, std::int32_t not_column,
                      std::int32_t& row, std::int32_t& column) const {
    const auto last = static_cast<std::int32_t>(options_.size - 1);
    auto left = static_cast<Index>(random.below(static_cast<std::uint32_t>(free_ - 1)));
    for (std::int32_t i = 1; i < last; ++i) {
      for (std::int32_t j = 1; j < last; ++j) {
        if (is_wall(i, j) || (i == not_row && j == not_column)) continue;
        if (left-- > 0) continue;
        row = i;
        column = j;
        return;
      }
    }
  }

  GridMazeOptions options_;
  Index free_ = 0;
};

static_assert(Environment<GridMaze>);

}  // namespace plastic
