#pragma once

#include <algorithm>
#include <cmath>
#include <memory>

#include "plastic/synapse/detail/free_list.hpp"
#include "plastic/synapse/detail/passes.hpp"

namespace plastic::detail {

/// The fast weights of one layer for all samples of a shard, w = s v, as a history of updates.
///
/// Version k is the state after k updates. An update is lazy if s can take its decay; then only the
/// change is added to v, in place, and a sweep that inverts the update subtracts it. If s would
/// leave [1/8, 8], if a weight clip bounds w, and at every 64th update, v itself is decayed and s
/// is 1 again; before such an update a differentiable history keeps a copy of v. So the rounding
/// errors of inverting stay within a few times those of going forward. Each sample decides for
/// itself: its bits do not depend on its neighbours.
///
/// Every `stride`-th copy stays. The stride is 1 at first and doubles whenever more than 32 and
/// more than twice as many copies as it says are held, so that T steps keep O(sqrt T) copies
/// without knowing T beforehand; missing ones are replayed.
template <class Scalar>
class History : public Passes<Scalar> {
 public:
  using Entry = UpdateEntry<Scalar>;
  using typename Passes<Scalar>::SlowMatrices;
  using Passes<Scalar>::sample_size, Passes<Scalar>::samples;

  /// The first arguments are those of Passes::open; `interval`: updates between decays of v, and
  /// all copies stay; 0 chooses.
  void open(Arena& arena, const SlowMatrices& weights, const SlowMatrices& bias, Index count,
            Scalar clip, bool differentiable, Index interval = 0) {
    arena_ = &arena;
    Passes<Scalar>::open(arena, weights, bias, count, clip);
    differentiable_ = differentiable;
    thins_ = interval == 0;
    interval_ = interval == 0 ? 64 : interval;
    const auto number = static_cast<std::size_t>(count);
    latest_ = arena.allocate_array<Scalar*>(number);
    target_ = arena.allocate_array<Scalar*>(number);
    scales_ = arena.allocate_array<double>(number);
    first_scales_ = arena.allocate_array<double>(number);
    copies_ = arena.allocate_array<Copies>(number);
    for (Index s = 0; s < count; ++s) {
      latest_[s] = allocate_sample();
      scales_[s] = first_scales_[s] = 1;
      copies_[s] = {};
      std::fill_n(latest_[s], sample_size(), Scalar(0));
    }
  }

  Entry* newest() const { return newest_; }

  /// Number of updates so far.
  Index versions() const { return newest_ == nullptr ? 0 : newest_->version + 1; }

  /// An entry for the next update; the caller fills in its factors and appends it.
  Entry* make_entry() {
    auto* entry = new (arena_->allocate(sizeof(Entry))) Entry;
    entry->samples =
        arena_->allocate_array<SampleUpdate<Scalar>>(static_cast<std::size_t>(samples()));
    std::uninitialized_default_construct_n(entry->samples, samples());
    return entry;
  }

  void append(Entry* entry) {
    entry->version = versions();
    entry->previous = newest_;
    (newest_ == nullptr ? oldest_ : newest_->next) = entry;
    newest_ = entry;
    if (pending_ == nullptr) pending_ = entry;
    plan(*entry);
  }

  /// Makes `entry` the only update, if older ones need not be remembered: call `advance` first.
  void replace(Entry* entry) {
    entry->version = versions();
    entry->next = nullptr;
    oldest_ = newest_ = pending_ = entry;
    plan(*entry);
  }

  /// Continues as after `versions` updates, of which `entry` stands for the last; it has been
  /// applied.
  void resume(Entry* entry, Index versions) {
    entry->version = versions - 1;
    entry->next = nullptr;
    oldest_ = newest_ = versions > 0 ? entry : nullptr;
    pending_ = nullptr;
  }

  /// Continues like `other`, a history of the same size that `replace` has written; `entry` has the
  /// factors of its update.
  void copy(const History& other, Entry* entry) {
    for (Index s = 0; s < samples(); ++s) {
      std::copy_n(other.latest_[s], sample_size(), latest_[s]);
      scales_[s] = other.scales_[s];
      if (other.newest_ != nullptr) entry->samples[s] = other.newest_->samples[s];
    }
    resume(entry, other.versions());
    if (other.pending_ != nullptr) pending_ = entry;
  }

  /// Zeroes the weights to which the pending update will be applied.
  void clear_sample(Index sample) {
    std::fill_n(latest_[sample], sample_size(), Scalar(0));
    scales_[sample] = 1;
    if (newest_ != nullptr) newest_->samples[sample] = {};
  }

  /// Copies v of one sample of the newest version, sample_size() values, without applying pending
  /// updates to the history; alpha as in Passes::apply_to_sample.
  void copy_sample(Index sample, const Scalar* alpha, Scalar* to) const {
    std::copy_n(latest_[sample], sample_size(), to);
    for (const Entry* entry = pending_; entry != nullptr; entry = entry->next) {
      this->apply_to_sample(*entry, sample, this->all_rows(), alpha, to, to);
    }
  }

  /// v of one sample of the newest version. The caller may write it, with its scale, before the
  /// first update or if nothing is differentiated.
  Scalar* latest(Index sample) {
    advance();
    return latest_[sample];
  }
  void set_scale(Index sample, double scale) {
    scales_[sample] = scale;
    if (versions() == 0) first_scales_[sample] = scale;
  }
  double scale(Index sample) const { return scales_[sample]; }  ///< scale of the newest version
  /// Scale of the version after `entry`, or of the first for nullptr.
  double scale_after(const Entry* entry, Index sample) const {
    return entry == nullptr ? first_scales_[sample] : entry->samples[sample].scale;
  }

  /// Applies the pending updates.
  void advance() {
    while (pending_ != nullptr) apply_oldest_pending(nullptr, nullptr);
  }

  /// y = x (W + w) + b + beta of the newest version, in one pass with the last pending update.
  /// Gives the same bits if that update has been applied before.
  void read(const Node<Scalar>& x, Scalar* y) {
    std::fill_n(y, samples() * this->outputs(), Scalar(0));
    if (pending_ == nullptr) {
      const Index last = newest_ == nullptr ? 0 : newest_->version;
      return Passes<Scalar>::read(last, latest_, scales_, x, y);
    }
    while (pending_->next != nullptr) apply_oldest_pending(nullptr, nullptr);
    apply_oldest_pending(&x, y);
  }

  // Going backward.

  /// The newest version whose weights are stored.
  Index current_version() const { return pending_ == nullptr ? versions() : pending_->version; }
  const Scalar* current(Index sample) const { return latest_[sample]; }

  /// v of a sample before `entry`, which is not lazy: kept, or replayed from the nearest copy
  /// before it and kept until `release`.
  const Scalar* kept_before(Entry& entry, Index sample) {
    Entry* from = &entry;
    while (from->samples[sample].before == nullptr) from = from->previous;
    Scalar* v = from->samples[sample].before;
    for (; from != &entry; from = from->next) {
      SampleUpdate<Scalar>& next = from->next->samples[sample];
      Scalar* to = from->samples[sample].lazy ? v : allocate_sample();
      this->apply_to_sample(*from, sample, this->changed_rows(*from, sample), nullptr, v, to);
      v = to;
      if (next.lazy) continue;
      next.before = v;
      next.replayed = true;
    }
    return entry.samples[sample].before;
  }

  /// Frees the copy replayed for a sample of `entry`.
  void release(Entry& entry, Index sample) {
    SampleUpdate<Scalar>& sample_update = entry.samples[sample];
    if (!sample_update.replayed) return;
    free_sample(sample_update.before);
    sample_update.before = nullptr;
    sample_update.replayed = false;
  }

  /// Writes v of a sample at any version up to the current one: inverts the updates from the
  /// nearest later version that is stored.
  void copy_version(Index version, Index sample, Scalar* to) {
    Index from = current_version();
    Entry* nearest = nullptr;
    for (Entry* e = newest_; e != nullptr && e->version >= version; e = e->previous) {
      if (e->version < current_version() && !e->samples[sample].lazy) nearest = e;
    }
    Entry* kept = nearest;  // copies replayed after it serve this call only
    if (nearest != nullptr) {
      from = nearest->version;
      while (kept->samples[sample].before == nullptr) kept = kept->previous;
    }
    std::copy_n(nearest == nullptr ? latest_[sample] : kept_before(*nearest, sample), sample_size(),
                to);
    for (Entry* e = newest_; e != nullptr && e->version >= version; e = e->previous) {
      if (e->version < from) this->invert(*e, sample, this->changed_rows(*e, sample), to);
    }
    for (Entry* e = nearest; e != kept; e = e->previous) release(*e, sample);
  }

  /// Uninitialised memory for one sample.
  Scalar* allocate_sample() { return free_.allocate(*arena_, sample_size()); }
  void free_sample(Scalar* sample) { free_.free(sample); }

 private:
  static constexpr double least_scale = 0.125;

  /// Copies of one sample, numbered in the order they were made.
  struct Copies {
    Index made = 0;
    Index held = 0;
    Index stride = 1;
  };

  /// Decides what an update does to each sample.
  void plan(Entry& entry) {
    for (Index s = 0; s < samples(); ++s) {
      SampleUpdate<Scalar>& sample_update = entry.samples[s];
      sample_update = {};
      const double scale = scales_[s] * static_cast<double>(Scalar(1) - entry.decay->value[s]);
      sample_update.lazy = !(this->clip() > 0) && std::abs(scale) >= least_scale &&
                           std::abs(scale) <= 1 / least_scale &&
                           (entry.version + 1) % interval_ != 0;
      sample_update.scale = scales_[s] = sample_update.lazy ? scale : 1;
      if (!sample_update.lazy) sample_update.keep = static_cast<Scalar>(scale);
      sample_update.rate = entry.rate->value[s] / static_cast<Scalar>(sample_update.scale);
    }
  }

  void apply_oldest_pending(const Node<Scalar>* x, Scalar* y) {
    Entry& entry = *pending_;
    for (Index s = 0; s < samples(); ++s) {
      target_[s] = latest_[s];
      if (!differentiable_ || entry.samples[s].lazy) continue;
      if (copies_[s].made++ % copies_[s].stride != 0) continue;
      entry.samples[s].before = latest_[s];
      target_[s] = allocate_sample();
      ++copies_[s].held;
    }
    this->apply(entry, latest_, target_, x, y);
    for (Index s = 0; s < samples(); ++s) {
      latest_[s] = target_[s];
      Copies& copies = copies_[s];
      if (thins_ && copies.held > std::max<Index>(32, 2 * copies.stride)) thin_out(s);
    }
    pending_ = entry.next;
  }

  void thin_out(Index sample) {
    Copies& copies = copies_[sample];
    copies.stride *= 2;
    copies.held = 0;
    Index number = 0;
    for (Entry* entry = oldest_; entry != nullptr; entry = entry->next) {
      SampleUpdate<Scalar>& sample_update = entry->samples[sample];
      if (sample_update.lazy || number == copies.made) continue;
      if (sample_update.before != nullptr && !sample_update.replayed) {
        if (number % copies.stride == 0) {
          ++copies.held;
        } else {
          free_sample(sample_update.before);
          sample_update.before = nullptr;
        }
      }
      ++number;
    }
  }

  Arena* arena_ = nullptr;
  bool differentiable_ = false;
  bool thins_ = true;
  Index interval_ = 64;

  Scalar** latest_ = nullptr;  // v of each sample
  Scalar** target_ = nullptr;  // where the update being applied writes
  double* scales_ = nullptr;   // scales of the newest version
  double* first_scales_ = nullptr;
  Copies* copies_ = nullptr;
  Entry* oldest_ = nullptr;
  Entry* newest_ = nullptr;
  Entry* pending_ = nullptr;  // the oldest update not yet applied to `latest_`

  FreeList<Scalar> free_;
};

}  // namespace plastic::detail
