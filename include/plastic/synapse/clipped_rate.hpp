#pragma once

#include <algorithm>
#include <cmath>
#include <span>

#include "plastic/synapse/rank_one.hpp"
#include "plastic/tape/operation.hpp"

namespace plastic {
namespace detail {

/// One proposal's contribution to the norm, with what its adjoint needs.
template <class Scalar>
struct NormTerm {
  Node<Scalar>* pre;
  Node<Scalar>* post;
  Scalar bias_pre;
  double* pre_square;   // |pre|^2 + bias_pre^2 for each sample
  double* post_square;  // |post|^2 for each sample
};

/// |x|^2; in double if a float would overflow.
template <class Derived>
double squared_norm(const Eigen::MatrixBase<Derived>& x) {
  const auto square = static_cast<double>(x.squaredNorm());
  return std::isfinite(square) ? square : x.template cast<double>().squaredNorm();
}

template <class Scalar>
class ClippedRateNode final : public Node<Scalar> {
 public:
  ClippedRateNode(Node<Scalar>* rate, std::span<NormTerm<Scalar>> terms, double* norm,
                  double max_norm, std::span<Node<Scalar>*> parents)
      : rate_(rate), terms_(terms), norm_(norm), max_norm_(max_norm), parents_(parents) {
    for (const Node<Scalar>* parent : parents_) {
      this->needs_adjoint = this->needs_adjoint || parent->needs_adjoint;
    }
  }

  std::span<Node<Scalar>* const> parents() const override { return parents_; }

  void propagate(Tape<Scalar>& tape) override {
    if (rate_->needs_adjoint) {
      MatrixMap<Scalar> rate_adjoint = tape.open_adjoint(*rate_);
      for (Index s = 0; s < this->cols; ++s) rate_adjoint(0, s) += this->adjoint[s] * factor(s);
    }
    if (std::none_of(norm_, norm_ + this->cols, [&](double n) { return n > max_norm_; })) return;
    for (const NormTerm<Scalar>& term : terms_) {
      for (Index s = 0; s < this->cols; ++s) {
        if (!(norm_[s] > max_norm_)) continue;
        const double k = -static_cast<double>(this->adjoint[s]) *
                         static_cast<double>(this->value[s]) / (norm_[s] * norm_[s]);
        if (term.pre->needs_adjoint) {
          tape.open_adjoint(*term.pre).col(s) +=
              static_cast<Scalar>(k * term.post_square[s]) * term.pre->value_map().col(s);
        }
        if (term.post->needs_adjoint) {
          tape.open_adjoint(*term.post).col(s) +=
              static_cast<Scalar>(k * term.pre_square[s]) * term.post->value_map().col(s);
        }
      }
    }
  }

  void record(Tape<Scalar>&) override {
    reject("Tape::gradient", "the path to the loss", "free of clipped_rate", "one that uses it");
  }

 private:
  Scalar factor(Index s) const {
    return static_cast<Scalar>(max_norm_ / std::max(norm_[s], max_norm_));
  }

  Node<Scalar>* rate_;
  std::span<NormTerm<Scalar>> terms_;
  double* norm_;
  double max_norm_;
  std::span<Node<Scalar>*> parents_;
};

}  // namespace detail

/// rate' = rate max_norm / max(n, max_norm), with n = sqrt(sum_l |pre_l|^2 |post_l|^2 + |bias_pre
/// post_l|^2) the norm of each sample's proposed changes. rate: 1 x samples. At n = 0 nothing is
/// clipped and the derivative is that of `rate`. Costs O(inputs + outputs) of every layer.
/// Differentiable once. Throws std::invalid_argument on shapes that do not fit, and unless max_norm
/// is in [1e-30, 1e30]. Source: Duan et al., ICLR 2023, section 3.
template <class Scalar>
Var<Scalar> clipped_rate(const Var<Scalar>& rate, std::span<const RankOne<Scalar>> changes,
                         double max_norm) {
  Tape<Scalar>& tape = rate.tape();
  const Index samples = rate.cols();
  detail::check_shape("clipped_rate", "rate", rate.rows(), rate.cols(), 1, samples);
  detail::check_range("clipped_rate", "max_norm", max_norm, 1e-30, 1e30);
  using Term = detail::NormTerm<Scalar>;
  Term* terms = tape.arena().template allocate_array<Term>(changes.size());
  auto** parents = tape.arena().template allocate_array<Node<Scalar>*>(1 + 2 * changes.size());
  Scalar* value = tape.allocate(samples);
  double* norm = tape.arena().template allocate_array<double>(static_cast<std::size_t>(samples) *
                                                              (2 * changes.size() + 1));
  double* squares = norm + samples;
  std::fill_n(norm, samples, 0.0);
  parents[0] = &rate.node();
  for (std::size_t l = 0; l < changes.size(); ++l) {
    const RankOne<Scalar>& change = changes[l];
    tape.check_on_this_tape("clipped_rate", change.pre);
    tape.check_on_this_tape("clipped_rate", change.post);
    detail::check_shape("clipped_rate", "pre", change.pre.rows(), change.pre.cols(),
                        change.pre.rows(), samples);
    detail::check_shape("clipped_rate", "post", change.post.rows(), change.post.cols(),
                        change.post.rows(), samples);
    const Scalar bias_pre = static_cast<Scalar>(change.bias_pre);
    terms[l] = {&change.pre.node(), &change.post.node(), bias_pre, squares, squares + samples};
    squares += 2 * samples;
    for (Index s = 0; s < samples; ++s) {
      terms[l].pre_square[s] =
          detail::squared_norm(change.pre.value().col(s)) + change.bias_pre * change.bias_pre;
      terms[l].post_square[s] = detail::squared_norm(change.post.value().col(s));
      norm[s] += terms[l].pre_square[s] * terms[l].post_square[s];
    }
    parents[1 + 2 * l] = terms[l].pre;
    parents[2 + 2 * l] = terms[l].post;
  }
  for (Index s = 0; s < samples; ++s) {
    norm[s] = std::sqrt(norm[s]);
    value[s] = rate.value()(0, s) * static_cast<Scalar>(max_norm / std::max(norm[s], max_norm));
  }
  auto* node = tape.template emplace<detail::ClippedRateNode<Scalar>>(
      &rate.node(), std::span<Term>(terms, changes.size()), norm, max_norm,
      std::span<Node<Scalar>*>(parents, 1 + 2 * changes.size()));
  node->value = value;
  node->rows = 1;
  node->cols = samples;
  return {&tape, node};
}

}  // namespace plastic
