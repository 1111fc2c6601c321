#pragma once

#include <cmath>
#include <cstddef>
#include <span>

#include "plastic/kernels/fast_weights.hpp"

/// Passes over one sample's fast matrix H whose update is not one rank-one term with a decay. Rows
/// are contiguous and belong to inputs, columns to outputs. A pass handles row after row: what it
/// needs of a row besides H and its adjoint stays in the first-level cache.
namespace plastic::detail::kernels {

/// What an update does to the old matrix before it adds to it: nothing, multiply it by one number,
/// or multiply each column by a number of its own.
enum class Keep { all, number, columns };

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

/// H' from H, which may be the same memory. room: cols values.
template <class Scalar>
void update_matrix(const MatrixUpdate<Scalar>& update, const Scalar* from, Scalar* to,
                   Scalar* room) {
  const Index m = update.cols;
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

/// The adjoint of the same: g, the adjoint of H', becomes that of H. room: 3 cols values.
template <class Scalar>
void update_matrix_adjoint(const MatrixUpdate<Scalar>& update, const Scalar* from, Scalar* adjoint,
                           const MatrixUpdateAdjoint<Scalar>& total, Scalar* room) {
  const Index m = update.cols;
  Row<Scalar> d(room, m), change(room + m, m), product(room + 2 * m, m);
  double keep_sum = 0, gain_sum = 0;
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
  Row<Scalar> sum(y, cols);
  if (alpha == nullptr) {
    sum.matrix().noalias() +=
        ConstMatrixMap<Scalar>(h, cols, rows) * Eigen::Map<const Vector<Scalar>>(x, rows);
    return;
  }
  const auto term = [&](Index i) {
    return x[i] * (ConstRow<Scalar>(alpha + i * cols, cols) * ConstRow<Scalar>(h + i * cols, cols));
  };
  // Four rows at a time share each read and write of y.
  Index i = 0;
  for (; i + 4 <= rows; i += 4) sum += term(i) + term(i + 1) + term(i + 2) + term(i + 3);
  for (; i < rows; ++i) sum += term(i);
}

/// Its adjoints: dx += (A o H) dy, g += A o (x dy^T), da += H o (x dy^T); nullptr where none is
/// wanted.
template <class Scalar>
void matrix_product_adjoint(Index rows, Index cols, const Scalar* h, const Scalar* alpha,
                            const Scalar* x, const Scalar* dy, Scalar* dx, Scalar* g, Scalar* da) {
  const ConstRow<Scalar> adjoint(dy, cols);
  if (alpha == nullptr) {
    const ConstMatrixMap<Scalar> matrix(h, cols, rows);
    if (dx != nullptr) {
      Eigen::Map<Vector<Scalar>>(dx, rows).noalias() += matrix.transpose() * adjoint.matrix();
    }
    for (Index i = 0; g != nullptr && i < rows; ++i) {
      Row<Scalar>(g + i * cols, cols) += x[i] * adjoint;
    }
    return;
  }
  for (Index i = 0; i < rows; ++i) {
    const ConstRow<Scalar> a(alpha + i * cols, cols), row(h + i * cols, cols);
    if (dx != nullptr) dx[i] += (a * row * adjoint).sum();
    if (g != nullptr) Row<Scalar>(g + i * cols, cols) += x[i] * (a * adjoint);
    if (da != nullptr) Row<Scalar>(da + i * cols, cols) += x[i] * (row * adjoint);
  }
}

}  // namespace plastic::detail::kernels
