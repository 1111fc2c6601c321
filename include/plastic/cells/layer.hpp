#pragma once

#include <string>

#include "plastic/cells/options.hpp"
#include "plastic/synapse/synapse.hpp"
#include "plastic/tape/borrow.hpp"

namespace plastic {

/// Shape of a cell's layer: y = x (W + w) + b + beta.
struct LayerShape {
  std::string_view name;  ///< prefix of the names of its parameters
  Index inputs = 1;       ///< rows of x
  Index outputs = 1;      ///< rows of y
  double spread = 1;      ///< slow weights start uniform in +-spread / sqrt(outputs)
};

/// Indices of one layer's parameters: NAME.weight, .bias, .weight_alpha, .bias_alpha.
template <class Scalar>
class Layer {
 public:
  /// Adds the layer's blocks and draws W and b from the options' seed; A starts as `alpha_mode`
  /// says; there is none if it is fixed or the layer is not plastic. Throws std::invalid_argument
  /// if a name is taken.
  Layer(Parameters<Scalar>& parameters, const LayerShape& shape, const CellOptions& options,
        bool plastic) {
    const std::string name(shape.name);
    weight_ = parameters.add(name + ".weight", shape.outputs, shape.inputs);
    bias_ = parameters.add(name + ".bias", shape.outputs, 1);
    if (plastic && options.alpha_mode != AlphaMode::none) {
      alpha_ = parameters.add(name + ".weight_alpha", shape.outputs, shape.inputs);
      bias_alpha_ = parameters.add(name + ".bias_alpha", shape.outputs, 1);
    }
    const double start = shape.spread / std::sqrt(static_cast<double>(shape.outputs));
    const auto draw = [&](Index number, double k) {
      detail::draw_block(parameters, number, options.seed, 0,
                         [k](Random& random) { return random.uniform(-k, k); });
    };
    draw(weight_, start);
    draw(bias_, start);
    if (alpha_ >= 0 && options.alpha_mode == AlphaMode::random) {
      draw(alpha_, 1);
      draw(bias_alpha_, 1);
    } else if (alpha_ >= 0) {
      const Scalar fixed = options.alpha_mode == AlphaMode::uniform ? 1 : -1;
      parameters.matrix(alpha_).setConstant(fixed);
      parameters.matrix(bias_alpha_).setConstant(fixed);
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

  /// Points the weights that `on` returned to where the parameters are now.
  void rebind(const SlowWeights<Scalar>& weights, const Parameters<Scalar>& parameters) const {
    const auto rebind = [&](const Var<Scalar>& v, Index number) {
      if (number >= 0) v.node().value = const_cast<Scalar*>(parameters.matrix(number).data());
    };
    rebind(weights.weight, weight_);
    rebind(weights.bias, bias_);
    rebind(weights.alpha, alpha_);
    rebind(weights.bias_alpha, bias_alpha_);
  }

 private:
  Index weight_ = -1;
  Index bias_ = -1;
  Index alpha_ = -1;
  Index bias_alpha_ = -1;
};

}  // namespace plastic
