#pragma once

#include <algorithm>
#include <vector>

#include "plastic/cells/cell.hpp"
#include "plastic/core/parallel.hpp"

namespace plastic {

/// Number of episodes on one tape at a time that trains fastest, at least 1; it may exceed `batch`
/// where the cell is not plastic.
///
/// Samples of a shard share each read of A and W and each write of dA, as long as their w and its
/// adjoint stay in the second-level cache together. Measured with 1 MB, RNN, gradient rule, batch
/// of 64 on one thread, ms at 1, 2, 4, 8, 16 samples: hidden 32 6.5, 5.2, 4.4, 4.1, 4.3; hidden
/// 64 12.7, 10.5, 10.1, 9.6, 11.3; hidden 128 27, 26, 36, 34, 39. With 2 MB, at 1, 2, 4, 8:
/// hidden 128 31, 30, 31, 35, so that more than half of the cache only takes memory. Beyond it
/// two samples at a time are best as long as it holds w of one: with 1 MB, on two threads, at 1,
/// 2, 4, LSTM with hidden 128 47, 47, 52 (Hebbian 41, 38, 40), RNN with hidden 256 47, 47, 47
/// (38, 33, 40); then one, with hidden 512 266, 327, 402; and beyond the third-level cache, of 32
/// MB, four, with hidden 1024 2046, 1920, 1866, 1874 at 8. Without plasticity a shard is one
/// matrix product per layer: hidden 192 16, 15, 13, 9.8, 9.8. At least 16 shards, where the batch
/// has them, keep 16 threads at work.
template <class Cell>
Index default_shard(const Cell& cell, Index batch) {
  if (!Cell::plastic) return 8;
  Index weights = 0;
  for (const LayerShape& layer : Cell::layer_shapes(cell.options())) {
    weights += (layer.inputs + 1) * layer.outputs;
  }
  const auto bytes = static_cast<Index>(sizeof(typename Cell::ScalarType)) * weights;
  const auto cache = static_cast<Index>(Eigen::l2CacheSize());
  const auto last_cache = static_cast<Index>(Eigen::l3CacheSize());
  const Index fitting = (cache / 2 - 3 * bytes) / (2 * bytes);  // beside A, W, dA
  const Index beyond = bytes <= cache ? 2 : 5 * bytes <= last_cache ? 1 : 4;
  const Index most = std::max<Index>(1, batch / 16);
  return std::min(most, fitting > 2 ? std::min<Index>(fitting, 8) : beyond);
}

/// A batch cut into shards of episodes, and the sum of their gradients.
///
/// Shards belong to at most 16 lanes with a gradient each, summed in a fixed order: the same bits
/// with any number of threads.
template <class Scalar>
class Shards {
 public:
  /// An empty batch, to be assigned to.
  Shards() = default;
  /// `batch` episodes in shards of `shard`, of which the last may be smaller; gradients of the
  /// layout of `parameters`. All numbers are at least 1.
  Shards(Index batch, Index shard, int threads, const Parameters<Scalar>& parameters)
      : batch_(batch), shard_(shard), threads_(threads), count_((batch + shard - 1) / shard) {
    const Vector<Scalar> zero = Vector<Scalar>::Zero(parameters.size());
    lanes_.assign(static_cast<std::size_t>(std::min(count_, Index{16})), zero);
    losses_.resize(static_cast<std::size_t>(count_));
    gradients_ = zero;
  }

  Index count() const { return count_; }  ///< number of shards
  /// Number in the batch of a shard's first episode.
  Index first_sample(Index shard) const { return shard * shard_; }
  /// Episodes of a shard.
  Index samples(Index shard) const { return std::min(shard_, batch_ - first_sample(shard)); }

  /// Calls f(shard, thread, gradient) for every shard, which adds to the gradient and returns its
  /// loss. Returns the sum of the losses and leaves that of the gradients in `gradients()`. Calls
  /// with different `thread`, from 0 to threads - 1, run at once. Throws as parallel_for does.
  template <class F>
  double gradient(F&& f) {
    const auto lanes = static_cast<Index>(lanes_.size());
    const auto first_shard = [&](Index lane) { return lane * count_ / lanes; };
    parallel_for(lanes, threads_, [&](Index lane, int thread) {
      Vector<Scalar>& total = lanes_[static_cast<std::size_t>(lane)];
      total.setZero();
      for (Index shard = first_shard(lane); shard < first_shard(lane + 1); ++shard) {
        losses_[static_cast<std::size_t>(shard)] = f(shard, thread, total);
      }
    });
    sum_lanes();
    double loss = 0;
    for (const double part : losses_) loss += part;
    return loss;
  }

  /// @{
  /// The sum that `gradient` has left.
  Vector<Scalar>& gradients() { return gradients_; }
  const Vector<Scalar>& gradients() const { return gradients_; }
  /// @}

 private:
  void sum_lanes() {
    const Index size = gradients_.size();
    const Index parts = threads_;
    parallel_for(parts, threads_, [&](Index part, int) {
      const Index first = part * size / parts;
      const Index count = (part + 1) * size / parts - first;
      auto sum = gradients_.segment(first, count);
      sum = lanes_[0].segment(first, count);
      for (std::size_t lane = 1; lane < lanes_.size(); ++lane) {
        sum += lanes_[lane].segment(first, count);
      }
    });
  }

  Index batch_ = 0;
  Index shard_ = 1;
  int threads_ = 1;
  Index count_ = 0;
  std::vector<Vector<Scalar>> lanes_;
  std::vector<double> losses_;
  Vector<Scalar> gradients_;
};

}  // namespace plastic
