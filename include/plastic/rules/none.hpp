#pragma once

#include "plastic/rules/rule.hpp"

namespace plastic {

/// No fast weights: the plain recurrent network, as a baseline. Its layers are matrix products over
/// all samples of a shard.
struct None {
  static constexpr std::string_view name = "none";
  static constexpr bool plastic = false;

  template <class Scalar>
  static void propose(StepView<Scalar>&) {}
};

static_assert(PlasticityRule<None, float>);

}  // namespace plastic
