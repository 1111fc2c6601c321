#pragma once

#include <cmath>
#include <vector>

#include "plastic/optim/adamw.hpp"
#include "plastic/optim/gradient_clip.hpp"

namespace plastic {

/// AdamW over several sets of parameters whose gradients are clipped by their common norm.
/// Allocates in its constructor only.
template <class Scalar>
class JointAdamW {
 public:
  /// The parameters must outlive the object. Throws std::invalid_argument unless clip_norm > 0, and
  /// as AdamW does.
  JointAdamW(std::vector<Parameters<Scalar>*> parts, const AdamWOptions& options, double clip_norm)
      : parts_(std::move(parts)), clip_norm_(clip_norm) {
    if (!(clip_norm > 0)) detail::reject("JointAdamW", "clip_norm", "positive", clip_norm);
    for (const Parameters<Scalar>* part : parts_) {
      optimizers_.emplace_back(*part, options);
      gradients_.push_back(Vector<Scalar>::Zero(part->size()));
    }
  }

  /// @{
  /// One vector for each set of parameters, of its layout; zero at first.
  std::vector<Vector<Scalar>>& gradients() { return gradients_; }
  const std::vector<Vector<Scalar>>& gradients() const { return gradients_; }
  /// @}
  /// Makes the gradients zero.
  void clear_gradients() {
    for (Vector<Scalar>& g : gradients_) g.setZero();
  }

  /// Clips the gradients in place, steps, and returns their norm before; changes nothing if that is
  /// not finite. Throws std::invalid_argument if the length of a set has changed.
  double step() {
    double square = 0;
    for (const Vector<Scalar>& g : gradients_) square += std::pow(gradient_norm(g), 2);
    const double norm = std::sqrt(square);
    if (!std::isfinite(norm)) return norm;
    for (std::size_t k = 0; k < parts_.size(); ++k) {
      if (norm > clip_norm_) gradients_[k] *= static_cast<Scalar>(clip_norm_ / norm);
      optimizers_[k].step(*parts_[k], gradients_[k]);
    }
    return norm;
  }

  /// Takes effect at the next step. Throws std::invalid_argument if negative or not finite.
  void set_learning_rate(double rate) {
    for (AdamW<Scalar>& optimizer : optimizers_) optimizer.set_learning_rate(rate);
  }

  /// One for each set of parameters; their states are what a checkpoint holds.
  std::vector<AdamW<Scalar>>& optimizers() { return optimizers_; }

 private:
  std::vector<Parameters<Scalar>*> parts_;
  double clip_norm_;
  std::vector<AdamW<Scalar>> optimizers_;
  std::vector<Vector<Scalar>> gradients_;
};

}  // namespace plastic
