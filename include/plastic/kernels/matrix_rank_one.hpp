#pragma once

#include "plastic/kernels/fast_weights.hpp"

/// The passes of matrix_update.hpp where time matters: an update by at most one rank-one term, and
/// reads. Rows are contiguous, and sums over rows stay in registers. Measured, whole training steps
/// with hidden 128 against expressions row by row: a decaying trace 10.6 -> 7.2 ms, a modulated one
/// 12.0 -> 8.1.
namespace plastic::detail::kernels {

/// What an update does to the old matrix before it adds to it: nothing, multiply it by one number,
/// or multiply each column by a number of its own.
enum class Keep { all, number, columns };

/// What it adds: nothing, pre post^T, or C o (pre post^T), where it also multiplies by L.
enum class Change { none, term, masked_term };

/// How an update bounds the result: not at all; to [-limit, limit]; or, with the change d, as
/// H + max(d, 0) (1 - H) + min(d, 0) (1 + H), then to [-limit, limit].
enum class Bound { none, clip, soft };

/// An update of one sample, H' = L o keep H + C o (pre post^T), bounded. keep: one number or cols,
/// as Keep says; L and C, rows x cols, count for Change::masked_term.
template <class Scalar>
struct RankOneUpdate {
  Index rows = 0;
  Index cols = 0;
  const Scalar* keep = nullptr;
  const Scalar* pre = nullptr;
  const Scalar* post = nullptr;
  const Scalar* keep_matrix = nullptr;
  const Scalar* matrix = nullptr;
  Scalar limit = 0;
};

/// Where its adjoints are added, each of the shape of its factor.
template <class Scalar>
struct RankOneAdjoint {
  Scalar* keep = nullptr;
  Scalar* pre = nullptr;
  Scalar* post = nullptr;
  Scalar* keep_matrix = nullptr;
  Scalar* matrix = nullptr;
};

/// H + max(d, 0) (1 - H) + min(d, 0) (1 + H) = H + d - |d| H.
template <class Packet>
EIGEN_ALWAYS_INLINE Packet soft_bound(const Packet& d, const Packet& h) {
  using namespace packet;
  return psub(padd(h, d), pmul(pabs(d), h));
}

/// H' from H, which may be the same memory.
template <Keep Kept, Bound Limited, Change Added, class Scalar>
void update_by_rank_one(const RankOneUpdate<Scalar> u, const Scalar* from, Scalar* to) {
  using namespace packet;
  constexpr bool has_term = Added != Change::none, masked = Added == Change::masked_term;
  for_column_blocks<Scalar>(0, u.cols, [&]<class Packet, int N>(Index first) PLASTIC_INLINE {
    const Packet high = pset1<Packet>(u.limit), low = pset1<Packet>(-u.limit);
    Packet by_column[N], kept[N];
    unrolled<N>([&](auto k) PLASTIC_INLINE {
      const Index column = first + k * width<Packet>;
      if constexpr (has_term) by_column[k] = load<Packet>(u.post + column);
      if constexpr (Kept == Keep::columns) kept[k] = load<Packet>(u.keep + column);
      if constexpr (Kept == Keep::number) kept[k] = pset1<Packet>(*u.keep);
    });
    for (Index i = 0; i < u.rows; ++i) {
      const Packet by_row = pset1<Packet>(has_term ? u.pre[i] : Scalar(0));
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        const Index at = i * u.cols + first + k * width<Packet>;
        Packet h = load<Packet>(from + at);
        if constexpr (masked) h = pmul(load<Packet>(u.keep_matrix + at), h);
        if constexpr (Kept != Keep::all) h = pmul(kept[k], h);
        if constexpr (masked) {
          h = pmadd(pmul(by_row, by_column[k]), load<Packet>(u.matrix + at), h);
        } else if constexpr (Limited == Bound::soft) {
          h = soft_bound<Packet>(pmul(by_row, by_column[k]), h);
        } else if constexpr (has_term) {
          h = pmadd(by_row, by_column[k], h);
        }
        if constexpr (Limited != Bound::none) h = pmin(pmax(h, low), high);
        if constexpr (Kept != Keep::all || masked) h = flush_tiny<Scalar>(h);
        pstoreu(to + at, h);
      });
    }
  });
}

/// Its adjoint: g, the adjoint of H', becomes that of H.
template <Keep Kept, Bound Limited, Change Added, class Scalar>
void rank_one_adjoint(const RankOneUpdate<Scalar> u, const Scalar* from, Scalar* g,
                      const RankOneAdjoint<Scalar> total) {
  using namespace packet;
  constexpr bool has_term = Added != Change::none, masked = Added == Change::masked_term;
  constexpr bool scaled = Kept != Keep::all || masked;
  double number_sum = 0;
  for_column_blocks<Scalar>(0, u.cols, [&]<class Packet, int N>(Index first) PLASTIC_INLINE {
    const Packet zero = pset1<Packet>(Scalar(0));
    const Packet high = pset1<Packet>(u.limit);
    Packet column_sum[N];
    unrolled<N>([&](auto k) PLASTIC_INLINE { column_sum[k] = zero; });
    Packet of_number = zero;
    for (Index i = 0; i < u.rows; ++i) {
      const Packet by_row = pset1<Packet>(has_term ? u.pre[i] : Scalar(0));
      Packet row_sum = zero;
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        const Index column = first + k * width<Packet>;
        const Index at = i * u.cols + column;
        Packet kept = zero, h = zero, l = zero, c = zero, by_column = zero;
        if constexpr (Kept == Keep::number) kept = pset1<Packet>(*u.keep);
        if constexpr (Kept == Keep::columns) kept = load<Packet>(u.keep + column);
        if constexpr (scaled || Limited != Bound::none) h = load<Packet>(from + at);
        if constexpr (has_term) by_column = load<Packet>(u.post + column);
        if constexpr (masked) {
          l = load<Packet>(u.keep_matrix + at);
          c = load<Packet>(u.matrix + at);
        }
        Packet change = load<Packet>(g + at);
        Packet of_old = zero;  // of H, with a soft bound
        if constexpr (Limited == Bound::soft) {
          const Packet one = pset1<Packet>(Scalar(1)), d = pmul(by_row, by_column);
          change = pand(change, pcmp_le(pabs(soft_bound<Packet>(d, h)), high));
          of_old = pmul(change, psub(one, pabs(d)));
          change = pmul(change, padd(pand(psub(one, h), pcmp_le(zero, d)),
                                     pand(padd(one, h), pcmp_le(d, zero))));
        }
        if constexpr (Limited == Bound::clip) {
          Packet old = h;
          if constexpr (masked) old = pmul(l, old);
          if constexpr (Kept != Keep::all) old = pmul(kept, old);
          if constexpr (masked) {
            old = pmadd(pmul(by_row, by_column), c, old);
          } else if constexpr (has_term) {
            old = pmadd(by_row, by_column, old);
          }
          change = pand(change, pcmp_le(pabs(old), high));
        }
        if constexpr (has_term) {
          Packet of_term = change;
          if constexpr (masked) {
            add_to(total.matrix + at, pmul(change, pmul(by_row, by_column)));
            of_term = pmul(change, c);
          }
          row_sum = pmadd(of_term, by_column, row_sum);
          column_sum[k] = pmadd(of_term, by_row, column_sum[k]);
        }
        if constexpr (scaled) {
          Packet of_keep = pmul(change, h);
          if constexpr (masked) {
            Packet of_matrix = of_keep;
            if constexpr (Kept != Keep::all) of_matrix = pmul(kept, of_keep);
            add_to(total.keep_matrix + at, of_matrix);
            of_keep = pmul(l, of_keep);
            change = pmul(l, change);
          }
          if constexpr (Kept == Keep::number) of_number = padd(of_number, of_keep);
          if constexpr (Kept == Keep::columns) add_to(total.keep + column, of_keep);
          if constexpr (Kept != Keep::all) change = pmul(kept, change);
        }
        if constexpr (Limited == Bound::soft) change = of_old;
        if constexpr (scaled || Limited != Bound::none) pstoreu(g + at, change);
      });
      if constexpr (has_term) total.pre[i] += predux(row_sum);
    }
    if constexpr (has_term) {
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        add_to(total.post + first + k * width<Packet>, column_sum[k]);
      });
    }
    number_sum += static_cast<double>(predux(of_number));
  });
  if constexpr (Kept == Keep::number) *total.keep += static_cast<Scalar>(number_sum);
}

/// y += x (A o H), or x H where Masked is false.
template <bool Masked, class Scalar>
void read_matrix(Index rows, Index cols, const Scalar* h, const Scalar* alpha, const Scalar* x,
                 Scalar* y) {
  using namespace packet;
  for_column_blocks<Scalar>(0, cols, [&]<class Packet, int N>(Index first) PLASTIC_INLINE {
    Packet sum[N];
    unrolled<N>([&](auto k)
                    PLASTIC_INLINE { sum[k] = load<Packet>(y + first + k * width<Packet>); });
    for (Index i = 0; i < rows; ++i) {
      const Packet input = pset1<Packet>(x[i]);
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        const Index at = i * cols + first + k * width<Packet>;
        Packet weight = load<Packet>(h + at);
        if constexpr (Masked) weight = pmul(load<Packet>(alpha + at), weight);
        sum[k] = pmadd(input, weight, sum[k]);
      });
    }
    unrolled<N>([&](auto k) PLASTIC_INLINE { pstoreu(y + first + k * width<Packet>, sum[k]); });
  });
}

/// dx += (A o H) dy, and with Wanted g += A o (x dy^T), da += H o (x dy^T).
template <bool Masked, bool Wanted, class Scalar>
void read_matrix_adjoint(Index rows, Index cols, const Scalar* h, const Scalar* alpha,
                         const Scalar* x, const Scalar* dy, Scalar* dx, Scalar* g, Scalar* da) {
  using namespace packet;
  for_column_blocks<Scalar>(0, cols, [&]<class Packet, int N>(Index first) PLASTIC_INLINE {
    const Packet zero = pset1<Packet>(Scalar(0));
    Packet adjoint[N];
    unrolled<N>([&](auto k)
                    PLASTIC_INLINE { adjoint[k] = load<Packet>(dy + first + k * width<Packet>); });
    for (Index i = 0; i < rows; ++i) {
      const Packet input = pset1<Packet>(x[i]);
      Packet row_sum = zero;
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        const Index at = i * cols + first + k * width<Packet>;
        const Packet fast = load<Packet>(h + at);
        Packet weight = fast, alphas = zero;
        if constexpr (Masked) {
          alphas = load<Packet>(alpha + at);
          weight = pmul(alphas, fast);
        }
        row_sum = pmadd(weight, adjoint[k], row_sum);
        if constexpr (Wanted) {
          Packet product = pmul(input, adjoint[k]);
          if constexpr (Masked) {
            add_to(da + at, pmul(fast, product));
            product = pmul(alphas, product);
          }
          add_to(g + at, product);
        }
      });
      dx[i] += predux(row_sum);
    }
  });
}

/// y += the squares of V = W + H, summed over rows; W is nullptr where Slow is false.
template <bool Slow, class Scalar>
void column_squares(Index rows, Index cols, const Scalar* h, const Scalar* w, Scalar* y) {
  using namespace packet;
  for_column_blocks<Scalar>(0, cols, [&]<class Packet, int N>(Index first) PLASTIC_INLINE {
    Packet sum[N];
    unrolled<N>([&](auto k) PLASTIC_INLINE { sum[k] = pset1<Packet>(Scalar(0)); });
    for (Index i = 0; i < rows; ++i) {
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        const Index at = i * cols + first + k * width<Packet>;
        Packet v = load<Packet>(h + at);
        if constexpr (Slow) v = padd(v, load<Packet>(w + at));
        sum[k] = pmadd(v, v, sum[k]);
      });
    }
    unrolled<N>([&](auto k) PLASTIC_INLINE { add_to(y + first + k * width<Packet>, sum[k]); });
  });
}

/// g += 2 V o dy and dw likewise, where they are not nullptr; dy scales columns.
template <bool Slow, class Scalar>
void column_squares_adjoint(Index rows, Index cols, const Scalar* h, const Scalar* w,
                            const Scalar* dy, Scalar* g, Scalar* dw) {
  using namespace packet;
  for_column_blocks<Scalar>(0, cols, [&]<class Packet, int N>(Index first) PLASTIC_INLINE {
    Packet twice[N];
    unrolled<N>([&](auto k) PLASTIC_INLINE {
      twice[k] = pmul(pset1<Packet>(Scalar(2)), load<Packet>(dy + first + k * width<Packet>));
    });
    for (Index i = 0; i < rows; ++i) {
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        const Index at = i * cols + first + k * width<Packet>;
        Packet v = load<Packet>(h + at);
        if constexpr (Slow) v = padd(v, load<Packet>(w + at));
        v = pmul(twice[k], v);
        if (g != nullptr) add_to(g + at, v);
        if (dw != nullptr) add_to(dw + at, v);
      });
    }
  });
}

}  // namespace plastic::detail::kernels
