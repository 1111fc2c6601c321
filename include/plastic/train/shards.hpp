#pragma once

#include <algorithm>
#include <cstring>
#include <numeric>
#include <span>
#include <vector>

#include "plastic/cells/cell.hpp"
#include "plastic/core/communicator.hpp"
#include "plastic/core/parallel.hpp"

namespace plastic {

/// The number of episodes on one tape at a time that trains fastest, at least 1; it may exceed
/// `batch` if the cell is not plastic.
///
/// Samples of a shard share each read of A and W and each write of dA, as long as their v and its
/// adjoint stay in the second-level cache together: as many as fit into half of it, at most 8; else
/// two if they fit into all of it, else one, and four if one sample's matrices exceed the
/// third-level cache. A CellModel takes two. Without plasticity a shard is one matrix product per
/// layer, of 8 episodes. At least 16 shards, if the batch allows, keep 16 threads busy. The
/// measurements are in docs/performance.md.
template <class Cell>
Index default_shard(const Cell& cell, Index batch) {
  if (!Cell::plastic) return 8;
  if (Cell::is_model) return 2;
  Index weights = 0;
  for (const LayerShape& layer : Cell::layer_shapes(cell.options())) {
    weights += (layer.inputs + 1) * layer.outputs;
  }
  const auto bytes = static_cast<Index>(sizeof(typename Cell::ScalarType)) * weights;
  const auto cache = static_cast<Index>(Eigen::l2CacheSize());
  const auto last_cache = static_cast<Index>(Eigen::l3CacheSize());
  const auto fitting = [&](Index room) { return (room - 3 * bytes) / (2 * bytes); };  // A, W, dA
  const Index beyond = fitting(cache) >= 2 ? 2 : 5 * bytes <= last_cache ? 1 : 4;
  const Index chosen = fitting(cache / 2) >= 2 ? std::min<Index>(fitting(cache / 2), 8) : beyond;
  return std::min(std::max<Index>(1, batch / 16), chosen);
}

/// A batch cut into shards, which are dealt out to at most 16 lanes. The results of a lane's shards
/// are summed in order, those of the lanes in pairs, pairs of pairs and so on, a binary tree of 16
/// leaves: the same bits with any number of threads, and on 1, 2, 4, 8 or 16 ranks, of which each
/// has a subtree.
class ShardPlan {
 public:
  static constexpr Index leaves = 16;  ///< leaves of the tree, the most lanes that there are

  /// `batch` samples in shards of `shard`, of which the last may be smaller. Throws
  /// std::invalid_argument if one is not positive.
  ShardPlan(Index batch, Index shard) : shard_(std::min(shard, batch)) {
    detail::check_positive("ShardPlan", "batch", batch);
    detail::check_positive("ShardPlan", "shard", shard);
    count_ = (batch + shard_ - 1) / shard_;
    order_.resize(static_cast<std::size_t>(batch));
    lanes_.resize(static_cast<std::size_t>(std::min(count_, leaves)));
    for (Lane& lane : lanes_) lane.shards.reserve(static_cast<std::size_t>(count_));
    deal({});
  }

  /// Plans for samples of these lengths; if empty, all are equally long. If they are alike, shards
  /// and lanes take the samples in order. Else the longest come first, samples of similar length
  /// share a shard, and each shard goes to the lane with the least work, so that lanes end
  /// together.
  void deal(std::span<const Index> lengths) {
    if (!lengths.empty() && lengths.size() != order_.size()) {
      detail::reject("ShardPlan::deal", "lengths",
                     "one for each of " + std::to_string(order_.size()) + " samples",
                     lengths.size());
    }
    std::iota(order_.begin(), order_.end(), Index{0});
    for (Lane& lane : lanes_) {
      lane.shards.clear();
      lane.load = 0;
    }
    const auto length = [&](Index sample) { return lengths[static_cast<std::size_t>(sample)]; };
    const auto different = [&](Index sample) { return length(sample) != lengths.front(); };
    if (lengths.empty() || std::none_of(order_.begin(), order_.end(), different)) {
      for (Index lane = 0, shard = 0; lane < lanes(); ++lane) {
        while (shard < (lane + 1) * count_ / lanes()) {
          lanes_[static_cast<std::size_t>(lane)].shards.push_back(shard++);
        }
      }
      return;
    }
    std::sort(order_.begin(), order_.end(), [&](Index a, Index b) {
      return length(a) != length(b) ? length(a) > length(b) : a < b;
    });
    for (Index shard = 0; shard < count_; ++shard) {
      const auto less = [](const Lane& a, const Lane& b) { return a.load < b.load; };
      Lane& lane = *std::min_element(lanes_.begin(), lanes_.end(), less);
      lane.load += length(samples(shard).front()) * static_cast<Index>(samples(shard).size());
      lane.shards.push_back(shard);
    }
  }

  Index count() const { return count_; }                             ///< number of shards
  Index lanes() const { return static_cast<Index>(lanes_.size()); }  ///< number of lanes

  /// The first lane at or after a leaf. Fewer lanes than leaves are spread out evenly: lane l has
  /// the leaf l * leaves / lanes().
  Index lane_at(Index leaf) const { return (leaf * lanes() + leaves - 1) / leaves; }

  /// Indices in the batch of a shard's samples.
  std::span<const Index> samples(Index shard) const {
    const auto first = static_cast<std::size_t>(shard * shard_);
    return std::span(order_).subspan(
        first, std::min(static_cast<std::size_t>(shard_), order_.size() - first));
  }

  /// Indices of a lane's shards.
  std::span<const Index> shards_of(Index lane) const {
    return lanes_[static_cast<std::size_t>(lane)].shards;
  }

 private:
  struct Lane {
    std::vector<Index> shards;  // in order
    Index load = 0;             // samples * steps, if lengths differ
  };

  Index shard_;
  Index count_ = 0;
  std::vector<Index> order_;  // samples, shard after shard
  std::vector<Lane> lanes_;
};

namespace detail {

/// Calls reserve_like(to, from) so that each thread's worker has as much memory as any other.
template <class Workers, class F>
void level(Workers& workers, F&& reserve_like) {
  for (const auto& from : workers) reserve_like(*workers.front(), *from);
  for (const auto& to : workers) reserve_like(*to, *workers.front());
}

}  // namespace detail

/// The gradients of a plan's lanes, and their sum; of several ranks, each has some of the lanes.
template <class Scalar>
class Lanes {
 public:
  /// Allocates gradients of the layout of `sets` for each lane of a plan that this rank has. A plan
  /// of one lane is not divided: every rank has it.
  Lanes(const ShardPlan& plan, std::span<Parameters<Scalar>* const> sets,
        Communicator* communicator = nullptr)
      : communicator_(plan.lanes() > 1 && detail::is_divided(communicator) ? communicator
                                                                           : nullptr),
        losses_(static_cast<std::size_t>(plan.count())) {
    if (communicator_ != nullptr) {
      leaves_ = ShardPlan::leaves / communicator_->ranks();
      leaf_ = communicator_->rank() * leaves_;
    }
    first_ = plan.lane_at(leaf_);
    std::vector<Vector<Scalar>> zero;
    Index size = 0;
    for (const Parameters<Scalar>* set : sets) {
      zero.push_back(Vector<Scalar>::Zero(set->size()));
      size += set->size();
    }
    lanes_.assign(static_cast<std::size_t>(plan.lane_at(leaf_ + leaves_) - first_), zero);
    if (communicator_ == nullptr) return;
    size += plan.count() * loss_width;
    mine_.setZero(size);
    theirs_.setZero(size);
  }

  /// The other ranks, or nullptr where this process has all lanes.
  Communicator* communicator() const { return communicator_; }

  /// Calls f(shard, thread, gradients) for every shard that this rank has; f adds to the gradients
  /// and returns the loss of the shard. Returns the sum of the losses and writes that of the
  /// gradients to `sum`, both over all ranks. Calls with different `thread`, from 0 to threads - 1,
  /// run at once. Throws as parallel_for does.
  template <class F>
  double gradient(const ShardPlan& plan, int threads, std::span<Vector<Scalar>> sum, F&& f) {
    std::fill(losses_.begin(), losses_.end(), 0);
    parallel_for(static_cast<Index>(lanes_.size()), threads, [&](Index lane, int thread) {
      std::span<Vector<Scalar>> total = lanes_[static_cast<std::size_t>(lane)];
      for (Vector<Scalar>& set : total) set.setZero();
      for (const Index shard : plan.shards_of(first_ + lane)) {
        losses_[static_cast<std::size_t>(shard)] = f(shard, thread, total);
      }
    });
    if (!lanes_.empty()) {
      parallel_for(threads, threads, [&](Index part, int) {
        for (std::size_t set = 0; set < sum.size(); ++set) {
          const Index size = sum[set].size(), end = (part + 1) * size / threads;
          for (Index at = part * size / threads; at < end; at += block) {
            Block some(std::min(block, end - at));
            add_lanes(plan, leaf_, leaf_ + leaves_, set, at, some);
            sum[set].segment(at, some.size()) = some;
          }
        }
      });
    }
    if (communicator_ != nullptr) add_ranks(plan, threads, sum);
    return std::accumulate(losses_.begin(), losses_.end(), 0.0);
  }

 private:
  static constexpr Index block = 256;  // of numbers that stay in the cache while they are summed
  using Block = Eigen::Matrix<Scalar, Eigen::Dynamic, 1, 0, block, 1>;
  static constexpr Index loss_width = sizeof(double) / sizeof(Scalar);

  /// A block of the sum of the lanes of some leaves, of which there is at least one.
  void add_lanes(const ShardPlan& plan, Index leaf, Index end, std::size_t set, Index at,
                 Block& sum) const {
    const Index middle = (leaf + end) / 2;
    const Index first = plan.lane_at(leaf), second = plan.lane_at(middle), last = plan.lane_at(end);
    const auto lane = [&](Index k) {
      return lanes_[static_cast<std::size_t>(k - first_)][set].segment(at, sum.size());
    };
    if (last - first == 1) {
      sum = lane(first);
    } else if (last - first == 2 && second == first + 1) {
      sum = lane(first) + lane(second);
    } else if (second == first) {
      add_lanes(plan, middle, end, set, at, sum);
    } else if (second == last) {
      add_lanes(plan, leaf, middle, set, at, sum);
    } else {
      Block right(sum.size());
      add_lanes(plan, leaf, middle, set, at, sum);
      add_lanes(plan, middle, end, set, at, right);
      sum += right;
    }
  }

  /// The upper levels of the tree: at each, two ranks exchange their sums and both add them.
  /// Gradients and losses travel together.
  void add_ranks(const ShardPlan& plan, int threads, std::span<Vector<Scalar>> sum) {
    Index at = 0;
    for (const Vector<Scalar>& set : sum) {
      mine_.segment(at, set.size()) = set;
      at += set.size();
    }
    const Index size = at;
    std::memcpy(mine_.data() + size, losses_.data(), losses_.size() * sizeof(double));
    const int rank = communicator_->rank();
    const auto has_lanes = [&](int some_rank, Index ranks) {
      const Index leaf = some_rank / ranks * ranks * leaves_;
      return plan.lane_at(leaf) < plan.lane_at(leaf + ranks * leaves_);
    };
    for (int distance = 1; distance < communicator_->ranks(); distance *= 2) {
      const int other = rank ^ distance;
      communicator_->exchange(other, detail::bytes_of(mine_), detail::bytes_of(theirs_));
      merge_losses(size);
      if (!has_lanes(other, distance)) continue;
      const bool add = has_lanes(rank, distance);
      parallel_for(threads, threads, [&](Index part, int) {
        const Index first = part * size / threads, count = (part + 1) * size / threads - first;
        if (add) {
          mine_.segment(first, count) += theirs_.segment(first, count);
        } else {
          mine_.segment(first, count) = theirs_.segment(first, count);
        }
      });
    }
    at = 0;
    for (Vector<Scalar>& set : sum) {
      set = mine_.segment(at, set.size());
      at += set.size();
    }
    std::memcpy(losses_.data(), mine_.data() + size, losses_.size() * sizeof(double));
  }

  /// A shard's loss is 0 on all ranks but one.
  void merge_losses(Index at) {
    const std::span<std::byte> to = detail::bytes_of(mine_), from = detail::bytes_of(theirs_);
    for (std::size_t k = static_cast<std::size_t>(at) * sizeof(Scalar); k < to.size(); ++k) {
      to[k] |= from[k];
    }
  }

  Communicator* communicator_;
  Index leaf_ = 0, leaves_ = ShardPlan::leaves;     // subtree of this rank
  Index first_ = 0;                                 // its first lane
  std::vector<std::vector<Vector<Scalar>>> lanes_;  // gradients by lane and set
  std::vector<double> losses_;                      // of all shards
  Vector<Scalar> mine_, theirs_;  // what ranks exchange: gradients of the sets, bytes of the losses
};

}  // namespace plastic
