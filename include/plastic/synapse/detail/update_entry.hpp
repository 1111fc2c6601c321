#pragma once

#include "plastic/kernels/fast_weights.hpp"
#include "plastic/tape/node.hpp"

namespace plastic::detail {

/// One rank-one update of the fast weights of all samples, as factors, in a list over the episode:
/// w' = (1 - decay) w + rate A o (pre post^T), and for the bias the same with pre activity
/// `bias_pre`. pre: inputs x samples, post: outputs x samples, rate and decay: 1 x samples.
template <class Scalar>
struct UpdateEntry {
  Node<Scalar>* pre = nullptr;
  Node<Scalar>* post = nullptr;
  Node<Scalar>* rate = nullptr;
  Node<Scalar>* decay = nullptr;
  Scalar bias_pre = 0;
  Index version = 0;           ///< of the weights before the update
  Index place = 0;             ///< nodes on the tape when it was written
  Scalar* snapshot = nullptr;  ///< the weights before the update, where they are kept
  bool replayed = false;       ///< the snapshot is for the present part of a sweep only
  bool invertible = false;     ///< undoing it loses little precision
  UpdateEntry* previous = nullptr;
  UpdateEntry* next = nullptr;

  /// Of the weights, row by row: rows are the inputs, or the outputs where `across`.
  kernels::Update<Scalar> factors(Index sample, Scalar clip, bool across) const {
    const Scalar* by_input = pre->value + sample * pre->rows;
    const Scalar* by_output = post->value + sample * post->rows;
    return {across ? by_output : by_input, across ? by_input : by_output, rate->value[sample],
            Scalar(1) - decay->value[sample], clip};
  }
  kernels::Update<Scalar> bias_factors(Index sample, Scalar clip) const {
    return {&bias_pre, post->value + sample * post->rows, rate->value[sample],
            Scalar(1) - decay->value[sample], clip};
  }
};

}  // namespace plastic::detail
