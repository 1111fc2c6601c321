#pragma once

#include <algorithm>
#include <cmath>

#include "plastic/core/parallel.hpp"
#include "plastic/nn/image.hpp"

namespace plastic {

/// Mean and variance of each channel over the batches seen in training, for use outside training.
template <class Scalar>
struct RunningStatistics {
  Vector<Scalar> mean;      ///< channels x 1
  Vector<Scalar> variance;  ///< channels x 1

  /// Mean 0 and variance 1 of each channel.
  explicit RunningStatistics(Index channels)
      : mean(Vector<Scalar>::Zero(channels)), variance(Vector<Scalar>::Ones(channels)) {}
};

/// Settings of batch_norm.
struct BatchNormOptions {
  ImageShape input = {};  ///< shape of each image
  bool training = true;   ///< whether to use the batch's statistics, not the running ones
  double epsilon = 1e-5;  ///< added to the variance, in [1e-30, 1e30]
  double momentum = 0.1;  ///< weight of this batch in the running statistics, in [0, 1]
  double slope = 1;       ///< slope of the next activation: 1 none, 0 ReLU, between them leaky ReLU
  int threads = 1;        ///< threads to use; the result does not depend on it
};

namespace detail {

template <class Scalar>
class BatchNormNode final : public ImageNode<Scalar, 3> {
 public:
  /// moments: mean and 1 / sqrt(variance + epsilon) of each channel.
  BatchNormNode(const std::array<Node<Scalar>*, 3>& parents, const BatchNormOptions& o,
                Scalar* moments)
      : ImageNode<Scalar, 3>("batch_norm", parents), o_(o), moments_(moments) {}

  void evaluate(RunningStatistics<Scalar>& running) {
    each_channel([&](Index c) {
      const double count = static_cast<double>(this->cols * o_.input.pixels());
      double mean = static_cast<double>(running.mean[c]);
      double variance = static_cast<double>(running.variance[c]);
      if (o_.training) {
        double sum = 0;
        each_image([&](Index n) { sum += static_cast<double>(x(c, n).sum()); });
        mean = sum / count;
        double square = 0;
        const Scalar centre = static_cast<Scalar>(mean);
        each_image(
            [&](Index n) { square += static_cast<double>((x(c, n) - centre).square().sum()); });
        variance = square / count;
        const double m = o_.momentum;
        const double unbiased = square / std::max(1.0, count - 1);
        running.mean[c] += static_cast<Scalar>(m * (mean - static_cast<double>(running.mean[c])));
        running.variance[c] +=
            static_cast<Scalar>(m * (unbiased - static_cast<double>(running.variance[c])));
      }
      moments_[2 * c] = static_cast<Scalar>(mean);
      moments_[2 * c + 1] = static_cast<Scalar>(1 / std::sqrt(variance + o_.epsilon));
      const Scalar scale = gain(c) * moments_[2 * c + 1];
      const Scalar shift = this->parent(2).value[c] - moments_[2 * c] * scale;
      const Scalar slope = static_cast<Scalar>(o_.slope);
      each_image([&](Index n) {
        auto y = part(this->value, c, n);
        y = x(c, n) * scale + shift;
        if (slope != 1) y = y.max(y * slope);
      });
    });
  }

  void propagate(Tape<Scalar>& tape) override {
    const auto open = [&](Node<Scalar>& node) {
      return node.needs_adjoint ? tape.open_adjoint(node).data() : nullptr;
    };
    Scalar* dx = open(this->parent(0));
    Scalar* dgain = open(this->parent(1));
    Scalar* dbias = open(this->parent(2));
    each_channel([&](Index c) {
      const Scalar mean = moments_[2 * c], inverse = moments_[2 * c + 1];
      const Scalar slope = static_cast<Scalar>(o_.slope);
      // The activation keeps the sign, so its output shows on which side of 0 the input was.
      const auto dy = [&](Index n) {
        const auto factor = (part(this->value, c, n) > Scalar(0)).template cast<Scalar>();
        return part(this->adjoint, c, n) * (factor * (1 - slope) + slope);
      };
      double sum = 0, product = 0;
      each_image([&](Index n) {
        sum += static_cast<double>(dy(n).sum());
        product += static_cast<double>((dy(n) * (x(c, n) - mean)).sum());
      });
      const Scalar dot = static_cast<Scalar>(product) * inverse;
      if (dgain != nullptr) dgain[c] += dot;
      if (dbias != nullptr) dbias[c] += static_cast<Scalar>(sum);
      if (dx == nullptr) return;
      const Scalar scale = gain(c) * inverse;
      const Scalar count = static_cast<Scalar>(this->cols * o_.input.pixels());
      const Scalar mean_dy = o_.training ? static_cast<Scalar>(sum) / count : Scalar(0);
      const Scalar along = o_.training ? dot / count * inverse : Scalar(0);
      each_image(
          [&](Index n) { part(dx, c, n) += scale * (dy(n) - mean_dy - (x(c, n) - mean) * along); });
    });
  }

 private:
  Scalar gain(Index c) const { return this->parent(1).value[c]; }

  Eigen::Map<Eigen::Array<Scalar, Eigen::Dynamic, 1>> part(Scalar* images, Index c, Index n) const {
    return {images + n * o_.input.size() + c * o_.input.pixels(), o_.input.pixels()};
  }
  auto x(Index c, Index n) const { return part(this->parent(0).value, c, n); }

  template <class F>
  void each_channel(F&& f) const {
    parallel_for(o_.input.channels, o_.threads, [&](Index c, int) { f(c); });
  }
  template <class F>
  void each_image(F&& f) const {
    for (Index n = 0; n < this->cols; ++n) f(n);
  }

  BatchNormOptions o_;
  Scalar* moments_;
};

}  // namespace detail

/// y = act((x - mean) / sqrt(variance + epsilon) * gain + bias) of each channel, act(z) = z for
/// z > 0, else slope * z (derivative slope at 0).
///
/// In training, mean and variance are those of the channel over all pixels and images, and the
/// running statistics move towards them by `momentum` (the variance towards the unbiased one);
/// else the running statistics are used as they are. x, y: input.size() x images; gain, bias:
/// channels x 1. Differentiable once in x, gain and bias. Runs on `threads` threads, with the same
/// bits on any number of them. Throws std::invalid_argument on options or shapes that do not fit.
/// Source: Ioffe, Szegedy, "Batch normalization", ICML 2015.
template <class Scalar>
Var<Scalar> batch_norm(const Var<Scalar>& x, const Var<Scalar>& gain, const Var<Scalar>& bias,
                       RunningStatistics<Scalar>& running, const BatchNormOptions& options) {
  constexpr std::string_view here = "batch_norm";
  detail::check_images(here, x, options.input);
  const Index channels = options.input.channels;
  Tape<Scalar>& tape = x.tape();
  tape.check_on_this_tape(here, gain);
  tape.check_on_this_tape(here, bias);
  detail::check_shape(here, "gain", gain, channels, 1);
  detail::check_shape(here, "bias", bias, channels, 1);
  detail::check_shape(here, "running.mean", running.mean, channels, 1);
  detail::check_shape(here, "running.variance", running.variance, channels, 1);
  detail::check_range(here, "epsilon", options.epsilon, 1e-30, 1e30);
  detail::check_range(here, "momentum", options.momentum, 0, 1);
  detail::check_range(here, "slope", options.slope, 0, 1);
  detail::check_positive(here, "threads", options.threads);
  Scalar* moments = tape.allocate(2 * channels);
  auto* node = tape.template emplace_result<detail::BatchNormNode<Scalar>>(
      x.rows(), x.cols(), std::array{&x.node(), &gain.node(), &bias.node()}, options, moments);
  node->evaluate(running);
  return {&tape, node};
}

}  // namespace plastic
