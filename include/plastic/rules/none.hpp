#pragma once

#include "plastic/rules/rule.hpp"

namespace plastic {

/// No fast weights: the plain recurrent network, as a baseline. Its layers are matrix products over
/// all samples of a shard.
struct None {
  static constexpr std::string_view name = "none";  ///< as in settings and files
  static constexpr bool plastic = false;            ///< without fast weights

  /// Never called.
  template <class Scalar>
  static void propose(StepView<Scalar>&) {}
};

static_assert(PlasticityRule<None, float>);

}  // namespace plastic
