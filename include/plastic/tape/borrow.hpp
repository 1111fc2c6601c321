#pragma once

#include "plastic/core/parameters.hpp"
#include "plastic/tape/tape.hpp"

namespace plastic {

/// Parameter `number` of `parameters` on a tape, without a copy: parameters and gradients must
/// outlive what is recorded. Sweeps add to its part of `gradients` unless that is nullptr or the
/// parameter is frozen. Throws std::invalid_argument if there is no such parameter or `gradients`
/// has another length.
template <class Scalar>
Var<Scalar> borrow(Tape<Scalar>& tape, const Parameters<Scalar>& parameters, Index number,
                   Vector<Scalar>* gradients) {
  const ParameterBlock& block = parameters.block(number);
  Scalar* gradient = gradients != nullptr && block.trainable
                         ? parameters.view(*gradients, number).data()
                         : nullptr;
  return tape.borrow(parameters.matrix(number).data(), block.rows, block.cols, gradient);
}

}  // namespace plastic
