#pragma once

#include <type_traits>

#include "plastic/kernels/packets.hpp"

/// The passes over fast weights. Rows are contiguous: each holds the weights from one input to all
/// outputs, or, of a layer with few outputs, those from all inputs to one output. Each pass walks
/// every matrix once, row by row, with the sums over rows in registers.
namespace plastic::detail::kernels {

/// x, or zero where it is below 2^-78 (float) or 2^-910 (double): so small that its decay or its
/// products would soon be denormal numbers, which some processors compute a hundred times slower.
/// What is not a number stays so.
/// Rounding to a multiple of such a number costs two operations less, but what decays slowly then
/// ends at that number and not at zero: 105 ms rather than 66 over an episode of 2,000 steps.
template <class Scalar, class Packet>
EIGEN_ALWAYS_INLINE Packet flush_tiny(const Packet& x) {
  const Packet least =
      packet::pset1<Packet>(std::is_same_v<Scalar, float> ? Scalar(0x1p-78) : Scalar(0x1p-910));
  return packet::pand(x, packet::pcmp_lt_or_nan(least, packet::pabs(x)));
}

/// One rank-one update w' = keep w + rate A o (by_row by_column^T) of one sample, clamped to
/// +-clip.
template <class Scalar>
struct Update {
  const Scalar* by_row = nullptr;
  const Scalar* by_column = nullptr;
  Scalar rate = 0;
  Scalar keep = 1;
  Scalar clip = 0;  // used where the template says so
};

/// Part of the slow matrices of a layer; A may be nullptr only where it is not read.
template <class Scalar>
struct Slow {
  const Scalar* weight = nullptr;
  const Scalar* alpha = nullptr;
  Index rows = 0;
  Index cols = 0;

  /// From row `first`, `count` rows.
  Slow part(Index first, Index count) const {
    return {weight + first * cols, alpha + first * cols, count, cols};
  }
};

/// A matrix times a vector x: `down` the rows, y[columns] += x[rows] (W + w), or `across` the
/// columns, y[rows] += (W + w) x[columns].
enum class Direction { none, down, across };

/// y += the product with W + w.
template <Direction direction, class Scalar>
void fast_product(Slow<Scalar> slow, const Scalar* w, const Scalar* x, Scalar* y) {
  using namespace packet;
  for_column_blocks<Scalar>(0, slow.cols, [&]<class Packet, int N>(Index first) PLASTIC_INLINE {
    constexpr bool down = direction == Direction::down;
    Packet at_columns[N];  // x across, the sums of y down
    unrolled<N>([&](auto k) PLASTIC_INLINE {
      at_columns[k] = load<Packet>((down ? y : x) + first + k * width<Packet>);
    });
    for (Index i = 0; i < slow.rows; ++i) {
      const Index row = i * slow.cols + first;
      const Packet input = pset1<Packet>(down ? x[i] : Scalar(0));
      Packet sum = pset1<Packet>(Scalar(0));
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        const Index at = row + k * width<Packet>;
        const Packet weight = padd(load<Packet>(w + at), load<Packet>(slow.weight + at));
        if constexpr (down) {
          at_columns[k] = pmadd(input, weight, at_columns[k]);
        } else {
          sum = pmadd(at_columns[k], weight, sum);
        }
      });
      if constexpr (!down) y[i] += predux(sum);
    }
    if constexpr (down) {
      unrolled<N>([&](auto k)
                      PLASTIC_INLINE { pstoreu(y + first + k * width<Packet>, at_columns[k]); });
    }
  });
}

/// w' of the update from `from` to `to` (which may be the same), and y += the product with W + w'.
/// Reads w, A, W and writes w' once: the update of a step and the product of the next in one pass.
template <Direction direction, bool Clip, class Scalar>
void update_product(Slow<Scalar> slow, const Scalar* from, Scalar* to, Update<Scalar> update,
                    const Scalar* x, Scalar* y) {
  using namespace packet;
  for_column_blocks<Scalar>(0, slow.cols, [&]<class Packet, int N>(Index first) PLASTIC_INLINE {
    constexpr bool down = direction == Direction::down;
    constexpr bool across = direction == Direction::across;
    Packet by_column[N], at_columns[N];
    unrolled<N>([&](auto k) PLASTIC_INLINE {
      const Index column = first + k * width<Packet>;
      by_column[k] = load<Packet>(update.by_column + column);
      if constexpr (down) at_columns[k] = load<Packet>(y + column);
      if constexpr (across) at_columns[k] = load<Packet>(x + column);
    });
    const Packet keep = pset1<Packet>(update.keep);
    for (Index i = 0; i < slow.rows; ++i) {
      const Index row = i * slow.cols + first;
      const Packet rated = pset1<Packet>(update.rate * update.by_row[i]);
      const Packet input = pset1<Packet>(down ? x[i] : Scalar(0));
      Packet sum = pset1<Packet>(Scalar(0));
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        const Index at = row + k * width<Packet>;
        Packet w = pmul(keep, load<Packet>(from + at));
        w = pmadd(pmul(rated, by_column[k]), load<Packet>(slow.alpha + at), w);
        if constexpr (Clip) {
          w = pmin(pmax(w, pset1<Packet>(-update.clip)), pset1<Packet>(update.clip));
        }
        w = flush_tiny<Scalar>(w);
        pstoreu(to + at, w);
        if constexpr (direction != Direction::none) {
          const Packet weight = padd(w, load<Packet>(slow.weight + at));
          if constexpr (down) at_columns[k] = pmadd(input, weight, at_columns[k]);
          if constexpr (across) sum = pmadd(at_columns[k], weight, sum);
        }
      });
      if constexpr (across) y[i] += predux(sum);
    }
    if constexpr (down) {
      unrolled<N>([&](auto k)
                      PLASTIC_INLINE { pstoreu(y + first + k * width<Packet>, at_columns[k]); });
    }
  });
}

/// A use of W + w adds by_row by_column^T to the adjoint of w: `by_row` is the input and
/// `by_column` the output's adjoint of a product down, the other way round across.
template <class Scalar>
struct OuterProduct {
  const Scalar* by_row = nullptr;
  const Scalar* by_column = nullptr;
};

/// What the backward pass adds to, for one sample.
template <class Scalar>
struct UpdateAdjoint {
  Scalar* fast = nullptr;       // adjoint of w' on entry, of w on return
  Scalar* alpha = nullptr;      // adjoint of A
  Scalar* input = nullptr;      // of the first use: rows of it down, columns of it across
  Scalar* by_row = nullptr;     // without the factor rate
  Scalar* by_column = nullptr;  // without the factor rate
  Scalar keep = 0;
};

/// Where the adjoint finds the weights around an update: `before` it, or, to be undone, `after` it;
/// then w = (w' - change) / keep is written to `before`, which may be the same memory.
template <class Scalar>
struct Versions {
  Scalar* before = nullptr;
  const Scalar* after = nullptr;
};

/// Adjoint of update_product in one pass. With G' the adjoint of w' after the uses have been added,
/// masked where the clamp held, and M = A o G':
///   input += (W + w') by_column down, by_row (W + w') across, of the first use;
///   by_row += M by_column, by_column += by_row M, keep += <w, G'>,
///   A += rate (by_row by_column^T) o G', G = keep G'.
template <Direction direction, bool SecondUse, bool Clip, bool Undo, class Scalar>
void update_product_adjoint(Slow<Scalar> slow, Versions<Scalar> w, Update<Scalar> update,
                            OuterProduct<Scalar> use, OuterProduct<Scalar> second,
                            UpdateAdjoint<Scalar>& total) {
  static_assert(!(Clip && Undo), "a clamped update cannot be undone");
  using namespace packet;
  // A packet's store may alias anything but locals: the pointers stay in registers here.
  UpdateAdjoint<Scalar> adjoint = total;
  for_column_blocks<Scalar>(0, slow.cols, [&]<class Packet, int N>(Index first) PLASTIC_INLINE {
    constexpr bool across = direction == Direction::across;
    const Packet zero = pset1<Packet>(Scalar(0));
    Packet column_sum[N], down_sum[N];
    unrolled<N>([&](auto k) PLASTIC_INLINE { column_sum[k] = down_sum[k] = zero; });
    Packet keep_sum = zero;
    const Packet keep = pset1<Packet>(update.keep);
    const Packet undo = pset1<Packet>(Undo ? Scalar(1) / update.keep : Scalar(0));
    for (Index i = 0; i < slow.rows; ++i) {
      const Index row = i * slow.cols + first;
      const Packet by_row = pset1<Packet>(update.by_row[i]);
      const Packet rated = pset1<Packet>(update.rate * update.by_row[i]);
      const Packet use_row = pset1<Packet>(use.by_row[i]);
      const Packet second_row = pset1<Packet>(SecondUse ? second.by_row[i] : Scalar(0));
      Packet across_sum = zero, row_sum = zero;
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        const Index column = first + k * width<Packet>;
        const Index at = row + k * width<Packet>;
        const Packet use_column = load<Packet>(use.by_column + column);
        const Packet by_column = load<Packet>(update.by_column + column);
        const Packet alpha = load<Packet>(slow.alpha + at);
        const Packet change = pmul(rated, by_column);
        Packet before, after;
        if constexpr (Undo) {
          after = load<Packet>(w.after + at);
          before = pmul(undo, psub(after, pmul(change, alpha)));
          pstoreu(w.before + at, before);
        } else {
          before = load<Packet>(w.before + at);
          after = pmadd(change, alpha, pmul(keep, before));
        }
        Packet g = pmadd(use_row, use_column, load<Packet>(adjoint.fast + at));
        if constexpr (SecondUse) {
          g = pmadd(second_row, load<Packet>(second.by_column + column), g);
        }
        if constexpr (Clip) {
          const Packet high = pset1<Packet>(update.clip);
          const Packet inside = pcmp_le(pabs(after), high);
          after = pmin(pmax(after, pset1<Packet>(-update.clip)), high);
          g = pselect(inside, g, zero);
        }
        const Packet weight = padd(after, load<Packet>(slow.weight + at));
        if constexpr (across) {
          down_sum[k] = pmadd(use_row, weight, down_sum[k]);
        } else {
          across_sum = pmadd(weight, use_column, across_sum);
        }
        keep_sum = pmadd(before, g, keep_sum);
        const Packet m = pmul(alpha, g);
        row_sum = pmadd(m, by_column, row_sum);
        column_sum[k] = pmadd(m, by_row, column_sum[k]);
        pstoreu(adjoint.alpha + at, pmadd(change, g, load<Packet>(adjoint.alpha + at)));
        pstoreu(adjoint.fast + at, flush_tiny<Scalar>(pmul(keep, g)));
      });
      if constexpr (!across) adjoint.input[i] += predux(across_sum);
      adjoint.by_row[i] += predux(row_sum);
    }
    unrolled<N>([&](auto k) PLASTIC_INLINE {
      const Index column = first + k * width<Packet>;
      add_to(adjoint.by_column + column, column_sum[k]);
      if constexpr (across) add_to(adjoint.input + column, down_sum[k]);
    });
    adjoint.keep += predux(keep_sum);
  });
  total.keep = adjoint.keep;
}

}  // namespace plastic::detail::kernels
