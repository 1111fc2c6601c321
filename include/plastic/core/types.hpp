#pragma once

#include "plastic/core/compiler.hpp"

namespace plastic {

/// Signed size and index type of the whole library.
using Index = Eigen::Index;

/// Column-major matrix: features x samples, or for a weight, outputs x inputs.
///
/// A weight's memory is therefore row-major [inputs, outputs], the order of the row-vector
/// convention y = x W and of the files. Eigen's default order, which a program may change, does not
/// affect this.
template <class Scalar>
using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;

/// The same with elementwise arithmetic.
template <class Scalar>
using Array = Eigen::Array<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;

/// Column vector.
template <class Scalar>
using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;

/// A writable view of contiguous column-major memory.
template <class Scalar>
using MatrixMap = Eigen::Map<Matrix<Scalar>>;

/// A view of memory with any strides between rows and columns.
template <class Scalar>
using StridedMatrixMap =
    Eigen::Map<Matrix<Scalar>, Eigen::Unaligned, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;

/// A read-only view of contiguous column-major memory.
template <class Scalar>
using ConstMatrixMap = Eigen::Map<const Matrix<Scalar>>;

}  // namespace plastic
