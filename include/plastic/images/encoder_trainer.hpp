#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "plastic/images/augmentation.hpp"
#include "plastic/images/nearest_support.hpp"
#include "plastic/nn/dense.hpp"
#include "plastic/optim/joint_adamw.hpp"
#include "plastic/optim/schedule.hpp"
#include "plastic/tape/functions.hpp"
#include "plastic/train/loop.hpp"

namespace plastic {

/// What an encoder learns before it serves a plastic network: the classes of the training images by
/// a linear layer, or, without classes, which of the images of a batch come from the same one.
enum class Pretraining { classification, contrast };

/// Settings of such a run. The learning rate falls along half a cosine to a hundredth.
struct EncoderTrainerOptions {
  Pretraining goal = Pretraining::classification;  ///< what is learned
  Index batch = 128;                               ///< images; by contrast two views of each
  Index batches = 2000;                            ///< of the run
  double learning_rate = 1e-3;                     ///< at first
  double weight_decay = 5e-4;                      ///< as in AdamWOptions
  double clip_norm = 5;                            ///< of the whole gradient, in [1e-15, 1e15]
  double temperature = 0.07;                       ///< of contrast
  Index projection = 128;                          ///< contrast: features that are compared
  Augmentation augmentation = {};                  ///< contrast needs some
  Index validation_every = 200;                    ///< batches; 0 never validates
  Index validation_batches = 10;                   ///< of 100 episodes
  std::uint64_t seed = 0;  ///< of the layers after the encoder, of images and dropout
  int threads = 1;         ///< the results do not depend on it

  /// Throws std::invalid_argument on the first setting out of its range.
  void validate() const {
    constexpr std::string_view here = "EncoderTrainerOptions";
    detail::check_positive(here, "batch", batch);
    detail::check_positive(here, "batches", batches);
    detail::check_range(here, "clip_norm", clip_norm, 1e-15, 1e15);
    detail::check_range(here, "temperature", temperature, 1e-6, 1e6);
    detail::check_positive(here, "projection", projection);
    augmentation.validate();
    if (goal == Pretraining::contrast && !augmentation.any()) {
      detail::reject(here, "augmentation", "more than nothing: the views would be the same",
                     "none");
    }
    if (goal == Pretraining::contrast && batch < 2) {
      detail::reject(here, "batch", "at least 2 for contrast", batch);
    }
    if (validation_every < 0) {
      detail::reject(here, "validation_every", "at least 0", validation_every);
    }
    detail::check_positive(here, "validation_batches", validation_batches);
    detail::check_positive(here, "threads", threads);
  }
};

/// Trains an encoder alone, with layers after it that only serve its loss:
///
/// classification: cross-entropy of W f + b over the classes of the set;
/// contrast: z = W_2 relu(W_1 f + b_1) + b_2 for two views of each image; the mean over all views i
/// of -log(exp(s_ij / T) / sum_{k != i} exp(s_ik / T)), s the cosine, j the other view. Source:
/// Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020.
///
/// The same seed gives the same bits with any number of threads.
template <class Scalar>
class EncoderTrainer {
 public:
  /// `encoder` and `set` must outlive the trainer. Throws std::invalid_argument if they do not fit
  /// each other, and as the options' `validate` does.
  EncoderTrainer(Encoder<Scalar>& encoder, const ImageSet& set,
                 const EncoderTrainerOptions& options)
      : encoder_(&encoder),
        set_(&set),
        options_(options),
        layers_(make_layers()),
        optimizer_({&encoder.parameters(), &head_},
                   {.learning_rate = options.learning_rate, .weight_decay = options.weight_decay},
                   options.clip_norm),
        schedule_({.learning_rate = options.learning_rate,
                   .floor = options.learning_rate / 100,
                   .batches = options.batches}) {
    options.validate();
    if (set.shape != encoder.input()) {
      detail::reject("EncoderTrainer", "the images of the set", detail::shape_text(encoder.input()),
                     detail::shape_text(set.shape));
    }
    for (std::size_t k = 0; k < set.classes.size(); ++k) {
      labels_.insert(labels_.end(), static_cast<std::size_t>(set.classes[k].count),
                     static_cast<Index>(k));
    }
  }

  /// One batch: forward, backward, clip, AdamW. Returns the batch's loss before the step. Throws
  /// NonFiniteLoss if loss or gradient is not finite; parameters are then unchanged, but the
  /// running statistics of an encoder in training are not.
  double step(Index batch) {
    const double loss = gradient(batch);
    optimizer_.set_learning_rate(schedule_(batch));
    if (!std::isfinite(loss) || !std::isfinite(optimizer_.step())) {
      throw NonFiniteLoss("EncoderTrainer::step: the loss or gradient of batch " +
                          std::to_string(batch) + " is not finite");
    }
    return loss;
  }

  /// Loss of a training batch; leaves the gradients of encoder and layers in
  /// `optimizer().gradients()`. Throws std::invalid_argument if `batch` is negative.
  double gradient(Index batch) {
    if (batch < 0) detail::reject("EncoderTrainer::gradient", "batch", "at least 0", batch);
    optimizer_.clear_gradients();
    load(batch);
    tape_.clear();
    std::vector<Vector<Scalar>>& gradients = optimizer_.gradients();
    Var<Scalar> x = encoder_->encode(
        tape_.borrow(images_.data(), images_.rows(), images_.cols()),
        {.training = true, .seed = options_.seed, .batch = batch, .threads = options_.threads},
        &gradients[0]);
    for (std::size_t k = 0; k < layers_.size(); ++k) {
      if (k > 0) x = relu(x);
      x = layers_[k](x, head_, &gradients[1], options_.threads);
    }
    const Var<Scalar> loss =
        options_.goal == Pretraining::classification ? classification_loss(x) : contrast_loss(x);
    tape_.backward(loss);
    return static_cast<double>(loss.value()(0, 0));
  }

  /// Of encoder and layers, with their gradients.
  JointAdamW<Scalar>& optimizer() { return optimizer_; }

  /// Trains batches `first` .. options.batches - 1 and tells the callbacks, as Trainer::run does.
  /// The validation loss is the share of queries of `validation` that the nearest support image
  /// answers wrongly (`nearest_support`).
  Progress run(const FewShotImages& validation, std::span<TrainingCallback* const> callbacks,
               Index first = 0, const std::function<bool()>& stop = {}) {
    return run_loop(
        options_.batches, options_.validation_every, [&](Index batch) { return step(batch); },
        [&] {
          return nearest_support(*encoder_, validation,
                                 {options_.seed, Random::Purpose::validation},
                                 options_.validation_batches, 100, options_.threads)
              .loss;
        },
        callbacks, first, stop);
  }

 private:
  std::vector<Dense<Scalar>> make_layers() {
    std::vector<Dense<Scalar>> layers;
    const Index features = encoder_->features();
    const auto add = [&](const char* name, Index inputs, Index outputs) {
      layers.emplace_back(head_, name, inputs, outputs, options_.seed, 2);
    };
    if (options_.goal == Pretraining::classification) {
      add("classes", features, static_cast<Index>(set_->classes.size()));
    } else {
      add("projection1", features, features);
      add("projection2", features, options_.projection);
    }
    return layers;
  }

  Index views() const { return options_.goal == Pretraining::contrast ? 2 : 1; }

  /// View v of the k-th image of a batch is column v * batch + k.
  void load(Index batch) {
    images_.resize(set_->shape.size(), views() * options_.batch);
    chosen_.resize(static_cast<std::size_t>(options_.batch));
    parallel_for(options_.batch, options_.threads, [&](Index k, int) {
      Random random({options_.seed, Random::Purpose::training}, static_cast<std::uint64_t>(batch),
                    static_cast<std::uint64_t>(k));
      const Index image = random.below(static_cast<std::uint32_t>(set_->images()));
      chosen_[static_cast<std::size_t>(k)] = image;
      for (Index v = 0; v < views(); ++v) {
        load_image(*set_, image, options_.augmentation, random,
                   images_.col(v * options_.batch + k).data());
      }
    });
  }

  Var<Scalar> classification_loss(const Var<Scalar>& logits) {
    Matrix<Scalar> target = Matrix<Scalar>::Zero(logits.rows(), logits.cols());
    for (Index k = 0; k < target.cols(); ++k) {
      const auto image = static_cast<std::size_t>(chosen_[static_cast<std::size_t>(k)]);
      target(labels_[image], k) = 1;
    }
    return cross_entropy(logits, tape_.constant(target));
  }

  Var<Scalar> contrast_loss(const Var<Scalar>& x) {
    const Index n = x.cols();
    const Var<Scalar> z = x / sqrt(sum_features(square(x)) + 1e-12);
    // A view is not its own counterpart.
    constexpr double never = -1e9;
    const Matrix<Scalar> mask = static_cast<Scalar>(never) * Matrix<Scalar>::Identity(n, n);
    Matrix<Scalar> target = Matrix<Scalar>::Zero(n, n);
    for (Index k = 0; k < n; ++k) target((k + n / 2) % n, k) = 1;
    return cross_entropy(matmul(transpose(z), z) / options_.temperature + tape_.constant(mask),
                         tape_.constant(target));
  }

  Encoder<Scalar>* encoder_;
  const ImageSet* set_;
  EncoderTrainerOptions options_;
  Parameters<Scalar> head_;
  std::vector<Dense<Scalar>> layers_;
  JointAdamW<Scalar> optimizer_;
  CosineSchedule schedule_;
  Tape<Scalar> tape_;
  std::vector<Index> labels_;  // the class of every image
  std::vector<Index> chosen_;  // the images of the batch
  Matrix<Scalar> images_;
};

}  // namespace plastic
