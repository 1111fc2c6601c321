#pragma once

#include <array>
#include <limits>

#include "plastic/optim/optimizer.hpp"

namespace plastic {

/// Settings of SGD.
struct SGDOptions {
  double learning_rate = 1e-2;  ///< not negative
  double momentum = 0;          ///< in [0, 1)
  double weight_decay = 0;      ///< not negative; the gradient gains weight_decay * p
};

namespace detail {

struct SGDMethod {
  static constexpr std::string_view name = "SGD";

  SGDMethod(const SGDOptions& o, double r, Index) : options(o), rate(r) {}

  static std::span<const std::string_view> moment_names(const SGDOptions& o) {
    static constexpr std::array<std::string_view, 1> names{"momentum"};
    return std::span(names).first(o.momentum > 0 ? 1 : 0);
  }

  template <class Scalar>
  static void check(const SGDOptions& o) {
    check_below_one(name, "momentum", o.momentum);
    check_range(name, "weight_decay", o.weight_decay, 0, std::numeric_limits<Scalar>::max());
  }

  static Settings settings(const SGDOptions& o) {
    return {{"learning_rate", number_text(o.learning_rate)},
            {"momentum", number_text(o.momentum)},
            {"weight_decay", number_text(o.weight_decay)}};
  }

  template <class P, class G, class Moments>
  void update(P p, const G& g, Moments&& moments) const {
    using Scalar = typename P::Scalar;
    const auto decay = static_cast<Scalar>(options.weight_decay);
    if (options.momentum == 0) {
      p -= (g + p * decay) * static_cast<Scalar>(rate);
    } else {
      auto b = moments(0);
      b = b * static_cast<Scalar>(options.momentum) + (g + p * decay);
      p -= b * static_cast<Scalar>(rate);
    }
  }

  SGDOptions options;
  double rate;
};

}  // namespace detail

/// Stochastic gradient descent with momentum. A step with gradient g changes a value p by
///
///     b <- momentum b + g + weight_decay p        b starts at 0
///     p <- p - lr b
///
/// Frozen blocks and the gaps between blocks are skipped. A step is two passes over memory, the
/// first of which looks for NaN and infinity, and allocates nothing; b is allocated by the
/// constructor, and only if there is momentum. The convention is PyTorch's.
template <class Scalar>
class SGD : public detail::Optimizer<detail::SGDMethod, SGDOptions, Scalar> {
 public:
  using detail::Optimizer<detail::SGDMethod, SGDOptions, Scalar>::Optimizer;
};

}  // namespace plastic
