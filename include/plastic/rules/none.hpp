#pragma once

#include "plastic/rules/rule.hpp"

namespace plastic {

/// No fast weights: the plain recurrent network, as a baseline. Its layers are matrix products over
/// all samples of a shard.
struct None {
  /// As in settings and files.
  static constexpr std::string_view name = "none";
  /// Whether there are fast weights.
  static constexpr bool plastic = false;

  /// Sets the change of every layer; see PlasticityRule.
  template <class Scalar>
  static void propose(StepView<Scalar>&) {}
};

static_assert(PlasticityRule<None, float>);

}  // namespace plastic
