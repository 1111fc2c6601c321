#pragma once

#include <algorithm>

#include "plastic/synapse/kernels.hpp"
#include "plastic/tape/arena.hpp"
#include "plastic/tape/node.hpp"

namespace plastic::detail {

/// One rank-one update of the fast weights of all samples, as factors, in a list over the episode:
/// w' = (1 - decay) w + rate A o (pre post^T), and for the bias the same with pre activity
/// `bias_pre`. pre: inputs x samples, post: outputs x samples, rate and decay: 1 x samples.
template <class Scalar>
struct UpdateEntry {
  Node<Scalar>* pre = nullptr;
  Node<Scalar>* post = nullptr;
  Node<Scalar>* rate = nullptr;
  Node<Scalar>* decay = nullptr;
  Scalar bias_pre = 0;
  Index version = 0;           ///< of the weights before the update
  Scalar* snapshot = nullptr;  ///< the weights before the update, where they are kept
  bool replayed = false;       ///< the snapshot is for the present part of a sweep only
  bool invertible = false;     ///< undoing it loses little precision
  UpdateEntry* previous = nullptr;
  UpdateEntry* next = nullptr;

  kernels::Update<Scalar> factors(Index sample, Scalar clip) const {
    return {pre->value + sample * pre->rows, post->value + sample * post->rows, rate->value[sample],
            Scalar(1) - decay->value[sample], clip};
  }
  kernels::Update<Scalar> bias_factors(Index sample, Scalar clip) const {
    return {&bias_pre, post->value + sample * post->rows, rate->value[sample],
            Scalar(1) - decay->value[sample], clip};
  }
};

/// The fast weights of one layer for all samples of a shard, as a history of updates.
///
/// Version v is the state after v updates. The newest is held as numbers; an older one is its
/// nearest snapshot with the updates since replayed, or, over at most eight updates whose decay is
/// mild, a newer version with the updates undone. Every `interval`-th version is kept. Unless the
/// caller fixes it, the interval is 1 at first, or 8 where updates can be undone, and doubles
/// whenever more than 32 and more than twice as many copies as it says are held, so that T steps
/// keep O(sqrt T) copies without knowing T beforehand. Measured: a training step takes 9.6, 9.3 and
/// 9.1 us per sample and step with a copy every 4, 8 and 20 updates, at any size of the network. A
/// state is, for each sample, inputs x outputs weights (rows) and one row of outputs biases.
template <class Scalar>
class History {
 public:
  using Entry = UpdateEntry<Scalar>;
  using Slow = kernels::Slow<Scalar>;

  void open(Arena& arena, const Slow& weights, const Slow& bias, Index samples, Scalar clip,
            bool differentiable, Index interval = 0) {
    arena_ = &arena;
    weights_ = weights;
    bias_ = bias;
    samples_ = samples;
    clip_ = clip;
    differentiable_ = differentiable;
    fixed_interval_ = interval > 0;
    interval_ = std::max<Index>(1, interval);
    latest_ = take_state();
    std::fill_n(latest_, state_size(), Scalar(0));
  }

  Index state_size() const { return samples_ * row_stride() * bias_.cols; }
  template <class S>  // Scalar or const Scalar
  S* weight_part(S* state, Index sample) const {
    return state + sample * row_stride() * bias_.cols;
  }
  template <class S>
  S* bias_part(S* state, Index sample) const {
    return weight_part(state, sample) + weights_.rows * bias_.cols;
  }

  const Slow& weights() const { return weights_; }
  const Slow& bias() const { return bias_; }
  Index samples() const { return samples_; }
  Scalar clip() const { return clip_; }
  Entry* newest() const { return newest_; }
  Entry* after(const Entry* entry) const { return entry == nullptr ? oldest_ : entry->next; }

  /// The state that the present updates have produced; the caller may write the initial one.
  Scalar* latest() {
    advance();
    return latest_;
  }

  void append(Entry* entry) {
    entry->version = versions();
    entry->previous = newest_;
    (newest_ == nullptr ? oldest_ : newest_->next) = entry;
    newest_ = entry;
    if (pending_ == nullptr) pending_ = entry;
  }

  /// Makes `entry` the only update, where older ones need not be remembered: `advance` first.
  void replace(Entry* entry) {
    entry->version = versions();
    entry->next = nullptr;
    oldest_ = newest_ = pending_ = entry;
  }

  /// Number of updates so far.
  Index versions() const { return newest_ == nullptr ? 0 : newest_->version + 1; }

  /// Applies the updates that wait.
  void advance() {
    while (pending_ != nullptr) apply_pending<false>(nullptr, nullptr);
  }

  /// y = x (W + w) + b + beta of the newest version, in one pass with the last waiting update.
  void read(const Scalar* x, Scalar* y) {
    std::fill_n(y, samples_ * bias_.cols, Scalar(0));
    if (pending_ == nullptr) {
      add_product(latest_, x, y);
      return;
    }
    while (pending_->next != nullptr) apply_pending<false>(nullptr, nullptr);
    apply_pending<true>(x, y);
  }

  /// y += x (W + w) + b + beta.
  void add_product(Scalar* state, const Scalar* x, Scalar* y) const {
    const Scalar one = 1;
    for (Index s = 0; s < samples_; ++s) {
      kernels::product(bias_, bias_part(state, s), &one, y + s * bias_.cols);
      kernels::product(weights_, weight_part(state, s), x + s * weights_.rows, y + s * bias_.cols);
    }
  }

  /// y += x (W + w): the transpose of the next.
  void add_weight_product(Scalar* state, const Scalar* x, Scalar* y) const {
    for (Index s = 0; s < samples_; ++s) {
      kernels::product(weights_, weight_part(state, s), x + s * weights_.rows, y + s * bias_.cols);
    }
  }

  /// u += (W + w) d.
  void add_transposed_product(Scalar* state, const Scalar* d, Scalar* u) const {
    for (Index s = 0; s < samples_; ++s) {
      kernels::transposed_product(weights_, weight_part(state, s), d + s * bias_.cols,
                                  u + s * weights_.rows);
    }
  }

  /// Calls f(first row, rows, sample) for tiles of the weights, all samples of a tile in a row:
  /// they share the tile's slow weights while these are in the first-level cache.
  template <class F>
  void for_row_tiles(F&& f) const {
    const Index tile = samples_ == 1 ? weights_.rows : std::max<Index>(1, tile_values / bias_.cols);
    for (Index first = 0; first < weights_.rows; first += tile) {
      const Index count = std::min(tile, weights_.rows - first);
      for (Index s = 0; s < samples_; ++s) f(first, count, s);
    }
  }

  /// The weights on both sides of an update, for its adjoint.
  struct Crossing {
    Scalar* before = nullptr;
    const Scalar* after = nullptr;  // where `before` is yet to be made from it, else nullptr
  };

  /// Takes the sweep below `entry`. If `after` is given, the caller must undo the update and write
  /// the result to `before`; every later call relies on it.
  Crossing cross(Entry& entry) {
    const Scalar* after = entry.next == nullptr || entry.next == pending_ ? latest_ : nullptr;
    if (after != nullptr) {
      undone_ = 0;
    } else if (below_version_ == entry.version + 1) {
      after = below_;
    }
    Crossing crossing;
    if (entry.snapshot == nullptr && after != nullptr && entry.invertible &&
        undone_ < most_undone) {
      if (undo_memory_ == nullptr) undo_memory_ = take_state();
      crossing = {undo_memory_, after};
      ++undone_;
    } else {
      crossing = {before(entry), nullptr};
      undone_ = 0;
    }
    below_ = crossing.before;
    below_version_ = entry.version;
    return crossing;
  }

  /// The weights that `entry` left, or the initial ones for nullptr. Reads of that version have
  /// brought them about, so an update after it that still waits has not changed them.
  Scalar* state_after(const Entry* entry) {
    Entry* next = after(entry);
    if (next == nullptr || next == pending_) return latest_;
    return next->version == below_version_ ? below_ : before(*next);
  }

  /// The weights that `entry` changes, replayed from the nearest snapshot where they are not kept.
  Scalar* before(Entry& entry) {
    Entry* from = &entry;
    while (from->snapshot == nullptr) from = from->previous;
    for (; from != &entry; from = from->next) {
      from->next->snapshot = take_state();
      from->next->replayed = true;
      apply<false>(*from, from->snapshot, from->next->snapshot, nullptr, nullptr);
    }
    return entry.snapshot;
  }

  /// Drops what has been replayed for `entry`.
  void release(Entry& entry) {
    if (!entry.replayed) return;
    forget(entry.snapshot);
    give_state(entry.snapshot);
    entry.snapshot = nullptr;
    entry.replayed = false;
  }

  /// Memory of one state, uninitialised, from those given back or from the arena.
  Scalar* take_state() {
    if (free_ == nullptr) {
      return static_cast<Scalar*>(arena_->allocate(
          std::max(sizeof(Scalar) * static_cast<std::size_t>(state_size()), sizeof(Scalar*))));
    }
    Scalar* state = free_;
    std::copy_n(reinterpret_cast<const char*>(state), sizeof free_,
                reinterpret_cast<char*>(&free_));
    return state;
  }

  void give_state(Scalar* state) {
    std::copy_n(reinterpret_cast<const char*>(&free_), sizeof free_,
                reinterpret_cast<char*>(state));
    free_ = state;
  }

 private:
  static constexpr Index most_undone = 8;
  static constexpr Scalar least_keep = Scalar(0.75);  // (1 / 0.75)^8 = 10
  static constexpr Index most_at_first = 32;

  // 8 KB of A and of W: both tiles and a few rows of each sample fit the first-level cache.
  static constexpr Index tile_values = 8192 / static_cast<Index>(sizeof(Scalar));

  Index row_stride() const { return weights_.rows + 1; }

  template <bool Product>
  void apply_pending(const Scalar* x, Scalar* y) {
    Entry& entry = *pending_;
    Scalar* to = latest_;
    entry.invertible = is_invertible(entry);
    const Index interval =
        entry.invertible && !fixed_interval_ ? std::max(interval_, most_undone) : interval_;
    if (differentiable_ && entry.version % interval == 0) {
      entry.snapshot = latest_;
      to = take_state();
      ++kept_;
    }
    apply<Product>(entry, latest_, to, x, y);
    latest_ = to;
    pending_ = entry.next;
    if (!fixed_interval_ && kept_ > std::max(most_at_first, 2 * interval_)) thin_out();
  }

  template <bool Product>
  void apply(const Entry& entry, Scalar* from, Scalar* to, const Scalar* x, Scalar* y) const {
    clip_ > 0 ? apply<Product, true>(entry, from, to, x, y)
              : apply<Product, false>(entry, from, to, x, y);
  }

  template <bool Product, bool Clip>
  void apply(const Entry& entry, Scalar* from, Scalar* to, const Scalar* x, Scalar* y) const {
    const Scalar one = 1;
    const Index rows = weights_.rows;
    const Index cols = bias_.cols;
    for (Index s = 0; s < samples_; ++s) {
      kernels::update_product<Product, Clip>(bias_, bias_part(from, s), bias_part(to, s),
                                             entry.bias_factors(s, clip_), &one,
                                             Product ? y + s * cols : nullptr);
    }
    for_row_tiles([&](Index first, Index count, Index s) {
      kernels::Update<Scalar> update = entry.factors(s, clip_);
      update.pre += first;
      kernels::update_product<Product, Clip>(
          weights_.part(first, count), weight_part(from, s) + first * cols,
          weight_part(to, s) + first * cols, update, Product ? x + s * rows + first : nullptr,
          Product ? y + s * cols : nullptr);
    });
  }

  bool is_invertible(const Entry& entry) const {
    const Scalar* decay = entry.decay->value;
    return !(clip_ > 0) && std::all_of(decay, decay + samples_, [](Scalar lambda) {
      return Scalar(1) - lambda >= least_keep;
    });
  }

  void forget(const Scalar* state) {
    if (below_ == state) below_version_ = -1;
  }

  void thin_out() {
    interval_ *= 2;
    for (Entry* entry = oldest_; entry != nullptr; entry = entry->next) {
      if (entry->snapshot == nullptr || entry->version % interval_ == 0) continue;
      forget(entry->snapshot);
      give_state(entry->snapshot);
      entry->snapshot = nullptr;
      --kept_;
    }
  }

  Arena* arena_ = nullptr;
  Slow weights_;
  Slow bias_;
  Index samples_ = 0;
  Scalar clip_ = 0;
  bool differentiable_ = false;

  Scalar* latest_ = nullptr;
  Entry* oldest_ = nullptr;
  Entry* newest_ = nullptr;
  Entry* pending_ = nullptr;  // the oldest update that `latest_` lacks
  Index interval_ = 1;
  bool fixed_interval_ = false;
  Index kept_ = 0;

  Scalar* below_ = nullptr;  // the weights that a sweep has come down to
  Index below_version_ = -1;
  Index undone_ = 0;  // updates between `below_` and an exact state
  Scalar* undo_memory_ = nullptr;

  Scalar* free_ = nullptr;
};

}  // namespace plastic::detail
