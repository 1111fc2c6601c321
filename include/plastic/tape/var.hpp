#pragma once

#include <concepts>

#include "plastic/core/check.hpp"
#include "plastic/tape/node.hpp"

namespace plastic {

/// Handle to a matrix on a tape: cheap to copy, immutable, valid until the tape is cleared or
/// rewound before it. Any use of an empty one (made without a tape), or of one that its tape has
/// forgotten, throws std::invalid_argument; the tape itself must still exist.
template <class ScalarType>
class Var {
 public:
  using Scalar = ScalarType;  ///< float or double

  /// An empty handle.
  Var() = default;
  /// Handle to a node of that tape.
  Var(Tape<Scalar>* tape, Node<Scalar>* node)
      : tape_(tape), node_(node), index_(node->index), serial_(node->serial) {}

  bool empty() const { return node_ == nullptr; }  ///< whether it was made without a tape
  Index rows() const { return node().rows; }       ///< rows of its matrix
  Index cols() const { return node().cols; }       ///< columns of its matrix
  /// Its tape.
  Tape<Scalar>& tape() const {
    if (empty()) reject_unusable();
    return *tape_;
  }
  /// Its node, for operations that make nodes of their own.
  Node<Scalar>& node() const {
    if (empty()) reject_unusable();
    return *node_;
  }

  /// Whether the variable is still on its tape: made on one, and not forgotten by it since.
  bool usable() const { return node_ != nullptr && tape_->has(index_, serial_); }

  /// The recorded matrix, rows x cols: a view of the tape's memory, until the tape forgets it.
  ConstMatrixMap<Scalar> value() const {
    check_usable();
    return {node_->value, node_->rows, node_->cols};
  }

  /// d loss / d this, as the latest sweep left it. If the operation that made the variable drops
  /// its adjoint where the value is 0, as relu does, the adjoint may be incomplete there. Throws
  /// std::invalid_argument if no sweep has reached the variable: run backward first, and note that
  /// constants have none.
  ConstMatrixMap<Scalar> adjoint() const {
    check_usable();
    if (node_->adjoint == nullptr) {
      detail::reject("Var::adjoint", "the variable", "reached by Tape::backward (run it first)",
                     node_->needs_adjoint
                         ? "one that no sweep has reached"
                         : "a constant (Tape::variable makes one with an adjoint)");
    }
    return {node_->adjoint, node_->rows, node_->cols};
  }

  /// Throws std::invalid_argument unless usable().
  void check_usable() const {
    if (!usable()) reject_unusable();
  }

 private:
  [[noreturn]] void reject_unusable() const {
    detail::reject("Var", "the variable", "on a tape",
                   empty() ? "an empty one"
                           : "one that its tape has forgotten: record it again after Tape::clear "
                             "or rewind");
  }

  Tape<Scalar>* tape_ = nullptr;
  Node<Scalar>* node_ = nullptr;
  Index index_ = 0;
  std::size_t serial_ = 0;
};

/// A Var of any Scalar.
template <class T>
concept Variable = std::same_as<T, Var<typename T::Scalar>>;

}  // namespace plastic
