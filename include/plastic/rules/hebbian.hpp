#pragma once

#include "plastic/rules/rule.hpp"

namespace plastic {

/// What fires together wires together: pre = the layer's input, post = its output activity, no bias
/// change. Source: Duan et al., ICLR 2023; Miconi, Stanley, Clune 2018.
struct Hebbian {
  /// As in settings and files.
  static constexpr std::string_view name = "hebbian";
  /// Whether there are fast weights.
  static constexpr bool plastic = true;

  /// Sets the change of every layer; see PlasticityRule.
  template <class Scalar>
  static void propose(StepView<Scalar>& step) {
    for (Connection<Scalar>& layer : step.connections) {
      layer.change = {layer.input, layer.activity, 0};
    }
  }
};

static_assert(PlasticityRule<Hebbian, float>);

}  // namespace plastic
