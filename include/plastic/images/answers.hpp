#pragma once

#include <span>
#include <vector>

#include "plastic/images/encode_images.hpp"
#include "plastic/images/image_classifier.hpp"

namespace plastic {

/// Images of a set, as they are, as the cell of a classifier sees them: embedding() x numbers.
/// Costs one pass through the encoder. Throws std::invalid_argument if the images do not fit it.
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
/// step t with the probabilities p (way() x count) that it answers with. embedded: embedding() x
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
