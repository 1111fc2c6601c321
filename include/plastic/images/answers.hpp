#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "plastic/images/augmentation.hpp"
#include "plastic/images/few_shot_images.hpp"
#include "plastic/images/image_classifier.hpp"
#include "plastic/nn/encoder.hpp"
#include "plastic/train/evaluation.hpp"

namespace plastic {

/// Puts images of a set, without augmentation, through an encoder in inference mode: calls f(first,
/// features) with the features (features() x count) of `numbers[first]` and the following images,
/// until all are done. Uses memory for 256 images. Throws std::invalid_argument if the images do
/// not fit the encoder.
template <class Scalar, class F>
void encode_images(Encoder<Scalar>& encoder, const ImageSet& set, std::span<const Index> numbers,
                   int threads, F&& f) {
  constexpr Index most = 256;  // images at a time: memory does not grow with their number
  Tape<Scalar> tape;
  Matrix<Scalar> images(set.shape.size(), most);
  const auto count = static_cast<Index>(numbers.size());
  for (Index first = 0; first < count; first += most) {
    const Index some = std::min(most, count - first);
    parallel_for(some, threads, [&](Index k, int) {
      Random unused({}, 0, 0);
      load_image(set, numbers[static_cast<std::size_t>(first + k)], {}, unused,
                 images.col(k).data());
    });
    tape.clear();
    f(first, encoder.encode(tape.borrow(images.data(), images.rows(), some), {.threads = threads}));
  }
}

/// Episodes drawn in advance, and the distinct images in them, each of which goes through an
/// encoder only once.
class DrawnEpisodes {
 public:
  /// Draws samples 0 .. batch - 1 of batches 0 .. batches - 1 of the stream.
  DrawnEpisodes(const FewShotImages& episodes, Random::Stream stream, Index batches, Index batch,
                int threads)
      : support_steps_(episodes.support_steps()),
        shown_(static_cast<std::size_t>(batches * batch)),
        places_(static_cast<std::size_t>(episodes.set().images()), -1) {
    parallel_for(batches * batch, threads, [&](Index e, int) {
      Random random(stream, static_cast<std::uint64_t>(e / batch),
                    static_cast<std::uint64_t>(e % batch));
      DrawnEpisode episode;
      episodes.draw(random, episode);
      shown_[static_cast<std::size_t>(e)] = std::move(episode.steps);
    });
    for (const std::vector<ShownImage>& steps : shown_) {
      for (const ShownImage& one : steps) {
        Index& place = places_[static_cast<std::size_t>(one.image)];
        if (place >= 0) continue;
        place = static_cast<Index>(images_.size());
        images_.push_back(one.image);
      }
    }
  }

  Index count() const { return static_cast<Index>(shown_.size()); }  ///< batches * batch
  /// Number of steps of an episode before its queries.
  Index support_steps() const { return support_steps_; }
  /// The steps of episode e: sample e % batch of batch e / batch.
  const std::vector<ShownImage>& operator[](Index e) const {
    return shown_[static_cast<std::size_t>(e)];
  }

  /// @{
  /// The distinct images, and the position of an image among them.
  const std::vector<Index>& images() const { return images_; }
  Index place(Index image) const { return places_[static_cast<std::size_t>(image)]; }
  /// @}

 private:
  Index support_steps_;
  std::vector<std::vector<ShownImage>> shown_;
  std::vector<Index> images_;
  std::vector<Index> places_;
};

/// Measures of answers to few-shot episodes: the share of episodes whose first query is answered
/// correctly, and the share of all queries that are.
inline constexpr std::array<Measure, 2> few_shot_measures{
    {{"first_query", true}, {"accuracy", true}}};

/// Counts an answer for `few_shot_measures`; `is_first` says whether it is the first of its
/// episode.
inline void count_answer(Evaluation& answers, bool is_first, bool is_right) {
  if (is_first) answers.add(0, is_right ? 1 : 0);
  answers.add(1, is_right ? 1 : 0);
}

/// Accuracy of an encoder alone: a query gets the label of the support image whose features have
/// the largest cosine with its own. The loss is the share of wrong answers. Over `batches` batches
/// of `batch` episodes of the stream. Throws std::invalid_argument if a number is not positive or
/// the images do not fit the encoder.
template <class Scalar>
Evaluation nearest_support(Encoder<Scalar>& encoder, const FewShotImages& episodes,
                           Random::Stream stream, Index batches, Index batch, int threads) {
  constexpr std::string_view here = "nearest_support";
  detail::check_positive(here, "batches", batches);
  detail::check_positive(here, "batch", batch);
  detail::check_positive(here, "threads", threads);
  const DrawnEpisodes drawn(episodes, stream, batches, batch, threads);
  Matrix<Scalar> features(encoder.features(), static_cast<Index>(drawn.images().size()));
  encode_images(encoder, episodes.set(), drawn.images(), threads,
                [&](Index first, const Var<Scalar>& some) {
                  features.middleCols(first, some.cols()) = some.value().colwise().normalized();
                });
  Evaluation answers(few_shot_measures);
  const auto support = static_cast<std::size_t>(episodes.support_steps());
  for (Index e = 0; e < drawn.count(); ++e) {
    const std::vector<ShownImage>& steps = drawn[e];
    for (std::size_t query = support; query < steps.size(); ++query) {
      const auto of_query = features.col(drawn.place(steps[query].image));
      std::size_t nearest = 0;
      Scalar largest = -2;
      for (std::size_t k = 0; k < support; ++k) {
        const Scalar cosine = of_query.dot(features.col(drawn.place(steps[k].image)));
        if (cosine > largest) nearest = k;
        largest = std::max(largest, cosine);
      }
      const bool right = steps[nearest].label == steps[query].label;
      count_answer(answers, query == support, right);
    }
  }
  answers.loss = 1 - answers.measure("accuracy").mean();
  return answers;
}

/// Embeddings of images of a set, without augmentation, as a classifier's cell sees them:
/// embedding() x numbers. Costs one pass through the encoder. Throws std::invalid_argument if the
/// images do not fit it.
template <class Cell>
Matrix<typename Cell::ScalarType> embed_images(ImageClassifier<Cell>& model, const ImageSet& set,
                                               std::span<const Index> numbers, int threads) {
  using Scalar = typename Cell::ScalarType;
  Matrix<Scalar> embedded(model.embedding(), static_cast<Index>(numbers.size()));
  encode_images(
      model.encoder(), set, numbers, threads, [&](Index first, const Var<Scalar>& features) {
        embedded.middleCols(first, features.cols()) = model.embed(features, threads).value();
      });
  return embedded;
}

/// Puts `count` drawn episodes from `first` on through the cell, and calls f(t, p) at every query
/// step t with the predicted probabilities p (way() x count). embedded: embedding() x
/// `drawn.images()`, from `embed_images`.
template <class Cell, class F>
void answer_queries(const ImageClassifier<Cell>& model, const DrawnEpisodes& drawn, Index first,
                    Index count, const Matrix<typename Cell::ScalarType>& embedded, F&& f) {
  using Scalar = typename Cell::ScalarType;
  CellState<Scalar> state = model.cell().initial_state(count);
  Matrix<Scalar> x(model.cell().options().inputs, count);
  const auto steps = static_cast<Index>(drawn[first].size());
  for (Index t = 0; t < steps; ++t) {
    const bool is_query = t >= drawn.support_steps();
    x.bottomRows(model.way()).setZero();
    for (Index s = 0; s < count; ++s) {
      const ShownImage& shown = drawn[first + s][static_cast<std::size_t>(t)];
      x.col(s).head(embedded.rows()) = embedded.col(drawn.place(shown.image));
      if (!is_query) x(embedded.rows() + shown.label, s) = 1;
    }
    Matrix<Scalar> answer = model.cell().step(state, x).output;
    if (!is_query) continue;
    for (Index s = 0; s < count; ++s) {
      auto logits = answer.col(s).array();
      logits = (logits - logits.maxCoeff()).exp();
      logits /= logits.sum();
    }
    f(t, answer);
  }
}

}  // namespace plastic
