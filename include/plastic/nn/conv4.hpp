#pragma once

#include "plastic/nn/encoder.hpp"

namespace plastic {

/// Four blocks of 3x3 convolution, batch norm, ReLU and 2x2 max pool; the last output, flattened,
/// is the features. Images of at least 16 x 16. Source: Snell, Swersky, Zemel, "Prototypical
/// networks for few-shot learning", NeurIPS 2017.
template <class Scalar>
class Conv4 final : public Encoder<Scalar> {
  using Base = Encoder<Scalar>;

 public:
  /// Draws the initial weights. Throws std::invalid_argument if the images are too small or
  /// `filters`, of each convolution, is not positive.
  explicit Conv4(const ImageShape& input, std::uint64_t seed = 0, Index filters = 64)
      : Base(input) {
    Base::check_halvings("Conv4", input, 4);
    detail::check_positive("Conv4", "filters", filters);
    ImageShape shape = input;
    for (int k = 0; k < 4; ++k) {
      blocks_.push_back(this->add_block("block" + std::to_string(k + 1), shape, filters, 3, seed));
      shape = Base::halved(blocks_.back().conv.output());
    }
    this->set_features(shape.size());
  }

  std::string_view name() const override { return "conv4"; }

 protected:
  /// The blocks, one after another.
  Var<Scalar> run(const Var<Scalar>& images, const typename Base::Run& run) override {
    Var<Scalar> x = images;
    for (const typename Base::Block& block : blocks_) {
      x = max_pool(this->apply(block, x, 0, run), Base::halving(block.conv.output(), run));
    }
    return x;
  }

 private:
  std::vector<typename Base::Block> blocks_;
};

}  // namespace plastic
