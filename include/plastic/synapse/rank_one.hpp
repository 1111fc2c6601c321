#pragma once

#include "plastic/tape/tape.hpp"

namespace plastic {

/// Slow parameters of a layer on a tape.
template <class Scalar>
struct SlowWeights {
  Var<Scalar> weight;      ///< W, outputs x inputs
  Var<Scalar> bias;        ///< b, outputs x 1
  Var<Scalar> alpha;       ///< A, outputs x inputs, or empty for a fixed 1
  Var<Scalar> bias_alpha;  ///< a, outputs x 1, or empty for a fixed 1
};

/// Settings of a Synapse.
struct SynapseOptions {
  Index samples = 1;           ///< number of samples, each with its own fast weights
  bool plastic = true;         ///< false: no fast weights, `write` must not be called
  bool differentiable = true;  ///< false: keeps only the current weights, without adjoints
  double weight_clip = 0;  ///< clamps the fast weights to +-weight_clip after an update; 0 is off
  Index snapshot_interval = 0;  ///< most updates between copies for backward; 0 chooses
};

/// One sample's fast weights as stored: w = scale weight, beta = scale bias.
template <class Scalar>
struct FastSample {
  Matrix<Scalar> weight;  ///< outputs x inputs
  Vector<Scalar> bias;    ///< outputs
  double scale = 1;       ///< factor that takes the decay of every step
};

/// What a plasticity rule proposes for a layer: the change pre post^T of the weights (before A and
/// the learning rate), and bias_pre * post of the bias.
template <class Scalar>
struct RankOne {
  Var<Scalar> pre;      ///< inputs x samples
  Var<Scalar> post;     ///< outputs x samples
  double bias_pre = 0;  ///< 1 treats the bias as the weight of a constant input, 0 keeps it
};

}  // namespace plastic
