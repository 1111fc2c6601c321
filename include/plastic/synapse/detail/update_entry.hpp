#pragma once

#include "plastic/kernels/fast_weights.hpp"
#include "plastic/tape/node.hpp"

namespace plastic::detail {

/// Memory layout of a layer's matrices: a row holds the weights from one input or to one output.
enum class Layout { input_major, output_major };

/// What an update does to one sample's fast weights w = scale v: v' = keep v + rate A o (pre
/// post^T) with keep = 1 if the decay is lazy, that is, if the scale takes it.
template <class Scalar>
struct SampleUpdate {
  bool lazy = true;
  Scalar keep = 1;
  Scalar rate = 0;           ///< the rate of w, divided by the scale after the update
  double scale = 1;          ///< after the update
  Scalar* before = nullptr;  ///< v before the update, if kept
  bool replayed = false;     ///< whether it is kept only for the current part of a sweep
};

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
  Index version = 0;                        ///< version of the weights before the update
  Index tape_size = 0;                      ///< nodes on the tape when it was written
  SampleUpdate<Scalar>* samples = nullptr;  ///< one per sample
  UpdateEntry* previous = nullptr;
  UpdateEntry* next = nullptr;

  kernels::Update<Scalar> weight_update(Index sample, Layout layout, Scalar clip) const {
    const Scalar* by_input = pre->value + sample * pre->rows;
    const Scalar* by_output = post->value + sample * post->rows;
    const bool by_rows = layout == Layout::input_major;
    return {by_rows ? by_input : by_output, by_rows ? by_output : by_input, samples[sample].rate,
            samples[sample].keep, clip};
  }
  kernels::Update<Scalar> bias_update(Index sample, Scalar clip) const {
    return {&bias_pre, post->value + sample * post->rows, samples[sample].rate,
            samples[sample].keep, clip};
  }
};

}  // namespace plastic::detail
