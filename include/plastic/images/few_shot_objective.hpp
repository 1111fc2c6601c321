#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "plastic/images/answers.hpp"
#include "plastic/train/objective.hpp"
#include "plastic/train/shards.hpp"

namespace plastic {

/// Few-shot episodes of images for each purpose; those that are never used may be nullptr.
struct FewShotSets {
  const FewShotImages* train = nullptr;       ///< for Random::Purpose::training
  const FewShotImages* validation = nullptr;  ///< for Random::Purpose::validation
  const FewShotImages* test = nullptr;        ///< for all other purposes
};

/// Settings of a FewShotObjective.
struct FewShotObjectiveOptions {
  double smoothing = 0;            ///< label smoothing in [0, 1]: see cross_entropy
  Augmentation augmentation = {};  ///< augmentation of training images
  bool frozen = false;             ///< whether the encoder stays unchanged
  std::uint64_t seed = 0;          ///< seed of dropout
};

/// An ImageClassifier that learns few-shot episodes, encoder, head and plastic cell together.
///
/// All images of a batch go through the encoder at once, so that batch norm sees them all; then the
/// episodes go through the cell in shards, forward and backward; then the adjoints of the features
/// go back through the encoder. The loss is the cross-entropy, averaged over the queries. Measures:
/// first_query, the share of episodes whose first query is answered correctly, and accuracy, the
/// share of all queries that are.
///
/// The features of a frozen encoder are computed once for each image if nothing is augmented and
/// they take at most 1 GiB; they are recomputed if the encoder has changed.
///
/// Of several ranks (TrainerOptions::communicator) each puts all images of the batch through the
/// encoder, forward and back, and so has the same statistics of batch norm; the episodes' part,
/// with the cell, is divided.
template <class Cell>
class FewShotObjective {
 public:
  using ScalarType = typename Cell::ScalarType;  ///< float or double
  static constexpr std::size_t shared_sets = 2;  ///< encoder and head; see Objective

 private:
  using Scalar = ScalarType;

 public:
  /// `model` and the episodes must outlive it. Throws std::invalid_argument if they do not fit each
  /// other or an option is out of its range.
  FewShotObjective(ImageClassifier<Cell>& model, const FewShotSets& sets,
                   const FewShotObjectiveOptions& options = {})
      : model_(&model), sets_(sets), options_(options) {
    detail::check_range("FewShotObjectiveOptions", "smoothing", options.smoothing, 0, 1);
    options.augmentation.validate();
    for (const FewShotImages* episodes : {sets.train, sets.validation, sets.test}) {
      if (episodes == nullptr) continue;
      detail::check_images("FewShotObjective", episodes->set(), model.encoder().input());
      if (episodes->options().way != model.way()) {
        detail::reject("FewShotObjective", "the way of the episodes",
                       std::to_string(model.way()) + ", the number of the cell's outputs",
                       episodes->options().way);
      }
    }
  }

  /// @{
  /// See Objective. The parameters are those of encoder (none if it is frozen), head and cell; the
  /// state is the encoder's statistics, and its parameters if it is frozen; the settings are those
  /// of the cell, the encoder, the options and the images.
  std::vector<Parameters<Scalar>*> parameters() {
    return {options_.frozen ? &nothing_ : &model_->encoder().parameters(), &model_->head(),
            &model_->cell().parameters()};
  }
  std::span<const Measure> measures() const { return few_shot_measures; }
  Index default_shard(Index batch) const { return plastic::default_shard(model_->cell(), batch); }
  void open(int threads) {
    encoder_ = model_->encoder().state();
    for (int t = 0; t < threads; ++t) tapes_.push_back(std::make_unique<Tape<Scalar>>());
    memory_.assign(tapes_.size(),
                   std::vector<double>(detail::augmentation_memory(model_->encoder().input())));
  }
  std::vector<Matrix<Scalar>*> left_by_loss() { return {&adjoint_}; }
  std::vector<Vector<Scalar>*> state() {
    const std::vector<Vector<Scalar>*> all = model_->encoder().state();
    return {all.begin() + (options_.frozen ? 0 : 1), all.end()};
  }
  Settings settings() const {
    using detail::number_text;
    Settings all = training_settings_of(model_->cell());
    all["encoder"] = model_->encoder().name();
    all["encoder.filters"] = number_text(model_->encoder().filters());
    all["encoder.frozen"] = detail::bool_text(options_.frozen);
    all["loss.smoothing"] = number_text(options_.smoothing);
    all["dropout_seed"] = number_text(options_.seed);
    all.merge(options_.augmentation.settings());
    if (sets_.train != nullptr) all.merge(sets_.train->settings());
    if (sets_.validation != nullptr) {
      detail::add_settings(all, "validation.", sets_.validation->settings());
    }
    return all;
  }
  /// @}

  /// Draws a batch and puts its images through encoder and head; see Objective.
  void prepare(const BatchKey& key, std::span<Vector<Scalar>> gradients) {
    load(key);
    tape_->clear();
    embedded_ = tape_->borrow(columns_.data(), columns_.rows(), columns_.cols());
    if (features_.size() == 0) {
      embedded_ = model_->encoder().encode(embedded_,
                                           {.training = !options_.frozen,
                                            .seed = options_.seed,
                                            .batch = key.batch,
                                            .threads = key.threads},
                                           options_.frozen ? nullptr : &gradients[0]);
    }
    embedded_ = model_->embed(embedded_, key.threads, &gradients[1]);
    adjoint_.setZero(embedded_.rows(), embedded_.cols());
  }

  /// See Objective.
  double loss(const Shard& shard, std::span<Vector<Scalar>> gradients, Evaluation*) {
    const FewShotImages& episodes = *sets_.train;
    Tape<Scalar>& tape = *tapes_[static_cast<std::size_t>(shard.thread)];
    const Index n = shard.size(), batch = shard.key.samples;
    const Index inputs = model_->cell().options().inputs;
    const Index steps = episodes.steps(), support = episodes.support_steps();
    tape.clear();
    Episode<Scalar> episode = model_->cell().begin(tape, n, &gradients.front());
    Var<Scalar> loss;
    for (Index t = 0; t < steps; ++t) {
      const Index column = t * batch + shard.samples.front();
      const Var<Scalar> features = tape.borrow(embedded_.value().col(column).data(),
                                               embedded_.rows(), n, adjoint_.col(column).data());
      Var<Scalar> x = pad_rows(features, 0, inputs);
      const Var<Scalar> labels = one_hot(tape, shard, t);
      if (t < support) x = x + pad_rows(labels, embedded_.rows(), inputs);
      const auto result = model_->cell().step(episode, x, t + 1 < steps);
      if (t < support) continue;
      const Var<Scalar> error = cross_entropy(result.output, labels, options_.smoothing);
      loss = loss.empty() ? error : loss + error;
    }
    // Means over the shard become the mean over the batch.
    loss = loss * (static_cast<double>(n) / static_cast<double>(batch * (steps - support)));
    tape.backward(loss);
    return static_cast<double>(loss.value()(0, 0));
  }

  /// Propagates the shards' adjoints back through head and encoder, and reserves as much memory for
  /// every thread as any of them needed; see Objective.
  void finish(std::span<Vector<Scalar>>) {
    detail::level(tapes_, [](auto& to, const auto& from) { to.reserve_like(from); });
    tape_->forget_adjoints();
    tape_->seed(embedded_, adjoint_);
    tape_->sweep(tape_->position(), {});
  }

  /// Evaluates the model on fresh episodes of the purpose's set; see Objective. Each distinct image
  /// goes through the encoder once. Throws std::invalid_argument if there is no such set.
  Evaluation evaluate(Random::Stream stream, Index batches, Index batch, int threads) const {
    const FewShotImages* episodes = stream.purpose == Random::Purpose::training ? sets_.train
                                    : stream.purpose == Random::Purpose::validation
                                        ? sets_.validation
                                        : sets_.test;
    if (episodes == nullptr) {
      detail::reject("FewShotObjective::evaluate", "the episodes for this purpose", "given",
                     "none");
    }
    const DrawnEpisodes drawn(*episodes, stream, batches, batch, threads);
    const Matrix<Scalar> embedded = embed_images(*model_, episodes->set(), drawn.images(), threads);
    const Index shard = std::min(batch, default_shard(batch));
    const Index shards = (batch + shard - 1) / shard;
    std::vector<Evaluation> parts(static_cast<std::size_t>(batches * shards),
                                  Evaluation(few_shot_measures));
    parallel_for(batches * shards, threads, [&](Index item, int) {
      const Index in_batch = item % shards * shard, first = item / shards * batch + in_batch;
      const Index count = std::min(shard, batch - in_batch);
      Evaluation& answers = parts[static_cast<std::size_t>(item)];
      answer_queries(*model_, drawn, first, count, embedded, [&](Index t, const Matrix<Scalar>& p) {
        for (Index s = 0; s < count; ++s) {
          Index guess = 0;
          p.col(s).maxCoeff(&guess);
          const Index truth = drawn[first + s][static_cast<std::size_t>(t)].label;
          count_answer(answers, t == drawn.support_steps(), guess == truth);
          answers.loss -= std::log(static_cast<double>(p(truth, s)));
        }
      });
    });
    Evaluation total(few_shot_measures);
    for (const Evaluation& part : parts) total.add(part);
    const Index queries = episodes->steps() - episodes->support_steps();
    total.loss /= static_cast<double>(batches * batch * queries);
    return total;
  }

 private:
  bool keeps_features() const {
    constexpr Index most = Index{1} << 30;  // bytes
    return options_.frozen && !options_.augmentation.any() &&
           sets_.train->set().images() * model_->encoder().features() <=
               most / static_cast<Index>(sizeof(Scalar));
  }

  bool encoder_has_changed() const {
    const auto same = [](const Vector<Scalar>* now, const Vector<Scalar>& kept) {
      const auto bytes = static_cast<std::size_t>(kept.size()) * sizeof(Scalar);
      return now->size() == kept.size() && std::memcmp(now->data(), kept.data(), bytes) == 0;
    };
    return !std::equal(encoder_.begin(), encoder_.end(), kept_encoder_.begin(), kept_encoder_.end(),
                       same);
  }

  void encode_all(int threads) {
    kept_encoder_.clear();
    for (const Vector<Scalar>* part : encoder_) kept_encoder_.push_back(*part);
    const ImageSet& set = sets_.train->set();
    std::vector<Index> all(static_cast<std::size_t>(set.images()));
    std::iota(all.begin(), all.end(), Index{0});
    features_.resize(model_->encoder().features(), set.images());
    encode_images(model_->encoder(), set, all, threads, [&](Index first, const Var<Scalar>& some) {
      features_.middleCols(first, some.cols()) = some.value();
    });
  }

  /// Draws a batch of episodes and loads their images, or their features: column t * batch + s is
  /// step t of episode s.
  void load(const BatchKey& key) {
    if (sets_.train == nullptr) {
      detail::reject("FewShotObjective", "the training episodes", "given", "none");
    }
    const FewShotImages& episodes = *sets_.train;
    if (keeps_features() && encoder_has_changed()) encode_all(key.threads);
    const bool known = features_.size() > 0;
    columns_.resize(known ? features_.rows() : episodes.set().shape.size(),
                    episodes.steps() * key.samples);
    drawn_.resize(static_cast<std::size_t>(key.samples));
    parallel_for(key.samples, key.threads, [&](Index s, int thread) {
      Random random(key.stream, static_cast<std::uint64_t>(key.batch),
                    static_cast<std::uint64_t>(s));
      DrawnEpisode& episode = drawn_[static_cast<std::size_t>(s)];
      episodes.draw(random, episode);
      for (Index t = 0; t < episodes.steps(); ++t) {
        const Index image = episode.steps[static_cast<std::size_t>(t)].image;
        auto column = columns_.col(t * key.samples + s);
        if (known) {
          column = features_.col(image);
        } else {
          load_image(episodes.set(), image, options_.augmentation, random, column.data(),
                     memory_[static_cast<std::size_t>(thread)]);
        }
      }
    });
  }

  /// Labels at step t of the shard's episodes, way() x episodes.
  Var<Scalar> one_hot(Tape<Scalar>& tape, const Shard& shard, Index t) const {
    const Var<Scalar> labels = tape.constant(Matrix<Scalar>::Zero(model_->way(), shard.size()));
    MatrixMap<Scalar> values = labels.node().value_map();
    for (Index s = 0; s < shard.size(); ++s) {
      const auto episode = static_cast<std::size_t>(shard.samples[static_cast<std::size_t>(s)]);
      values(drawn_[episode].steps[static_cast<std::size_t>(t)].label, s) = 1;
    }
    return labels;
  }

  ImageClassifier<Cell>* model_;
  FewShotSets sets_;
  FewShotObjectiveOptions options_;
  Parameters<Scalar> nothing_;  // parameters of a frozen encoder: none
  std::unique_ptr<Tape<Scalar>> tape_ = std::make_unique<Tape<Scalar>>();  // encoder and head
  Var<Scalar> embedded_;  // the batch's images as the cell sees them, on that tape
  std::vector<std::unique_ptr<Tape<Scalar>>> tapes_;  // tapes of the shards, one per thread
  std::vector<std::vector<double>> memory_;           // workspace to load images in, one per thread
  std::vector<DrawnEpisode> drawn_;                   // the batch's episodes
  Matrix<Scalar> columns_;                            // images or their features
  Matrix<Scalar> features_;                           // features of all images, if they are kept
  std::vector<Vector<Scalar>*> encoder_;              // its parameters and statistics
  std::vector<Vector<Scalar>> kept_encoder_;  // their values when the features were computed
  Matrix<Scalar> adjoint_;                    // adjoint of the embedded images
};

}  // namespace plastic
