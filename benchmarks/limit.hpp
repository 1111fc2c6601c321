#pragma once

#include <memory>

#include "model.hpp"
#include "naive.hpp"

namespace bench {

/// The arithmetic of a plastic network and the least memory traffic it needs, with nothing around
/// it: how fast the library could be. No biases, no modulation, no norm, no layer norm, gates of
/// straight lines instead of exponentials, no tape; see limit.cpp.
class Limit {
 public:
  virtual ~Limit() = default;

  /// Loss over the batch; leaves the gradient in this object.
  virtual double train_step(const Data& data) = 0;

  /// Loss over the batch, without derivatives.
  virtual double forward(const Data& data) = 0;

  /// What train_step left, in the layout of naive.hpp (biases and out_scale are zero), and the sums
  /// of the derivatives by the two rates.
  virtual naive::Result result() const = 0;
};

/// The network that `Limit` computes, for naive.hpp.
naive::Settings limit_settings(const Case& c);

/// Throws std::invalid_argument unless the rule is plastic and `hidden` is 64 or a multiple of 128.
std::unique_ptr<Limit> make_limit(const Case& c, const naive::Numbers& parameters);

}  // namespace bench
