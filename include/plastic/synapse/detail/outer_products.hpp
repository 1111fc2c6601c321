#pragma once

#include <algorithm>

#include "plastic/core/types.hpp"
#include "plastic/kernels/matrix_products.hpp"
#include "plastic/tape/arena.hpp"

namespace plastic::detail {

/// Sum of outer products dy x^T, gathered and added as one matrix product: a pass over the slow
/// gradient per gathering instead of one per step.
template <class Scalar>
class OuterProducts {
 public:
  /// `columns` are gathered before they are added.
  void open(Arena& arena, Index inputs, Index outputs, Index columns) {
    inputs_ = inputs;
    outputs_ = outputs;
    capacity_ = columns;
    x_ = arena.allocate_array<Scalar>(static_cast<std::size_t>(inputs * columns));
    dy_ = arena.allocate_array<Scalar>(static_cast<std::size_t>(outputs * columns));
  }

  /// x: inputs x count, dy: outputs x count; `total` (outputs x inputs) takes the sum when the
  /// memory is full.
  void add(const Scalar* x, const Scalar* dy, Index count, MatrixMap<Scalar> total) {
    for (Index done = 0; done < count;) {
      if (filled_ == capacity_) flush(total);
      const Index now = std::min(count - done, capacity_ - filled_);
      std::copy_n(x + done * inputs_, now * inputs_, x_ + filled_ * inputs_);
      std::copy_n(dy + done * outputs_, now * outputs_, dy_ + filled_ * outputs_);
      filled_ += now;
      done += now;
    }
  }

  void flush(MatrixMap<Scalar> total) {
    if (filled_ == 0) return;
    kernels::add_product<Scalar>(total.data(), dy_, {x_, inputs_, 1}, outputs_, filled_, inputs_);
    filled_ = 0;
  }

  void drop() { filled_ = 0; }

 private:
  Scalar* x_ = nullptr;
  Scalar* dy_ = nullptr;
  Index inputs_ = 0;
  Index outputs_ = 0;
  Index capacity_ = 0;
  Index filled_ = 0;
};

}  // namespace plastic::detail
