#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "plastic/cells/model.hpp"
#include "plastic/cells/state.hpp"
#include "plastic/tape/borrow.hpp"

/// What PlasticCell does for a CellModel.
namespace plastic::detail {

/// Adds the model's blocks to a cell's parameters, at their start; returns their numbers, -1 for
/// one that the network lacks.
template <CellModel Model, class Scalar>
std::vector<Index> add_model_blocks(const typename Model::Options& options,
                                    Parameters<Scalar>& parameters) {
  check_between("PlasticCell", "the number of fast matrices",
                static_cast<Index>(Model::matrices(options).size()), 0, max_matrices);
  std::vector<Index> numbers;
  for (const BlockShape& shape : Model::blocks(options)) {
    Index number = -1;
    if (shape.rows > 0) {
      const bool vector = shape.cols == 0;
      number = parameters.add(shape.name, shape.rows, vector ? 1 : shape.cols, vector);
      start_block(parameters, number, options.seed, shape.start);
      if (!shape.learned) parameters.freeze(number);
    }
    numbers.push_back(number);
  }
  return numbers;
}

/// Gives an episode its blocks, fast matrices and derived variables.
template <CellModel Model, class Scalar>
void begin_model(const typename Model::Options& options, const Parameters<Scalar>& parameters,
                 const std::vector<MatrixShape>& matrices, const std::vector<Index>& blocks,
                 Vector<Scalar>* gradients, Episode<Scalar>& episode) {
  Tape<Scalar>& tape = *episode.tape;
  const auto variables = [&](std::size_t count) {
    auto* memory = tape.arena().template allocate_array<Var<Scalar>>(count);
    std::uninitialized_value_construct_n(memory, count);
    return std::span(memory, count);
  };
  episode.blocks = variables(blocks.size());
  for (std::size_t k = 0; k < blocks.size(); ++k) {
    if (blocks[k] >= 0) episode.blocks[k] = borrow(tape, parameters, blocks[k], gradients);
  }
  for (std::size_t k = 0; k < matrices.size(); ++k) {
    episode.matrices[k] =
        FastMatrix<Scalar>(tape, matrices[k].inputs, matrices[k].outputs, episode.samples,
                           episode.differentiable, options.snapshot_interval, matrices[k].deferred);
  }
  episode.derived = variables(Model::derived);
  episode.step_begin = tape.position();
  if constexpr (Model::derived > 0) {
    ModelStep<Scalar> step(episode, false, {});
    if (episode.differentiable) Model::derive(step, options);
  }
}

/// One time step. A step without derivatives forgets what was derived, and derives it anew.
template <CellModel Model, class Scalar>
CellOutput<Var<Scalar>> advance_model(const typename Model::Options& options,
                                      Episode<Scalar>& episode, const Var<Scalar>& x, bool update,
                                      const Var<Scalar>& active) {
  ModelStep<Scalar> step(episode, update, active);
  if constexpr (Model::derived > 0) {
    if (!episode.differentiable) Model::derive(step, options);
  }
  return Model::advance(step, options, x);
}

}  // namespace plastic::detail
