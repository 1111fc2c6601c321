#pragma once

#include <cmath>
#include <cstddef>
#include <span>

#include "plastic/kernels/fast_weights.hpp"
#include "plastic/kernels/matrix_rank_one.hpp"

/// Passes over one sample's fast matrix H whose update is not one rank-one term with a decay. Rows
/// are contiguous and belong to inputs, columns to outputs. A pass handles row after row: what it
/// needs of a row besides H and its adjoint stays in the first-level cache.
namespace plastic::detail::kernels {

/// How an update bounds the result: not at all; to [-limit, limit]; or, with the change d, as
/// H + max(d, 0) (1 - H) + min(d, 0) (1 + H), then to [-limit, limit].
enum class Bound { none, clip, soft };

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

/// d = the change of row i: the terms, and gain E.
template <class Scalar>
void change_of_row(const MatrixUpdate<Scalar>& update, Index i, Row<Scalar>& d) {
  const Index m = update.cols;
  bool begun = false;
  const auto add = [&](const auto& expression) {
    if (begun) {
      d += expression;
    } else {
      d = expression;
    }
    begun = true;
  };
  for (const MatrixTerm<Scalar>& term : update.terms) {
    const Scalar pre = term.pre == nullptr ? Scalar(1) : term.pre[i];
    if (term.matrix == nullptr) {
      if (term.post == nullptr) {
        add(Eigen::Array<Scalar, Eigen::Dynamic, 1>::Constant(m, pre));
      } else {
        add(pre * ConstRow<Scalar>(term.post, m));
      }
      continue;
    }
    const ConstRow<Scalar> matrix(term.matrix + i * m, m);
    if (term.post == nullptr) {
      add(pre * matrix);
    } else {
      add(pre * ConstRow<Scalar>(term.post, m) * matrix);
    }
  }
  if (update.other != nullptr) add(update.gain * ConstRow<Scalar>(update.other + i * m, m));
  if (!begun) d.setZero();
}

/// d += L o keep h of row i, for an update without a soft bound.
template <class Scalar>
void add_kept(const MatrixUpdate<Scalar>& update, Index i, const ConstRow<Scalar>& h,
              Row<Scalar>& d) {
  const Index m = update.cols;
  const auto add = [&](const auto& kept) {
    if (update.keep_kind == Keep::all) {
      d += kept;
    } else if (update.keep_kind == Keep::number) {
      d += update.keep[0] * kept;
    } else {
      d += ConstRow<Scalar>(update.keep, m) * kept;
    }
  };
  if (update.keep_matrix == nullptr) {
    add(h);
  } else {
    add(ConstRow<Scalar>(update.keep_matrix + i * m, m) * h);
  }
}

/// Calls f<Keep, Clip, Change>(RankOneUpdate) for an update that has such a form; false if not.
template <class Scalar, class F>
bool with_rank_one(const MatrixUpdate<Scalar>& u, F&& f) {
  if (u.terms.size() > 1 || u.other != nullptr || u.bound == Bound::soft) return false;
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
  if ((u.keep_matrix != nullptr) != (added == Change::masked_term)) return false;
  const auto with_change = [&]<Keep keep, bool clip>() {
    if (added == Change::none) {
      f.template operator()<keep, clip, Change::none>(one);
    } else if (added == Change::term) {
      f.template operator()<keep, clip, Change::term>(one);
    } else {
      f.template operator()<keep, clip, Change::masked_term>(one);
    }
  };
  const auto with_bound = [&]<Keep keep>() {
    if (u.bound == Bound::clip) {
      with_change.template operator()<keep, true>();
    } else {
      with_change.template operator()<keep, false>();
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

/// H' from H, which may be the same memory. room: cols values.
template <class Scalar>
void update_matrix(const MatrixUpdate<Scalar>& update, const Scalar* from, Scalar* to,
                   Scalar* room) {
  const Index m = update.cols;
  const auto by_rank_one = [&]<Keep keep, bool clip, Change added>(const auto& one) {
    update_by_rank_one<keep, clip, added>(one, from, to);
  };
  if (with_rank_one(update, by_rank_one)) return;
  Row<Scalar> d(room, m);
  for (Index i = 0; i < update.rows; ++i) {
    const ConstRow<Scalar> h(from + i * m, m);
    Row<Scalar> result(to + i * m, m);
    change_of_row(update, i, d);
    if (update.bound == Bound::soft) {
      result = (h + d.max(Scalar(0)) * (1 - h) + d.min(Scalar(0)) * (1 + h))
                   .max(-update.limit)
                   .min(update.limit);
      continue;
    }
    add_kept(update, i, h, d);
    if (update.bound == Bound::clip) {
      result = d.max(-update.limit).min(update.limit);
    } else if (update.keep_kind == Keep::all && update.keep_matrix == nullptr) {
      result = d;
    } else {
      result = (d.abs() < tiny<Scalar>).select(Scalar(0), d);
    }
  }
}

/// The adjoint of the same: g, the adjoint of H', becomes that of H. room: 4 cols + rows values.
template <class Scalar>
void update_matrix_adjoint(const MatrixUpdate<Scalar>& update, const Scalar* from, Scalar* adjoint,
                           const MatrixUpdateAdjoint<Scalar>& total, Scalar* room) {
  const Index m = update.cols;
  Row<Scalar> d(room, m), change(room + m, m), product(room + 2 * m, m);
  double keep_sum = 0, gain_sum = 0;
  // The passes for a rank-one update want all adjoints: matrices are learned, or have none.
  const bool all_wanted = (update.keep_matrix == nullptr) == (total.keep_matrix == nullptr) &&
                          (update.terms.empty() || (update.terms[0].matrix == nullptr) ==
                                                       (total.terms[0].matrix == nullptr));
  if (all_wanted) {
    Scalar* unwanted = room + 3 * m;  // as long as the longer side
    const auto wanted = [&](Scalar* sum) { return sum == nullptr ? unwanted : sum; };
    const auto by_rank_one = [&]<Keep keep, bool clip, Change added>(const auto& one) {
      RankOneAdjoint<Scalar> sums{wanted(total.keep), nullptr, nullptr, total.keep_matrix, nullptr};
      if constexpr (added != Change::none) {
        sums.pre = wanted(total.terms[0].pre);
        sums.post = wanted(total.terms[0].post);
        sums.matrix = total.terms[0].matrix;
      }
      rank_one_adjoint<keep, clip, added>(one, from, adjoint, sums);
    };
    if (with_rank_one(update, by_rank_one)) return;
  }
  for (Index i = 0; i < update.rows; ++i) {
    const ConstRow<Scalar> h(from + i * m, m);
    Row<Scalar> g(adjoint + i * m, m);
    const Scalar* of_change = g.data();  // the adjoint of the change
    if (update.bound == Bound::clip) {
      change_of_row(update, i, d);
      add_kept(update, i, h, d);
      g = (d.abs() <= update.limit).select(g, Scalar(0));
    } else if (update.bound == Bound::soft) {
      change_of_row(update, i, d);
      product = h + d.max(Scalar(0)) * (1 - h) + d.min(Scalar(0)) * (1 + h);
      g = (product.abs() <= update.limit).select(g, Scalar(0));
      change = g * ((d >= Scalar(0)).select(1 - h, Scalar(0)) +
                    (d <= Scalar(0)).select(1 + h, Scalar(0)));
      g *= 1 - d.abs();
      of_change = change.data();
    }
    const ConstRow<Scalar> dc(of_change, m);
    for (std::size_t k = 0; k < update.terms.size(); ++k) {
      const MatrixTerm<Scalar>& term = update.terms[k];
      const MatrixTermAdjoint<Scalar>& to = total.terms[k];
      const Scalar pre = term.pre == nullptr ? Scalar(1) : term.pre[i];
      if (to.matrix != nullptr) {
        Row<Scalar> dm(to.matrix + i * m, m);
        if (term.post == nullptr) {
          dm += pre * dc;
        } else {
          dm += pre * dc * ConstRow<Scalar>(term.post, m);
        }
      }
      if (to.pre == nullptr && to.post == nullptr) continue;
      const Scalar* scaled = of_change;
      if (term.matrix != nullptr) {
        product = dc * ConstRow<Scalar>(term.matrix + i * m, m);
        scaled = product.data();
      }
      const ConstRow<Scalar> dp(scaled, m);
      if (to.pre != nullptr) {
        to.pre[i] += term.post == nullptr ? dp.sum() : (dp * ConstRow<Scalar>(term.post, m)).sum();
      }
      if (to.post != nullptr) Row<Scalar>(to.post, m) += pre * dp;
    }
    if (update.other != nullptr) {
      const ConstRow<Scalar> e(update.other + i * m, m);
      if (total.gain != nullptr) gain_sum += static_cast<double>((dc * e).sum());
      if (total.other != nullptr) Row<Scalar>(total.other + i * m, m) += update.gain * dc;
    }
    if (update.bound == Bound::soft) continue;
    if (update.keep_kind == Keep::all && update.keep_matrix == nullptr) continue;
    product = g * h;  // the adjoint of keep L
    const Scalar* matrix = update.keep_matrix == nullptr ? nullptr : update.keep_matrix + i * m;
    if (total.keep_matrix != nullptr) {
      Row<Scalar> dl(total.keep_matrix + i * m, m);
      if (update.keep_kind == Keep::all) {
        dl += product;
      } else if (update.keep_kind == Keep::number) {
        dl += update.keep[0] * product;
      } else {
        dl += ConstRow<Scalar>(update.keep, m) * product;
      }
    }
    if (matrix != nullptr) {
      const ConstRow<Scalar> l(matrix, m);
      product *= l;
      g *= l;
    }
    if (total.keep != nullptr && update.keep_kind == Keep::columns) {
      Row<Scalar>(total.keep, m) += product;
    } else if (total.keep != nullptr) {
      keep_sum += static_cast<double>(product.sum());
    }
    if (update.keep_kind == Keep::number) g *= update.keep[0];
    if (update.keep_kind == Keep::columns) g *= ConstRow<Scalar>(update.keep, m);
  }
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
