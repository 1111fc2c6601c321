#pragma once

#include <algorithm>
#include <array>
#include <memory>

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

/// Four blocks of 3x3 convolution (96, 192, 384, 512 filters), batch norm, 2x2 max pool and leaky
/// ReLU 0.1, which the last block lacks; dropout 0.1 and 0.3 after the last two. The features are
/// the outputs of the last two blocks, one after the other. Images of at least 16 x 16. Source:
/// Bertinetto et al., "Meta-learning with differentiable closed-form solvers", ICLR 2019.
template <class Scalar>
class R2D2 final : public Encoder<Scalar> {
  using Base = Encoder<Scalar>;

 public:
  /// Draws the initial weights. Throws std::invalid_argument if the images are too small.
  explicit R2D2(const ImageShape& input, std::uint64_t seed = 0) : Base(input) {
    Base::check_halvings("R2D2", input, 4);
    ImageShape shape = input;
    Index features = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      constexpr std::array<Index, 4> filters{96, 192, 384, 512};
      blocks_.push_back(
          this->add_block("block" + std::to_string(k + 1), shape, filters[k], 3, seed));
      shape = Base::halved(blocks_.back().conv.output());
      if (k >= 2) features += shape.size();
    }
    this->set_features(features);
  }

  std::string_view name() const override { return "r2d2"; }

 protected:
  /// The blocks, one after another; the last two outputs, stacked.
  Var<Scalar> run(const Var<Scalar>& images, const typename Base::Run& run) override {
    std::array<Var<Scalar>, 4> outputs;
    for (std::size_t k = 0; k < 4; ++k) {
      constexpr std::array<double, 4> drop_rates{0, 0, 0.1, 0.3};
      const auto& block = blocks_[k];
      // Leaky ReLU is increasing: before the pool it gives the same as after it.
      Var<Scalar> x = this->apply(block, k == 0 ? images : outputs[k - 1], k < 3 ? 0.1 : 1, run);
      x = max_pool(x, Base::halving(block.conv.output(), run));
      if (run.pass.training && drop_rates[k] > 0) {
        x = dropout(x, drop_rates[k], this->next_drop(run));
      }
      outputs[k] = x;
    }
    return pad_rows(outputs[2], 0, this->features()) +
           pad_rows(outputs[3], outputs[2].rows(), this->features());
  }

 private:
  std::vector<typename Base::Block> blocks_;
};

/// Four residual blocks of 64, 160, 320 and 640 filters. A block: three 3x3 convolutions with batch
/// norm, leaky ReLU 0.1 after the first two; a 1x1 convolution with batch norm around them; their
/// sum through leaky ReLU 0.1 and a 2x2 max pool. In training the first two blocks end with dropout
/// 0.1, the last two with DropBlock, whose rate grows to 0.1 over 40,000 batches, of 5 x 5 pixels
/// where the image has 84 or more, else 2 x 2 (and never more than the block's output has). The
/// last output, flattened, is the features. Images of at least 16 x 16. Source: Lee et al.,
/// "Meta-learning with differentiable convex optimization", CVPR 2019.
template <class Scalar>
class ResNet12 final : public Encoder<Scalar> {
  using Base = Encoder<Scalar>;

 public:
  /// Draws the initial weights. Throws std::invalid_argument if the images are too small.
  explicit ResNet12(const ImageShape& input, std::uint64_t seed = 0) : Base(input) {
    Base::check_halvings("ResNet12", input, 4);
    ImageShape shape = input;
    for (std::size_t k = 0; k < 4; ++k) {
      constexpr std::array<Index, 4> filters{64, 160, 320, 640};
      const std::string name = "block" + std::to_string(k + 1);
      Residual& block = blocks_.emplace_back();
      ImageShape inner = shape;
      for (std::size_t i = 0; i < 3; ++i) {
        block.path[i] =
            this->add_block(name + "." + std::to_string(i + 1), inner, filters[k], 3, seed);
        inner = block.path[i].conv.output();
      }
      block.shortcut = this->add_block(name + ".shortcut", shape, filters[k], 1, seed);
      shape = Base::halved(inner);
    }
    this->set_features(shape.size());
  }

  std::string_view name() const override { return "resnet12"; }

 protected:
  /// The blocks, one after another.
  Var<Scalar> run(const Var<Scalar>& images, const typename Base::Run& run) override {
    constexpr double slope = 0.1;
    Var<Scalar> x = images;
    for (std::size_t k = 0; k < 4; ++k) {
      const Residual& block = blocks_[k];
      const Var<Scalar> a = this->apply(block.path[0], x, slope, run);
      const Var<Scalar> b = this->apply(block.path[1], a, slope, run);
      const Var<Scalar> c = this->apply(block.path[2], b, 1, run);
      const Var<Scalar> y = leaky_relu(c + this->apply(block.shortcut, x, 1, run), slope);
      const PoolOptions pool = Base::halving(block.shortcut.conv.output(), run);
      x = max_pool(y, pool);
      if (run.pass.training) x = drop(x, pool.output(), k, run);
    }
    return x;
  }

 private:
  struct Residual {
    std::array<typename Base::Block, 3> path;
    typename Base::Block shortcut;
  };

  Var<Scalar> drop(const Var<Scalar>& x, const ImageShape& shape, std::size_t block,
                   const typename Base::Run& run) {
    constexpr double rate = 0.1, ramp = 40000;
    if (block < 2) return dropout(x, rate, this->next_drop(run));
    const double grown = rate * std::min(1.0, static_cast<double>(run.pass.batch) / ramp);
    const Index side = std::min(this->input().height, this->input().width) >= 84 ? 5 : 2;
    return drop_block(x, shape, std::min({side, shape.height, shape.width}), grown,
                      this->next_drop(run));
  }

  std::vector<Residual> blocks_;
};

/// The encoder called `name`: conv4, resnet12 or r2d2; only conv4 uses `filters`. Throws
/// std::invalid_argument on other names, and on images that are too small.
template <class Scalar>
std::unique_ptr<Encoder<Scalar>> make_encoder(std::string_view name, const ImageShape& input,
                                              std::uint64_t seed = 0, Index filters = 64) {
  if (name == "conv4") return std::make_unique<Conv4<Scalar>>(input, seed, filters);
  if (name == "resnet12") return std::make_unique<ResNet12<Scalar>>(input, seed);
  if (name == "r2d2") return std::make_unique<R2D2<Scalar>>(input, seed);
  detail::reject("make_encoder", "name", "conv4, resnet12 or r2d2", name);
}

}  // namespace plastic
