#pragma once

#include <array>
#include <cmath>
#include <limits>

#include "plastic/optim/optimizer.hpp"

namespace plastic {

/// Settings of AdamW.
struct AdamWOptions {
  double learning_rate = 1e-3;  ///< not negative
  double beta1 = 0.9;           ///< decay of the mean gradient, in [0, 1)
  double beta2 = 0.999;         ///< decay of the mean squared gradient, in [0, 1)
  double epsilon = 1e-8;        ///< positive
  double weight_decay = 0;      ///< not negative; decoupled: not part of the gradient
  bool amsgrad = true;          ///< whether to divide by the largest v so far
};

namespace detail {

struct AdamWMethod {
  static constexpr std::string_view name = "AdamW";

  AdamWMethod(const AdamWOptions& o, double rate, Index steps)
      : options(o),
        decay(1 - rate * o.weight_decay),
        rate_in_force(rate / (1 - std::pow(o.beta1, static_cast<double>(steps)))),
        root(std::sqrt(1 - std::pow(o.beta2, static_cast<double>(steps)))) {}

  static std::span<const std::string_view> moment_names(const AdamWOptions& o) {
    static constexpr std::array<std::string_view, 3> names{"mean", "mean_square",
                                                           "largest_mean_square"};
    return std::span(names).first(o.amsgrad ? 3 : 2);
  }

  template <class Scalar>
  static void check(const AdamWOptions& o) {
    constexpr double largest = std::numeric_limits<Scalar>::max();
    check_below_one(name, "beta1", o.beta1);
    check_below_one(name, "beta2", o.beta2);
    check_range(name, "epsilon", o.epsilon, std::numeric_limits<Scalar>::min(), largest);
    check_range(name, "weight_decay", o.weight_decay, 0, largest);
  }

  static Settings settings(const AdamWOptions& o) {
    return {{"learning_rate", number_text(o.learning_rate)},
            {"beta1", number_text(o.beta1)},
            {"beta2", number_text(o.beta2)},
            {"epsilon", number_text(o.epsilon)},
            {"weight_decay", number_text(o.weight_decay)},
            {"amsgrad", bool_text(o.amsgrad)}};
  }

  template <class P, class G, class Moments>
  void update(P p, const G& g, Moments&& moments) const {
    using Scalar = typename P::Scalar;
    const auto rest1 = static_cast<Scalar>(1 - options.beta1);
    const auto rest2 = static_cast<Scalar>(1 - options.beta2);
    auto m = moments(0);
    auto v = moments(1);
    auto u = moments(options.amsgrad ? 2 : 1);
    m += (g - m) * rest1;
    v = v * static_cast<Scalar>(options.beta2) + g.square() * rest2;
    if (options.amsgrad) u = u.max(v);
    p = p * static_cast<Scalar>(decay) -
        m / (u.sqrt() / static_cast<Scalar>(root) + static_cast<Scalar>(options.epsilon)) *
            static_cast<Scalar>(rate_in_force);
  }

  AdamWOptions options;
  double decay, rate_in_force, root;
};

}  // namespace detail

/// AdamW, by default with AMSGrad. Step t = 1, 2, ... with gradient g changes a value p by
///
///     p <- (1 - lr weight_decay) p
///     m <- beta1 m + (1 - beta1) g
///     v <- beta2 v + (1 - beta2) g^2
///     u <- max(u, v) with AMSGrad, else v
///     p <- p - lr / (1 - beta1^t) * m / (sqrt(u) / sqrt(1 - beta2^t) + epsilon)
///
/// Frozen blocks and the gaps between blocks are skipped. A step is two passes over memory, the
/// first of which looks for NaN and infinity, and allocates nothing; the moments are allocated by
/// the constructor. Sources: Kingma, Ba, "Adam: a method for stochastic optimization", ICLR 2015;
/// Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019; Reddi, Kale, Kumar, "On
/// the convergence of Adam and beyond", ICLR 2018; the order of the operations is PyTorch's.
template <class Scalar>
class AdamW : public detail::Optimizer<detail::AdamWMethod, AdamWOptions, Scalar> {
 public:
  using detail::Optimizer<detail::AdamWMethod, AdamWOptions, Scalar>::Optimizer;
};

}  // namespace plastic
