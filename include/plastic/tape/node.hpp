#pragma once

#include <algorithm>
#include <span>
#include <string_view>

#include "plastic/tape/types.hpp"

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
  Index rows = 0;              ///< of value and adjoint
  Index cols = 0;              ///< of value and adjoint
  Index index = 0;             ///< place on the tape
  std::size_t serial = 0;      ///< of all nodes that the tape has ever had
  bool needs_adjoint = false;  ///< false of constants and of what depends on them alone
  bool leaf = false;           ///< its adjoint is the caller's memory
  bool wanted = false;         ///< on a path from `wrt` to the loss while gradients are recorded
  Node* recorded = nullptr;    ///< the recorded adjoint, likewise

  /// The nodes that it was computed from.
  virtual std::span<Node* const> parents() const { return {}; }

  /// Whether a wanted node enters this one. Wanted nodes have an index of at least `first`.
  virtual bool uses_wanted(Index) {
    return std::ranges::any_of(parents(), [](const Node* parent) { return parent->wanted; });
  }

  /// Adds this node's adjoint, times the derivative, to the adjoints of its parents.
  virtual void propagate(Tape<Scalar>&) {}

  /// The same as recorded operations, for the wanted parents.
  virtual void record(Tape<Scalar>&) {}

  /// The value as a matrix.
  MatrixMap<Scalar> value_map() const { return {value, rows, cols}; }
  /// The adjoint as a matrix; there must be one.
  MatrixMap<Scalar> adjoint_map() const { return {adjoint, rows, cols}; }

 protected:
  Node() = default;
  ~Node() = default;
};

namespace detail {

template <class Scalar>
class LeafNode final : public Node<Scalar> {};

}  // namespace detail
}  // namespace plastic
