#pragma once

#include <algorithm>
#include <string>

#include "plastic/cells/options.hpp"
#include "plastic/core/random.hpp"
#include "plastic/synapse/synapse.hpp"
#include "plastic/tape/borrow.hpp"

namespace plastic {

/// A layer of a cell, before its parameters exist: y = x (W + w) + b + beta.
struct LayerShape {
  std::string_view name;  ///< before the dot in the names of its parameters
  Index inputs = 1;       ///< rows of x
  Index outputs = 1;      ///< rows of y
  double spread = 1;      ///< slow weights start uniform in +-spread / sqrt(outputs)
};

/// Block numbers of one layer's parameters: NAME.weight, .bias, .weight_alpha, .bias_alpha.
template <class Scalar>
class Layer {
 public:
  /// Adds the layer's blocks and draws W and b from the options' seed; A as `alpha_mode` says, and
  /// none where it is fixed or the layer is not plastic. Throws std::invalid_argument if a name is
  /// taken.
  Layer(Parameters<Scalar>& parameters, const LayerShape& shape, const CellOptions& options,
        bool plastic) {
    const std::string name(shape.name);
    weight_ = parameters.add(name + ".weight", shape.outputs, shape.inputs);
    bias_ = parameters.add(name + ".bias", shape.outputs, 1);
    if (plastic && options.alpha_mode != AlphaMode::none) {
      alpha_ = parameters.add(name + ".weight_alpha", shape.outputs, shape.inputs);
      bias_alpha_ = parameters.add(name + ".bias_alpha", shape.outputs, 1);
    }
    const double k = shape.spread / std::sqrt(static_cast<double>(shape.outputs));
    fill_uniform(parameters, weight_, k, options.seed);
    fill_uniform(parameters, bias_, k, options.seed);
    if (alpha_ >= 0) {
      fill_alpha(parameters, alpha_, options);
      fill_alpha(parameters, bias_alpha_, options);
    }
    if (options.random_network) {
      parameters.freeze(weight_);
      parameters.freeze(bias_);
    }
  }

  /// The layer's parameters on a tape, borrowed; sweeps add to `gradients` unless it is nullptr.
  SlowWeights<Scalar> on(Tape<Scalar>& tape, const Parameters<Scalar>& parameters,
                         Vector<Scalar>* gradients) const {
    const auto var = [&](Index number) {
      return number < 0 ? Var<Scalar>() : borrow(tape, parameters, number, gradients);
    };
    return {var(weight_), var(bias_), var(alpha_), var(bias_alpha_)};
  }

  /// Turns weights of `on` to where the parameters lie now.
  void follow(const SlowWeights<Scalar>& weights, const Parameters<Scalar>& parameters) const {
    const auto turn = [&](const Var<Scalar>& v, Index number) {
      if (number >= 0) v.node().value = const_cast<Scalar*>(parameters.matrix(number).data());
    };
    turn(weights.weight, weight_);
    turn(weights.bias, bias_);
    turn(weights.alpha, alpha_);
    turn(weights.bias_alpha, bias_alpha_);
  }

 private:
  static void fill_uniform(Parameters<Scalar>& parameters, Index number, double k,
                           std::uint64_t seed) {
    Random random({seed, Random::Purpose::initial_weights}, 0, static_cast<std::uint64_t>(number));
    MatrixMap<Scalar> values = parameters.matrix(number);
    std::generate_n(values.data(), values.size(),
                    [&] { return static_cast<Scalar>(random.uniform(-k, k)); });
  }

  static void fill_alpha(Parameters<Scalar>& parameters, Index number, const CellOptions& options) {
    if (options.alpha_mode == AlphaMode::random) {
      fill_uniform(parameters, number, 1, options.seed);
    } else {
      parameters.matrix(number).setConstant(options.alpha_mode == AlphaMode::uniform ? Scalar(1)
                                                                                     : Scalar(-1));
    }
  }

  Index weight_ = -1;
  Index bias_ = -1;
  Index alpha_ = -1;
  Index bias_alpha_ = -1;
};

}  // namespace plastic
