#pragma once

#include "plastic/kernels/fast_weights.hpp"
#include "plastic/kernels/fast_weights_adjoint.hpp"
#include "plastic/kernels/matrix_deferred.hpp"
#include "plastic/kernels/matrix_products.hpp"
#include "plastic/kernels/matrix_rank_one.hpp"
#include "plastic/kernels/matrix_update.hpp"

/// The kernels that src/kernels_float.cpp and src/kernels_double.cpp compile once. What calls them
/// includes this file. In effect if PLASTIC_COMPILED is defined: see cells/compiled.hpp.

/// Declares each kernel for one type of numbers: `declare` is `extern template`, or `template` in
/// the file that compiles them.
#define PLASTIC_KERNELS(declare, Scalar)                         \
  PLASTIC_KERNELS_OF_SUM(declare, Sum::over_rows, Scalar)        \
  PLASTIC_KERNELS_OF_SUM(declare, Sum::over_columns, Scalar)     \
  PLASTIC_UPDATE_PRODUCTS(declare, Sum::none, Scalar)            \
  PLASTIC_KERNEL(declare, invert_update<Scalar>)                 \
  PLASTIC_KERNEL(declare, update_matrix<Scalar>)                 \
  PLASTIC_KERNEL(declare, update_matrix_adjoint<Scalar>)         \
  PLASTIC_KERNEL(declare, matrix_product<Scalar>)                \
  PLASTIC_KERNEL(declare, matrix_product_adjoint<Scalar>)        \
  PLASTIC_KERNEL(declare, column_squares<false, Scalar>)         \
  PLASTIC_KERNEL(declare, column_squares<true, Scalar>)          \
  PLASTIC_KERNEL(declare, column_squares_adjoint<false, Scalar>) \
  PLASTIC_KERNEL(declare, column_squares_adjoint<true, Scalar>)  \
  PLASTIC_KERNEL(declare, advance_block<Scalar>)                 \
  PLASTIC_KERNEL(declare, retreat_block<Scalar>)                 \
  PLASTIC_KERNEL(declare, add_product<Scalar>)                   \
  PLASTIC_KERNEL(declare, add_transposed_product<Scalar>)

#define PLASTIC_KERNELS_OF_SUM(declare, sum, Scalar)                         \
  PLASTIC_UPDATE_PRODUCTS(declare, sum, Scalar)                              \
  PLASTIC_KERNEL(declare, fast_product<sum, false, Scalar>)                  \
  PLASTIC_KERNEL(declare, fast_product<sum, true, Scalar>)                   \
  PLASTIC_KERNEL(declare, lazy_update_adjoint<sum, false, Scalar>)           \
  PLASTIC_KERNEL(declare, lazy_update_adjoint<sum, true, Scalar>)            \
  PLASTIC_KERNEL(declare, decayed_update_adjoint<sum, false, false, Scalar>) \
  PLASTIC_KERNEL(declare, decayed_update_adjoint<sum, false, true, Scalar>)  \
  PLASTIC_KERNEL(declare, decayed_update_adjoint<sum, true, false, Scalar>)  \
  PLASTIC_KERNEL(declare, decayed_update_adjoint<sum, true, true, Scalar>)

#define PLASTIC_UPDATE_PRODUCTS(declare, sum, Scalar)               \
  PLASTIC_KERNEL(declare, update_product<sum, Decay::lazy, Scalar>) \
  PLASTIC_KERNEL(declare, update_product<sum, Decay::now, Scalar>)  \
  PLASTIC_KERNEL(declare, update_product<sum, Decay::now_and_clip, Scalar>)

#define PLASTIC_KERNEL(declare, ...) declare decltype(__VA_ARGS__) __VA_ARGS__;

#ifdef PLASTIC_COMPILED
namespace plastic::detail::kernels {
PLASTIC_KERNELS(extern template, float)
PLASTIC_KERNELS(extern template, double)
}  // namespace plastic::detail::kernels
#endif
