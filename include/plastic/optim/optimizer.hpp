#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "plastic/core/parameters.hpp"
#include "plastic/core/settings.hpp"

namespace plastic {

/// The common Euclidean norm of several vectors, summed in double in an order that depends only on
/// their lengths. No allocation.
template <class Scalar>
double gradient_norm(std::span<const Vector<Scalar>> gradients) {
  constexpr Index lanes = 16;
  double total = 0;
  for (const Vector<Scalar>& g : gradients) {
    const Index whole = g.size() / lanes * lanes;
    Eigen::Array<double, lanes, 1> sums = Eigen::Array<double, lanes, 1>::Zero();
    for (Index i = 0; i < whole; i += lanes) {
      sums += g.template segment<lanes>(i).array().template cast<double>().square();
    }
    double sum = 0;
    for (const double lane : sums) sum += lane;
    for (Index i = whole; i < g.size(); ++i) {
      sum += static_cast<double>(g[i]) * static_cast<double>(g[i]);
    }
    total += sum;
  }
  return std::sqrt(total);
}

/// The norm of one vector.
template <class Scalar>
double gradient_norm(const Vector<Scalar>& gradients) {
  return gradient_norm(std::span(&gradients, 1));
}

/// @{
/// Scales the gradients of a list of parameter sets, or of one, by max_norm / n if their common
/// norm n exceeds `max_norm`, and returns n.
///
/// Squares are summed in double, so that no float overflows on the way. If n is not finite the
/// gradients stay as they are: the caller sees it in the result and can stop. An infinite
/// `max_norm` only measures. Two passes at most, no allocation. Throws std::invalid_argument unless
/// max_norm > 0. Unlike PyTorch's clip_grad_norm_, nothing is added to n in the quotient.
template <class Scalar>
double clip_gradient_norm(std::span<Vector<Scalar>> gradients, double max_norm) {
  if (!(max_norm > 0)) detail::reject("clip_gradient_norm", "max_norm", "positive", max_norm);
  const double norm = gradient_norm(std::span<const Vector<Scalar>>(gradients));
  if (std::isfinite(norm) && norm > max_norm) {
    for (Vector<Scalar>& g : gradients) g *= static_cast<Scalar>(max_norm / norm);
  }
  return norm;
}
template <class Scalar>
double clip_gradient_norm(Vector<Scalar>& gradients, double max_norm) {
  return clip_gradient_norm(std::span(&gradients, 1), max_norm);
}
/// @}

/// Thrown on a loss or gradient that is not finite, before any parameter has changed.
class NonFiniteLoss : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

/// Common part of all optimizers: the state for a list of parameter sets (most often one), the loop
/// over their trainable blocks, the checks, and saving and restoring for checkpoints.
///
/// `Method` is one step: made from (options, learning rate, number of the step), `update(p, g,
/// moments)` carries it out on a piece of a block. It has a `name`, `moment_names(options)`
/// (vectors beside each set), `check<Scalar>(options)` and `settings(options)`.
template <class Method, class Options, class Scalar>
class Optimizer {
 public:
  static constexpr std::string_view name = Method::name;  ///< name in checkpoints

  /// @{
  /// For one set of parameters, or a list of them, whose sizes must not change afterwards. Throws
  /// std::invalid_argument naming an option out of its range, or if the list is empty.
  explicit Optimizer(const Parameters<Scalar>& parameters, const Options& options = {})
      : Optimizer(std::vector<Index>{parameters.size()}, options) {}
  explicit Optimizer(std::span<Parameters<Scalar>* const> sets, const Options& options = {})
      : Optimizer(sizes_of(sets), options) {}
  explicit Optimizer(std::initializer_list<Parameters<Scalar>*> sets, const Options& options = {})
      : Optimizer(std::span(sets.begin(), sets.size()), options) {}
  /// @}

  /// @{
  /// One step on all trainable blocks of the set, or of all sets. Throws std::invalid_argument if a
  /// length has changed, and NonFiniteLoss if a gradient is not finite; then nothing changes.
  void step(Parameters<Scalar>& parameters, const Vector<Scalar>& gradients) {
    Parameters<Scalar>* set = &parameters;
    step(std::span(&set, 1), std::span(&gradients, 1));
  }
  void step(std::span<Parameters<Scalar>* const> sets, std::span<const Vector<Scalar>> gradients) {
    const std::string here = text("::step");
    check_count(here, "the number of parameter sets", sets.size(), sizes_.size());
    check_count(here, "the number of gradients", gradients.size(), sizes_.size());
    for (std::size_t k = 0; k < sizes_.size(); ++k) {
      check_length("parameters", sets[k]->size(), k);
      check_length("gradients", gradients[k].size(), k);
    }
    for (const Vector<Scalar>& g : gradients) {
      // Infinity and NaN give NaN times 0.
      if ((g.array() * Scalar(0)).sum() != Scalar(0)) {
        throw NonFiniteLoss(text("::step: a gradient is not finite; no parameter has changed"));
      }
    }
    ++steps_;
    const Method method(options_, rate_, steps_);
    for (std::size_t k = 0; k < sets.size(); ++k) {
      for (const ParameterBlock& block : sets[k]->blocks()) {
        if (!block.trainable) continue;
        // Pieces that stay in the first-level cache make the array expressions one pass.
        constexpr Index piece = 4096 / static_cast<Index>(sizeof(Scalar));
        const Index end = block.offset + block.size();
        for (Index i = block.offset; i < end; i += piece) {
          const Index count = std::min(piece, end - i);
          method.update(sets[k]->values().segment(i, count).array(),
                        gradients[k].segment(i, count).array(),
                        [&](std::size_t m) { return moments_[k][m].segment(i, count).array(); });
        }
      }
    }
  }
  /// @}

  const Options& options() const { return options_; }  ///< as given to the constructor
  double learning_rate() const { return rate_; }       ///< learning rate of the next step

  /// Takes effect at the next step. Throws std::invalid_argument if negative or not finite.
  void set_learning_rate(double rate) {
    constexpr double largest = std::numeric_limits<Scalar>::max();
    // The text of the message allocates.
    if (!(rate >= 0 && rate <= largest)) {
      check_range(text("::set_learning_rate"), "rate", rate, 0, largest);
    }
    rate_ = rate;
  }

  /// @{
  /// The state, for a checkpoint, with the learning rate: steps done, number of sets and length of
  /// each, and for each set the vectors that `moment_names` names, in its layout.
  Index steps() const { return steps_; }
  std::size_t sets() const { return sizes_.size(); }
  Index size(std::size_t set) const { return sizes_.at(set); }
  std::span<const Vector<Scalar>> moments(std::size_t set = 0) const { return moments_.at(set); }
  std::span<const std::string_view> moment_names() const { return Method::moment_names(options_); }
  /// @}

  /// Continues from a saved state. Throws std::invalid_argument, and changes nothing, if `steps` is
  /// negative, `rate` out of its range, or the moments differ from `moments` in number or length.
  void restore(Index steps, double rate, const std::vector<std::vector<Vector<Scalar>>>& moments) {
    const std::string here = text("::restore");
    check_not_negative(here, "steps", steps);
    check_range(here, "rate", rate, 0, std::numeric_limits<Scalar>::max());
    check_count(here, "the number of sets", moments.size(), moments_.size());
    for (std::size_t k = 0; k < moments.size(); ++k) {
      check_count(here, "the number of moments", moments[k].size(), moments_[k].size());
      for (const Vector<Scalar>& moment : moments[k]) check_length("moments", moment.size(), k);
    }
    steps_ = steps;
    rate_ = rate;
    for (std::size_t k = 0; k < moments.size(); ++k) {
      std::copy(moments[k].begin(), moments[k].end(), moments_[k].begin());
    }
  }

  /// Its options as strings, which must be the same for a run to resume.
  Settings settings() const {
    Settings all{{"optimizer", std::string(name)}};
    add_settings(all, "optimizer.", Method::settings(options_));
    return all;
  }

 private:
  Optimizer(const std::vector<Index>& sizes, const Options& options)
      : options_(options), rate_(options.learning_rate), sizes_(sizes) {
    constexpr double largest = std::numeric_limits<Scalar>::max();
    check_range(Method::name, "learning_rate", options.learning_rate, 0, largest);
    Method::template check<Scalar>(options);
    for (const Index size : sizes) {
      moments_.emplace_back(Method::moment_names(options).size(), Vector<Scalar>::Zero(size));
    }
  }

  static std::vector<Index> sizes_of(std::span<Parameters<Scalar>* const> sets) {
    if (sets.empty()) reject(Method::name, "the list of parameter sets", "non-empty", 0);
    std::vector<Index> sizes;
    for (const Parameters<Scalar>* set : sets) sizes.push_back(set->size());
    return sizes;
  }

  static std::string text(std::string_view rest) { return std::string(name) + std::string(rest); }

  static void check_count(std::string_view function, std::string_view what, std::size_t got,
                          std::size_t expected) {
    if (got != expected) reject(function, what, std::to_string(expected), got);
  }

  void check_length(std::string_view what, Index length, std::size_t set) const {
    if (length != sizes_[set]) {
      reject(name, what,
             "of length " + std::to_string(sizes_[set]) + ", that of the optimizer's parameters",
             length);
    }
  }

  Options options_;
  double rate_;
  std::vector<Index> sizes_;
  Index steps_ = 0;
  std::vector<std::vector<Vector<Scalar>>> moments_;  // moments of each set
};

inline void check_below_one(std::string_view function, std::string_view name, double value) {
  if (!(value >= 0 && value < 1)) reject(function, name, "in [0, 1)", value);
}

}  // namespace detail
}  // namespace plastic
