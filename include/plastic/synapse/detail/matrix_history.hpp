#pragma once

#include <algorithm>
#include <span>

#include "plastic/kernels/compiled.hpp"
#include "plastic/synapse/detail/free_list.hpp"
#include "plastic/tape/tape.hpp"

namespace plastic::detail {

template <class Scalar>
class MatrixHistory;

/// Nodes of C o (pre post^T); nullptr stands for ones.
template <class Scalar>
struct MatrixTermNodes {
  Node<Scalar>* matrix = nullptr;
  Node<Scalar>* pre = nullptr;
  Node<Scalar>* post = nullptr;
};

/// One update of the fast matrices of all samples, as factors, in a list over the episode.
template <class Scalar>
struct MatrixEntry {
  Index version = 0;  ///< number of updates before this one
  MatrixEntry* previous = nullptr;
  MatrixEntry* next = nullptr;
  Node<Scalar>* node = nullptr;  ///< this update on the tape
  Scalar* after = nullptr;       ///< H after it, all samples, if kept
  bool replayed = false;         ///< whether it is kept only for the current part of a sweep

  kernels::Keep keep_kind = kernels::Keep::all;
  Node<Scalar>* keep = nullptr;
  Node<Scalar>* keep_matrix = nullptr;
  std::span<const MatrixTermNodes<Scalar>> terms;
  MatrixHistory<Scalar>* other = nullptr;
  MatrixEntry* other_entry = nullptr;  ///< the latest update of `other` at the time
  Node<Scalar>* gain = nullptr;
  kernels::Bound bound = kernels::Bound::none;
  Scalar limit = 0;
  const Scalar* active = nullptr;  ///< 1 x samples: 0 leaves a sample as it is; nullptr: all change
};

/// The fast matrices of all samples of a shard, as a list of updates with copies of H.
///
/// Every `stride`-th version is kept. The stride is 1 at first and doubles whenever more than 32
/// and more than twice as many copies as it says are held, so that T steps keep O(sqrt T) copies
/// without knowing T beforehand; a sweep replays the missing ones. A row of H belongs to an input.
template <class Scalar>
class MatrixHistory {
 public:
  using Entry = MatrixEntry<Scalar>;
  static constexpr std::size_t max_terms = 6;  ///< of one update

  MatrixHistory(Tape<Scalar>& tape, Index inputs, Index outputs, Index samples, bool differentiable,
                Index interval)
      : arena_(&tape.arena()),
        inputs_(inputs),
        outputs_(outputs),
        samples_(samples),
        differentiable_(differentiable),
        stride_(std::max<Index>(1, interval)),
        thins_(interval == 0),
        room_(tape.allocate(std::max(inputs, outputs))),
        first_(allocate()) {
    std::fill_n(first_, block_size(), Scalar(0));
  }

  Index inputs() const { return inputs_; }
  Index outputs() const { return outputs_; }
  Index samples() const { return samples_; }
  /// Memory of a column or row for results that nobody wants.
  Scalar* unwanted() const { return room_; }
  bool differentiable() const { return differentiable_; }
  Index size() const { return inputs_ * outputs_; }  ///< values of one sample
  Index block_size() const { return size() * samples_; }

  Entry* newest() const { return newest_; }
  Index versions() const { return differentiable_ ? count_of(newest_) : updates_; }
  void set_versions(Index versions) { updates_ = versions; }

  /// H of the newest version, all samples.
  const Scalar* current() const { return newest_ == nullptr ? first_ : newest_->after; }
  /// The same to be written, before the first update of a differentiable history.
  Scalar* current() { return newest_ == nullptr ? first_ : newest_->after; }

  /// Appends an update to a differentiable history and applies it.
  void append(Entry& entry) {
    entry.version = count_of(newest_);
    entry.previous = newest_;
    entry.after = allocate();
    apply(entry, current(), entry.after);
    if (newest_ != nullptr) newest_->next = &entry;
    Entry* before = newest_;
    newest_ = &entry;
    if (before != nullptr) drop_unless_kept(*before);
    if (thins_ && held_ > std::max<Index>(32, 2 * stride_)) thin_out();
  }

  /// Applies an update of a history that keeps nothing.
  void apply_now(const Entry& entry) {
    apply(entry, first_, first_);
    ++updates_;
  }

  /// H after `entry`, or at first for nullptr: kept, or replayed and kept until `release`.
  const Scalar* after(Entry* entry) {
    if (entry == nullptr) return first_;
    Entry* from = entry;
    while (from != nullptr && from->after == nullptr) from = from->previous;
    const Scalar* values = from == nullptr ? first_ : from->after;
    while (from != entry) {
      from = from == nullptr ? oldest_before(entry) : from->next;
      from->after = allocate();
      from->replayed = true;
      apply(*from, values, from->after);
      values = from->after;
    }
    return values;
  }

  /// Frees what was replayed for `entry`.
  void release(Entry& entry) {
    if (!entry.replayed) return;
    free(entry.after);
    entry.after = nullptr;
    entry.replayed = false;
  }

  // Going backward.

  /// Must be called by every node before it adds to the adjoint: starts a new sweep, and makes the
  /// sweep reach the update that led to the version which the node uses.
  void reach(Tape<Scalar>& tape, Entry* entry) {
    if (sweep_ != tape.sweep_number()) {
      sweep_ = tape.sweep_number();
      if (adjoint_ == nullptr) adjoint_ = allocate();
      std::fill_n(adjoint_, block_size(), Scalar(0));
    }
    if (entry != nullptr) tape.open_adjoint(*entry->node);
  }

  /// The adjoint of H of the version that the sweep has come to.
  Scalar* adjoint(Index sample) const { return adjoint_ + sample * size(); }

  /// Goes backward over `entry`.
  void backward(Tape<Scalar>& tape, Entry& entry) {
    reach(tape, entry.previous);
    const Scalar* before = after(entry.previous);
    const auto open = [&](Node<Scalar>* node) -> Scalar* {
      return node == nullptr || !node->needs_adjoint ? nullptr : tape.open_adjoint(*node).data();
    };
    kernels::MatrixTermAdjoint<Scalar> all[max_terms], terms[max_terms];
    for (std::size_t k = 0; k < entry.terms.size(); ++k) {
      const MatrixTermNodes<Scalar>& term = entry.terms[k];
      all[k] = {open(term.matrix), open(term.pre), open(term.post)};
    }
    kernels::MatrixUpdateAdjoint<Scalar> total;
    total.keep_matrix = open(entry.keep_matrix);
    Scalar* const keep = open(entry.keep);
    Scalar* const gain = open(entry.gain);
    if (entry.other != nullptr) entry.other->reach(tape, entry.other_entry);
    for (Index s = 0; s < samples_; ++s) {
      if (entry.active != nullptr && entry.active[s] == Scalar(0)) continue;
      for (std::size_t k = 0; k < entry.terms.size(); ++k) {
        terms[k] = {all[k].matrix, at(all[k].pre, s * inputs_), at(all[k].post, s * outputs_)};
      }
      total.terms = std::span(terms, entry.terms.size());
      total.keep = at(keep, s * (entry.keep_kind == kernels::Keep::columns ? outputs_ : 1));
      total.gain = at(gain, s);
      total.other = entry.other == nullptr ? nullptr : entry.other->adjoint(s);
      with_update(entry, s, [&](const kernels::MatrixUpdate<Scalar>& update) {
        kernels::update_matrix_adjoint(update, before + s * size(), adjoint(s), total, room_);
      });
    }
    release(entry);
  }

 private:
  static Index count_of(const Entry* entry) { return entry == nullptr ? 0 : entry->version + 1; }
  template <class Pointer>
  static Pointer at(Pointer first, Index offset) {
    return first == nullptr ? nullptr : first + offset;
  }

  void apply(const Entry& entry, const Scalar* from, Scalar* to) const {
    for (Index s = 0; s < samples_; ++s) {
      const Scalar* h = from + s * size();
      if (entry.active != nullptr && entry.active[s] == Scalar(0)) {
        if (from != to) std::copy_n(h, size(), to + s * size());
        continue;
      }
      with_update(entry, s, [&](const kernels::MatrixUpdate<Scalar>& update) {
        kernels::update_matrix(update, h, to + s * size());
      });
    }
  }

  /// Calls f with the factors of one sample.
  template <class F>
  void with_update(const Entry& entry, Index s, F&& f) const {
    const auto value = [](const Node<Scalar>* node, Index offset) -> const Scalar* {
      return node == nullptr ? nullptr : node->value + offset;
    };
    kernels::MatrixTerm<Scalar> terms[max_terms];
    for (std::size_t k = 0; k < entry.terms.size(); ++k) {
      const MatrixTermNodes<Scalar>& term = entry.terms[k];
      terms[k] = {value(term.matrix, 0), value(term.pre, s * inputs_),
                  value(term.post, s * outputs_)};
    }
    kernels::MatrixUpdate<Scalar> update;
    update.rows = inputs_;
    update.cols = outputs_;
    update.keep_kind = entry.keep_kind;
    update.keep = value(entry.keep, s * (entry.keep_kind == kernels::Keep::columns ? outputs_ : 1));
    update.keep_matrix = value(entry.keep_matrix, 0);
    update.terms = std::span(terms, entry.terms.size());
    if (entry.other != nullptr) {
      update.other = entry.other->after_current(entry.other_entry) + s * size();
      update.gain = entry.gain->value[s];
    }
    update.bound = entry.bound;
    update.limit = entry.limit;
    f(update);
  }

  /// H of the version that an update of another history read.
  const Scalar* after_current(Entry* entry) { return differentiable_ ? after(entry) : first_; }

  static Entry* oldest_before(Entry* entry) {
    while (entry->previous != nullptr) entry = entry->previous;
    return entry;
  }

  void drop_unless_kept(Entry& entry) {
    if ((entry.version + 1) % stride_ == 0) {
      ++held_;
    } else {
      free(entry.after);
      entry.after = nullptr;
    }
  }

  void thin_out() {
    stride_ *= 2;
    held_ = 0;
    for (Entry* entry = newest_->previous; entry != nullptr; entry = entry->previous) {
      if (entry->after != nullptr) drop_unless_kept(*entry);
    }
  }

  Scalar* allocate() { return free_.allocate(*arena_, block_size()); }
  void free(Scalar* block) { free_.free(block); }

  Arena* arena_;
  Index inputs_;
  Index outputs_;
  Index samples_;
  bool differentiable_;
  Index stride_;
  bool thins_;
  FreeList<Scalar> free_;
  Scalar* room_;
  Scalar* first_;  // H of version 0, or, of a history that keeps nothing, of the newest
  Entry* newest_ = nullptr;
  Index held_ = 0;
  Index updates_ = 0;
  Scalar* adjoint_ = nullptr;
  std::size_t sweep_ = ~std::size_t{0};
};

}  // namespace plastic::detail
