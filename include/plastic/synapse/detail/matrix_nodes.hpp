#pragma once

#include <array>
#include <cmath>
#include <string_view>

#include "plastic/synapse/detail/matrix_history.hpp"

/// The tape nodes of a fast matrix. An update is a node, and every read of a version depends on the
/// update that led to it, so that the order of the tape is the order of the sweep.
namespace plastic::detail {

template <class Scalar, std::size_t N>
class MatrixNode : public Node<Scalar> {
 public:
  MatrixNode(MatrixHistory<Scalar>* history, const std::array<Node<Scalar>*, N>& parents)
      : history_(history), entry_(history->newest()), parents_(parents) {
    this->needs_adjoint = history->differentiable();
    count_ = parents_.back() == nullptr ? N - 1 : N;
  }

  std::span<Node<Scalar>* const> parents() const override { return {parents_.data(), count_}; }

  void record(Tape<Scalar>&) override {
    reject("Tape::gradient", "the path to the loss", "free of a fast matrix", "one through it");
  }

 protected:
  ~MatrixNode() = default;

  MatrixHistory<Scalar>& history() const { return *history_; }
  MatrixEntry<Scalar>* entry() const { return entry_; }
  Node<Scalar>* parent(std::size_t k) const { return parents_[k]; }

  /// H of the version that was read, all samples.
  const Scalar* begin_backward(Tape<Scalar>& tape) const {
    history_->reach(tape, entry_);
    return history_->after(entry_);
  }
  Scalar* adjoint_of(Tape<Scalar>& tape, std::size_t k) const {
    Node<Scalar>* node = parents_[k];
    return node == nullptr || !node->needs_adjoint ? nullptr : tape.open_adjoint(*node).data();
  }

 private:
  MatrixHistory<Scalar>* history_;
  MatrixEntry<Scalar>* entry_;
  std::array<Node<Scalar>*, N> parents_;
  std::size_t count_;
};

/// y = x (A o H); the parents are x, and A or nullptr.
template <class Scalar>
class MatrixRead final : public MatrixNode<Scalar, 2> {
 public:
  using MatrixNode<Scalar, 2>::MatrixNode;

  void evaluate() {
    const MatrixHistory<Scalar>& h = this->history();
    this->value_map().setZero();
    for (Index s = 0; s < h.samples(); ++s) {
      kernels::matrix_product(h.inputs(), h.outputs(), h.current() + s * h.size(), alpha(),
                              this->parent(0)->value + s * h.inputs(),
                              this->value + s * h.outputs());
    }
  }

  void propagate(Tape<Scalar>& tape) override {
    MatrixHistory<Scalar>& h = this->history();
    const Scalar* values = this->begin_backward(tape);
    Scalar* dx = this->adjoint_of(tape, 0);
    Scalar* da = this->adjoint_of(tape, 1);
    for (Index s = 0; s < h.samples(); ++s) {
      kernels::matrix_product_adjoint(
          h.inputs(), h.outputs(), values + s * h.size(), alpha(),
          this->parent(0)->value + s * h.inputs(), this->adjoint + s * h.outputs(),
          dx == nullptr ? nullptr : dx + s * h.inputs(),
          this->entry() == nullptr ? nullptr : h.adjoint(s), da, h.unwanted());
    }
  }

 private:
  const Scalar* alpha() const {
    return this->parent(1) == nullptr ? nullptr : this->parent(1)->value;
  }
};

/// A function of V = W + H, sample by sample; the parent is W or nullptr.
template <class Scalar>
class MatrixFunction : public MatrixNode<Scalar, 1> {
 public:
  using MatrixNode<Scalar, 1>::MatrixNode;

 protected:
  ~MatrixFunction() = default;

  const Scalar* slow() const {
    return this->parent(0) == nullptr ? nullptr : this->parent(0)->value;
  }
};

/// The squared norm of every column of V: outputs x samples.
template <class Scalar>
class MatrixSquares final : public MatrixFunction<Scalar> {
 public:
  using MatrixFunction<Scalar>::MatrixFunction;

  void evaluate() {
    const MatrixHistory<Scalar>& h = this->history();
    this->value_map().setZero();
    for (Index s = 0; s < h.samples(); ++s) {
      const Scalar* values = h.current() + s * h.size();
      Scalar* y = this->value + s * h.outputs();
      if (this->slow() == nullptr) {
        kernels::column_squares<false>(h.inputs(), h.outputs(), values, this->slow(), y);
      } else {
        kernels::column_squares<true>(h.inputs(), h.outputs(), values, this->slow(), y);
      }
    }
  }

  void propagate(Tape<Scalar>& tape) override {
    MatrixHistory<Scalar>& h = this->history();
    const Scalar* all = this->begin_backward(tape);
    Scalar* dw = this->adjoint_of(tape, 0);
    for (Index s = 0; s < h.samples(); ++s) {
      const Scalar* values = all + s * h.size();
      const Scalar* dy = this->adjoint + s * h.outputs();
      Scalar* g = this->entry() == nullptr ? nullptr : h.adjoint(s);
      if (this->slow() == nullptr) {
        kernels::column_squares_adjoint<false>(h.inputs(), h.outputs(), values, this->slow(), dy, g,
                                               dw);
      } else {
        kernels::column_squares_adjoint<true>(h.inputs(), h.outputs(), values, this->slow(), dy, g,
                                              dw);
      }
    }
  }
};

/// The largest magnitude in V: 1 x samples. The derivative is that of the first entry that has it.
template <class Scalar>
class MatrixLargest final : public MatrixFunction<Scalar> {
 public:
  using MatrixFunction<Scalar>::MatrixFunction;

  /// places: memory for the position of each sample's entry.
  void evaluate(Index* places) {
    places_ = places;
    const MatrixHistory<Scalar>& h = this->history();
    for (Index s = 0; s < h.samples(); ++s) {
      const kernels::ConstRow<Scalar> fast(h.current() + s * h.size(), h.size());
      if (this->slow() == nullptr) {
        find(fast, s);
      } else {
        find(fast + kernels::ConstRow<Scalar>(this->slow(), h.size()), s);
      }
    }
  }

  void propagate(Tape<Scalar>& tape) override {
    MatrixHistory<Scalar>& h = this->history();
    const Scalar* all = this->begin_backward(tape);
    Scalar* dw = this->adjoint_of(tape, 0);
    for (Index s = 0; s < h.samples(); ++s) {
      const Index k = places_[s];
      const Scalar entry = all[s * h.size() + k] + (this->slow() == nullptr ? 0 : this->slow()[k]);
      const Scalar term = entry < 0 ? -this->adjoint[s] : this->adjoint[s];
      if (this->entry() != nullptr) h.adjoint(s)[k] += term;
      if (dw != nullptr) dw[k] += term;
    }
  }

 private:
  template <class Expression>
  void find(const Expression& v, Index s) {
    // In two passes: the largest by vectors, then its first place. NaN counts as the largest.
    const Scalar largest = v.abs().template maxCoeff<Eigen::PropagateNaN>();
    Index k = 0;
    while (!(std::abs(v.coeff(k)) >= largest) && !std::isnan(v.coeff(k))) ++k;
    places_[s] = k;
    this->value[s] = largest;
  }

  Index* places_ = nullptr;
};

/// One update; its adjoint is a mark that the sweep has reached it.
template <class Scalar>
class MatrixWrite final : public Node<Scalar> {
 public:
  MatrixWrite(MatrixHistory<Scalar>* history, MatrixEntry<Scalar>* entry,
              std::span<Node<Scalar>* const> parents)
      : history_(history), entry_(entry), parents_(parents) {
    this->needs_adjoint = true;
    this->rows = this->cols = 1;
  }

  std::span<Node<Scalar>* const> parents() const override { return parents_; }
  void propagate(Tape<Scalar>& tape) override { history_->backward(tape, *entry_); }

 private:
  MatrixHistory<Scalar>* history_;
  MatrixEntry<Scalar>* entry_;
  std::span<Node<Scalar>* const> parents_;
};

}  // namespace plastic::detail
