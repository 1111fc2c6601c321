#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "plastic/images/answers.hpp"
#include "plastic/images/image_classifier.hpp"
#include "plastic/images/image_evaluation.hpp"
#include "plastic/optim/joint_adamw.hpp"
#include "plastic/optim/schedule.hpp"
#include "plastic/tape/functions.hpp"
#include "plastic/train/loop.hpp"
#include "plastic/train/shards.hpp"

namespace plastic {

/// Settings of a training run on images; the defaults are the paper's. The learning rate falls
/// along half a cosine to a tenth.
struct ImageTrainerOptions {
  Index batch = 64;                ///< episodes
  Index batches = 40000;           ///< of the run
  double learning_rate = 1e-3;     ///< at first
  Index rate_every = 1000;         ///< batches between two changes of the learning rate
  double weight_decay = 5e-4;      ///< as in AdamWOptions
  double clip_norm = 5;            ///< of the whole gradient, in [1e-15, 1e15]
  double smoothing = 0;            ///< of labels, in [0, 1]: see cross_entropy
  Augmentation augmentation = {};  ///< of training images
  bool frozen = false;             ///< leaves the encoder as it is
  Index validation_every = 1000;   ///< batches; 0 never validates
  Index validation_batches = 20;   ///< of a validation
  std::uint64_t seed = 0;          ///< of episodes, augmentation and dropout
  int threads = 1;                 ///< the results do not depend on it
  Index shard = 0;                 ///< episodes on one tape of the plastic part; 0 chooses

  /// Throws std::invalid_argument on the first setting out of its range.
  void validate() const {
    constexpr std::string_view here = "ImageTrainerOptions";
    detail::check_positive(here, "batch", batch);
    detail::check_positive(here, "batches", batches);
    detail::check_positive(here, "rate_every", rate_every);
    detail::check_range(here, "clip_norm", clip_norm, 1e-15, 1e15);
    detail::check_range(here, "smoothing", smoothing, 0, 1);
    augmentation.validate();
    if (validation_every < 0) {
      detail::reject(here, "validation_every", "at least 0", validation_every);
    }
    detail::check_positive(here, "validation_batches", validation_batches);
    detail::check_positive(here, "threads", threads);
    if (shard < 0) detail::reject(here, "shard", "at least 0", shard);
  }
};

/// Trains an ImageClassifier on few-shot episodes by gradient descent through encoder and plastic
/// cell together.
///
/// All images of a batch go through the encoder at once, so that batch norm sees them all; then the
/// episodes go through the cell in shards, forward and backward; then the adjoints of the features
/// go back through the encoder. The loss is the cross-entropy, averaged over the queries. The same
/// seed gives the same bits with any number of threads.
///
/// The features of a frozen encoder are computed once for each image, where nothing is augmented
/// and they take at most 1 GiB.
template <class Cell>
class ImageTrainer {
  using Scalar = typename Cell::ScalarType;

 public:
  /// `model` and the sets of the episodes must outlive the trainer. Throws std::invalid_argument if
  /// they do not fit each other.
  ImageTrainer(ImageClassifier<Cell>& model, const FewShotImages& episodes,
               const ImageTrainerOptions& options)
      : model_(&model),
        episodes_(episodes),
        options_(options),
        optimizer_(parts(model, options.frozen),
                   {.learning_rate = options.learning_rate, .weight_decay = options.weight_decay},
                   options.clip_norm),
        schedule_({.learning_rate = options.learning_rate,
                   .floor = options.learning_rate / 10,
                   .batches = options.batches,
                   .every = options.rate_every}) {
    options.validate();
    check_fit(episodes);
    if (options_.shard == 0) options_.shard = default_shard(model.cell(), options_.batch);
    options_.shard = std::min(options_.shard, options_.batch);
    shards_ =
        Shards<Scalar>(options_.batch, options_.shard, options_.threads, model.cell().parameters());
    for (int t = 0; t < options_.threads; ++t) tapes_.push_back(std::make_unique<Tape<Scalar>>());
  }

  /// One batch: forward, backward, clip, AdamW. Returns the batch's loss before the step. Throws
  /// NonFiniteLoss if loss or gradient is not finite; parameters are then unchanged, but the
  /// running statistics of an encoder in training are not.
  double step(Index batch) {
    const double loss = gradient(batch);
    optimizer_.set_learning_rate(schedule_(batch));
    if (!std::isfinite(loss) || !std::isfinite(optimizer_.step())) {
      throw NonFiniteLoss("ImageTrainer::step: the loss or gradient of batch " +
                          std::to_string(batch) + " is not finite");
    }
    return loss;
  }

  /// Loss of a training batch; leaves the gradients in `optimizer().gradients()`: of encoder, head
  /// and cell, or of head and cell alone where the encoder is frozen. Throws std::invalid_argument
  /// if `batch` is negative.
  double gradient(Index batch) {
    if (batch < 0) detail::reject("ImageTrainer::gradient", "batch", "at least 0", batch);
    std::vector<Vector<Scalar>>& gradients = optimizer_.gradients();
    optimizer_.clear_gradients();
    load(batch);
    tape_.clear();
    const bool frozen = options_.frozen;
    Var<Scalar> features = tape_.borrow(columns_.data(), columns_.rows(), columns_.cols());
    if (features_.size() == 0) {
      features = model_->encoder().encode(
          features,
          {.training = !frozen, .seed = options_.seed, .batch = batch, .threads = options_.threads},
          frozen ? nullptr : &gradients.front());
    }
    const Var<Scalar> embedded =
        model_->embed(features, options_.threads, &gradients[gradients.size() - 2]);
    adjoint_.setZero(embedded.rows(), embedded.cols());
    const double loss = shards_.gradient([&](Index shard, int thread, Vector<Scalar>& total) {
      return run_shard(*tapes_[static_cast<std::size_t>(thread)], shard, embedded, total);
    });
    gradients.back() = shards_.gradients();
    tape_.forget_adjoints();
    tape_.seed(embedded, adjoint_);
    tape_.sweep(tape_.position(), {});
    return loss;
  }

  /// Of encoder, head and cell, or of head and cell alone where the encoder is frozen, with their
  /// gradients.
  JointAdamW<Scalar>& optimizer() { return optimizer_; }

  /// The model in use, on `batches` batches of fresh episodes. Throws std::invalid_argument if the
  /// episodes do not fit the model or `batches` is not positive.
  ImageEvaluation evaluate(const FewShotImages& episodes, Random::Stream stream,
                           Index batches) const {
    check_fit(episodes);
    detail::check_positive("ImageTrainer::evaluate", "batches", batches);
    const DrawnEpisodes drawn(episodes, stream, batches, options_.batch, options_.threads);
    const Matrix<Scalar> embedded =
        embed_images(*model_, episodes.set(), drawn.images(), options_.threads);
    std::vector<AnswerCount> counts(static_cast<std::size_t>(batches * shards_.count()));
    parallel_for(batches * shards_.count(), options_.threads, [&](Index item, int) {
      const Index shard = item % shards_.count();
      const Index first = item / shards_.count() * options_.batch + shards_.first_sample(shard);
      counts[static_cast<std::size_t>(item)] =
          count_answers(drawn, first, shards_.samples(shard), embedded);
    });
    AnswerCount total;
    for (const AnswerCount& count : counts) total.add(count);
    return total.evaluation();
  }

  /// Trains batches `first` .. options.batches - 1 and tells the callbacks, as Trainer::run does;
  /// validates on fresh batches of `validation`, whose latest result `validation()` has.
  Progress run(const FewShotImages& validation, std::span<TrainingCallback* const> callbacks,
               Index first = 0, const std::function<bool()>& stop = {}) {
    return run_loop(
        options_.batches, options_.validation_every, [&](Index batch) { return step(batch); },
        [&] {
          validation_ = evaluate(validation, {options_.seed, Random::Purpose::validation},
                                 options_.validation_batches);
          return validation_.loss;
        },
        callbacks, first, stop);
  }

  const ImageEvaluation& validation() const { return validation_; }  ///< zeros before the first

 private:
  static std::vector<Parameters<Scalar>*> parts(ImageClassifier<Cell>& model, bool frozen) {
    if (frozen) return {&model.head(), &model.cell().parameters()};
    return {&model.encoder().parameters(), &model.head(), &model.cell().parameters()};
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

  bool keeps_features() const {
    constexpr Index most = Index{1} << 30;  // bytes
    return options_.frozen && !options_.augmentation.any() &&
           episodes_.set().images() * model_->encoder().features() <=
               most / static_cast<Index>(sizeof(Scalar));
  }

  void encode_all() {
    std::vector<Index> all(static_cast<std::size_t>(episodes_.set().images()));
    std::iota(all.begin(), all.end(), Index{0});
    features_.resize(model_->encoder().features(), episodes_.set().images());
    encode_images(model_->encoder(), episodes_.set(), all, options_.threads,
                  [&](Index first, const Var<Scalar>& some) {
                    features_.middleCols(first, some.cols()) = some.value();
                  });
  }

  /// Draws a batch of episodes and loads their images, or the features of those: column
  /// t * batch + s is step t of episode s.
  void load(Index batch) {
    if (features_.size() == 0 && keeps_features()) encode_all();
    const bool known = features_.size() > 0;
    const Index steps = episodes_.steps();
    columns_.resize(known ? features_.rows() : episodes_.set().shape.size(),
                    steps * options_.batch);
    shown_.resize(static_cast<std::size_t>(options_.batch));
    parallel_for(options_.batch, options_.threads, [&](Index s, int) {
      Random random({options_.seed, Random::Purpose::training}, static_cast<std::uint64_t>(batch),
                    static_cast<std::uint64_t>(s));
      std::vector<ShownImage>& shown = shown_[static_cast<std::size_t>(s)];
      shown = episodes_.draw(random);
      for (Index t = 0; t < steps; ++t) {
        const Index image = shown[static_cast<std::size_t>(t)].image;
        auto column = columns_.col(t * options_.batch + s);
        if (known) {
          column = features_.col(image);
        } else {
          load_image(episodes_.set(), image, options_.augmentation, random, column.data());
        }
      }
    });
  }

  /// Labels at step t of the shard's episodes, way() x episodes.
  Matrix<Scalar> one_hot(Index shard, Index t) const {
    Matrix<Scalar> labels = Matrix<Scalar>::Zero(model_->way(), shards_.samples(shard));
    for (Index s = 0; s < labels.cols(); ++s) {
      const auto episode = static_cast<std::size_t>(shards_.first_sample(shard) + s);
      labels(shown_[episode][static_cast<std::size_t>(t)].label, s) = 1;
    }
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

  /// Answers to `count` drawn episodes from `first` on. embedded: embedding() x different images.
  AnswerCount count_answers(const DrawnEpisodes& drawn, Index first, Index count,
                            const Matrix<Scalar>& embedded) const {
    AnswerCount answers;
    answer_queries(*model_, drawn, first, count, embedded, [&](Index t, const Matrix<Scalar>& p) {
      for (Index s = 0; s < count; ++s) {
        Index guess = 0;
        p.col(s).maxCoeff(&guess);
        const Index truth = drawn[first + s][static_cast<std::size_t>(t)].label;
        answers.add(t == drawn.support_steps(), guess == truth,
                    -std::log(static_cast<double>(p(truth, s))));
      }
    });
    return answers;
  }

  ImageClassifier<Cell>* model_;
  FewShotImages episodes_;
  ImageTrainerOptions options_;
  JointAdamW<Scalar> optimizer_;
  CosineSchedule schedule_;
  Shards<Scalar> shards_;
  Tape<Scalar> tape_;                                 // of the encoder
  std::vector<std::unique_ptr<Tape<Scalar>>> tapes_;  // of the shards, one per thread
  std::vector<std::vector<ShownImage>> shown_;        // of the batch's episodes
  Matrix<Scalar> columns_;                            // images or their features
  Matrix<Scalar> features_;                           // of all images, if they are kept
  Matrix<Scalar> adjoint_;                            // of the embedded images
  ImageEvaluation validation_;
};

}  // namespace plastic
