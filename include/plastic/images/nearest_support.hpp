#pragma once

#include <array>
#include <vector>

#include "plastic/images/encode_images.hpp"
#include "plastic/train/evaluation.hpp"

namespace plastic {

/// What is counted of answers to few-shot episodes: the share of episodes whose first query is
/// answered right, and that of all queries.
inline constexpr std::array<Measure, 2> few_shot_measures{
    {{"first_query", true}, {"accuracy", true}}};

/// Counts an answer for `few_shot_measures`; `is_first` says whether it is the first of its
/// episode.
inline void count_answer(Evaluation& answers, bool is_first, bool is_right) {
  if (is_first) answers.add(0, is_right ? 1 : 0);
  answers.add(1, is_right ? 1 : 0);
}

/// How an encoder alone answers: a query gets the label of the support image whose features have
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

}  // namespace plastic
