#pragma once

#include <memory>

#include "model.hpp"
#include "naive.hpp"

namespace bench {

/// Vectors of a matrix (`lanes` weights each) that the passes of one call have visited, by the kind
/// of pass: y = x (W + s v); the update of v with such a product; the adjoint of both, also with a
/// second use of the same weights; dW += a b^T.
struct Walked {
  double reads = 0, updates = 0, adjoints = 0, adjoints_of_two = 0, outer_products = 0;

  Walked& operator+=(const Walked& other) {
    reads += other.reads;
    updates += other.updates;
    adjoints += other.adjoints;
    adjoints_of_two += other.adjoints_of_two;
    outer_products += other.outer_products;
    return *this;
  }
};

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

  /// What the latest call of the one kind that has been made has visited, over all threads.
  virtual Walked walked() const = 0;

  /// Number of fast weights of one sample.
  virtual double weights() const = 0;
};

/// The network that `Limit` computes, for naive.hpp.
naive::Settings limit_settings(const Case& c);

/// Throws std::invalid_argument unless the rule is plastic and `hidden` is 64 or a multiple of 128.
std::unique_ptr<Limit> make_limit(const Case& c, const naive::Numbers& parameters);

}  // namespace bench
