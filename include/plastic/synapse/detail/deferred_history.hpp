#pragma once

#include <algorithm>
#include <array>
#include <span>

#include "plastic/kernels/compiled.hpp"
#include "plastic/synapse/detail/matrix_history.hpp"
#include "plastic/synapse/detail/outer_products.hpp"

namespace plastic::detail {

template <class Scalar>
class DeferredHistory;

/// The first node of a matrix: swept last, it passes on the adjoint of the slow weights.
template <class Scalar>
class DeferredStart final : public Node<Scalar> {
 public:
  explicit DeferredStart(DeferredHistory<Scalar>* history) : history_(history) {
    this->needs_adjoint = true;
    this->rows = this->cols = 1;
  }
  void propagate(Tape<Scalar>&) override { history_->end_sweep(); }

 private:
  DeferredHistory<Scalar>* history_;
};

/// A block of columns of one sample's matrix.
template <class Scalar>
struct DeferredBlock {
  MatrixEntry<Scalar>* newest = nullptr;  ///< latest update that it has; nullptr: none
  const Scalar* values = nullptr;         ///< the sample's matrix that holds it

  // Going backward.
  MatrixEntry<Scalar>* at = nullptr;  ///< the version that its adjoint is of
  Index lower = 0;                    ///< number of updates before the next read of it
  bool reached = false;               ///< whether it has an adjoint yet
  bool fresh = false;                 ///< whether that is still zero, and not in memory
  const kernels::LayerRead<Scalar>* read = nullptr;  ///< of this version, to be gone back over
};

/// The fast matrices of all samples of a shard whose updates are H' = keep H + pre post^T, read as
/// a layer's x (W + A o H), on a tape that is differentiated.
///
/// An update changes no number. A read carries out those that are due, in the blocks of columns
/// that it wants, in the pass that reads them; backward, the pass over a read goes back over the
/// updates before it, as far as the read before. A copy of H is kept of every `stride`-th version;
/// the pass backward makes the others again from the copy before, row by row, without storing them.
template <class Scalar>
class DeferredHistory {
 public:
  using Entry = MatrixEntry<Scalar>;
  using Read = kernels::LayerRead<Scalar>;
  using Block = DeferredBlock<Scalar>;
  using Columns = kernels::ColumnBlock;

  /// first: H at first, of all samples.
  DeferredHistory(Tape<Scalar>& tape, Index inputs, Index outputs, Index samples, Index interval,
                  const Scalar* first)
      : tape_(&tape),
        inputs_(inputs),
        outputs_(outputs),
        samples_(samples),
        stride_(interval == 0 ? kernels::most_deferred : interval),
        thins_(interval == 0),
        first_(first),
        now_(allocate()),
        room_(tape.allocate(std::max(inputs, outputs))) {
    for_each_block([&](const Columns&) { ++blocks_; });
    const auto count = static_cast<std::size_t>(blocks_ * samples);
    state_ = tape.arena().template allocate_array<Block>(count);
    for (Index s = 0; s < samples; ++s) {
      for (Index b = 0; b < blocks_; ++b) state_[s * blocks_ + b] = Block{nullptr, at(first, s)};
    }
    slow_gradient_.open(tape.arena(), inputs, outputs, 64);
    start_ = tape.template emplace<DeferredStart<Scalar>>(this);
  }

  Index samples() const { return samples_; }
  Index blocks() const { return blocks_; }
  Entry* newest() const { return newest_; }
  const Node<Scalar>& start() const { return *start_; }
  Index versions() const { return count_of(newest_); }
  Block& block(Index sample, Index number) { return state_[sample * blocks_ + number]; }

  /// Calls f(block) for each block of columns.
  template <class F>
  void for_each_block(F&& f) const {
    kernels::for_wide_blocks<Scalar>(outputs_, f);
  }

  /// Appends an update. Every update of a history has the same kind of keep.
  void append(Entry& entry) {
    entry.version = count_of(newest_);
    entry.previous = newest_;
    if (newest_ == nullptr) {
      oldest_ = &entry;
      kind_ = entry.keep_kind;
    } else {
      newest_->next = &entry;
    }
    newest_ = &entry;
    if ((entry.version + 1) % stride_ == 0) {
      entry.after = allocate();
      ++held_;
      if (thins_ && held_ > std::max<Index>(32, 2 * stride_)) thin_out();
    }
  }
  kernels::Keep keep_kind() const { return kind_; }

  /// Carries out the updates of a block that are due, and a read if it has an x.
  void advance(Index s, const Columns& columns, const Read& read) {
    Block& block = this->block(s, columns.number);
    Update updates[kernels::most_deferred];
    do {
      Entry* const last = some_updates_after(block.newest, newest_, s, updates);
      Scalar* to = const_cast<Scalar*>(block.values);
      const std::span<const Update> due(updates, to_size(found_));
      if (last != nullptr && last->after != nullptr && last != block.newest) {
        to = at(last->after, s);
      } else if (found_ > 0) {
        to = at(now_, s);
      }
      kernels::advance_block<Scalar>(kind_, columns, inputs_, outputs_, due, block.values, to,
                                     last == newest_ ? read : Read{});
      block.values = to;
      block.newest = last;
    } while (block.newest != newest_);
  }

  /// H of the newest version of one sample, to `to`, outputs x inputs.
  void copy_current(Index s, MatrixMap<Scalar> to) {
    for_each_block([&](const Columns& columns) {
      advance(s, columns, {});
      const Index first = columns.first, count = columns.last - columns.first;
      to.middleRows(first, count) =
          ConstMatrixMap<Scalar>(block(s, columns.number).values, outputs_, inputs_)
              .middleRows(first, count);
    });
  }

  // Going backward.

  /// Must be called by every node before anything else.
  void reach(Entry* entry) {
    if (sweep_ != tape_->sweep_number()) {
      sweep_ = tape_->sweep_number();
      if (adjoint_ == nullptr) adjoint_ = allocate();
      for (Index k = 0; k < blocks_ * samples_; ++k) state_[k].reached = false;
      slow_gradient_.drop();
    }
    tape_->open_adjoint(*start_);
    if (entry != nullptr) tape_->open_adjoint(*entry->node);
  }

  /// Memory for results that nobody wants.
  Scalar* unwanted() const { return room_; }

  /// The node of W, the same in all reads; nullptr before the first.
  Node<Scalar>* slow_weight() const { return slow_weight_; }
  void set_slow_weight(Node<Scalar>& weight) { slow_weight_ = &weight; }
  /// Adds dy x^T of one sample to its gradient.
  void add_slow(const Scalar* x, const Scalar* dy) {
    if (!slow_weight_->needs_adjoint) return;
    slow_gradient_.add(x, dy, 1, tape_->open_adjoint(*slow_weight_));
  }
  void end_sweep() {
    if (slow_weight_->needs_adjoint) slow_gradient_.flush(tape_->open_adjoint(*slow_weight_));
  }

  /// Goes back over a read of the version after `entry` in a block that has an adjoint, and no
  /// update.
  void retreat_read(Entry* entry, Index s, const Columns& columns, const Read& read) {
    retreat(entry, count_of(entry), s, columns, read);
  }

  /// Goes back over `entry` where nothing has done so yet.
  void backward(Entry& entry) {
    reach(entry.previous);
    for (Index s = 0; s < samples_; ++s) {
      for_each_block([&](const Columns& columns) {
        Block& block = this->block(s, columns.number);
        if (!block.reached || block.at != &entry) return;
        const Index lower = block.lower > entry.version ? entry.version : block.lower;
        const Read read = block.read == nullptr ? Read{} : *block.read;
        block.read = nullptr;
        retreat(&entry, lower, s, columns, read);
      });
    }
    if (entry.replayed) {
      free_.free(entry.after);
      entry.after = nullptr;
      entry.replayed = false;
    }
  }

 private:
  using Update = kernels::DeferredUpdate<Scalar>;
  using UpdateAdjoint = kernels::DeferredAdjoint<Scalar>;

  static std::size_t to_size(Index n) { return static_cast<std::size_t>(n); }
  static Index count_of(const Entry* entry) { return entry == nullptr ? 0 : entry->version + 1; }
  template <class Pointer>
  Pointer at(Pointer all, Index s) const {
    return all + s * inputs_ * outputs_;
  }
  Scalar* allocate() { return free_.allocate(tape_->arena(), samples_ * inputs_ * outputs_); }

  Update update_of(const Entry& entry, Index s) const {
    const Index step = entry.keep_kind == kernels::Keep::columns ? outputs_ : 1;
    return {entry.keep == nullptr ? nullptr : entry.keep->value + s * step,
            entry.terms[0].pre->value + s * inputs_, entry.terms[0].post->value + s * outputs_};
  }

  /// The updates of a sample after `entry`, up to the next version of which a copy is kept, to
  /// `last`, or to as many as one pass takes. Returns the last; found_ says how many change H.
  Entry* some_updates_after(Entry* entry, Entry* last, Index s, Update* updates) {
    found_ = 0;
    while (entry != last && found_ < kernels::most_deferred) {
      entry = entry == nullptr ? oldest_ : entry->next;
      if (entry->active == nullptr || entry->active[s] != Scalar(0)) {
        updates[found_++] = update_of(*entry, s);
      }
      if (entry->after != nullptr) break;
    }
    return entry;
  }

  /// Goes back from the version after `top` over a read and the updates down to `lower`, or to the
  /// copy before.
  void retreat(Entry* top, Index lower, Index s, const Columns& columns, const Read& read) {
    Block& block = this->block(s, columns.number);
    Entry* const base = base_of(top);
    lower = std::max(lower, count_of(base));
    Update updates[kernels::most_deferred];
    UpdateAdjoint adjoints[kernels::most_deferred];
    Index count = 0, back = 0;
    for (Entry* e = base; e != top;) {
      e = e == nullptr ? oldest_ : e->next;
      if (e->active != nullptr && e->active[s] == Scalar(0)) continue;
      updates[count++] = update_of(*e, s);
      if (e->version >= lower) adjoints[back++] = adjoint_of(*e, s);
    }
    kernels::retreat_block<Scalar>(
        kind_, columns, inputs_, outputs_, {updates, to_size(count)}, {adjoints, to_size(back)},
        base == nullptr ? at(first_, s) : at(std::as_const(base->after), s), at(adjoint_, s),
        block.fresh, read);
    block.fresh = false;
    while (count_of(block.at) > lower) block.at = block.at->previous;
  }

  UpdateAdjoint adjoint_of(Entry& entry, Index s) {
    const auto open = [&](Node<Scalar>* node, Index offset) {
      return node == nullptr || !node->needs_adjoint ? room_
                                                     : tape_->open_adjoint(*node).data() + offset;
    };
    const Index step = entry.keep_kind == kernels::Keep::columns ? outputs_ : 1;
    return {open(entry.keep, s * step), open(entry.terms[0].pre, s * inputs_),
            open(entry.terms[0].post, s * outputs_)};
  }

  /// The latest copy before the version after `top`. Copies between are made until it is no more
  /// updates away than a pass takes.
  Entry* base_of(Entry* top) {
    Entry* kept = top == nullptr ? nullptr : top->previous;
    while (kept != nullptr && kept->after == nullptr) kept = kept->previous;
    Update updates[kernels::most_deferred];
    while (count_of(top) - count_of(kept) > kernels::most_deferred) {
      Entry* next = kept;
      for (Index k = 0; k < kernels::most_deferred; ++k)
        next = next == nullptr ? oldest_ : next->next;
      next->after = allocate();
      next->replayed = true;
      for (Index s = 0; s < samples_; ++s) {
        some_updates_after(kept, next, s, updates);
        const Scalar* from = kept == nullptr ? at(first_, s) : at(kept->after, s);
        for_each_block([&](const Columns& columns) {
          kernels::advance_block<Scalar>(kind_, columns, inputs_, outputs_,
                                         {updates, to_size(found_)}, from, at(next->after, s),
                                         Read{});
        });
      }
      kept = next;
    }
    return kept;
  }

  void thin_out() {
    stride_ *= 2;
    held_ = 0;
    for (Entry* entry = newest_; entry != nullptr; entry = entry->previous) {
      if (entry->after == nullptr) continue;
      if ((entry->version + 1) % stride_ == 0) {
        ++held_;
        continue;
      }
      move_blocks_from(*entry);
      free_.free(entry->after);
      entry->after = nullptr;
    }
  }

  /// Blocks whose newest values are in a copy that is to be dropped move to the memory of their
  /// own.
  void move_blocks_from(const Entry& entry) {
    for (Index s = 0; s < samples_; ++s) {
      for_each_block([&](const Columns& columns) {
        Block& block = this->block(s, columns.number);
        if (block.values != at(entry.after, s)) return;
        kernels::advance_block<Scalar>(kind_, columns, inputs_, outputs_, {}, block.values,
                                       at(now_, s), Read{});
        block.values = at(now_, s);
      });
    }
  }

  Tape<Scalar>* tape_;
  Index inputs_;
  Index outputs_;
  Index samples_;
  Index stride_;
  bool thins_;
  FreeList<Scalar> free_;
  const Scalar* first_;
  Scalar* now_;
  Scalar* room_;
  Index blocks_ = 0;  // of each sample
  Block* state_ = nullptr;
  Node<Scalar>* start_ = nullptr;
  Entry* oldest_ = nullptr;
  Entry* newest_ = nullptr;
  kernels::Keep kind_ = kernels::Keep::all;
  Index held_ = 0;
  Index found_ = 0;
  Scalar* adjoint_ = nullptr;
  std::size_t sweep_ = ~std::size_t{0};
  Node<Scalar>* slow_weight_ = nullptr;
  OuterProducts<Scalar> slow_gradient_;
};

}  // namespace plastic::detail
