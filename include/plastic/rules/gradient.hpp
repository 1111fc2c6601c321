#pragma once

#include <array>

#include "plastic/rules/rule.hpp"

namespace plastic {

/// Follows a loss that the network defines itself: a step along the gradient of L = s mean_k (v_k
/// o_k)^2, so pre = the layer's input, post = dL/d(its pre-activation), and the same for the bias.
/// The learned A sets the sign. Only the current step is differentiated; the outer gradient goes
/// through the inner one. Source: Duan et al., ICLR 2023.
struct Gradient {
  static constexpr std::string_view name = "gradient";  ///< name in settings and files
  static constexpr bool plastic = true;                 ///< it has fast weights

  /// The change along the gradient, by Tape::gradient. Costs one inner backward pass over the step.
  template <class Scalar>
  static void propose(RuleStep<Scalar>& step) {
    const Var<Scalar> loss = sum_features(square(step.output * step.out_scale)) *
                             (step.inner_scale / static_cast<Scalar>(step.output.rows()));
    const std::size_t count = step.connections.size();
    std::array<Var<Scalar>, max_layers> layers, gradients;
    for (std::size_t l = 0; l < count; ++l) layers[l] = step.connections[l].pre_activation;
    step.tape.gradient(loss, std::span<const Var<Scalar>>(layers.data(), count),
                       std::span(gradients.data(), count));
    for (std::size_t l = 0; l < count; ++l) {
      step.connections[l].change = {step.connections[l].input, gradients[l], 1};
    }
  }
};

static_assert(PlasticityRule<Gradient, float>);

}  // namespace plastic
