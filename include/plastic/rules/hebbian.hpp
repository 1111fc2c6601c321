#pragma once

#include "plastic/rules/rule.hpp"

namespace plastic {

/// What fires together wires together: pre = the layer's input, post = its output activity, no bias
/// change. Sources: Duan et al., ICLR 2023; Miconi, Stanley, Clune, "Differentiable plasticity",
/// ICML 2018.
struct Hebbian {
  static constexpr std::string_view name = "hebbian";  ///< name in settings and files
  static constexpr bool plastic = true;                ///< it has fast weights

  /// Proposes the change from the activities of the step.
  template <class Scalar>
  static void propose(RuleStep<Scalar>& step) {
    for (Connection<Scalar>& layer : step.connections) {
      layer.change = {layer.input, layer.activity, 0};
    }
  }
};

static_assert(PlasticityRule<Hebbian, float>);

}  // namespace plastic
