#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <type_traits>
#include <utility>

#include "plastic/cells/compiled.hpp"
#include "plastic/cells/families.hpp"

namespace plastic {
namespace detail {

template <template <class, class> class Cell, class Scalar, class F>
decltype(auto) with_rule(std::string_view rule, F&& f) {
  if (rule == Gradient::name) return f(std::type_identity<Cell<Gradient, Scalar>>{});
  if (rule == Hebbian::name) return f(std::type_identity<Cell<Hebbian, Scalar>>{});
  if (rule == NoPlasticity::name) return f(std::type_identity<Cell<NoPlasticity, Scalar>>{});
  reject("cell type", "rule", "gradient, hebbian or none", rule);
}

/// Calls f with the first of Cells that has that name; they have one rule.
template <class Cell, class... More, class F>
decltype(auto) with_model(std::string_view cell, F&& f) {
  if (cell == Cell::cell_name) return f(std::type_identity<Cell>{});
  if constexpr (sizeof...(More) > 0) {
    return with_model<More...>(cell, std::forward<F>(f));
  } else {
    reject("with_cell_type", "cell", "one that the rule " + std::string(Cell::rule_name) + " has",
           cell);
  }
}

}  // namespace detail

/// Calls f(std::type_identity<Cell>{}) with the recurrent cell that the two names denote, of those
/// whose layers all have fast weights. cell: rnn, lstm; rule: gradient, hebbian, none. Throws
/// std::invalid_argument on other names.
template <class Scalar, class F>
decltype(auto) with_layered_cell_type(std::string_view cell, std::string_view rule, F&& f) {
  if (cell == Rnn::name) return detail::with_rule<PlasticRNN, Scalar>(rule, std::forward<F>(f));
  if (cell == Lstm::name) return detail::with_rule<PlasticLSTM, Scalar>(rule, std::forward<F>(f));
  detail::reject("with_cell_type", "cell", "rnn or lstm", cell);
}

/// Calls f(std::type_identity<Cell>{}) with the network that the two names denote, to turn names in
/// files and options into types. rule and cell: gradient, hebbian, none with rnn or lstm; trace
/// with rnn or clamp; modulated with rnn or lstm; delta with delta_net, delta_rnn or
/// recurrent_delta_net; abcd with mlp or rnn; retroactive, fast_weights and stpn with rnn. Throws
/// std::invalid_argument on other names. f is compiled for all of them; see also
/// with_layered_cell_type.
template <class Scalar, class F>
decltype(auto) with_cell_type(std::string_view cell, std::string_view rule, F&& f) {
  using namespace detail;
  if (rule == Gradient::name || rule == Hebbian::name || rule == NoPlasticity::name) {
    return with_layered_cell_type<Scalar>(cell, rule, std::forward<F>(f));
  }
  if (rule == Trace::name) {
    return with_model<TraceRNN<Scalar>, TraceClampRNN<Scalar>>(cell, std::forward<F>(f));
  }
  if (rule == Modulated::name) {
    return with_model<ModulatedRNN<Scalar>, ModulatedLSTM<Scalar>>(cell, std::forward<F>(f));
  }
  if (rule == Retroactive::name) {
    return with_model<RetroactiveRNN<Scalar>>(cell, std::forward<F>(f));
  }
  if (rule == FastWeights::name) {
    return with_model<FastWeightsRNN<Scalar>>(cell, std::forward<F>(f));
  }
  if (rule == Delta::name) {
    return with_model<DeltaNet<Scalar>, DeltaRNN<Scalar>, RecurrentDeltaNet<Scalar>>(
        cell, std::forward<F>(f));
  }
  if (rule == Stpn::name) return with_model<StpnRNN<Scalar>>(cell, std::forward<F>(f));
  if (rule == Abcd::name) {
    return with_model<AbcdRNN<Scalar>, AbcdMLP<Scalar>>(cell, std::forward<F>(f));
  }
  reject(
      "with_cell_type", "rule",
      "gradient, hebbian, none, trace, modulated, retroactive, fast_weights, delta, stpn or abcd",
      rule);
}

/// The same with the cells that take another network's features: PlasticFeatureRNN for rnn,
/// PlasticFeatureLSTM for lstm.
template <class Scalar, class F>
decltype(auto) with_feature_cell_type(std::string_view cell, std::string_view rule, F&& f) {
  if (cell == Rnn::name)
    return detail::with_rule<PlasticFeatureRNN, Scalar>(rule, std::forward<F>(f));
  if (cell == Lstm::name) {
    return detail::with_rule<PlasticFeatureLSTM, Scalar>(rule, std::forward<F>(f));
  }
  detail::reject("with_feature_cell_type", "cell", "rnn or lstm", cell);
}

}  // namespace plastic
