#pragma once

#include <algorithm>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "plastic/tape/arena.hpp"
#include "plastic/tape/detail/rearranged.hpp"
#include "plastic/tape/var.hpp"

namespace plastic {

/// Reverse-mode differentiation of matrix programs: operations on Var append to the tape, a sweep
/// walks it backwards in a loop.
///
/// Memory comes from an arena; `clear` keeps it, so a program that repeats itself allocates only in
/// its first iteration. One tape belongs to one thread at a time. Variables of two tapes do not mix
/// (std::invalid_argument).
///
///     Tape<double> tape;
///     auto x = tape.variable(Matrix<double>::Random(3, 5));
///     auto loss = sum(square(tanh(x)));
///     tape.backward(loss);
///     x.adjoint();   // 3 x 5
template <class Scalar>
class Tape {
  static_assert(std::is_floating_point_v<Scalar>, "Tape needs float or double");

 public:
  Tape() = default;
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// A position on the tape: everything recorded before it.
  struct Position {
    std::size_t nodes = 0;  ///< number of nodes
    Arena::Mark memory;     ///< position in the arena
  };

  /// The current end of the tape.
  Position position() const { return {nodes_.size(), arena_.mark()}; }

  /// Forgets everything recorded after `position`, and all adjoints; their memory is used again.
  /// Throws std::invalid_argument if `position` is past the tape's end.
  void rewind(Position position) {
    if (position.nodes > nodes_.size()) {
      detail::reject("Tape::rewind", "position", "on the tape", "one past its end");
    }
    nodes_.resize(position.nodes);
    arena_.rewind(position.memory);
    swept_ = false;
    forget_adjoints();
  }

  /// Forgets everything and keeps the memory.
  void clear() { rewind({}); }

  /// Forgets everything, and reserves memory so that whatever was recorded on `other` can be
  /// recorded here without allocating.
  void reserve_like(const Tape& other) {
    clear();
    arena_.reserve_like(other.arena_);
    nodes_.reserve(other.nodes_.capacity());
  }

  /// A copy of a matrix or array that no derivative reaches.
  template <class Derived>
  Var<Scalar> constant(const Eigen::DenseBase<Derived>& value) {
    return copied_leaf(value.derived(), false);
  }

  /// A copy of a matrix or array whose adjoint a sweep computes.
  template <class Derived>
  Var<Scalar> variable(const Eigen::DenseBase<Derived>& value) {
    return copied_leaf(value.derived(), true);
  }

  /// Uses the caller's memory without a copy: it must outlive the recording and not change. Sweeps
  /// add to `gradient` (same shape, zeroed by the caller); nullptr makes it a constant.
  Var<Scalar> borrow(const Scalar* value, Index rows, Index cols, Scalar* gradient = nullptr) {
    auto& node = *emplace<detail::LeafNode<Scalar>>();
    node.value = const_cast<Scalar*>(value);  // leaves are never written
    node.adjoint = gradient;
    node.rows = rows;
    node.cols = cols;
    node.leaf = gradient != nullptr;
    node.needs_adjoint = gradient != nullptr;
    return {this, &node};
  }

  /// Adjoints of the sum of `loss`'s entries for everything before it. Leaves that borrow their
  /// gradient add to it; all others start from zero. Cost: about twice the recorded operations. The
  /// memory of its adjoints is used again after `clear` or `rewind`, not in the next sweep. Throws
  /// std::invalid_argument if `loss` is not on this tape.
  void backward(const Var<Scalar>& loss) { backward(loss, Position{}); }

  /// The same down to `until`; adjoints of older variables hold what has reached them so far.
  /// Continue with `sweep(until, Position{})`.
  void backward(const Var<Scalar>& loss, Position until) {
    check_on_this_tape("Tape::backward", loss);
    forget_adjoints();
    seed(loss, Matrix<Scalar>::Constant(loss.rows(), loss.cols(), Scalar(1)));
    sweep(position(), until);
  }

  /// Adds `adjoint` to the adjoint of `variable`, for a sweep that starts from several variables or
  /// from a derivative computed elsewhere. Throws std::invalid_argument if the shapes differ or
  /// `variable` is not on this tape.
  template <class Derived>
  void seed(const Var<Scalar>& variable, const Eigen::MatrixBase<Derived>& adjoint) {
    check_on_this_tape("Tape::seed", variable);
    detail::check_shape("Tape::seed", "adjoint", adjoint, variable.rows(), variable.cols());
    accumulate(variable.node(), adjoint.derived());
  }

  /// Drops the adjoints of all variables; borrowed gradients stay as they are.
  void forget_adjoints() {
    ++sweep_;
    for (Node<Scalar>* node : nodes_) {
      if (!node->leaf) node->adjoint = nullptr;
    }
  }

  /// Goes backward from `from` to `until` and propagates every adjoint. Throws
  /// std::invalid_argument if `from` is past the tape's end.
  void sweep(Position from, Position until) {
    if (from.nodes > nodes_.size()) {
      detail::reject("Tape::sweep", "from", "on the tape", "a position past its end");
    }
    swept_ = true;
    for (std::size_t i = from.nodes; i > until.nodes; --i) {
      Node<Scalar>& node = *nodes_[i - 1];
      if (node.adjoint != nullptr && node.needs_adjoint) node.propagate(*this);
    }
  }

  /// Records the gradient of the sum of `loss`'s entries as new variables, which can be used and
  /// differentiated like any other: an inner loss inside an outer one. gradients[i] has the shape
  /// of wrt[i] and is zero where the loss does not depend on it. Nodes older than every `wrt` are
  /// constants of this gradient. Throws std::invalid_argument if the spans differ in length, a
  /// variable is not on this tape, or an operation on the way has no recorded adjoint: a synapse
  /// has one for the argument of a read, until its next write, but none for its weights and their
  /// updates.
  void gradient(const Var<Scalar>& loss, std::span<const Var<Scalar>> wrt,
                std::span<Var<Scalar>> gradients) {
    check_on_this_tape("Tape::gradient", loss);
    if (wrt.size() != gradients.size()) {
      detail::reject("Tape::gradient", "gradients", "of length " + std::to_string(wrt.size()),
                     gradients.size());
    }
    const Index last = loss.node().index;
    Index first = last;
    for (const Var<Scalar>& v : wrt) {
      check_on_this_tape("Tape::gradient", v);
      first = std::min(first, v.node().index);
    }
    const Unmark unmark_at_the_end{*this, wrt, first, last};
    for (const Var<Scalar>& v : wrt) v.node().wanted = v.node().target = true;
    mark_wanted(first, last);
    if (loss.node().wanted) {
      loss.node().recorded =
          &constant(Matrix<Scalar>::Constant(loss.rows(), loss.cols(), Scalar(1))).node();
    }
    for (Index i = last; i >= first; --i) {
      Node<Scalar>& node = *nodes_[static_cast<std::size_t>(i)];
      if (node.wanted && node.recorded != nullptr) node.record(*this);
    }
    for (std::size_t i = 0; i < wrt.size(); ++i) {
      Node<Scalar>* found = wrt[i].node().recorded;
      gradients[i] = found != nullptr
                         ? Var<Scalar>(this, found)
                         : constant(Matrix<Scalar>::Zero(wrt[i].rows(), wrt[i].cols()));
    }
  }

  /// The same for a single `wrt`.
  Var<Scalar> gradient(const Var<Scalar>& loss, const Var<Scalar>& wrt) {
    Var<Scalar> result;
    gradient(loss, std::span(&wrt, 1), std::span(&result, 1));
    return result;
  }

  std::size_t size() const { return nodes_.size(); }        ///< number of recorded nodes
  std::size_t memory() const { return arena_.capacity(); }  ///< bytes held, used or not

  /// Whether a sweep has run since the last clear or rewind.
  bool swept() const { return swept_; }

  /// Whether the node at position `index` has this serial number.
  bool has(Index index, std::size_t serial) const {
    const auto place = static_cast<std::size_t>(index);
    return place < nodes_.size() && nodes_[place]->serial == serial;
  }

  // Building blocks of operations.

  /// Appends a node made in the arena from `args`, without a value and shape, which the caller
  /// sets.
  template <class NodeType, class... Args>
  NodeType* emplace(Args&&... args) {
    static_assert(std::is_trivially_destructible_v<NodeType>,
                  "a node lives in the arena and is never destroyed");
    auto* node = new (arena_.allocate(sizeof(NodeType))) NodeType(std::forward<Args>(args)...);
    node->index = static_cast<Index>(nodes_.size());
    node->serial = ++recorded_;
    nodes_.push_back(node);
    return node;
  }

  /// The same with uninitialised memory for a value of that shape, for operations. Throws
  /// std::invalid_argument if no memory can hold it.
  template <class NodeType, class... Args>
  NodeType* emplace_result(Index rows, Index cols, Args&&... args) {
    detail::check_matrix_size<Scalar>("Tape", "the size of a result", rows, cols);
    auto* node = emplace<NodeType>(std::forward<Args>(args)...);
    node->value = allocate(rows * cols);
    node->rows = rows;
    node->cols = cols;
    return node;
  }

  /// Uninitialised memory of the arena for `count` values, until the tape is rewound before it.
  Scalar* allocate(Index count) {
    return arena_.allocate_array<Scalar>(static_cast<std::size_t>(count));
  }

  Arena& arena() { return arena_; }  ///< memory of nodes, values and adjoints

  /// Adds an expression to a node's adjoint, or sets it if there is none yet.
  template <class Expression>
  void accumulate(Node<Scalar>& node, const Expression& adjoint) {
    const bool begun = node.adjoint != nullptr;
    if (!begun) node.adjoint = allocate(node.rows * node.cols);
    MatrixMap<Scalar> map = node.adjoint_map();
    const auto add_to = [&](auto&& to) {
      if (begun) {
        to += adjoint;
      } else {
        to = adjoint;
      }
    };
    if constexpr (std::is_same_v<typename Eigen::internal::traits<Expression>::XprKind,
                                 Eigen::ArrayXpr>) {
      add_to(map.array());
    } else {
      add_to(map.noalias());
    }
  }

  /// The same for a rearrangement of another matrix.
  template <detail::Rearranged Expression>
  void accumulate(Node<Scalar>& node, const Expression& adjoint) {
    if (node.adjoint != nullptr) return adjoint.add_to(node.adjoint_map());
    node.adjoint = allocate(node.rows * node.cols);
    adjoint.assign_to(node.adjoint_map());
  }

  /// The node's adjoint, zero if there was none yet, to add to in place.
  MatrixMap<Scalar> open_adjoint(Node<Scalar>& node) {
    if (node.adjoint == nullptr) {
      node.adjoint = allocate(node.rows * node.cols);
      node.adjoint_map().setZero();
    }
    return node.adjoint_map();
  }

  /// Number of the current sweep, which tells an operation that spans several nodes when to reset.
  std::size_t sweep_number() const { return sweep_; }

  /// Throws std::invalid_argument in the name of `function` unless v is on this tape.
  void check_on_this_tape(std::string_view function, const Var<Scalar>& v) const {
    if (v.empty()) detail::reject(function, "the variable", "on this tape", "an empty one");
    v.check_usable();
    if (&v.tape() != this) {
      detail::reject(function, "the variable", "on this tape",
                     "one on another tape: record a whole computation on one tape");
    }
  }

 private:
  template <class Value>
  Var<Scalar> copied_leaf(const Value& value, bool needs_adjoint) {
    Scalar* memory = allocate(value.size());
    MatrixMap<Scalar> copy(memory, value.rows(), value.cols());
    if constexpr (std::is_base_of_v<Eigen::ArrayBase<Value>, Value>) {
      copy.array() = value;
    } else {
      copy = value;
    }
    Var<Scalar> leaf = borrow(memory, value.rows(), value.cols());
    leaf.node().needs_adjoint = needs_adjoint;
    return leaf;
  }

  void mark_wanted(Index first, Index last) {
    for (Index i = first; i <= last; ++i) {
      Node<Scalar>& node = *nodes_[static_cast<std::size_t>(i)];
      node.wanted = node.uses_wanted(first) || node.wanted;
    }
  }

  /// Clears the marks on the nodes, whether or not every adjoint could be recorded.
  struct Unmark {
    Tape& tape;
    std::span<const Var<Scalar>> wrt;
    Index first, last;

    ~Unmark() {
      for (const Var<Scalar>& v : wrt) unmark(v.node());
      for (Index i = first; i <= last; ++i) unmark(*tape.nodes_[static_cast<std::size_t>(i)]);
    }
    static void unmark(Node<Scalar>& node) {
      node.wanted = node.target = false;
      node.recorded = nullptr;
    }
  };

  Arena arena_;
  std::vector<Node<Scalar>*> nodes_;
  std::size_t recorded_ = 0;  // nodes so far, including forgotten ones
  std::size_t sweep_ = 0;
  bool swept_ = false;
};

}  // namespace plastic
