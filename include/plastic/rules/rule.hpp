#pragma once

#include <concepts>
#include <span>
#include <string_view>

#include "plastic/synapse/synapse.hpp"
#include "plastic/tape/functions.hpp"

namespace plastic {

/// Largest number of layers that one cell may have, with the output layer.
inline constexpr std::size_t max_layers = 8;

/// One layer in a time step, as a rule sees it; all are features x samples.
template <class Scalar>
struct Connection {
  Var<Scalar> input;           ///< activity before the layer
  Var<Scalar> pre_activation;  ///< input (W + w) + b + beta
  Var<Scalar> activity;        ///< activity after the layer, as the cell declares it
  RankOne<Scalar> change;      ///< the rule's proposal
};

/// One time step of a cell, as its rule sees it.
template <class Scalar>
struct RuleStep {
  Tape<Scalar>& tape;                         ///< tape that the step is recorded on
  std::span<Connection<Scalar>> connections;  ///< in the order of the cell's layers
  Var<Scalar> output;                         ///< o, all outputs x samples
  Var<Scalar> out_scale;                      ///< v, outputs x 1, learned
  Scalar inner_scale;                         ///< s
  std::span<Synapse<Scalar>> synapses;        ///< synapses of the same layers, for `feedback`

  /// (W + w) y with the weights of layer l that this step has used: y, outputs x samples,
  /// propagated back to the layer's inputs, inputs x samples. Differentiable once. Throws
  /// std::invalid_argument if there is no such layer or y does not fit it.
  Var<Scalar> feedback(std::size_t l, const Var<Scalar>& y) {
    if (l >= synapses.size()) {
      detail::reject("RuleStep::feedback", "l", "below the number of layers", l);
    }
    return synapses[l].read_transposed(y);
  }
};

/// A plasticity rule: a policy class without state that proposes one rank-one change per layer and
/// time step.
///
/// - `name`: name in settings and files.
/// - `plastic`: false if there are no fast weights at all; `propose` is then never called.
/// - `propose(step)`: sets `change` of every connection. It records its arithmetic on the step's
///   tape, so that the outer gradient goes through it, and reads nothing from outside the step.
///   It is called once per step, after the output and before the weights change; the norm clip, the
///   learning rate and A come afterwards. It sees the weights through `step.feedback` only, and a
///   change must be a product of one pre and one post factor.
template <class Rule, class Scalar>
concept PlasticityRule = requires(RuleStep<Scalar>& step) {
  { Rule::name } -> std::convertible_to<std::string_view>;
  { Rule::plastic } -> std::convertible_to<bool>;
  Rule::propose(step);
};

}  // namespace plastic
