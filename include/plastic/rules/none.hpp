#pragma once

#include "plastic/rules/rule.hpp"

namespace plastic {

/// No fast weights: the plain recurrent network, as a baseline. Its layers are matrix products over
/// all samples of a shard.
struct NoPlasticity {
  static constexpr std::string_view name = "none";  ///< name in settings and files
  static constexpr bool plastic = false;            ///< it has no fast weights

  /// Never called, since the rule has no fast weights.
  template <class Scalar>
  static void propose(RuleStep<Scalar>&) {}
};

#ifndef None
/// The same. X11 has a macro of this name: a program that includes its headers first writes
/// NoPlasticity.
using None = NoPlasticity;
#endif

static_assert(PlasticityRule<NoPlasticity, float>);

}  // namespace plastic
