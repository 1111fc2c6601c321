#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "plastic/cells/cell.hpp"
#include "plastic/nn/encoder.hpp"

namespace plastic {

/// A plastic network that sees images: encoder, a linear layer with ReLU to (cell inputs - way)
/// features, and a plastic cell that takes them together with a one-hot label (zeros where the
/// label is asked for) and answers with `way` logits.
template <class Cell>
class ImageClassifier {
 public:
  using CellType = Cell;
  using Scalar = typename Cell::ScalarType;

  /// options.outputs is the number of labels. Throws std::invalid_argument if it does not leave an
  /// input for a feature.
  ImageClassifier(std::unique_ptr<Encoder<Scalar>> encoder, const CellOptions& options)
      : encoder_(std::move(encoder)), cell_(options) {
    if (options.outputs >= options.inputs) {
      detail::reject("ImageClassifier", "options.outputs",
                     "below options.inputs, " + std::to_string(options.inputs), options.outputs);
    }
    const Index features = encoder_->features();
    const double k = 1 / std::sqrt(static_cast<double>(features));
    const auto add = [&](std::string_view name, Index rows, Index cols) {
      const Index number = head_.add(name, rows, cols);
      Random random({options.seed, Random::Purpose::initial_weights}, 1,
                    static_cast<std::uint64_t>(number));
      MatrixMap<Scalar> values = head_.matrix(number);
      for (Index i = 0; i < values.size(); ++i) {
        values.data()[i] = static_cast<Scalar>(random.uniform(-k, k));
      }
    };
    add("head.weight", features, embedding());
    add("head.bias", embedding(), 1);
  }

  Encoder<Scalar>& encoder() { return *encoder_; }
  Parameters<Scalar>& head() { return head_; }
  Cell& cell() { return cell_; }
  Index way() const { return cell_.options().outputs; }
  Index embedding() const { return cell_.options().inputs - way(); }

  /// relu(W f + b) of the encoder's features f: embedding() x images.
  Var<Scalar> embed(const Var<Scalar>& images, const EncoderPass& pass,
                    Vector<Scalar>* encoder_gradients = nullptr,
                    Vector<Scalar>* head_gradients = nullptr) {
    const Var<Scalar> features = encoder_->encode(images, pass, encoder_gradients);
    Tape<Scalar>& tape = images.tape();
    // A linear layer is a convolution over images of one pixel, on as many threads.
    return relu(conv2d(features, borrow(tape, head_, 0, head_gradients),
                       borrow(tape, head_, 1, head_gradients),
                       {.input = {encoder_->features(), 1, 1},
                        .filters = embedding(),
                        .kernel = 1,
                        .padding = 0,
                        .threads = pass.threads}));
  }

 private:
  std::unique_ptr<Encoder<Scalar>> encoder_;
  Parameters<Scalar> head_;
  Cell cell_;
};

}  // namespace plastic
