#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "plastic/cells/cell.hpp"
#include "plastic/nn/dense.hpp"
#include "plastic/nn/encoder.hpp"

namespace plastic {

/// A plastic network that classifies images: encoder, a linear layer with ReLU to (cell inputs -
/// way) features, and a plastic cell that takes them together with a one-hot label (zeros where the
/// label is asked for) and answers with `way` logits.
template <class Cell>
class ImageClassifier {
 public:
  using CellType = Cell;                     ///< the plastic cell
  using Scalar = typename Cell::ScalarType;  ///< float or double

  /// options.outputs is the number of labels. Draws the initial weights of head and cell from
  /// options.seed. Throws std::invalid_argument if options.outputs does not leave an input for a
  /// feature, and on a setting out of its range.
  ImageClassifier(std::unique_ptr<Encoder<Scalar>> encoder, const CellOptions& options)
      : encoder_(std::move(encoder)),
        cell_(options),
        dense_(head_, "head", encoder_->features(), embedding(options), options.seed, 1) {}

  /// @{
  /// The encoder of the images.
  Encoder<Scalar>& encoder() { return *encoder_; }
  const Encoder<Scalar>& encoder() const { return *encoder_; }
  /// @}
  /// @{
  /// The parameters of the layer between encoder and cell: head.weight and head.bias.
  Parameters<Scalar>& head() { return head_; }
  const Parameters<Scalar>& head() const { return head_; }
  /// @}
  /// @{
  /// The plastic cell.
  Cell& cell() { return cell_; }
  const Cell& cell() const { return cell_; }
  /// @}
  Index way() const { return cell_.options().outputs; }  ///< number of labels
  Index embedding() const { return dense_.outputs(); }   ///< number of features that the cell takes

  /// Everything that training changes: the encoder's `Encoder::state`, then head and cell.
  std::vector<Vector<Scalar>*> state() {
    std::vector<Vector<Scalar>*> all = encoder_->state();
    all.push_back(&head_.values());
    all.push_back(&cell_.parameters().values());
    return all;
  }

  /// relu(W f + b) of the encoder's features f: embedding() x images. Sweeps add to `gradients`, of
  /// the head's layout (nullptr: its parameters are constants). Differentiable once.
  Var<Scalar> embed(const Var<Scalar>& features, int threads,
                    Vector<Scalar>* gradients = nullptr) const {
    return relu(dense_(features, head_, gradients, threads));
  }

 private:
  static Index embedding(const CellOptions& options) {
    if (options.outputs >= options.inputs) {
      detail::reject("ImageClassifier", "options.outputs",
                     "below options.inputs, " + std::to_string(options.inputs), options.outputs);
    }
    return options.inputs - options.outputs;
  }

  std::unique_ptr<Encoder<Scalar>> encoder_;
  Parameters<Scalar> head_;
  Cell cell_;
  Dense<Scalar> dense_;
};

}  // namespace plastic
