#pragma once

#include <array>

#include "plastic/nn/encoder.hpp"

namespace plastic {

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
  /// The blocks, one after another; the last two outputs, one below the other.
  Var<Scalar> run(const Var<Scalar>& images, const typename Base::Run& run) override {
    std::array<Var<Scalar>, 4> outputs;
    for (std::size_t k = 0; k < 4; ++k) {
      constexpr std::array<double, 4> drop_rates{0, 0, 0.1, 0.3};
      const auto& block = blocks_[k];
      // Leaky ReLU grows with its input: before the pool it gives what it would give after.
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

}  // namespace plastic
