#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plastic/core/check.hpp"
#include "plastic/core/parameters.hpp"
#include "plastic/core/types.hpp"

namespace plastic {

/// Settings of AdamW.
struct AdamWOptions {
  double learning_rate = 1e-3;  ///< not negative
  double beta1 = 0.9;           ///< decay of the mean gradient, in [0, 1)
  double beta2 = 0.999;         ///< decay of the mean squared gradient, in [0, 1)
  double epsilon = 1e-8;        ///< positive
  double weight_decay = 0;      ///< not negative; decoupled: not part of the gradient
  bool amsgrad = true;          ///< divides by the largest v so far
};

/// AdamW, by default with AMSGrad. Step t = 1, 2, ... with gradient g changes a value p by
///
///     p <- (1 - lr weight_decay) p
///     m <- beta1 m + (1 - beta1) g
///     v <- beta2 v + (1 - beta2) g^2
///     u <- max(u, v) with AMSGrad, else v
///     p <- p - lr / (1 - beta1^t) * m / (sqrt(u) / sqrt(1 - beta2^t) + epsilon)
///
/// Frozen blocks and the gaps between blocks are passed over. A step is one pass over memory and
/// allocates nothing; the moments are allocated by the constructor. Gradients are not checked for
/// NaN: see clip_gradient_norm. Sources: Kingma, Ba, "Adam: a method for stochastic optimization",
/// ICLR 2015; Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019; Reddi, Kale,
/// Kumar, "On the convergence of Adam and beyond", ICLR 2018; the order of the operations is
/// PyTorch's.
template <class Scalar>
class AdamW {
 public:
  /// For one set of parameters, whose size must not change afterwards. Throws
  /// std::invalid_argument naming an option out of its range.
  explicit AdamW(const Parameters<Scalar>& parameters, const AdamWOptions& options = {})
      : options_(options),
        moments_(options.amsgrad ? 3 : 2, Vector<Scalar>::Zero(parameters.size())) {
    constexpr double largest = std::numeric_limits<Scalar>::max();
    detail::check_range("AdamW", "learning_rate", options.learning_rate, 0, largest);
    check_beta("beta1", options.beta1);
    check_beta("beta2", options.beta2);
    detail::check_range("AdamW", "epsilon", options.epsilon, std::numeric_limits<Scalar>::min(),
                        largest);
    detail::check_range("AdamW", "weight_decay", options.weight_decay, 0, largest);
  }

  /// One step on all trainable blocks. Throws std::invalid_argument if a length has changed.
  void step(Parameters<Scalar>& parameters, const Vector<Scalar>& gradients) {
    check_lengths(parameters, gradients);
    begin_step();
    update(parameters, gradients, 0, parameters.size());
  }

  /// @{
  /// The two halves of `step`, for several threads: one calls `begin_step`, then each calls
  /// `update` with a range [first, last) of the flat vector. Ranges that do not overlap may run at
  /// once; together they must cover the vector. Throws std::invalid_argument if a length has
  /// changed, the range is not within it, or `begin_step` has never been called.
  void begin_step() { ++steps_; }
  void update(Parameters<Scalar>& parameters, const Vector<Scalar>& gradients, Index first,
              Index last) {
    const Index size = moments_.front().size();
    check_lengths(parameters, gradients);
    if (first < 0 || first > last || last > size) {
      detail::reject("AdamW::update", "[first, last)", "within [0, " + std::to_string(size) + ")",
                     "[" + std::to_string(first) + ", " + std::to_string(last) + ")");
    }
    if (steps_ == 0) detail::reject("AdamW::update", "begin_step", "called before it", "no call");
    const auto t = static_cast<double>(steps_);
    const Coefficients c{
        .decay = static_cast<Scalar>(1 - options_.learning_rate * options_.weight_decay),
        .rate = static_cast<Scalar>(options_.learning_rate / (1 - std::pow(options_.beta1, t))),
        .root = static_cast<Scalar>(std::sqrt(1 - std::pow(options_.beta2, t))),
    };
    for (const ParameterBlock& block : parameters.blocks()) {
      if (!block.trainable) continue;
      // Pieces that stay in the first-level cache make the array expressions one pass.
      constexpr Index piece = 4096 / static_cast<Index>(sizeof(Scalar));
      const Index end = std::min(block.offset + block.size(), last);
      for (Index i = std::max(block.offset, first); i < end; i += piece) {
        update_piece(c, parameters.values(), gradients, i, std::min(piece, end - i));
      }
    }
  }
  /// @}

  const AdamWOptions& options() const { return options_; }  ///< with the present learning rate
  double learning_rate() const { return options_.learning_rate; }  ///< of the next step

  /// Takes effect at the next step. Throws std::invalid_argument if negative or not finite.
  void set_learning_rate(double rate) {
    detail::check_range("AdamW::set_learning_rate", "rate", rate, 0,
                        std::numeric_limits<Scalar>::max());
    options_.learning_rate = rate;
  }

  /// @{
  /// The state, for a checkpoint: steps done, and m, v and with AMSGrad u, each of the parameters'
  /// layout, with their names in files.
  Index steps() const { return steps_; }
  std::span<const Vector<Scalar>> moments() const { return moments_; }
  std::span<const std::string_view> moment_names() const {
    static constexpr std::array<std::string_view, 3> names{"mean", "mean_square",
                                                           "largest_mean_square"};
    return std::span(names).first(moments_.size());
  }
  /// @}

  /// Continues from a saved state. Throws std::invalid_argument, and changes nothing, if `steps` is
  /// negative or the moments differ from `moments()` in number or length.
  void restore(Index steps, std::span<const Vector<Scalar>> moments) {
    if (steps < 0) detail::reject("AdamW::restore", "steps", "at least 0", steps);
    if (moments.size() != moments_.size()) {
      detail::reject("AdamW::restore", "the number of moments", std::to_string(moments_.size()),
                     moments.size());
    }
    for (const Vector<Scalar>& moment : moments) check_length("moments", moment.size());
    steps_ = steps;
    std::copy(moments.begin(), moments.end(), moments_.begin());
  }

 private:
  struct Coefficients {
    Scalar decay, rate, root;
  };

  static void check_beta(std::string_view name, double value) {
    if (!(value >= 0 && value < 1)) detail::reject("AdamW", name, "in [0, 1)", value);
  }

  void check_lengths(const Parameters<Scalar>& parameters, const Vector<Scalar>& gradients) const {
    check_length("parameters", parameters.size());
    check_length("gradients", gradients.size());
  }

  void check_length(std::string_view name, Index length) const {
    const Index size = moments_.front().size();
    if (length != size) {
      detail::reject("AdamW", name,
                     "of length " + std::to_string(size) + ", that of the optimizer's parameters",
                     length);
    }
  }

  void update_piece(const Coefficients& c, Vector<Scalar>& values, const Vector<Scalar>& gradients,
                    Index first, Index count) {
    const auto rest1 = static_cast<Scalar>(1 - options_.beta1);
    const auto rest2 = static_cast<Scalar>(1 - options_.beta2);
    const auto g = gradients.segment(first, count).array();
    auto p = values.segment(first, count).array();
    auto m = moments_[0].segment(first, count).array();
    auto v = moments_[1].segment(first, count).array();
    auto u = moments_.back().segment(first, count).array();
    m += (g - m) * rest1;
    v = v * static_cast<Scalar>(options_.beta2) + g.square() * rest2;
    if (options_.amsgrad) u = u.max(v);
    p = p * c.decay - m / (u.sqrt() / c.root + static_cast<Scalar>(options_.epsilon)) * c.rate;
  }

  AdamWOptions options_;
  Index steps_ = 0;
  std::vector<Vector<Scalar>> moments_;
};

}  // namespace plastic
