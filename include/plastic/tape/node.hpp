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
  Scalar* value = nullptr;     ///< the matrix, rows x cols, column-major
  Scalar* adjoint = nullptr;   ///< same shape; null until a sweep reaches the node
  Index rows = 0;              ///< rows of both
  Index cols = 0;              ///< columns of both
  Index index = 0;             ///< position on the tape
  std::size_t serial = 0;      ///< number among all nodes that the tape has ever had
  bool needs_adjoint = false;  ///< whether sweeps compute its adjoint
  bool leaf = false;           ///< whether `adjoint` is the caller's memory, which sweeps add to
  bool masks_zeros = false;    ///< whether `propagate` passes on nothing where the value is 0
  bool target = false;         ///< whether it is in `wrt` while gradients are recorded
  bool wanted = false;         ///< whether it is on a path from `wrt` to the loss, likewise
  Node* recorded = nullptr;    ///< the recorded adjoint, likewise

  /// Whether the adjoint is not needed where the value is 0: operations that read the node may omit
  /// it there.
  bool zeros_are_silent() const { return masks_zeros || !needs_adjoint; }

  /// The arguments of the operation.
  virtual std::span<Node* const> parents() const { return {}; }

  /// Whether a wanted node is an argument of this one. Wanted nodes have an index of at least
  /// `first`.
  virtual bool uses_wanted(Index) {
    const auto all = parents();
    return std::any_of(all.begin(), all.end(), [](const Node* parent) { return parent->wanted; });
  }

  /// Adds this node's adjoint, times the derivative, to the adjoints of its parents. A sweep calls
  /// it if the node has an adjoint.
  virtual void propagate(Tape<Scalar>&) {}

  /// The same with recorded operations, from `recorded` to the wanted parents' `recorded`. Throws
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

/// A node with arguments, in a std::array or a span; it needs an adjoint if one of them does.
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
