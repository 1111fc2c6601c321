#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include "plastic/kernels/packets.hpp"

/// Passes over the fast weights of one sample, w = s v, where the scale s takes the decay. Rows are
/// contiguous: each holds the weights from one input to all outputs, or, of a layer with few
/// outputs, those from all inputs to one output. Each pass walks the rows it is given once, with
/// the sums over rows in registers.
namespace plastic::detail::kernels {

/// Below this bound, decay or products would soon be denormal, which some processors compute a
/// hundred times slower.
template <class Scalar>
inline constexpr Scalar tiny = std::is_same_v<Scalar, float> ? Scalar(0x1p-78) : Scalar(0x1p-910);

/// x, or zero where it is tiny. NaN propagates. Rounding to a multiple of such a number takes two
/// operations fewer, but a slow decay then ends at that number and not at zero: 105 ms rather than
/// 66 over an episode of 2,000 steps.
template <class Scalar, class Packet>
EIGEN_ALWAYS_INLINE Packet flush_tiny(const Packet& x) {
  return packet::pand(x,
                      packet::pcmp_lt_or_nan(packet::pset1<Packet>(tiny<Scalar>), packet::pabs(x)));
}
template <class Scalar>
EIGEN_ALWAYS_INLINE Scalar flushed(Scalar x) {
  return x > -tiny<Scalar> && x < tiny<Scalar> ? Scalar(0) : x;
}

/// Indices of the rows that a pass visits, ascending.
using Rows = std::span<const std::int32_t>;

/// Slow matrices of a layer, rows x cols; A may be nullptr only if it is not read.
template <class Scalar>
struct SlowMatrices {
  const Scalar* weight = nullptr;
  const Scalar* alpha = nullptr;
  Index rows = 0;
  Index cols = 0;
};

/// What an update does to the old weights: leaves them, since the scale took the decay; decays
/// them; or decays them and clamps the result.
enum class Decay { lazy, now, now_and_clip };

/// One rank-one update v' = keep v + rate A o (by_row by_column^T) of one sample; keep is 1 where
/// the decay is lazy, and clip counts where the template says so.
template <class Scalar>
struct Update {
  const Scalar* by_row = nullptr;
  const Scalar* by_column = nullptr;
  Scalar rate = 0;
  Scalar keep = 1;
  Scalar clip = 0;
};

/// Direction of a product: y[column] += sum over rows of x[row] M, or y[row] += sum over columns of
/// M x[column].
enum class Sum { none, over_rows, over_columns };

/// y += the product with M = W + scale v. With ScaleAdjoint also returns d^T (v x), where d is a
/// vector of y's size.
template <Sum sum, bool ScaleAdjoint, class Scalar>
Scalar fast_product(const SlowMatrices<Scalar>& slow, Rows rows, const Scalar* v, Scalar scale,
                    const Scalar* x, Scalar* y, const Scalar* d = nullptr) {
  using namespace packet;
  constexpr bool over_rows = sum == Sum::over_rows;
  Scalar scale_adjoint = 0;
  for_column_blocks<Scalar>(0, slow.cols, [&]<class Packet, int N>(Index first) PLASTIC_INLINE {
    const Packet zero = pset1<Packet>(Scalar(0));
    const Packet scales = pset1<Packet>(scale);
    Packet at_columns[N];  // x of the columns, or the sums of y
    Packet fast_columns[N];
    Packet adjoint = zero;
    unrolled<N>([&](auto k) PLASTIC_INLINE {
      at_columns[k] = load<Packet>((over_rows ? y : x) + first + k * width<Packet>);
      if constexpr (over_rows && ScaleAdjoint) fast_columns[k] = zero;
    });
    for (const std::int32_t i : rows) {
      const Index row = i * slow.cols + first;
      const Packet input = pset1<Packet>(over_rows ? x[i] : Scalar(0));
      Packet row_sum = zero, fast_sum = zero;
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        const Index at = row + k * width<Packet>;
        const Packet fast = load<Packet>(v + at);
        const Packet weight = pmadd(scales, fast, load<Packet>(slow.weight + at));
        if constexpr (over_rows) {
          at_columns[k] = pmadd(input, weight, at_columns[k]);
          if constexpr (ScaleAdjoint) fast_columns[k] = pmadd(input, fast, fast_columns[k]);
        } else {
          row_sum = pmadd(at_columns[k], weight, row_sum);
          if constexpr (ScaleAdjoint) fast_sum = pmadd(at_columns[k], fast, fast_sum);
        }
      });
      if constexpr (!over_rows) {
        y[i] += predux(row_sum);
        if constexpr (ScaleAdjoint) adjoint = pmadd(pset1<Packet>(d[i]), fast_sum, adjoint);
      }
    }
    if constexpr (over_rows) {
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        const Index column = first + k * width<Packet>;
        pstoreu(y + column, at_columns[k]);
        if constexpr (ScaleAdjoint) {
          adjoint = pmadd(load<Packet>(d + column), fast_columns[k], adjoint);
        }
      });
    }
    if constexpr (ScaleAdjoint) scale_adjoint += predux(adjoint);
  });
  return scale_adjoint;
}

/// v' of the update from `from` to `to` (which may be the same), and y += the product with
/// W + scale v'. Reads v, A, W and writes v' once: the update of a step and the product of the next
/// in one pass.
template <Sum sum, Decay decay, class Scalar>
void update_product(const SlowMatrices<Scalar>& slow, Rows rows, const Scalar* from, Scalar* to,
                    const Update<Scalar>& update, Scalar scale, const Scalar* x, Scalar* y) {
  using namespace packet;
  for_column_blocks<Scalar>(0, slow.cols, [&]<class Packet, int N>(Index first) PLASTIC_INLINE {
    constexpr bool over_rows = sum == Sum::over_rows;
    constexpr bool over_columns = sum == Sum::over_columns;
    Packet by_column[N], at_columns[N];
    unrolled<N>([&](auto k) PLASTIC_INLINE {
      const Index column = first + k * width<Packet>;
      by_column[k] = load<Packet>(update.by_column + column);
      if constexpr (over_rows) at_columns[k] = load<Packet>(y + column);
      if constexpr (over_columns) at_columns[k] = load<Packet>(x + column);
    });
    const Packet keep = pset1<Packet>(update.keep);
    const Packet scales = pset1<Packet>(scale);
    for (const std::int32_t i : rows) {
      const Index row = i * slow.cols + first;
      const Packet rated = pset1<Packet>(flushed(update.rate * update.by_row[i]));
      const Packet input = pset1<Packet>(over_rows ? x[i] : Scalar(0));
      Packet row_sum = pset1<Packet>(Scalar(0));
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        const Index at = row + k * width<Packet>;
        Packet v = load<Packet>(from + at);
        if constexpr (decay != Decay::lazy) v = pmul(keep, v);
        v = pmadd(pmul(rated, by_column[k]), load<Packet>(slow.alpha + at), v);
        if constexpr (decay == Decay::now_and_clip) {
          v = pmin(pmax(v, pset1<Packet>(-update.clip)), pset1<Packet>(update.clip));
        }
        if constexpr (decay != Decay::lazy) v = flush_tiny<Scalar>(v);
        pstoreu(to + at, v);
        if constexpr (sum != Sum::none) {
          const Packet weight = pmadd(scales, v, load<Packet>(slow.weight + at));
          if constexpr (over_rows) at_columns[k] = pmadd(input, weight, at_columns[k]);
          if constexpr (over_columns) row_sum = pmadd(at_columns[k], weight, row_sum);
        }
      });
      if constexpr (over_columns) y[i] += predux(row_sum);
    }
    if constexpr (over_rows) {
      unrolled<N>([&](auto k)
                      PLASTIC_INLINE { pstoreu(y + first + k * width<Packet>, at_columns[k]); });
    }
  });
}

/// v from v' of a lazy update, in place.
template <class Scalar>
void invert_update(const SlowMatrices<Scalar>& slow, Rows rows, Scalar* v, Update<Scalar> update) {
  update.rate = -update.rate;
  update_product<Sum::none, Decay::lazy, Scalar>(slow, rows, v, v, update, 1, nullptr, nullptr);
}

}  // namespace plastic::detail::kernels
