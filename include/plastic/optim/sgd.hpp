#pragma once

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plastic/core/check.hpp"
#include "plastic/core/parameters.hpp"
#include "plastic/core/types.hpp"

namespace plastic {

/// Settings of SGD.
struct SGDOptions {
  double learning_rate = 1e-2;  ///< not negative
  double momentum = 0;          ///< in [0, 1)
  double weight_decay = 0;      ///< not negative; times p, added to the gradient
};

/// Stochastic gradient descent with momentum. A step with gradient g changes a value p by
///
///     b <- momentum b + g + weight_decay p        b starts at 0
///     p <- p - lr b
///
/// Frozen blocks and the gaps between blocks are passed over. A step is one pass over memory and
/// allocates nothing; b is allocated by the constructor, and only if there is momentum. Gradients
/// are not checked for NaN: see clip_gradient_norm. The convention is PyTorch's.
template <class Scalar>
class SGD {
 public:
  /// For one set of parameters, whose size must not change afterwards. Throws
  /// std::invalid_argument naming an option out of its range.
  explicit SGD(const Parameters<Scalar>& parameters, const SGDOptions& options = {})
      : options_(options), size_(parameters.size()) {
    constexpr double largest = std::numeric_limits<Scalar>::max();
    detail::check_range("SGD", "learning_rate", options.learning_rate, 0, largest);
    if (!(options.momentum >= 0 && options.momentum < 1)) {
      detail::reject("SGD", "momentum", "in [0, 1)", options.momentum);
    }
    detail::check_range("SGD", "weight_decay", options.weight_decay, 0, largest);
    if (options.momentum > 0) moments_.push_back(Vector<Scalar>::Zero(size_));
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
  /// changed or the range is not within it.
  void begin_step() { ++steps_; }
  void update(Parameters<Scalar>& parameters, const Vector<Scalar>& gradients, Index first,
              Index last) {
    check_lengths(parameters, gradients);
    if (first < 0 || first > last || last > size_) {
      detail::reject("SGD::update", "[first, last)", "within [0, " + std::to_string(size_) + ")",
                     "[" + std::to_string(first) + ", " + std::to_string(last) + ")");
    }
    for (const ParameterBlock& block : parameters.blocks()) {
      if (!block.trainable) continue;
      // Pieces that stay in the first-level cache make the array expressions one pass.
      constexpr Index piece = 4096 / static_cast<Index>(sizeof(Scalar));
      const Index end = std::min(block.offset + block.size(), last);
      for (Index i = std::max(block.offset, first); i < end; i += piece) {
        update_piece(parameters.values(), gradients, i, std::min(piece, end - i));
      }
    }
  }
  /// @}

  const SGDOptions& options() const { return options_; }  ///< with the present learning rate
  double learning_rate() const { return options_.learning_rate; }  ///< of the next step

  /// Takes effect at the next step. Throws std::invalid_argument if negative or not finite.
  void set_learning_rate(double rate) {
    detail::check_range("SGD::set_learning_rate", "rate", rate, 0,
                        std::numeric_limits<Scalar>::max());
    options_.learning_rate = rate;
  }

  /// @{
  /// The state, for a checkpoint: steps done, and with momentum b, of the parameters' layout, with
  /// its name in files.
  Index steps() const { return steps_; }
  std::span<const Vector<Scalar>> moments() const { return moments_; }
  std::span<const std::string_view> moment_names() const {
    static constexpr std::array<std::string_view, 1> names{"momentum"};
    return std::span(names).first(moments_.size());
  }
  /// @}

  /// Continues from a saved state. Throws std::invalid_argument, and changes nothing, if `steps` is
  /// negative or the moments differ from `moments()` in number or length.
  void restore(Index steps, std::span<const Vector<Scalar>> moments) {
    if (steps < 0) detail::reject("SGD::restore", "steps", "at least 0", steps);
    if (moments.size() != moments_.size()) {
      detail::reject("SGD::restore", "the number of moments", std::to_string(moments_.size()),
                     moments.size());
    }
    for (const Vector<Scalar>& moment : moments) check_length("moments", moment.size());
    steps_ = steps;
    std::copy(moments.begin(), moments.end(), moments_.begin());
  }

 private:
  void check_lengths(const Parameters<Scalar>& parameters, const Vector<Scalar>& gradients) const {
    check_length("parameters", parameters.size());
    check_length("gradients", gradients.size());
  }

  void check_length(std::string_view name, Index length) const {
    if (length != size_) {
      detail::reject("SGD", name,
                     "of length " + std::to_string(size_) + ", that of the optimizer's parameters",
                     length);
    }
  }

  void update_piece(Vector<Scalar>& values, const Vector<Scalar>& gradients, Index first,
                    Index count) {
    const auto rate = static_cast<Scalar>(options_.learning_rate);
    const auto decay = static_cast<Scalar>(options_.weight_decay);
    const auto g = gradients.segment(first, count).array();
    auto p = values.segment(first, count).array();
    if (moments_.empty()) {
      p -= (g + p * decay) * rate;
    } else {
      auto b = moments_.front().segment(first, count).array();
      b = b * static_cast<Scalar>(options_.momentum) + (g + p * decay);
      p -= b * rate;
    }
  }

  SGDOptions options_;
  Index size_;
  Index steps_ = 0;
  std::vector<Vector<Scalar>> moments_;
};

}  // namespace plastic
