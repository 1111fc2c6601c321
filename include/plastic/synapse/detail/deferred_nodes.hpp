#pragma once

#include <algorithm>
#include <array>
#include <string_view>

#include "plastic/synapse/detail/deferred_history.hpp"

/// The tape nodes of a fast matrix whose updates are deferred.
namespace plastic::detail {

/// y = x (W + A o H); the parents are x, W and A.
template <class Scalar>
class DeferredRead final : public Node<Scalar> {
 public:
  /// history: nullptr where nothing is differentiated. skip: a constant, outputs x samples, or
  /// nullptr.
  DeferredRead(DeferredHistory<Scalar>* history, const std::array<Node<Scalar>*, 3>& parents,
               const Node<Scalar>* skip)
      : history_(history),
        entry_(history == nullptr ? nullptr : history->newest()),
        parents_(parents),
        skip_(skip) {
    this->needs_adjoint = history != nullptr;
  }

  std::span<Node<Scalar>* const> parents() const override { return parents_; }

  void record(Tape<Scalar>&) override {
    reject("Tape::gradient", "the path to the loss", "free of a fast matrix", "one through it");
  }

  /// From a history that keeps nothing.
  void evaluate(const MatrixHistory<Scalar>& history) {
    this->value_map().setZero();
    for (Index s = 0; s < this->cols; ++s) {
      const kernels::LayerRead<Scalar> read = read_of(s);
      kernels::for_wide_blocks<Scalar>(this->rows, [&](const kernels::ColumnBlock& columns) {
        if (!wants(s, columns)) return;
        const Scalar* h = history.current() + s * history.size();
        kernels::advance_block<Scalar>(kernels::Keep::all, columns, history.inputs(), this->rows,
                                       {}, h, const_cast<Scalar*>(h), read);
      });
    }
    clear_skipped(this->value);
  }

  /// lower and reads: memory for the number of updates before each block's last read, and for the
  /// reads of each sample.
  void evaluate(Index* lower, kernels::LayerRead<Scalar>* reads) {
    lower_ = lower;
    reads_ = reads;
    this->value_map().setZero();
    for (Index s = 0; s < this->cols; ++s) {
      reads_[s] = read_of(s);
      history_->for_each_block([&](const kernels::ColumnBlock& columns) {
        if (!wants(s, columns)) return;
        const MatrixEntry<Scalar>* before = history_->block(s, columns.number).newest;
        lower_[s * history_->blocks() + columns.number] =
            before == nullptr ? 0 : before->version + 1;
        history_->advance(s, columns, reads_[s]);
      });
    }
    clear_skipped(this->value);
  }

  void propagate(Tape<Scalar>& tape) override {
    history_->reach(entry_);
    clear_skipped(this->adjoint);
    Scalar* const dx = adjoint_of(tape, 0);
    Scalar* const da = adjoint_of(tape, 2);
    // What waits for the update before must not be due earlier.
    const bool may_wait = entry_ != nullptr && parents_[0]->index < entry_->node->index &&
                          parents_[2]->index < entry_->node->index;
    for (Index s = 0; s < this->cols; ++s) {
      kernels::LayerRead<Scalar>& read = reads_[s];
      read.dy = this->adjoint + s * this->rows;
      read.dx = dx == nullptr ? history_->unwanted() : dx + s * parents_[0]->rows;
      read.da = da;
      bool any = false;
      history_->for_each_block([&](const kernels::ColumnBlock& columns) {
        if (!wants(s, columns)) return;
        const bool zero = std::all_of(read.dy + columns.first, read.dy + columns.last,
                                      [](Scalar dy) { return dy == Scalar(0); });
        DeferredBlock<Scalar>& block = history_->block(s, columns.number);
        if (!block.reached) {
          if (zero) return;
          block.at = entry_;
          block.reached = block.fresh = true;
          block.read = nullptr;
        }
        block.lower = lower_[s * history_->blocks() + columns.number];
        if (zero) return;
        any = true;
        if (may_wait && block.read == nullptr) {
          block.read = &read;
        } else {
          history_->retreat_read(entry_, s, columns, read);
        }
      });
      if (any) history_->add_slow(read.x, read.dy);
    }
  }

 private:
  kernels::LayerRead<Scalar> read_of(Index s) const {
    return {parents_[0]->value + s * parents_[0]->rows, parents_[1]->value, parents_[2]->value,
            this->value + s * this->rows};
  }
  Scalar* adjoint_of(Tape<Scalar>& tape, std::size_t k) const {
    return parents_[k]->needs_adjoint ? tape.open_adjoint(*parents_[k]).data() : nullptr;
  }

  /// Whether one of the columns is not to be skipped.
  bool wants(Index s, const kernels::ColumnBlock& columns) const {
    if (skip_ == nullptr) return true;
    const Scalar* skip = skip_->value + s * this->rows;
    return std::any_of(skip + columns.first, skip + columns.last,
                       [](Scalar x) { return x == Scalar(0); });
  }
  void clear_skipped(Scalar* values) const {
    if (skip_ == nullptr) return;
    for (Index k = 0; k < this->rows * this->cols; ++k) {
      if (skip_->value[k] != Scalar(0)) values[k] = 0;
    }
  }

  DeferredHistory<Scalar>* history_;
  MatrixEntry<Scalar>* entry_;
  std::array<Node<Scalar>*, 3> parents_;
  const Node<Scalar>* skip_;
  Index* lower_ = nullptr;
  kernels::LayerRead<Scalar>* reads_ = nullptr;
};

/// One update; its adjoint is a mark that the sweep has reached it.
template <class Scalar>
class DeferredWrite final : public Node<Scalar> {
 public:
  DeferredWrite(DeferredHistory<Scalar>* history, MatrixEntry<Scalar>* entry,
                std::span<Node<Scalar>* const> parents)
      : history_(history), entry_(entry), parents_(parents) {
    this->needs_adjoint = true;
    this->rows = this->cols = 1;
  }

  std::span<Node<Scalar>* const> parents() const override { return parents_; }
  void propagate(Tape<Scalar>&) override { history_->backward(*entry_); }

 private:
  DeferredHistory<Scalar>* history_;
  MatrixEntry<Scalar>* entry_;
  std::span<Node<Scalar>* const> parents_;
};

}  // namespace plastic::detail
