#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "plastic/nn/conv2d.hpp"
#include "plastic/tape/borrow.hpp"

namespace plastic {

/// A linear layer y = W' x + b without plasticity, for many samples on several threads.
///
/// Its weight (inputs x outputs) and bias are two blocks, NAME.weight and NAME.bias, of the owner's
/// parameters; they start uniform in +- 1 / sqrt(inputs).
template <class Scalar>
class Dense {
 public:
  /// Adds the two blocks. `key` distinguishes the layers of one seed. Throws std::invalid_argument
  /// if a size is not positive or a name taken.
  Dense(Parameters<Scalar>& parameters, const std::string& name, Index inputs, Index outputs,
        std::uint64_t seed, std::uint64_t key)
      : inputs_(inputs),
        outputs_(outputs),
        weight_(parameters.add(name + ".weight", inputs, outputs)),
        bias_(parameters.add(name + ".bias", outputs, 1)) {
    const double k = 1 / std::sqrt(static_cast<double>(inputs));
    for (const Index number : {weight_, bias_}) {
      detail::draw_block(parameters, number, seed, key,
                         [k](Random& random) { return random.uniform(-k, k); });
    }
  }

  /// x: inputs x samples; returns outputs x samples. Sweeps add to `gradients`, of the parameters'
  /// layout (nullptr: they are constants). Differentiable once.
  Var<Scalar> operator()(const Var<Scalar>& x, const Parameters<Scalar>& parameters,
                         Vector<Scalar>* gradients, int threads) const {
    Tape<Scalar>& tape = x.tape();
    // A convolution over images of one pixel: the same products, shared among threads.
    return conv2d(x, borrow(tape, parameters, weight_, gradients),
                  borrow(tape, parameters, bias_, gradients),
                  {.input = {inputs_, 1, 1},
                   .filters = outputs_,
                   .kernel = 1,
                   .padding = 0,
                   .threads = threads});
  }

  Index outputs() const { return outputs_; }  ///< rows of the result

 private:
  Index inputs_, outputs_, weight_, bias_;
};

}  // namespace plastic
