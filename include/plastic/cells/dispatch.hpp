#pragma once

#include <type_traits>
#include <utility>

#include "plastic/cells/compiled.hpp"

namespace plastic {
namespace detail {

template <template <class, class> class Cell, class Scalar, class F>
decltype(auto) with_rule(std::string_view rule, F&& f) {
  if (rule == Gradient::name) return f(std::type_identity<Cell<Gradient, Scalar>>{});
  if (rule == Hebbian::name) return f(std::type_identity<Cell<Hebbian, Scalar>>{});
  if (rule == NoPlasticity::name) return f(std::type_identity<Cell<NoPlasticity, Scalar>>{});
  reject("cell type", "rule", "gradient, hebbian or none", rule);
}

}  // namespace detail

/// Calls f(std::type_identity<Cell>{}) with the recurrent cell that the two names denote, to turn
/// names in files and options into types. cell: rnn, lstm; rule: gradient, hebbian, none. Throws
/// std::invalid_argument on other names.
template <class Scalar, class F>
decltype(auto) with_cell_type(std::string_view cell, std::string_view rule, F&& f) {
  if (cell == Rnn::name) return detail::with_rule<PlasticRNN, Scalar>(rule, std::forward<F>(f));
  if (cell == Lstm::name) return detail::with_rule<PlasticLSTM, Scalar>(rule, std::forward<F>(f));
  detail::reject("with_cell_type", "cell", "rnn or lstm", cell);
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
