#pragma once

#include <cmath>

#include "plastic/images/encode_images.hpp"
#include "plastic/images/image_evaluation.hpp"

namespace plastic {

/// How an encoder alone answers: a query gets the label of the support image whose features have
/// the largest cosine with its own. The loss is the share of wrong answers. Over `batches` batches
/// of `batch` episodes of the stream. Throws std::invalid_argument if a number is not positive or
/// the images do not fit the encoder.
template <class Scalar>
ImageEvaluation nearest_support(Encoder<Scalar>& encoder, const FewShotImages& episodes,
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
  AnswerCount count;
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
      count.add(query == support, right, right ? 0 : 1);
    }
  }
  return count.evaluation();
}

}  // namespace plastic
