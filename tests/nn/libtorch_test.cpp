// Encoders against the same written with libtorch, on the same weights.

#include <torch/torch.h>
#undef CHECK

#include <catch2/catch.hpp>
#include <fstream>
#include <map>
#include <string>

#include "support/encoder_cases.hpp"

using namespace plastic;
using namespace plastic::testing;

namespace {

/// The parameters of an encoder as leaves of libtorch's graph.
class Peer {
 public:
  Peer(const EncoderCase& c, const Encoder<float>& encoder) : c_(c) {
    const Parameters<float>& parameters = encoder.parameters();
    for (Index k = 0; k < static_cast<Index>(parameters.blocks().size()); ++k) {
      const ParameterBlock& block = parameters.block(k);
      std::vector<std::int64_t> shape{block.rows};
      if (block.cols > 1) {
        const bool is_shortcut = block.name.find("shortcut") != std::string::npos;
        const std::int64_t kernel = is_shortcut ? 1 : 3;
        shape = {block.cols, block.rows / (kernel * kernel), kernel, kernel};
      }
      leaves_[block.name] =
          tensor(parameters.values().data() + block.offset, shape).clone().set_requires_grad(true);
    }
    for (std::size_t k = 0; k < encoder.statistics().size(); ++k) {
      const RunningStatistics<float>& s = encoder.statistics()[k];
      const std::string& name = encoder.statistics_names()[k];
      means_[name] = tensor(s.mean.data(), {s.mean.size()}).clone();
      variances_[name] = tensor(s.variance.data(), {s.variance.size()}).clone();
    }
  }

  static torch::Tensor tensor(const float* values, const std::vector<std::int64_t>& shape) {
    return torch::from_blob(const_cast<float*>(values), shape, torch::kFloat32);
  }

  torch::Tensor features(const torch::Tensor& images) {
    if (c_.name == "conv4") return conv4(images);
    return c_.name == "resnet12" ? resnet12(images) : r2d2(images);
  }

  torch::Tensor gradient(const std::string& block) { return leaves_.at(block).grad(); }

 private:
  torch::Tensor layer(const std::string& name, const torch::Tensor& x) {
    const torch::Tensor& weight = leaves_.at(name + ".conv.weight");
    const torch::Tensor y = torch::conv2d(x, weight, {}, 1, weight.size(2) / 2);
    return torch::batch_norm(y, leaves_.at(name + ".norm.weight"), leaves_.at(name + ".norm.bias"),
                             means_.at(name + ".norm"), variances_.at(name + ".norm"), c_.training,
                             0.1, 1e-5, false);
  }

  torch::Tensor conv4(torch::Tensor x) {
    for (const char* block : {"block1", "block2", "block3", "block4"}) {
      x = torch::max_pool2d(torch::relu(layer(block, x)), 2);
    }
    return x.flatten(1);
  }

  torch::Tensor resnet12(torch::Tensor x) {
    for (const std::string block : {"block1", "block2", "block3", "block4"}) {
      torch::Tensor y = torch::leaky_relu(layer(block + ".1", x), 0.1);
      y = torch::leaky_relu(layer(block + ".2", y), 0.1);
      y = layer(block + ".3", y) + layer(block + ".shortcut", x);
      x = torch::max_pool2d(torch::leaky_relu(y, 0.1), 2);
    }
    return x.flatten(1);
  }

  torch::Tensor r2d2(torch::Tensor x) {
    x = torch::leaky_relu(torch::max_pool2d(layer("block1", x), 2), 0.1);
    x = torch::leaky_relu(torch::max_pool2d(layer("block2", x), 2), 0.1);
    x = torch::leaky_relu(torch::max_pool2d(layer("block3", x), 2), 0.1);
    return torch::cat({x.flatten(1), torch::max_pool2d(layer("block4", x), 2).flatten(1)}, 1);
  }

  EncoderCase c_;
  std::map<std::string, torch::Tensor> leaves_, means_, variances_;
};

EncoderResult run_with_libtorch(const EncoderCase& c) {
  const auto encoder = encoder_of(c);
  Peer peer(c, *encoder);
  const Matrix<float> images = images_of(c);
  const torch::Tensor features = peer.features(
      Peer::tensor(images.data(), {c.images, c.shape.channels, c.shape.height, c.shape.width}));
  const Matrix<float> weights = loss_weights(features.size(1), c.images);
  (features * Peer::tensor(weights.data(), {c.images, features.size(1)})).sum().backward();
  const torch::Tensor values = features.detach().contiguous();
  Vector<float> gradients(encoder->parameters().size());
  for (const ParameterBlock& block : encoder->parameters().blocks()) {
    const torch::Tensor g = peer.gradient(block.name).contiguous();
    gradients.segment(block.offset, block.size()) =
        ConstMatrixMap<float>(g.data_ptr<float>(), block.size(), 1);
  }
  return result_of(*encoder,
                   ConstMatrixMap<float>(values.data_ptr<float>(), features.size(1), c.images),
                   gradients);
}

}  // namespace

TEST_CASE("Encoders have the features and gradients of libtorch", "[nn][libtorch]") {
  for (const EncoderCase& c : encoder_cases()) {
    INFO(c.text());
    check_same(run_case(c), run_with_libtorch(c));
  }
}

// Writes the values that the other tests compare with where libtorch is not installed.
TEST_CASE("Store libtorch's results", "[nn][libtorch][.store]") {
  nlohmann::json all;
  for (const EncoderCase& c : encoder_cases()) all[c.text()] = to_json(run_with_libtorch(c));
  std::ofstream(std::string(PLASTIC_TEST_DATA) + "/encoders.json") << all.dump(1) << "\n";
}
