#pragma once

#include <algorithm>
#include <cstdint>

#include "plastic/core/parallel.hpp"
#include "plastic/core/random.hpp"
#include "plastic/nn/image.hpp"
#include "plastic/tape/elementwise.hpp"

namespace plastic {

/// Key of an operation's random numbers: image n of the batch takes those of sample n. Give each
/// operation of a network a purpose of its own.
struct DropKey {
  Random::Stream stream = {};  ///< seed, and purpose of this operation
  std::uint64_t batch = 0;     ///< number of the batch
  int threads = 1;             ///< threads to use; the result does not depend on it

  /// The random numbers of one image of the batch.
  Random of(Index image) const { return {stream, batch, static_cast<std::uint64_t>(image)}; }
};

/// y = x * mask / (1 - rate), each entry of the mask 0 with probability `rate`, else 1. x: any
/// shape, a column per sample. Differentiable any number of times. Throws std::invalid_argument
/// unless rate is in [0, 0.999]. Source: Srivastava et al., "Dropout", JMLR 2014.
template <class Scalar>
Var<Scalar> dropout(const Var<Scalar>& x, double rate, const DropKey& key) {
  detail::check_range("dropout", "rate", rate, 0, 0.999);
  detail::check_positive("dropout", "threads", key.threads);
  if (rate == 0) return x;
  const Var<Scalar> mask =
      x.tape().borrow(x.tape().allocate(x.rows() * x.cols()), x.rows(), x.cols());
  MatrixMap<Scalar> values = mask.node().value_map();
  const auto kept = static_cast<Scalar>(1 / (1 - rate));
  const auto limit = static_cast<std::uint64_t>(rate * 0x1p32);
  parallel_for(x.cols(), key.threads, [&](Index n, int) {
    Random random = key.of(n);
    for (Index i = 0; i < x.rows(); ++i) values(i, n) = random.bits() < limit ? Scalar(0) : kept;
  });
  return x * mask;
}

/// y = x * mask * (entries of the mask / its ones): the mask is 0 in squares of block x block
/// pixels of a channel, whose corners are drawn with the probability rate / block^2 * height *
/// width / ((height - block + 1) (width - block + 1)), else 1. About `rate` of all values are
/// dropped. x: shape.size() x images. Differentiable any number of times. Throws
/// std::invalid_argument unless rate is in [0, 0.999] and a block fits the image. Source: Ghiasi,
/// Lin, Le, "DropBlock", NeurIPS 2018.
template <class Scalar>
Var<Scalar> drop_block(const Var<Scalar>& x, const ImageShape& shape, Index block, double rate,
                       const DropKey& key) {
  constexpr std::string_view here = "drop_block";
  detail::check_images(here, x, shape);
  detail::check_range(here, "rate", rate, 0, 0.999);
  detail::check_positive(here, "threads", key.threads);
  if (block < 1 || block > std::min(shape.height, shape.width)) {
    detail::reject(here, "block", "in 1 .. the image's shorter side", block);
  }
  if (rate == 0) return x;
  Tape<Scalar>& tape = x.tape();
  const Var<Scalar> mask = tape.borrow(tape.allocate(x.rows() * x.cols()), x.rows(), x.cols());
  MatrixMap<Scalar> values = mask.node().value_map();
  values.setOnes();
  const Index rows = shape.height - block + 1, columns = shape.width - block + 1;
  const double corner = rate * static_cast<double>(shape.pixels()) /
                        static_cast<double>(block * block * rows * columns);
  const auto limit = static_cast<std::uint64_t>(std::min(1.0, corner) * 0x1p32);
  parallel_for(x.cols(), key.threads, [&](Index n, int) {
    Random random = key.of(n);
    for (Index c = 0; c < shape.channels; ++c) {
      // A row of the image is a column here.
      MatrixMap<Scalar> channel(values.col(n).data() + c * shape.pixels(), shape.width,
                                shape.height);
      for (Index i = 0; i < rows; ++i) {
        for (Index j = 0; j < columns; ++j) {
          if (random.bits() < limit) channel.block(j, i, block, block).setZero();
        }
      }
    }
  });
  const double kept = values.template cast<double>().sum();
  if (kept > 0) values *= static_cast<Scalar>(static_cast<double>(values.size()) / kept);
  return x * mask;
}

}  // namespace plastic
