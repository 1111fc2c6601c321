#pragma once

#include <algorithm>
#include <span>
#include <string>

#include "plastic/synapse/detail/deferred_nodes.hpp"
#include "plastic/synapse/detail/matrix_nodes.hpp"

namespace plastic {

/// One term C o (pre post^T) of an update; what is empty stands for ones.
template <class Scalar>
struct MatrixTerm {
  Var<Scalar> matrix = {};  ///< C, outputs x inputs, or empty
  Var<Scalar> pre = {};     ///< inputs x samples, or empty
  Var<Scalar> post = {};    ///< outputs x samples, or empty; takes the rate
};

/// How an update bounds H': none, clip or soft. `soft`, with the change d: H' = H + max(d, 0) (1 -
/// H) + min(d, 0) (1 + H), then as `clip`, to [-limit, limit].
using MatrixBound = detail::kernels::Bound;

template <class Scalar>
class FastMatrix;

/// An update of a fast matrix: H' = bound(L o keep H + sum_k C_k o (pre_k post_k^T) + gain E).
template <class Scalar>
struct MatrixChange {
  Var<Scalar> keep = {};         ///< 1 x samples, outputs x samples, or empty for 1
  Var<Scalar> keep_matrix = {};  ///< L, outputs x inputs, or empty for ones
  std::span<const MatrixTerm<Scalar>> terms = {};  ///< at most 6
  FastMatrix<Scalar>* other = nullptr;             ///< E, a matrix of the same shape, or nullptr
  Var<Scalar> gain = {};                           ///< 1 x samples, for E
  MatrixBound bound = MatrixBound::none;           ///< with `soft`, keep and L must be empty
  double limit = 0;                                ///< of clip and soft, positive
  Var<Scalar> active = {};  ///< 1 x samples, a constant: where it is 0, H stays; empty: nowhere
};

/// A fast matrix H of one layer, one per sample, on a tape, with an update of any published form
/// (MatrixChange). Where one rank-one term and one decay per sample is all, `Synapse` does it in
/// half the time.
///
/// H is a history of updates with O(sqrt T) copies of it; a sweep replays the others. A handle:
/// copies refer to the same matrix. Reads see the newest version. After its first read or write the
/// tape must not be rewound to a position before its latest. Everything is differentiable once.
/// Throws std::invalid_argument on shapes that do not fit, variables of another tape, and if the
/// tape is seen to have been rewound. Memory comes from the tape's arena.
template <class Scalar>
class FastMatrix {
 public:
  /// An empty handle.
  FastMatrix() = default;

  /// A matrix that starts at zero. differentiable: false keeps only the newest version and its
  /// reads have no adjoint. interval: every how many updates to keep a copy; 0 chooses. deferred:
  /// it is read by `read_layer` alone, and each update is H' = keep H + pre post^T; those are then
  /// made in the pass of the read that wants them, which is faster.
  FastMatrix(Tape<Scalar>& tape, Index inputs, Index outputs, Index samples, bool differentiable,
             Index interval = 0, bool deferred = false)
      : tape_(&tape) {
    detail::check_positive("FastMatrix", "inputs", inputs);
    detail::check_positive("FastMatrix", "outputs", outputs);
    detail::check_positive("FastMatrix", "samples", samples);
    detail::check_not_negative("FastMatrix", "interval", interval);
    detail::check_matrix_size<Scalar>("FastMatrix", "the size", inputs * outputs, samples);
    data_ = new (tape.arena().allocate(sizeof(Data)))
        Data{{tape, inputs, outputs, samples, differentiable, interval}, deferred};
    if (deferred && differentiable) {
      data_->later = new (tape.arena().allocate(sizeof(Later)))
          Later(tape, inputs, outputs, samples, interval, history().current());
    }
    data_->end = tape.size();
  }

  bool empty() const { return data_ == nullptr; }        ///< whether it was made without a tape
  Index inputs() const { return history().inputs(); }    ///< rows of H
  Index outputs() const { return history().outputs(); }  ///< columns of H
  Index samples() const { return history().samples(); }  ///< matrices side by side
  /// Number of updates so far.
  Index version() const {
    return checked().later == nullptr ? history().versions() : data_->later->versions();
  }

  /// y = x (A o H) for each sample; A empty: ones. x: inputs x samples; A: outputs x inputs; y:
  /// outputs x samples.
  Var<Scalar> read(const Var<Scalar>& x, const Var<Scalar>& alpha = {}) {
    constexpr std::string_view here = "FastMatrix::read";
    check_ready(here);
    check_deferred(here, false);
    check(here, "x", x, inputs(), samples());
    if (!alpha.empty()) check(here, "alpha", alpha, outputs(), inputs());
    return evaluated<detail::MatrixRead<Scalar>>(outputs(), std::array{&x.node(), node_of(alpha)});
  }

  /// y = x (W + A o H) for each sample of a deferred matrix. weight and alpha: W and A, outputs x
  /// inputs; W is the same in all reads, and on the tape before the matrix. skip: outputs x
  /// samples, a constant; where it is not 0, y is 0: columns that nobody wants take no time where
  /// they are many side by side. Throws also if the matrix is not deferred.
  Var<Scalar> read_layer(const Var<Scalar>& x, const Var<Scalar>& weight, const Var<Scalar>& alpha,
                         const Var<Scalar>& skip = {}) {
    constexpr std::string_view here = "FastMatrix::read_layer";
    check_ready(here);
    check_deferred(here, true);
    check(here, "x", x, inputs(), samples());
    check(here, "weight", weight, outputs(), inputs());
    check(here, "alpha", alpha, outputs(), inputs());
    if (!skip.empty()) check(here, "skip", skip, outputs(), samples());
    Later* later = data_->later;
    auto* node = tape_->template emplace_result<detail::DeferredRead<Scalar>>(
        outputs(), samples(), later,
        std::array<Node<Scalar>*, 3>{&x.node(), &weight.node(), &alpha.node()}, node_of(skip));
    if (later == nullptr) {
      node->evaluate(history());
    } else {
      if (weight.node().index > later->start().index ||
          (later->slow_weight() != nullptr && later->slow_weight() != &weight.node())) {
        detail::reject(here, "weight", "the same in all reads, and older than the matrix",
                       "another one");
      }
      later->set_slow_weight(weight.node());
      Arena& arena = tape_->arena();
      const auto count = static_cast<std::size_t>(samples());
      node->evaluate(arena.allocate_array<Index>(count * static_cast<std::size_t>(later->blocks())),
                     arena.allocate_array<detail::kernels::LayerRead<Scalar>>(count));
    }
    data_->end = tape_->size();
    return {tape_, node};
  }

  /// Squared norm of every column of W + H, that is, of all weights into a neuron; W empty: of H.
  /// Returns outputs x samples.
  Var<Scalar> column_squares(const Var<Scalar>& weight = {}) {
    check_function("FastMatrix::column_squares", weight);
    return evaluated<detail::MatrixSquares<Scalar>>(outputs(), std::array{node_of(weight)});
  }

  /// Largest magnitude of W + H, 1 x samples; W empty: of H. The derivative goes to the first entry
  /// that has it.
  Var<Scalar> largest(const Var<Scalar>& weight = {}) {
    check_function("FastMatrix::largest", weight);
    auto* places =
        tape_->arena().template allocate_array<Index>(static_cast<std::size_t>(samples()));
    return evaluated<detail::MatrixLargest<Scalar>>(1, std::array{node_of(weight)}, places);
  }

  /// Changes H. Costs a pass over H at once, and one backward.
  void write(const MatrixChange<Scalar>& change) {
    check_ready("FastMatrix::write");
    check(change);
    if (!history().differentiable()) {
      detail::MatrixEntry<Scalar> entry;
      detail::MatrixTermNodes<Scalar> terms[History::max_terms];
      fill(entry, change, terms);
      return history().apply_now(entry);
    }
    Arena& arena = tape_->arena();
    auto* entry =
        new (arena.allocate(sizeof(detail::MatrixEntry<Scalar>))) detail::MatrixEntry<Scalar>;
    auto* terms = arena.template allocate_array<detail::MatrixTermNodes<Scalar>>(
        std::max<std::size_t>(1, change.terms.size()));
    fill(*entry, change, terms);
    auto** parents = arena.template allocate_array<Node<Scalar>*>(3 * change.terms.size() + 3);
    std::size_t count = 0;
    const auto add = [&](Node<Scalar>* node) {
      if (node != nullptr) parents[count++] = node;
    };
    add(entry->keep);
    add(entry->keep_matrix);
    add(entry->gain);
    for (const auto& term : entry->terms) {
      add(term.matrix);
      add(term.pre);
      add(term.post);
    }
    const std::span<Node<Scalar>* const> all(parents, count);
    if (data_->later == nullptr) {
      entry->node = tape_->template emplace<detail::MatrixWrite<Scalar>>(&history(), entry, all);
      history().append(*entry);
    } else {
      entry->node =
          tape_->template emplace<detail::DeferredWrite<Scalar>>(data_->later, entry, all);
      data_->later->append(*entry);
    }
    data_->end = tape_->size();
  }

  /// @{
  /// H of one sample now, outputs x inputs, as a copy; and sets it, which a matrix with a history
  /// allows before its first update only. Throw std::invalid_argument if there is no such sample.
  Matrix<Scalar> value(Index sample) const {
    check_sample("FastMatrix::value", sample);
    if (data_->later != nullptr) {
      Matrix<Scalar> result(outputs(), inputs());
      data_->later->copy_current(sample, MatrixMap<Scalar>(result.data(), outputs(), inputs()));
      return result;
    }
    return ConstMatrixMap<Scalar>(std::as_const(history()).current() + sample * history().size(),
                                  outputs(), inputs());
  }
  void set_value(Index sample, const Eigen::Ref<const Matrix<Scalar>>& value) {
    constexpr std::string_view here = "FastMatrix::set_value";
    check_sample(here, sample);
    detail::check_shape(here, "value", value.rows(), value.cols(), outputs(), inputs());
    if (has_history()) {
      detail::reject(here, "the matrix", "one that has not been written",
                     "one whose history has begun");
    }
    MatrixMap<Scalar>(history().current() + sample * history().size(), outputs(), inputs()) = value;
  }
  /// @}

  /// Makes one sample zero, even if it is not finite. Throws as set_value does.
  void reset_sample(Index sample) {
    check_sample("FastMatrix::reset_sample", sample);
    set_value(sample, Matrix<Scalar>::Zero(outputs(), inputs()));
  }

  /// Copies all samples of `other`, a matrix of the same size; allocates nothing. Throws
  /// std::invalid_argument if the sizes differ or this one's history has begun.
  void copy(const FastMatrix& other) {
    constexpr std::string_view here = "FastMatrix::copy";
    check_not_empty(here);
    other.check_not_empty(here);
    detail::check_shape(here, "the other matrix", other.outputs(), other.inputs(), outputs(),
                        inputs());
    if (other.samples() != samples()) {
      detail::reject(here, "the other's samples", std::to_string(samples()), other.samples());
    }
    if (has_history()) {
      detail::reject(here, "the matrix", "one that has not been written",
                     "one whose history has begun");
    }
    if (other.data_->later == nullptr) {
      std::copy_n(std::as_const(other.history()).current(), history().block_size(),
                  history().current());
    } else {
      for (Index s = 0; s < samples(); ++s) {
        other.data_->later->copy_current(
            s, MatrixMap<Scalar>(history().current() + s * history().size(), outputs(), inputs()));
      }
    }
    history().set_versions(other.version());
  }

 private:
  using History = detail::MatrixHistory<Scalar>;
  using Later = detail::DeferredHistory<Scalar>;
  struct Data {
    History history;
    bool deferred;
    Later* later = nullptr;  // the updates, if they are deferred and differentiated
    std::size_t end = 0;     // length of the tape after the last read or write
  };

  History& history() { return checked().history; }
  const History& history() const { return checked().history; }
  Data& checked() const {
    check_not_empty("FastMatrix");
    return *data_;
  }

  /// Whether updates are kept.
  bool has_history() const {
    return history().newest() != nullptr || (data_->later != nullptr && version() > 0);
  }

  static Node<Scalar>* node_of(const Var<Scalar>& v) { return v.empty() ? nullptr : &v.node(); }

  template <class NodeType, std::size_t N, class... Memory>
  Var<Scalar> evaluated(Index rows, const std::array<Node<Scalar>*, N>& parents,
                        Memory*... memory) {
    auto* node = tape_->template emplace_result<NodeType>(rows, samples(), &history(), parents);
    node->evaluate(memory...);
    data_->end = tape_->size();
    return {tape_, node};
  }

  void fill(detail::MatrixEntry<Scalar>& entry, const MatrixChange<Scalar>& change,
            detail::MatrixTermNodes<Scalar>* terms) const {
    for (std::size_t k = 0; k < change.terms.size(); ++k) {
      const MatrixTerm<Scalar>& term = change.terms[k];
      terms[k] = {node_of(term.matrix), node_of(term.pre), node_of(term.post)};
    }
    entry.terms = {terms, change.terms.size()};
    using detail::kernels::Keep;
    entry.keep = node_of(change.keep);
    if (entry.keep != nullptr) {
      entry.keep_kind = change.keep.rows() == 1 ? Keep::number : Keep::columns;
    }
    entry.keep_matrix = node_of(change.keep_matrix);
    if (change.other != nullptr) {
      entry.other = &change.other->history();
      entry.other_entry = entry.other->newest();
      entry.gain = node_of(change.gain);
    }
    entry.bound = change.bound;
    entry.limit = static_cast<Scalar>(change.limit);
    if (!change.active.empty()) entry.active = change.active.node().value;
  }

  void check(std::string_view function, std::string_view what, const Var<Scalar>& v, Index rows,
             Index cols) const {
    tape_->check_on_this_tape(function, v);
    detail::check_shape(function, what, v.rows(), v.cols(), rows, cols);
  }

  void check(const MatrixChange<Scalar>& change) const {
    constexpr std::string_view here = "FastMatrix::write";
    if (change.terms.size() > History::max_terms) {
      detail::reject(here, "the number of terms", "at most " + std::to_string(History::max_terms),
                     change.terms.size());
    }
    if (!change.keep.empty()) {
      check(here, "keep", change.keep, change.keep.rows() == 1 ? 1 : outputs(), samples());
    }
    const auto check_matrix = [&](std::string_view what, const Var<Scalar>& v) {
      if (!v.empty()) check(here, what, v, outputs(), inputs());
    };
    check_matrix("keep_matrix", change.keep_matrix);
    for (const MatrixTerm<Scalar>& term : change.terms) {
      check_matrix("the matrix of a term", term.matrix);
      if (!term.pre.empty()) check(here, "pre", term.pre, inputs(), samples());
      if (!term.post.empty()) check(here, "post", term.post, outputs(), samples());
    }
    if (change.other != nullptr) {
      detail::check_shape(here, "other", change.other->outputs(), change.other->inputs(), outputs(),
                          inputs());
      if (change.other->data_ == data_ || change.other->tape_ != tape_ ||
          change.other->samples() != samples() ||
          change.other->history().differentiable() != history().differentiable()) {
        detail::reject(here, "other", "another matrix of the same episode", "a different one");
      }
      check(here, "gain", change.gain, 1, samples());
    }
    if (change.bound != MatrixBound::none) {
      detail::check_range(here, "limit", change.limit, 1e-30, 1e30);
    }
    if (change.bound == MatrixBound::soft && !(change.keep.empty() && change.keep_matrix.empty())) {
      detail::reject(here, "keep and keep_matrix", "empty where the bound is soft", "one of them");
    }
    if (!change.active.empty()) check(here, "active", change.active, 1, samples());
    if (!data_->deferred) return;
    const bool fits = change.terms.size() == 1 && change.terms[0].matrix.empty() &&
                      !change.terms[0].pre.empty() && !change.terms[0].post.empty() &&
                      change.keep_matrix.empty() && change.other == nullptr &&
                      change.bound == MatrixBound::none;
    using detail::kernels::Keep;
    const Keep keep = change.keep.empty()       ? Keep::all
                      : change.keep.rows() == 1 ? Keep::number
                                                : Keep::columns;
    if (!fits || (data_->later != nullptr && version() > 0 && data_->later->keep_kind() != keep)) {
      detail::reject(here, "the change of a deferred matrix",
                     "keep, of the same shape in all of them, and one term of pre and post",
                     "another one");
    }
  }

  void check_deferred(std::string_view function, bool deferred) const {
    if (data_->deferred != deferred) {
      detail::reject(function, "the matrix", deferred ? "deferred" : "one that is not deferred",
                     deferred ? "one that is not" : "a deferred one");
    }
  }

  void check_function(std::string_view function, const Var<Scalar>& weight) const {
    check_ready(function);
    check_deferred(function, false);
    if (!weight.empty()) check(function, "weight", weight, outputs(), inputs());
  }
  void check_sample(std::string_view function, Index sample) const {
    check_not_empty(function);
    detail::check_between(function, "sample", sample, 0, samples() - 1);
  }
  void check_not_empty(std::string_view function) const {
    if (empty()) detail::reject(function, "the matrix", "on a tape", "an empty one");
  }
  void check_ready(std::string_view function) const {
    check_not_empty(function);
    if (history().differentiable() && tape_->size() < data_->end) {
      detail::reject(function, "the tape", "at least as long as after the last read or write",
                     "one that was rewound past it");
    }
  }

  Tape<Scalar>* tape_ = nullptr;
  Data* data_ = nullptr;
};

}  // namespace plastic
