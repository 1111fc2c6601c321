#pragma once

#include <algorithm>
#include <span>

#include "plastic/core/types.hpp"

namespace plastic {

template <class Scalar>
class Tape;

/// One recorded matrix: the result of an operation, its adjoint, and how to pass that adjoint on.
///
/// Nodes live in the tape's arena and are never destroyed one by one, so a derived node holds only
/// what needs no destructor. Users meet nodes when they write an operation that the simpler
/// protocol of operation.hpp cannot express.
template <class Scalar>
class Node {
 public:
  Scalar* value = nullptr;     ///< rows x cols, column-major
  Scalar* adjoint = nullptr;   ///< same shape; null until a sweep reaches the node
  Index rows = 0;              ///< of both
  Index cols = 0;              ///< of both
  Index index = 0;             ///< place on the tape
  std::size_t serial = 0;      ///< of all nodes that the tape has ever had
  bool needs_adjoint = false;  ///< whether a sweep brings it one
  bool leaf = false;           ///< whether `adjoint` is the caller's memory, which sweeps add to
  bool masks_zeros = false;    ///< whether `propagate` passes on nothing where the value is 0
  bool target = false;         ///< in `wrt` itself while gradients are recorded
  bool wanted = false;         ///< on a path from `wrt` to the loss while gradients are recorded
  Node* recorded = nullptr;    ///< the recorded adjoint, likewise

  /// Whether nobody needs the adjoint where the value is 0: what reads it may leave that out.
  bool zeros_are_silent() const { return masks_zeros || !needs_adjoint; }

  /// The arguments of the operation.
  virtual std::span<Node* const> parents() const { return {}; }

  /// Whether a wanted node enters this one. Wanted nodes have an index of at least `first`.
  virtual bool uses_wanted(Index) {
    const auto all = parents();
    return std::any_of(all.begin(), all.end(), [](const Node* parent) { return parent->wanted; });
  }

  /// Adds this node's adjoint, times the derivative, to the adjoints of its parents. A sweep calls
  /// it where the node has an adjoint.
  virtual void propagate(Tape<Scalar>&) {}

  /// The same as recorded operations, from `recorded` to that of the wanted parents. Throws
  /// std::invalid_argument where the operation is differentiable only once.
  virtual void record(Tape<Scalar>&) {}

  MatrixMap<Scalar> value_map() const { return {value, rows, cols}; }  ///< `value`, rows x cols
  /// `adjoint`, rows x cols, where it is not null.
  MatrixMap<Scalar> adjoint_map() const { return {adjoint, rows, cols}; }

 protected:
  Node() = default;
  ~Node() = default;
};

namespace detail {

template <class Scalar>
class LeafNode final : public Node<Scalar> {};

/// A node with arguments, in a std::array or a span; it needs an adjoint where one of them does.
template <class Scalar, class Parents>
class NodeWithParents : public Node<Scalar> {
 public:
  explicit NodeWithParents(const Parents& parents) : parents_(parents) {
    this->needs_adjoint = std::any_of(parents.begin(), parents.end(),
                                      [](const auto* parent) { return parent->needs_adjoint; });
  }
  std::span<Node<Scalar>* const> parents() const override { return parents_; }

 protected:
  ~NodeWithParents() = default;

  Node<Scalar>& parent(std::size_t k) const { return *parents_[k]; }

 private:
  Parents parents_;
};

}  // namespace detail
}  // namespace plastic
