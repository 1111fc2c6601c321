#pragma once

#include "plastic/cells/cell.hpp"
#include "plastic/cells/forward.hpp"

namespace plastic {

/// One plastic layer from the inputs to the outputs, without a hidden state: o = out_fc(x).
struct Linear {
  static constexpr std::string_view name = "linear";  ///< name in files
  static constexpr std::size_t states = 0;            ///< none

  static Index features(const CellOptions& o) { return o.inputs; }  ///< rows of x
  /// None before the output layer.
  static std::vector<LayerShape> layers(const CellOptions&) { return {}; }

  /// Passes x, inputs x samples, to the output layer.
  template <class Scalar>
  static Var<Scalar> advance(CellStep<Scalar>&, const Var<Scalar>& x) {
    return x;
  }
};

}  // namespace plastic
