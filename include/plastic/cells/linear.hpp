#pragma once

#include "plastic/cells/cell.hpp"

namespace plastic {

/// One plastic layer from the inputs to the outputs, without a hidden state: o = out_fc(x).
struct Linear {
  static constexpr std::string_view name = "linear";
  static constexpr std::size_t states = 0;

  static Index features(const CellOptions& o) { return o.inputs; }
  static std::vector<LayerShape> layers(const CellOptions&) { return {}; }

  template <class Scalar>
  static Var<Scalar> advance(Step<Scalar>&, const Var<Scalar>& x) {
    return x;
  }
};

/// `hidden` of the options is not used.
template <class Rule, class Scalar>
using PlasticLinear = PlasticCell<Linear, Rule, Scalar>;

}  // namespace plastic
