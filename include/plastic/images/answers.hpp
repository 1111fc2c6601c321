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

namespace detail {

/// Features of the distinct images of drawn episodes, features() x images.
template <class Scalar>
Matrix<Scalar> features_of(Encoder<Scalar>& encoder, const ImageSet& set,
                           const DrawnEpisodes& drawn, int threads) {
  Matrix<Scalar> features(encoder.features(), static_cast<Index>(drawn.images().size()));
  encode_images(encoder, set, drawn.images(), threads, [&](Index first, const Var<Scalar>& some) {
    features.middleCols(first, some.cols()) = some.value();
  });
  return features;
}

/// Answers every query with label l of the largest score(l, query), among the labels of support
/// images in their order; show(steps) is called first for each episode.
template <class Show, class Score>
Evaluation answer_by_score(const DrawnEpisodes& drawn, Show&& show, Score&& score) {
  Evaluation answers(few_shot_measures);
  const auto support = static_cast<std::size_t>(drawn.support_steps());
  for (Index e = 0; e < drawn.count(); ++e) {
    const std::vector<ShownImage>& steps = drawn[e];
    show(std::span(steps).first(support));
    for (std::size_t query = support; query < steps.size(); ++query) {
      std::size_t best = 0;
      auto largest = score(steps[0], steps[query]);
      for (std::size_t k = 1; k < support; ++k) {
        const auto next = score(steps[k], steps[query]);
        if (next > largest) best = k;
        largest = std::max(largest, next);
      }
      count_answer(answers, query == support, steps[best].label == steps[query].label);
    }
  }
  answers.loss = 1 - answers.measure("accuracy").mean();
  return answers;
}

/// Answers with the label of the support image whose column has the largest cosine with the
/// query's; a column for each distinct image.
template <class Scalar>
Evaluation answer_by_cosine(const DrawnEpisodes& drawn, Matrix<Scalar> columns) {
  columns.colwise().normalize();
  return answer_by_score(
      drawn, [](std::span<const ShownImage>) {},
      [&](const ShownImage& one, const ShownImage& query) {
        return columns.col(drawn.place(query.image)).dot(columns.col(drawn.place(one.image)));
      });
}

inline void check_counts(std::string_view function, Index batches, Index batch, int threads) {
  check_positive(function, "batches", batches);
  check_positive(function, "batch", batch);
  check_positive(function, "threads", threads);
}

}  // namespace detail

/// Accuracy of an encoder alone: a query gets the label of the support image whose features have
/// the largest cosine with its own. The loss is the share of wrong answers. Over `batches` batches
/// of `batch` episodes of the stream. Throws std::invalid_argument if a number is not positive or
/// the images do not fit the encoder.
template <class Scalar>
Evaluation nearest_support(Encoder<Scalar>& encoder, const FewShotImages& episodes,
                           Random::Stream stream, Index batches, Index batch, int threads) {
  detail::check_counts("nearest_support", batches, batch, threads);
  const DrawnEpisodes drawn(episodes, stream, batches, batch, threads);
  return detail::answer_by_cosine(drawn,
                                  detail::features_of(encoder, episodes.set(), drawn, threads));
}

/// The same without an encoder: the cosine is that of the normalised pixels.
inline Evaluation nearest_pixels(const FewShotImages& episodes, Random::Stream stream,
                                 Index batches, Index batch, int threads) {
  detail::check_counts("nearest_pixels", batches, batch, threads);
  const DrawnEpisodes drawn(episodes, stream, batches, batch, threads);
  const ImageSet& set = episodes.set();
  Matrix<float> pixels(set.shape.size(), static_cast<Index>(drawn.images().size()));
  parallel_for(pixels.cols(), threads, [&](Index k, int) {
    Random unused({}, 0, 0);
    load_image(set, drawn.images()[static_cast<std::size_t>(k)], {}, unused, pixels.col(k).data());
  });
  return detail::answer_by_cosine(drawn, std::move(pixels));
}

/// Accuracy of an encoder with a prototype for each class, the mean of its support images'
/// features: a query gets the label of the prototype at the smallest Euclidean distance. Arguments,
/// result and errors are those of nearest_support. Source: Snell, Swersky and Zemel, "Prototypical
/// networks for few-shot learning", NeurIPS 2017.
template <class Scalar>
Evaluation nearest_prototype(Encoder<Scalar>& encoder, const FewShotImages& episodes,
                             Random::Stream stream, Index batches, Index batch, int threads) {
  detail::check_counts("nearest_prototype", batches, batch, threads);
  const DrawnEpisodes drawn(episodes, stream, batches, batch, threads);
  const Matrix<Scalar> features = detail::features_of(encoder, episodes.set(), drawn, threads);
  Matrix<Scalar> prototypes(features.rows(), episodes.options().way);
  return detail::answer_by_score(
      drawn,
      [&](std::span<const ShownImage> support) {
        prototypes.setZero();
        for (const ShownImage& one : support) {
          prototypes.col(one.label) += features.col(drawn.place(one.image));
        }
        prototypes /= static_cast<Scalar>(episodes.options().shot);
      },
      [&](const ShownImage& one, const ShownImage& query) {
        return -(prototypes.col(one.label) - features.col(drawn.place(query.image))).squaredNorm();
      });
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
