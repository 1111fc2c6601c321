#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "plastic/images/augmentation.hpp"
#include "plastic/images/few_shot_images.hpp"
#include "plastic/images/image_classifier.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/optim/gradient_clip.hpp"
#include "plastic/tape/functions.hpp"
#include "plastic/train/shards.hpp"
#include "plastic/train/trainer.hpp"

namespace plastic {

/// Settings of a training run on images; the defaults are the paper's.
struct ImageTrainerOptions {
  Index batch = 64;  ///< episodes
  double learning_rate = 1e-3;
  double weight_decay = 5e-4;
  double clip_norm = 5;            ///< of the whole gradient
  double smoothing = 0;            ///< of labels
  Augmentation augmentation = {};  ///< of training images
  bool frozen = false;             ///< leaves the encoder as it is
  std::uint64_t seed = 0;
  int threads = 1;
  Index shard = 0;  ///< episodes on one tape of the plastic part; 0 chooses

  /// Throws std::invalid_argument on the first setting out of its range.
  void validate() const {
    constexpr std::string_view here = "ImageTrainerOptions";
    detail::check_positive(here, "batch", batch);
    detail::check_range(here, "clip_norm", clip_norm, 1e-15, 1e15);
    detail::check_range(here, "smoothing", smoothing, 0, 1);
    augmentation.validate();
    detail::check_positive(here, "threads", threads);
    if (shard < 0) detail::reject(here, "shard", "at least 0", shard);
  }
};

/// How a classifier does on episodes.
struct ImageEvaluation {
  double loss = 0;          ///< mean cross-entropy over the queries
  double accuracy = 0;      ///< share of episodes whose first query is answered right
  double half_width = 0;    ///< of its 95% interval (normal approximation)
  double all_accuracy = 0;  ///< share of all queries
};

/// Trains an ImageClassifier on few-shot episodes by gradient descent through encoder and plastic
/// cell together.
///
/// All images of a batch go through the encoder at once, so that batch norm sees them all; then the
/// episodes go through the cell in shards, forward and backward; then the adjoints of the features
/// go back through the encoder. The loss is the cross-entropy, averaged over the queries. The same
/// seed gives the same bits with any number of threads.
template <class Cell>
class ImageTrainer {
  using Scalar = typename Cell::ScalarType;

 public:
  /// `model` and the sets of the episodes must outlive the trainer. Throws std::invalid_argument if
  /// they do not fit each other.
  ImageTrainer(ImageClassifier<Cell>& model, const FewShotImages& episodes,
               const ImageTrainerOptions& options)
      : model_(&model), episodes_(episodes), options_(options) {
    options.validate();
    check_fit(episodes);
    if (options_.shard == 0) options_.shard = default_shard(model.cell(), options_.batch);
    options_.shard = std::min(options_.shard, options_.batch);
    shards_ =
        Shards<Scalar>(options_.batch, options_.shard, options_.threads, model.cell().parameters());
    for (int t = 0; t < options_.threads; ++t) tapes_.push_back(std::make_unique<Tape<Scalar>>());
    const AdamWOptions adamw{.learning_rate = options.learning_rate,
                             .weight_decay = options.weight_decay};
    for (Parameters<Scalar>* part : parts()) {
      optimizers_.emplace_back(*part, adamw);
      gradients_.push_back(Vector<Scalar>::Zero(part->size()));
    }
  }

  /// One batch: forward, backward, clip, AdamW. Returns the batch's loss before the step. Throws
  /// NonFiniteLoss if loss or gradient is not finite; parameters are then unchanged.
  double step(Index batch) {
    const double loss = gradient(batch);
    double square = 0;
    for (const Vector<Scalar>& g : gradients_) square += std::pow(gradient_norm(g), 2);
    const double norm = std::sqrt(square);
    if (!std::isfinite(loss) || !std::isfinite(norm)) {
      throw NonFiniteLoss("ImageTrainer::step: the loss or gradient of batch " +
                          std::to_string(batch) + " is not finite");
    }
    const auto all = parts();
    for (std::size_t k = options_.frozen ? 1 : 0; k < all.size(); ++k) {
      if (norm > options_.clip_norm) {
        gradients_[k] *= static_cast<Scalar>(options_.clip_norm / norm);
      }
      optimizers_[k].step(*all[k], gradients_[k]);
    }
    return loss;
  }

  void set_learning_rate(double rate) {
    for (AdamW<Scalar>& optimizer : optimizers_) optimizer.set_learning_rate(rate);
  }

  /// Loss of a training batch; leaves the gradients of encoder, head and cell in `gradients()`.
  double gradient(Index batch) {
    if (batch < 0) detail::reject("ImageTrainer::gradient", "batch", "at least 0", batch);
    for (Vector<Scalar>& g : gradients_) g.setZero();
    load(episodes_, {options_.seed, Random::Purpose::training}, batch, true);
    tape_.clear();
    const bool frozen = options_.frozen;
    const Var<Scalar> embedded = model_->embed(
        tape_.borrow(images_.data(), images_.rows(), images_.cols()),
        {.training = !frozen, .seed = options_.seed, .batch = batch, .threads = options_.threads},
        frozen ? nullptr : &gradients_[0], &gradients_[1]);
    adjoint_.setZero(embedded.rows(), embedded.cols());
    const double loss = shards_.gradient([&](Index shard, int thread, Vector<Scalar>& total) {
      return run_shard(*tapes_[static_cast<std::size_t>(thread)], shard, embedded, total);
    });
    gradients_[2] = shards_.gradients();
    tape_.forget_adjoints();
    tape_.seed(embedded, adjoint_);
    tape_.sweep(tape_.position(), {});
    return loss;
  }

  /// Of encoder, head and cell, in this order.
  const std::vector<Vector<Scalar>>& gradients() const { return gradients_; }

  /// The model in use, on `batches` batches of fresh episodes.
  ImageEvaluation evaluate(const FewShotImages& episodes, Random::Stream stream, Index batches) {
    check_fit(episodes);
    detail::check_positive("ImageTrainer::evaluate", "batches", batches);
    ImageEvaluation result;
    double first = 0, all = 0;
    for (Index batch = 0; batch < batches; ++batch) {
      load(episodes, stream, batch, false);
      tape_.clear();
      const Var<Scalar> embedded =
          model_->embed(tape_.borrow(images_.data(), images_.rows(), images_.cols()),
                        {.threads = options_.threads});
      std::vector<Answers> answers(static_cast<std::size_t>(shards_.count()));
      parallel_for(shards_.count(), options_.threads, [&](Index shard, int) {
        answers[static_cast<std::size_t>(shard)] = answer(episodes, shard, embedded);
      });
      for (const Answers& a : answers) {
        result.loss += a.loss;
        first += a.first;
        all += a.all;
      }
    }
    const auto count = static_cast<double>(batches * options_.batch);
    const auto queries = static_cast<double>(episodes.steps() - episodes.support_steps());
    result.loss /= count * queries;
    result.accuracy = first / count;
    result.all_accuracy = all / (count * queries);
    result.half_width = 1.96 * std::sqrt(result.accuracy * (1 - result.accuracy) / count);
    return result;
  }

 private:
  struct Answers {
    double loss = 0, first = 0, all = 0;
  };

  std::vector<Parameters<Scalar>*> parts() {
    return {&model_->encoder().parameters(), &model_->head(), &model_->cell().parameters()};
  }

  void check_fit(const FewShotImages& episodes) const {
    if (episodes.set().shape != model_->encoder().input()) {
      detail::reject("ImageTrainer", "the images of the set",
                     detail::shape_text(model_->encoder().input()),
                     detail::shape_text(episodes.set().shape));
    }
    if (episodes.options().way != model_->way()) {
      detail::reject("ImageTrainer", "the way of the episodes",
                     std::to_string(model_->way()) + ", the outputs of the cell",
                     episodes.options().way);
    }
  }

  /// Draws a batch of episodes and loads their images: column t * batch + s is step t of episode s.
  void load(const FewShotImages& episodes, Random::Stream stream, Index batch, bool training) {
    const Index steps = episodes.steps();
    images_.resize(episodes.set().shape.size(), steps * options_.batch);
    labels_.resize(static_cast<std::size_t>(steps * options_.batch));
    const Augmentation augmentation = training ? options_.augmentation : Augmentation{};
    parallel_for(options_.batch, options_.threads, [&](Index s, int) {
      Random random(stream, static_cast<std::uint64_t>(batch), static_cast<std::uint64_t>(s));
      const std::vector<ShownImage> shown = episodes.draw(random);
      for (Index t = 0; t < steps; ++t) {
        const Index column = t * options_.batch + s;
        const ShownImage& one = shown[static_cast<std::size_t>(t)];
        labels_[static_cast<std::size_t>(column)] = one.label;
        load_image(episodes.set(), one.image, augmentation, random, images_.col(column).data());
      }
    });
  }

  /// The label of the shard's s-th episode at step t.
  Index label(Index shard, Index t, Index s) const {
    return labels_[static_cast<std::size_t>(t * options_.batch + shards_.first_sample(shard) + s)];
  }

  Matrix<Scalar> one_hot(Index shard, Index t) const {
    Matrix<Scalar> labels = Matrix<Scalar>::Zero(model_->way(), shards_.samples(shard));
    for (Index s = 0; s < labels.cols(); ++s) labels(label(shard, t, s), s) = 1;
    return labels;
  }

  double run_shard(Tape<Scalar>& tape, Index shard, const Var<Scalar>& embedded,
                   Vector<Scalar>& total) {
    const Index n = shards_.samples(shard);
    const Index inputs = model_->cell().options().inputs;
    const Index steps = episodes_.steps(), support = episodes_.support_steps();
    tape.clear();
    Episode<Scalar> episode = model_->cell().begin(tape, n, &total);
    Var<Scalar> loss;
    for (Index t = 0; t < steps; ++t) {
      const Index column = t * options_.batch + shards_.first_sample(shard);
      const Var<Scalar> features = tape.borrow(embedded.value().col(column).data(), embedded.rows(),
                                               n, adjoint_.col(column).data());
      Var<Scalar> x = pad_rows(features, 0, inputs);
      if (t < support) {
        x = x + pad_rows(tape.constant(one_hot(shard, t)), embedded.rows(), inputs);
      }
      const auto result = model_->cell().step(episode, x, t + 1 < steps);
      if (t < support) continue;
      const Var<Scalar> error =
          cross_entropy(result.output, tape.constant(one_hot(shard, t)), options_.smoothing);
      loss = loss.empty() ? error : loss + error;
    }
    // Means over the shard become the mean over the batch.
    loss =
        loss * (static_cast<double>(n) / static_cast<double>(options_.batch * (steps - support)));
    tape.backward(loss);
    return static_cast<double>(loss.value()(0, 0));
  }

  Answers answer(const FewShotImages& episodes, Index shard, const Var<Scalar>& embedded) const {
    Answers answers;
    const Index n = shards_.samples(shard);
    CellState<Scalar> state = model_->cell().initial_state(n);
    Matrix<Scalar> x(model_->cell().options().inputs, n);
    for (Index t = 0; t < episodes.steps(); ++t) {
      const bool is_query = t >= episodes.support_steps();
      const Index column = t * options_.batch + shards_.first_sample(shard);
      x.topRows(embedded.rows()) = embedded.value().middleCols(column, n);
      if (is_query) {
        x.bottomRows(model_->way()).setZero();
      } else {
        x.bottomRows(model_->way()) = one_hot(shard, t);
      }
      const Matrix<Scalar> logits = model_->cell().step(state, x).output;
      if (!is_query) continue;
      for (Index s = 0; s < n; ++s) {
        Index guess = 0;
        const Scalar largest = logits.col(s).maxCoeff(&guess);
        const Index truth = label(shard, t, s);
        answers.loss += static_cast<double>(
            largest + std::log((logits.col(s).array() - largest).exp().sum()) - logits(truth, s));
        answers.all += guess == truth ? 1 : 0;
        if (t == episodes.support_steps()) answers.first += guess == truth ? 1 : 0;
      }
    }
    return answers;
  }

  ImageClassifier<Cell>* model_;
  FewShotImages episodes_;
  ImageTrainerOptions options_;
  Shards<Scalar> shards_;
  Tape<Scalar> tape_;                                 // of the encoder
  std::vector<std::unique_ptr<Tape<Scalar>>> tapes_;  // of the shards, one per thread
  std::vector<AdamW<Scalar>> optimizers_;
  std::vector<Vector<Scalar>> gradients_;
  Matrix<Scalar> images_;
  Matrix<Scalar> adjoint_;  // of the embedded images
  std::vector<Index> labels_;
};

}  // namespace plastic
