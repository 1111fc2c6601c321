#pragma once

#include <string>

#include "plastic/cells/options.hpp"
#include "plastic/synapse/synapse.hpp"
#include "plastic/tape/borrow.hpp"

namespace plastic {

/// How slow parameters start.
struct Start {
  /// See the functions; layer: as LayerShape::spread says.
  enum class Kind { layer, uniform, normal, constant, identity };

  Kind kind = Kind::layer;  ///< which distribution
  double a = 0;             ///< lower bound, deviation, or the value
  double b = 0;             ///< upper bound

  /// Uniform in [low, high].
  static Start uniform(double low, double high) { return {Kind::uniform, low, high}; }
  /// Normal with mean 0.
  static Start normal(double deviation) { return {Kind::normal, deviation, 0}; }
  /// One value for all.
  static Start constant(double value) { return {Kind::constant, value, 0}; }
  /// `value` times the identity.
  static Start identity(double value) { return {Kind::identity, value, 0}; }
};

namespace detail {

/// Sets a block to its start values, drawn from the seed.
template <class Scalar>
void start_block(Parameters<Scalar>& parameters, Index number, std::uint64_t seed,
                 const Start& start) {
  switch (start.kind) {
    case Start::Kind::layer:
      break;
    case Start::Kind::uniform:
      draw_block(parameters, number, seed, 0,
                 [&](Random& random) { return random.uniform(start.a, start.b); });
      break;
    case Start::Kind::normal:
      draw_block(parameters, number, seed, 0,
                 [&](Random& random) { return start.a * random.normal(); });
      break;
    case Start::Kind::constant:
      parameters.matrix(number).setConstant(static_cast<Scalar>(start.a));
      break;
    case Start::Kind::identity:
      parameters.matrix(number).diagonal().setConstant(static_cast<Scalar>(start.a));
      break;
  }
}

}  // namespace detail

/// Shape of a cell's layer: y = x (W + w) + b + beta.
struct LayerShape {
  std::string_view name;  ///< prefix of the names of its parameters
  Index inputs = 1;       ///< rows of x
  Index outputs = 1;      ///< rows of y
  double spread = 1;      ///< slow weights start uniform in +-spread / sqrt(outputs)
  bool bias = true;       ///< whether it has a bias b
  Start start = {};       ///< of W, if not as `spread` says
};

/// Indices of one layer's parameters: NAME.weight, .bias, .weight_alpha, .bias_alpha.
template <class Scalar>
class Layer {
 public:
  /// Adds the layer's blocks and draws W and b from the options' seed; A starts as `alpha_mode`
  /// says; it has no block if it is fixed or the layer is not plastic. Throws std::invalid_argument
  /// if a name is taken.
  Layer(Parameters<Scalar>& parameters, const LayerShape& shape, const CellOptions& options,
        bool plastic) {
    const std::string name(shape.name);
    add_slow(parameters, shape, options.seed);
    if (plastic && options.alpha_mode != AlphaMode::none) {
      alpha_ = parameters.add(name + ".weight_alpha", shape.outputs, shape.inputs);
      bias_alpha_ = parameters.add(name + ".bias_alpha", shape.outputs, 1);
    }
    if (alpha_ >= 0 && options.alpha_mode == AlphaMode::random) {
      for (const Index number : {alpha_, bias_alpha_})
        detail::start_block(parameters, number, options.seed, Start::uniform(-1, 1));
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

  /// The same for a layer that has W and b alone.
  Layer(Parameters<Scalar>& parameters, const LayerShape& shape, std::uint64_t seed) {
    add_slow(parameters, shape, seed);
  }

  /// The layer's parameters on a tape, borrowed; sweeps add to `gradients` unless it is nullptr.
  SlowWeights<Scalar> on(Tape<Scalar>& tape, const Parameters<Scalar>& parameters,
                         Vector<Scalar>* gradients) const {
    const auto var = [&](Index number) {
      return number < 0 ? Var<Scalar>() : borrow(tape, parameters, number, gradients);
    };
    SlowWeights<Scalar> weights{var(weight_), var(bias_), var(alpha_), var(bias_alpha_)};
    if (bias_ < 0) weights.bias = tape.constant(Vector<Scalar>::Zero(weights.weight.rows()));
    return weights;
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
  void add_slow(Parameters<Scalar>& parameters, const LayerShape& shape, std::uint64_t seed) {
    const std::string name(shape.name);
    weight_ = parameters.add(name + ".weight", shape.outputs, shape.inputs);
    if (shape.bias) bias_ = parameters.add(name + ".bias", shape.outputs, 1);
    const double k = shape.spread / std::sqrt(static_cast<double>(shape.outputs));
    const Start spread = Start::uniform(-k, k);
    const bool as_layer = shape.start.kind == Start::Kind::layer;
    detail::start_block(parameters, weight_, seed, as_layer ? spread : shape.start);
    if (shape.bias) detail::start_block(parameters, bias_, seed, spread);
  }

  Index weight_ = -1;
  Index bias_ = -1;
  Index alpha_ = -1;
  Index bias_alpha_ = -1;
};

}  // namespace plastic
