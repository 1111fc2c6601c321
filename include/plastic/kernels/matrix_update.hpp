#pragma once

#include <cmath>
#include <cstddef>
#include <span>

#include "plastic/kernels/fast_weights.hpp"
#include "plastic/kernels/matrix_rank_one.hpp"

/// Passes over one sample's fast matrix H whose update is not one rank-one term with a decay. Rows
/// are contiguous and belong to inputs, columns to outputs. A pass goes down the rows of a few
/// columns, whose numbers stay in registers.
namespace plastic::detail::kernels {

/// C o (pre post^T) of one sample; nullptr stands for ones.
template <class Scalar>
struct MatrixTerm {
  const Scalar* matrix = nullptr;  // rows x cols
  const Scalar* pre = nullptr;     // rows
  const Scalar* post = nullptr;    // cols
};

/// H' = bound(L o keep H + sum of terms + gain E) of one sample.
template <class Scalar>
struct MatrixUpdate {
  Index rows = 0;
  Index cols = 0;
  Keep keep_kind = Keep::all;
  const Scalar* keep = nullptr;         // 1 or cols numbers
  const Scalar* keep_matrix = nullptr;  // L, or nullptr for ones
  std::span<const MatrixTerm<Scalar>> terms;
  const Scalar* other = nullptr;  // E, or nullptr
  Scalar gain = 0;
  Bound bound = Bound::none;
  Scalar limit = 0;
};

/// Where the adjoints of a term go; nullptr where none is wanted.
template <class Scalar>
struct MatrixTermAdjoint {
  Scalar* matrix = nullptr;
  Scalar* pre = nullptr;
  Scalar* post = nullptr;
};

/// Likewise for an update.
template <class Scalar>
struct MatrixUpdateAdjoint {
  Scalar* keep = nullptr;  // 1 or cols numbers
  Scalar* keep_matrix = nullptr;
  std::span<const MatrixTermAdjoint<Scalar>> terms;
  Scalar* other = nullptr;
  Scalar* gain = nullptr;
};

template <class Scalar>
using Row = Eigen::Map<Eigen::Array<Scalar, Eigen::Dynamic, 1>>;
template <class Scalar>
using ConstRow = Eigen::Map<const Eigen::Array<Scalar, Eigen::Dynamic, 1>>;

/// A piece of row i of an update: N packets from `column` on, which lie at `at` in the matrices.
template <class Packet, int N, class Scalar>
struct Piece {
  const MatrixUpdate<Scalar>& update;
  Index i;
  Index column;
  Index at;

  using Packets = Packet[N];

  /// x *= what lies at `from`, if anything.
  static EIGEN_ALWAYS_INLINE void multiply(Packets& x, const Scalar* from, Index offset) {
    if (from == nullptr) return;
    unrolled<N>([&](auto k) PLASTIC_INLINE {
      x[k] = packet::pmul(x[k], load<Packet>(from + offset + k * width<Packet>));
    });
  }

  /// pre post^T of a term.
  EIGEN_ALWAYS_INLINE void product_of(const MatrixTerm<Scalar>& term, Packets& x) const {
    const Scalar pre = term.pre == nullptr ? Scalar(1) : term.pre[i];
    unrolled<N>([&](auto k) PLASTIC_INLINE { x[k] = packet::pset1<Packet>(pre); });
    multiply(x, term.post, column);
  }

  /// d = the terms, and gain E.
  EIGEN_ALWAYS_INLINE void change(Packets& d) const {
    unrolled<N>([&](auto k) PLASTIC_INLINE { d[k] = packet::pset1<Packet>(Scalar(0)); });
    Packet x[N];
    const auto add = [&](const Scalar* matrix) PLASTIC_INLINE {
      multiply(x, matrix, at);
      unrolled<N>([&](auto k) PLASTIC_INLINE { d[k] = packet::padd(d[k], x[k]); });
    };
    for (const MatrixTerm<Scalar>& term : update.terms) {
      product_of(term, x);
      add(term.matrix);
    }
    if (update.other == nullptr) return;
    unrolled<N>([&](auto k) PLASTIC_INLINE { x[k] = packet::pset1<Packet>(update.gain); });
    add(update.other);
  }

  /// x *= keep.
  EIGEN_ALWAYS_INLINE void multiply_by_keep(Packets& x) const {
    if (update.keep_kind == Keep::columns) multiply(x, update.keep, column);
    if (update.keep_kind == Keep::number) {
      const Packet keep = packet::pset1<Packet>(*update.keep);
      unrolled<N>([&](auto k) PLASTIC_INLINE { x[k] = packet::pmul(keep, x[k]); });
    }
  }
  bool keeps_all() const { return update.keep_kind == Keep::all && update.keep_matrix == nullptr; }

  /// H' before it is clamped, from H in h and the change.
  EIGEN_ALWAYS_INLINE void unbounded(Packets& h, const Packets& d) const {
    if (update.bound == Bound::soft) {
      unrolled<N>([&](auto k) PLASTIC_INLINE { h[k] = soft_bound<Packet>(d[k], h[k]); });
      return;
    }
    multiply(h, update.keep_matrix, at);
    multiply_by_keep(h);
    unrolled<N>([&](auto k) PLASTIC_INLINE { h[k] = packet::padd(h[k], d[k]); });
    if (keeps_all()) return;
    unrolled<N>([&](auto k) PLASTIC_INLINE { h[k] = flush_tiny<Scalar>(h[k]); });
  }
};

/// Calls f(piece) for the pieces of all rows, block of columns by block of columns.
template <class Scalar, class F>
void for_pieces_of_rows(const MatrixUpdate<Scalar>& update, F&& f) {
  for_column_blocks<Scalar, WidestPacket<Scalar>, 4>(
      0, update.cols, [&]<class Packet, int N>(Index first) PLASTIC_INLINE {
        for (Index i = 0; i < update.rows; ++i) {
          f(Piece<Packet, N, Scalar>{update, i, first, i * update.cols + first});
        }
      });
}

/// Calls f<Keep, Bound, Change>(RankOneUpdate) for an update that has such a form; false if not.
template <class Scalar, class F>
bool with_rank_one(const MatrixUpdate<Scalar>& u, F&& f) {
  if (u.terms.size() > 1 || u.other != nullptr) return false;
  Change added = Change::none;
  RankOneUpdate<Scalar> one{u.rows,  u.cols,        u.keep,  nullptr,
                            nullptr, u.keep_matrix, nullptr, u.limit};
  if (!u.terms.empty()) {
    one.pre = u.terms[0].pre;
    one.post = u.terms[0].post;
    one.matrix = u.terms[0].matrix;
    if (one.pre == nullptr || one.post == nullptr) return false;
    added = one.matrix == nullptr ? Change::term : Change::masked_term;
  }
  if (u.bound == Bound::soft) {
    if (added != Change::term) return false;
    f.template operator()<Keep::all, Bound::soft, Change::term>(one);
    return true;
  }
  if ((u.keep_matrix != nullptr) != (added == Change::masked_term)) return false;
  const auto with_change = [&]<Keep keep, Bound bound>() {
    if (added == Change::none) {
      f.template operator()<keep, bound, Change::none>(one);
    } else if (added == Change::term) {
      f.template operator()<keep, bound, Change::term>(one);
    } else {
      f.template operator()<keep, bound, Change::masked_term>(one);
    }
  };
  const auto with_bound = [&]<Keep keep>() {
    if (u.bound == Bound::clip) {
      with_change.template operator()<keep, Bound::clip>();
    } else {
      with_change.template operator()<keep, Bound::none>();
    }
  };
  if (u.keep_kind == Keep::all) {
    with_bound.template operator()<Keep::all>();
  } else if (u.keep_kind == Keep::number) {
    with_bound.template operator()<Keep::number>();
  } else {
    with_bound.template operator()<Keep::columns>();
  }
  return true;
}

/// H' from H, which may be the same memory.
template <class Scalar>
void update_matrix(const MatrixUpdate<Scalar>& update, const Scalar* from, Scalar* to) {
  const auto by_rank_one = [&]<Keep keep, Bound bound, Change added>(const auto& one) {
    update_by_rank_one<keep, bound, added>(one, from, to);
  };
  if (with_rank_one(update, by_rank_one)) return;
  using namespace packet;
  for_pieces_of_rows(update, [&]<class Packet, int N>(
                                 const Piece<Packet, N, Scalar>& piece) PLASTIC_INLINE {
    Packet h[N], d[N];
    unrolled<N>([&](auto k)
                    PLASTIC_INLINE { h[k] = load<Packet>(from + piece.at + k * width<Packet>); });
    piece.change(d);
    piece.unbounded(h, d);
    if (update.bound != Bound::none) {
      const Packet high = pset1<Packet>(update.limit), low = pset1<Packet>(-update.limit);
      unrolled<N>([&](auto k) PLASTIC_INLINE { h[k] = pmin(pmax(h[k], low), high); });
    }
    unrolled<N>([&](auto k) PLASTIC_INLINE { pstoreu(to + piece.at + k * width<Packet>, h[k]); });
  });
}

/// The adjoint of the same: g, the adjoint of H', becomes that of H. unwanted: memory for results
/// that nobody wants, as long as the longer side.
template <class Scalar>
void update_matrix_adjoint(const MatrixUpdate<Scalar>& update, const Scalar* from, Scalar* adjoint,
                           const MatrixUpdateAdjoint<Scalar>& total, Scalar* unwanted) {
  // The passes for a rank-one update want all adjoints: matrices are learned, or have none.
  const bool all_wanted = (update.keep_matrix == nullptr) == (total.keep_matrix == nullptr) &&
                          (update.terms.empty() || (update.terms[0].matrix == nullptr) ==
                                                       (total.terms[0].matrix == nullptr));
  if (all_wanted) {
    const auto wanted = [&](Scalar* sum) { return sum == nullptr ? unwanted : sum; };
    const auto by_rank_one = [&]<Keep keep, Bound bound, Change added>(const auto& one) {
      RankOneAdjoint<Scalar> sums{wanted(total.keep), nullptr, nullptr, total.keep_matrix, nullptr};
      if constexpr (added != Change::none) {
        sums.pre = wanted(total.terms[0].pre);
        sums.post = wanted(total.terms[0].post);
        sums.matrix = total.terms[0].matrix;
      }
      rank_one_adjoint<keep, bound, added>(one, from, adjoint, sums);
    };
    if (with_rank_one(update, by_rank_one)) return;
  }
  using namespace packet;
  double keep_sum = 0, gain_sum = 0;
  for_pieces_of_rows(update, [&]<class Packet, int N>(
                                 const Piece<Packet, N, Scalar>& piece) PLASTIC_INLINE {
    const Index i = piece.i, at = piece.at, column = piece.column;
    const Packet zero = pset1<Packet>(Scalar(0)), one = pset1<Packet>(Scalar(1));
    Packet h[N], g[N], dc[N];  // H, the adjoint of H', and that of the change
    unrolled<N>([&](auto k) PLASTIC_INLINE {
      h[k] = load<Packet>(from + at + k * width<Packet>);
      g[k] = load<Packet>(adjoint + at + k * width<Packet>);
    });
    if (update.bound != Bound::none) {
      Packet d[N], after[N];
      piece.change(d);
      unrolled<N>([&](auto k) PLASTIC_INLINE { after[k] = h[k]; });
      piece.unbounded(after, d);
      const Packet high = pset1<Packet>(update.limit);
      unrolled<N>([&](auto k) PLASTIC_INLINE { g[k] = pand(g[k], pcmp_le(pabs(after[k]), high)); });
      unrolled<N>([&](auto k) PLASTIC_INLINE { dc[k] = g[k]; });
      if (update.bound == Bound::soft) {
        unrolled<N>([&](auto k) PLASTIC_INLINE {
          dc[k] = pmul(g[k], padd(pand(psub(one, h[k]), pcmp_le(zero, d[k])),
                                  pand(padd(one, h[k]), pcmp_le(d[k], zero))));
          g[k] = pmul(g[k], psub(one, pabs(d[k])));
        });
      }
    } else {
      unrolled<N>([&](auto k) PLASTIC_INLINE { dc[k] = g[k]; });
    }
    const auto add_all = [&](Scalar* to, const Packet(&x)[N]) PLASTIC_INLINE {
      unrolled<N>([&](auto k) PLASTIC_INLINE { add_to(to + k * width<Packet>, x[k]); });
    };
    const auto sum_of = [&](const Packet(&x)[N]) PLASTIC_INLINE {
      Packet sum = x[0];
      unrolled<N - 1>([&](auto k) PLASTIC_INLINE { sum = padd(sum, x[k + 1]); });
      return predux(sum);
    };
    Packet x[N];
    for (std::size_t t = 0; t < update.terms.size(); ++t) {
      const MatrixTerm<Scalar>& term = update.terms[t];
      const MatrixTermAdjoint<Scalar>& to = total.terms[t];
      if (to.matrix != nullptr) {
        piece.product_of(term, x);
        unrolled<N>([&](auto k) PLASTIC_INLINE { x[k] = pmul(x[k], dc[k]); });
        add_all(to.matrix + at, x);
      }
      if (to.pre == nullptr && to.post == nullptr) continue;
      unrolled<N>([&](auto k) PLASTIC_INLINE { x[k] = dc[k]; });
      piece.multiply(x, term.matrix, at);
      if (to.post != nullptr) {
        const Packet pre = pset1<Packet>(term.pre == nullptr ? Scalar(1) : term.pre[i]);
        unrolled<N>([&](auto k) PLASTIC_INLINE {
          add_to(to.post + column + k * width<Packet>, pmul(pre, x[k]));
        });
      }
      if (to.pre != nullptr) {
        piece.multiply(x, term.post, column);
        to.pre[i] += sum_of(x);
      }
    }
    if (update.other != nullptr) {
      if (total.gain != nullptr) {
        unrolled<N>([&](auto k) PLASTIC_INLINE { x[k] = dc[k]; });
        piece.multiply(x, update.other, at);
        gain_sum += static_cast<double>(sum_of(x));
      }
      if (total.other != nullptr) {
        const Packet gain = pset1<Packet>(update.gain);
        unrolled<N>([&](auto k) PLASTIC_INLINE { x[k] = pmul(gain, dc[k]); });
        add_all(total.other + at, x);
      }
    }
    if (update.bound != Bound::soft && !piece.keeps_all()) {
      if (total.keep != nullptr || total.keep_matrix != nullptr) {
        unrolled<N>([&](auto k) PLASTIC_INLINE { x[k] = pmul(g[k], h[k]); });
      }
      if (total.keep != nullptr) {
        Packet of_keep[N];
        unrolled<N>([&](auto k) PLASTIC_INLINE { of_keep[k] = x[k]; });
        piece.multiply(of_keep, update.keep_matrix, at);
        if (update.keep_kind == Keep::columns) {
          add_all(total.keep + column, of_keep);
        } else {
          keep_sum += static_cast<double>(sum_of(of_keep));
        }
      }
      if (total.keep_matrix != nullptr) {
        piece.multiply_by_keep(x);
        add_all(total.keep_matrix + at, x);
      }
      piece.multiply(g, update.keep_matrix, at);
      piece.multiply_by_keep(g);
    }
    unrolled<N>([&](auto k) PLASTIC_INLINE { pstoreu(adjoint + at + k * width<Packet>, g[k]); });
  });
  if (total.gain != nullptr) *total.gain += static_cast<Scalar>(gain_sum);
  if (total.keep != nullptr && update.keep_kind == Keep::number) {
    *total.keep += static_cast<Scalar>(keep_sum);
  }
}

/// y += x (A o H); A nullptr for ones.
template <class Scalar>
void matrix_product(Index rows, Index cols, const Scalar* h, const Scalar* alpha, const Scalar* x,
                    Scalar* y) {
  if (alpha == nullptr) return read_matrix<false>(rows, cols, h, alpha, x, y);
  read_matrix<true>(rows, cols, h, alpha, x, y);
}

/// Its adjoints: dx += (A o H) dy, g += A o (x dy^T), da += H o (x dy^T); nullptr where none is
/// wanted, and `unwanted`, rows values, is written instead of dx.
template <class Scalar>
void matrix_product_adjoint(Index rows, Index cols, const Scalar* h, const Scalar* alpha,
                            const Scalar* x, const Scalar* dy, Scalar* dx, Scalar* g, Scalar* da,
                            Scalar* unwanted) {
  if (dx == nullptr) dx = unwanted;
  if (alpha == nullptr) {
    if (g == nullptr)
      return read_matrix_adjoint<false, false>(rows, cols, h, alpha, x, dy, dx, g, da);
    return read_matrix_adjoint<false, true>(rows, cols, h, alpha, x, dy, dx, g, da);
  }
  if (g != nullptr && da != nullptr) {
    return read_matrix_adjoint<true, true>(rows, cols, h, alpha, x, dy, dx, g, da);
  }
  read_matrix_adjoint<true, false>(rows, cols, h, alpha, x, dy, dx, g, da);
  for (Index i = 0; i < rows; ++i) {
    const ConstRow<Scalar> a(alpha + i * cols, cols), row(h + i * cols, cols), adjoint(dy, cols);
    if (g != nullptr) Row<Scalar>(g + i * cols, cols) += x[i] * (a * adjoint);
    if (da != nullptr) Row<Scalar>(da + i * cols, cols) += x[i] * (row * adjoint);
  }
}

}  // namespace plastic::detail::kernels
