#pragma once

#include "plastic/kernels/fast_weights.hpp"

/// Backward passes over an update of the fast weights and the first read after it.
namespace plastic::detail::kernels {

/// A read of W + scale v adds scale by_row by_column^T to the adjoint of v: `by_row` is the input
/// and `by_column` the output's adjoint if the read sums over rows; the other way round if over
/// columns.
template <class Scalar>
struct OuterProduct {
  const Scalar* by_row = nullptr;
  const Scalar* by_column = nullptr;
};

/// The sums that a backward pass adds to, for one sample.
template <class Scalar>
struct UpdateAdjoint {
  Scalar* fast = nullptr;       // adjoint of v' on entry, of v on return
  Scalar* alpha = nullptr;      // adjoint of A
  Scalar* input = nullptr;      // adjoint of the first read's input: by row if over rows
  Scalar* by_row = nullptr;     // without the factor rate
  Scalar* by_column = nullptr;  // without the factor rate
  double scale = 0;             // adjoint of the scale from the first read; lazy updates only
  double keep = 0;              // adjoint of keep; other updates only
};

/// Adjoint of a lazy update_product, and its inverse, in one pass. With G' the adjoint of v' after
/// the reads have been added, and M = A o G':
///   input += the product of W + scale v' with the adjoint of y, scale += <x y-adjoint^T, v'>;
///   by_row += M by_column, by_column += by_row M, A += rate (by_row by_column^T) o G', G = G';
///   v = v' - rate A o (by_row by_column^T), from `after` to `before`, which may be the same.
/// Measured in the second-level cache (Intel, 2 MB), 3.4 ns per 16 weights, of which 2 are the
/// writes of v and G alone; two rows at a time, two samples at a time, blocks of four vectors
/// rather than eight and prefetching the next rows are no different, vectors of 256 bits take 1.5
/// times as long.
template <Sum sum, bool SecondUse, class Scalar>
void lazy_update_adjoint(const SlowMatrices<Scalar>& slow, Rows rows, const Scalar* after,
                         Scalar* before, const Update<Scalar>& update, Scalar scale,
                         const OuterProduct<Scalar>& use, const OuterProduct<Scalar>& second,
                         UpdateAdjoint<Scalar>& total) {
  using namespace packet;
  // A packet's store may alias anything but locals: the pointers stay in registers here.
  const UpdateAdjoint<Scalar> adjoint = total;
  const SlowMatrices<Scalar> w = slow;
  double scale_adjoint = 0;
  for_column_blocks<Scalar>(0, slow.cols, [&]<class Packet, int N>(Index first) PLASTIC_INLINE {
    constexpr bool over_rows = sum == Sum::over_rows;
    const Packet zero = pset1<Packet>(Scalar(0));
    const Packet scales = pset1<Packet>(scale);
    Packet column_sum[N], input_sum[N];
    unrolled<N>([&](auto k) PLASTIC_INLINE {
      column_sum[k] = zero;
      if constexpr (!over_rows) input_sum[k] = zero;
    });
    Packet scale_sum = zero;
    for (const std::int32_t i : rows) {
      const Index row = i * w.cols + first;
      const Packet by_row = pset1<Packet>(update.by_row[i]);
      const Packet rated = pset1<Packet>(flushed(update.rate * update.by_row[i]));
      const Packet use_row = pset1<Packet>(use.by_row[i]);
      const Packet scaled_use = pset1<Packet>(scale * use.by_row[i]);
      const Packet scaled_second = pset1<Packet>(SecondUse ? scale * second.by_row[i] : Scalar(0));
      Packet fast_sum = zero, slow_sum = zero, row_sum = zero;
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        const Index column = first + k * width<Packet>;
        const Index at = row + k * width<Packet>;
        const Packet use_column = load<Packet>(use.by_column + column);
        const Packet by_column = load<Packet>(update.by_column + column);
        const Packet v = load<Packet>(after + at);
        const Packet weight = load<Packet>(w.weight + at);
        fast_sum = pmadd(v, use_column, fast_sum);
        if constexpr (over_rows) {
          slow_sum = pmadd(weight, use_column, slow_sum);
        } else {
          input_sum[k] = pmadd(use_row, pmadd(scales, v, weight), input_sum[k]);
        }
        Packet g = pmadd(scaled_use, use_column, load<Packet>(adjoint.fast + at));
        if constexpr (SecondUse) {
          g = pmadd(scaled_second, load<Packet>(second.by_column + column), g);
        }
        pstoreu(adjoint.fast + at, g);
        const Packet alpha = load<Packet>(w.alpha + at);
        const Packet m = pmul(alpha, g);
        row_sum = pmadd(m, by_column, row_sum);
        column_sum[k] = pmadd(m, by_row, column_sum[k]);
        const Packet change = pmul(rated, by_column);
        pstoreu(adjoint.alpha + at, pmadd(change, g, load<Packet>(adjoint.alpha + at)));
        pstoreu(before + at, psub(v, pmul(change, alpha)));
      });
      if constexpr (over_rows) adjoint.input[i] += predux(pmadd(scales, fast_sum, slow_sum));
      scale_sum = pmadd(use_row, fast_sum, scale_sum);
      adjoint.by_row[i] += predux(row_sum);
    }
    unrolled<N>([&](auto k) PLASTIC_INLINE {
      const Index column = first + k * width<Packet>;
      add_to(adjoint.by_column + column, column_sum[k]);
      if constexpr (!over_rows) add_to(adjoint.input + column, input_sum[k]);
    });
    scale_adjoint += static_cast<double>(predux(scale_sum));
  });
  total.scale += scale_adjoint;
}

/// Adjoint of an update_product that decays, where the weights before it are kept; the scale after
/// it is 1. With G' as above, masked where the clamp held:
///   input, by_row, by_column, A as above; keep += <v, G'>, G = keep G'.
template <Sum sum, bool SecondUse, bool Clip, class Scalar>
void decayed_update_adjoint(const SlowMatrices<Scalar>& slow, Rows rows, const Scalar* before,
                            const Update<Scalar>& update, const OuterProduct<Scalar>& use,
                            const OuterProduct<Scalar>& second, UpdateAdjoint<Scalar>& total) {
  using namespace packet;
  // As in lazy_update_adjoint.
  const UpdateAdjoint<Scalar> adjoint = total;
  const SlowMatrices<Scalar> w = slow;
  double keep_adjoint = 0;
  for_column_blocks<Scalar>(0, slow.cols, [&]<class Packet, int N>(Index first) PLASTIC_INLINE {
    constexpr bool over_rows = sum == Sum::over_rows;
    const Packet zero = pset1<Packet>(Scalar(0));
    Packet column_sum[N], input_sum[N];
    unrolled<N>([&](auto k) PLASTIC_INLINE { column_sum[k] = input_sum[k] = zero; });
    Packet keep_sum = zero;
    const Packet keep = pset1<Packet>(update.keep);
    for (const std::int32_t i : rows) {
      const Index row = i * w.cols + first;
      const Packet by_row = pset1<Packet>(update.by_row[i]);
      const Packet rated = pset1<Packet>(flushed(update.rate * update.by_row[i]));
      const Packet use_row = pset1<Packet>(use.by_row[i]);
      const Packet second_row = pset1<Packet>(SecondUse ? second.by_row[i] : Scalar(0));
      Packet use_sum = zero, row_sum = zero;
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        const Index column = first + k * width<Packet>;
        const Index at = row + k * width<Packet>;
        const Packet use_column = load<Packet>(use.by_column + column);
        const Packet by_column = load<Packet>(update.by_column + column);
        const Packet alpha = load<Packet>(w.alpha + at);
        const Packet change = pmul(rated, by_column);
        const Packet v = load<Packet>(before + at);
        Packet after = pmadd(change, alpha, pmul(keep, v));
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
        const Packet weight = padd(after, load<Packet>(w.weight + at));
        if constexpr (over_rows) {
          use_sum = pmadd(weight, use_column, use_sum);
        } else {
          input_sum[k] = pmadd(use_row, weight, input_sum[k]);
        }
        keep_sum = pmadd(v, g, keep_sum);
        const Packet m = pmul(alpha, g);
        row_sum = pmadd(m, by_column, row_sum);
        column_sum[k] = pmadd(m, by_row, column_sum[k]);
        pstoreu(adjoint.alpha + at, pmadd(change, g, load<Packet>(adjoint.alpha + at)));
        pstoreu(adjoint.fast + at, flush_tiny<Scalar>(pmul(keep, g)));
      });
      if constexpr (over_rows) adjoint.input[i] += predux(use_sum);
      adjoint.by_row[i] += predux(row_sum);
    }
    unrolled<N>([&](auto k) PLASTIC_INLINE {
      const Index column = first + k * width<Packet>;
      add_to(adjoint.by_column + column, column_sum[k]);
      if constexpr (!over_rows) add_to(adjoint.input + column, input_sum[k]);
    });
    keep_adjoint += static_cast<double>(predux(keep_sum));
  });
  total.keep += keep_adjoint;
}

}  // namespace plastic::detail::kernels
