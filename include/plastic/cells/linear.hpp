#pragma once

#include "plastic/cells/cell.hpp"
#include "plastic/cells/forward.hpp"

namespace plastic {

/// One plastic layer from the inputs to the outputs, without a hidden state: o = out_fc(x).
struct Linear {
  /// As in files.
  static constexpr std::string_view name = "linear";
  /// Number of state matrices.
  static constexpr std::size_t states = 0;

  /// Rows of what `advance` returns.
  static Index features(const CellOptions& o) { return o.inputs; }
  /// Shapes of the layers before the output layer.
  static std::vector<LayerShape> layers(const CellOptions&) { return {}; }

  /// One time step; see CellDynamics.
  template <class Scalar>
  static Var<Scalar> advance(Step<Scalar>&, const Var<Scalar>& x) {
    return x;
  }
};

}  // namespace plastic
