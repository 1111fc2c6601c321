#pragma once

#include <memory>
#include <vector>

#include "plastic/images/answers.hpp"
#include "plastic/images/augmentation.hpp"
#include "plastic/nn/conv2d.hpp"
#include "plastic/nn/dense.hpp"
#include "plastic/tape/functions.hpp"
#include "plastic/train/objective.hpp"

namespace plastic {

/// Pretraining task of an encoder: to classify the training images with a linear layer, or, without
/// classes, to find the images in a batch that come from the same original.
enum class Pretraining { classification, contrast };

/// Settings of an EncoderObjective.
struct EncoderObjectiveOptions {
  Pretraining goal = Pretraining::classification;  ///< pretraining task
  double temperature = 0.07;                       ///< contrast: in [1e-6, 1e6]
  Index projection = 128;          ///< contrast: number of features that are compared
  Augmentation augmentation = {};  ///< contrast needs one that changes images
  std::uint64_t seed = 0;          ///< seed of the layers after the encoder, and of dropout
  const FewShotImages* validation = nullptr;  ///< episodes to validate the encoder on

  /// Throws std::invalid_argument on the first setting out of its range.
  void validate() const {
    constexpr std::string_view here = "EncoderObjectiveOptions";
    detail::check_range(here, "temperature", temperature, 1e-6, 1e6);
    detail::check_positive(here, "projection", projection);
    augmentation.validate();
    if (goal == Pretraining::contrast && !augmentation.any()) {
      detail::reject(here, "augmentation",
                     "one that changes images, since both views would otherwise be the same",
                     "none");
    }
  }
};

/// Trains an encoder alone, with further layers that only serve the loss:
///
/// classification: cross-entropy of W f + b over the classes of the set;
/// contrast: z = W_2 relu(W_1 f + b_1) + b_2 for two views of each image; the mean over all views i
/// of -log(exp(s_ij / T) / sum_{k != i} exp(s_ik / T)), s the cosine, j the other view. Source:
/// Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020.
///
/// A batch is images, and one shard: batch norm sees them all. The validation loss is the share of
/// queries of `validation` that the nearest support image answers wrongly (`nearest_support`), on
/// batches of 100 episodes.
template <class Scalar>
class EncoderObjective {
 public:
  using ScalarType = Scalar;  ///< float or double

  /// `encoder`, `set` and the validation episodes must outlive it. Throws std::invalid_argument
  /// if they do not fit each other, and as the options' `validate` does.
  EncoderObjective(Encoder<Scalar>& encoder, const ImageSet& set,
                   const EncoderObjectiveOptions& options = {})
      : encoder_(&encoder), set_(&set), options_(options) {
    options.validate();
    detail::check_images("EncoderObjective", set, encoder.input());
    for (std::size_t k = 0; k < set.classes.size(); ++k) {
      labels_.insert(labels_.end(), static_cast<std::size_t>(set.classes[k].count),
                     static_cast<Index>(k));
    }
    const Index features = encoder.features();
    const auto add = [&](const char* name, Index inputs, Index outputs) {
      layers_.emplace_back(head_, name, inputs, outputs, options_.seed, 2);
    };
    if (options.goal == Pretraining::classification) {
      add("classes", features, static_cast<Index>(set.classes.size()));
    } else {
      add("projection1", features, features);
      add("projection2", features, options.projection);
    }
  }

  /// @{
  /// See Objective. The parameters are those of the encoder and of the layers after it, the state
  /// is the statistics of batch norm.
  std::vector<Parameters<Scalar>*> parameters() { return {&encoder_->parameters(), &head_}; }
  Index default_shard(Index batch) const { return batch; }
  std::vector<Vector<Scalar>*> state() {
    const std::vector<Vector<Scalar>*> all = encoder_->state();
    return {all.begin() + 1, all.end()};
  }
  std::span<const Measure> measures() const { return few_shot_measures; }
  Settings settings() const {
    using detail::number_text;
    Settings all = options_.augmentation.settings();
    all["encoder"] = encoder_->name();
    all["encoder.filters"] = number_text(encoder_->filters());
    all["loss"] = options_.goal == Pretraining::classification ? "classification" : "contrast";
    all["loss.temperature"] = number_text(options_.temperature);
    all["loss.projection"] = number_text(options_.projection);
    all["layers_seed"] = number_text(options_.seed);
    all["images"] = fingerprint(*set_);
    if (options_.validation != nullptr) {
      detail::add_settings(all, "validation.", options_.validation->settings());
    }
    return all;
  }
  /// @}

  /// See Objective. Throws std::invalid_argument if the shard is not the whole batch, or if
  /// contrast gets a batch of one image.
  double loss(const Shard& shard, std::span<Vector<Scalar>> gradients, Evaluation*) {
    const BatchKey& key = shard.key;
    if (shard.size() != key.samples) {
      detail::reject("EncoderObjective", "a shard", "the whole batch", shard.size());
    }
    if (options_.goal == Pretraining::contrast && key.samples < 2) {
      detail::reject("EncoderObjective", "the batch", "at least 2 for contrast", key.samples);
    }
    load(key, shard.threads);
    tape_->clear();
    Var<Scalar> x = encoder_->encode(
        tape_->borrow(images_.data(), images_.rows(), images_.cols()),
        {.training = true, .seed = options_.seed, .batch = key.batch, .threads = shard.threads},
        &gradients[0]);
    for (std::size_t k = 0; k < layers_.size(); ++k) {
      if (k > 0) x = relu(x);
      x = layers_[k](x, head_, &gradients[1], shard.threads);
    }
    const Var<Scalar> loss = options_.goal == Pretraining::classification
                                 ? classification_loss(x)
                                 : contrast_loss(x, shard.threads);
    tape_->backward(loss);
    return static_cast<double>(loss.value()(0, 0));
  }

  /// See Objective. Throws std::invalid_argument if the options have no episodes to validate on.
  Evaluation evaluate(Random::Stream stream, Index batches, Index, int threads) const {
    if (options_.validation == nullptr) {
      detail::reject("EncoderObjective::evaluate", "the validation episodes", "given", "none");
    }
    constexpr Index episodes = 100;
    return nearest_support(*encoder_, *options_.validation, stream, batches, episodes, threads);
  }

 private:
  Index views() const { return options_.goal == Pretraining::contrast ? 2 : 1; }

  /// View v of the k-th image of a batch is column v * samples + k.
  void load(const BatchKey& key, int threads) {
    images_.resize(set_->shape.size(), views() * key.samples);
    chosen_.resize(static_cast<std::size_t>(key.samples));
    if (memory_.size() < static_cast<std::size_t>(threads)) {
      memory_.resize(static_cast<std::size_t>(threads),
                     std::vector<double>(detail::augmentation_memory(set_->shape)));
    }
    parallel_for(key.samples, threads, [&](Index k, int thread) {
      Random random(key.stream, static_cast<std::uint64_t>(key.batch),
                    static_cast<std::uint64_t>(k));
      const Index image = random.below(static_cast<std::uint32_t>(set_->images()));
      chosen_[static_cast<std::size_t>(k)] = image;
      for (Index v = 0; v < views(); ++v) {
        load_image(*set_, image, options_.augmentation, random,
                   images_.col(v * key.samples + k).data(),
                   memory_[static_cast<std::size_t>(thread)]);
      }
    });
  }

  Var<Scalar> classification_loss(const Var<Scalar>& logits) {
    const Var<Scalar> target = tape_->constant(Matrix<Scalar>::Zero(logits.rows(), logits.cols()));
    MatrixMap<Scalar> values = target.node().value_map();
    for (Index k = 0; k < values.cols(); ++k) {
      const auto image = static_cast<std::size_t>(chosen_[static_cast<std::size_t>(k)]);
      values(labels_[image], k) = 1;
    }
    return cross_entropy(logits, target);
  }

  Var<Scalar> contrast_loss(const Var<Scalar>& x, int threads) {
    const Index n = x.cols();
    const Var<Scalar> z = x / sqrt(sum_features(square(x)) + 1e-12);
    // A view is not its own counterpart.
    constexpr auto never = static_cast<Scalar>(-1e9);
    const Var<Scalar> mask = tape_->constant(never * Matrix<Scalar>::Identity(n, n));
    const Var<Scalar> target = tape_->constant(Matrix<Scalar>::NullaryExpr(
        n, n, [n](Index i, Index k) -> Scalar { return i == (k + n / 2) % n ? 1 : 0; }));
    // z' z, computed as in Dense: shared among threads and without allocation.
    const Var<Scalar> cosine = conv2d(
        z, z, Var<Scalar>(),
        {.input = {z.rows(), 1, 1}, .filters = n, .kernel = 1, .padding = 0, .threads = threads});
    return cross_entropy(cosine / options_.temperature + mask, target);
  }

  Encoder<Scalar>* encoder_;
  const ImageSet* set_;
  EncoderObjectiveOptions options_;
  Parameters<Scalar> head_;
  std::vector<Dense<Scalar>> layers_;
  std::unique_ptr<Tape<Scalar>> tape_ = std::make_unique<Tape<Scalar>>();
  std::vector<Index> labels_;  // class of every image
  std::vector<Index> chosen_;  // images of the batch
  Matrix<Scalar> images_;
  std::vector<std::vector<double>> memory_;  // workspace of each thread, to load images in
};

}  // namespace plastic
