#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "csv.hpp"
#include "plastic/cells/cell.hpp"

namespace experiments {

/// The fast weights of one sample: what is added to the slow weights of each layer that has some.
template <class Cell>
std::vector<plastic::Matrix<float>> fast_weights(const Cell& cell,
                                                 const plastic::CellState<float>& state) {
  std::vector<plastic::Matrix<float>> all;
  if constexpr (Cell::is_model) {
    const std::size_t count = Cell::matrix_shapes(cell.options()).size();
    for (std::size_t k = 0; k < count; ++k) all.push_back(cell.added_weight(state, k, 0));
  } else {
    for (std::size_t l = 0; l < cell.layer_names().size(); ++l) {
      all.push_back(state.fast_weight(l, 0));
    }
  }
  return all;
}

/// Their names.
template <class Cell>
std::vector<std::string> names_of_fast_weights(const Cell& cell) {
  if constexpr (!Cell::is_model) return cell.layer_names();
  std::vector<std::string> names;
  for (const plastic::MatrixShape& shape : Cell::matrix_shapes(cell.options())) {
    names.push_back(shape.layer + (shape.name == "weight" ? "" : " " + shape.name));
  }
  return names;
}

/// One episode, step by step: eta and the norm of each layer's fast weights in episode.csv, and
/// those 64 recurrent weights that grow largest in fast.csv. `advance(t)` makes step t of `steps`,
/// which changes `state`, and returns eta.
template <class Cell, class Advance>
void write_episode(const Cell& cell, const plastic::CellState<float>& state, plastic::Index steps,
                   Advance&& advance, const std::filesystem::path& folder) {
  constexpr std::size_t recurrent = Cell::is_model ? 0 : 1;  // h_fc
  plastic::Matrix<float> recurrent_weights(fast_weights(cell, state)[recurrent].size(), steps);
  Csv csv;
  csv << "step"
      << "eta";
  for (const std::string& name : names_of_fast_weights(cell)) csv << name;
  csv.end_row();
  for (plastic::Index t = 0; t < steps; ++t) {
    const float eta = advance(t);
    csv << t << eta;
    const std::vector<plastic::Matrix<float>> weights = fast_weights(cell, state);
    for (const plastic::Matrix<float>& weight : weights) csv << weight.norm();
    csv.end_row();
    recurrent_weights.col(t) = weights[recurrent].reshaped();
  }
  csv.write(folder / "episode.csv");

  const plastic::Vector<float> largest = recurrent_weights.cwiseAbs().rowwise().maxCoeff();
  std::vector<plastic::Index> order(static_cast<std::size_t>(largest.size()));
  std::iota(order.begin(), order.end(), plastic::Index{0});
  const std::size_t shown = std::min<std::size_t>(64, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
                    [&](plastic::Index a, plastic::Index b) { return largest[a] > largest[b]; });
  Csv weights;
  for (std::size_t k = 0; k < shown; ++k) {
    for (plastic::Index t = 0; t < steps; ++t) weights << recurrent_weights(order[k], t);
    weights.end_row();
  }
  weights.write(folder / "fast.csv");
}

}  // namespace experiments
