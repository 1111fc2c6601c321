#pragma once

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "plastic/nn/encoders.hpp"
#include "support/gradcheck.hpp"

/// Encoders on fixed weights and images, whose features and gradients another library computes
/// too.
namespace plastic::testing {

struct EncoderCase {
  std::string name;
  bool training;  // batch norm by the batch: only where there is no dropout
  ImageShape shape;
  Index images;

  std::string text() const { return name + (training ? " in training" : " in use"); }
};

inline std::vector<EncoderCase> encoder_cases() {
  return {{"conv4", true, {3, 32, 32}, 3},
          {"conv4", false, {1, 28, 28}, 3},
          {"resnet12", false, {3, 32, 32}, 2},
          {"r2d2", false, {3, 16, 20}, 2}};
}

/// With running statistics that are not those of a new encoder.
inline std::unique_ptr<Encoder<float>> encoder_of(const EncoderCase& c) {
  auto encoder = make_encoder<float>(c.name, c.shape, 11);
  std::uint64_t seed = 20;
  for (RunningStatistics<float>& s : encoder->statistics()) {
    s.mean = random_matrix<float>(s.mean.size(), 1, ++seed, -0.3, 0.3);
    s.variance = random_matrix<float>(s.variance.size(), 1, ++seed, 0.5, 2);
  }
  Parameters<float>& parameters = encoder->parameters();
  for (Index k = 0; k < static_cast<Index>(parameters.blocks().size()); ++k) {
    // Gains and biases other than 1 and 0.
    if (parameters.block(k).cols > 1) continue;
    const Matrix<float> change =
        random_matrix<float>(parameters.block(k).rows, 1, ++seed, -0.5, 0.5);
    parameters.matrix(k) += change;
  }
  return encoder;
}

inline Matrix<float> images_of(const EncoderCase& c) {
  return random_matrix<float>(c.shape.size(), c.images, 3, -1.5, 1.5);
}

/// The features are weighted with these and summed: that is the loss.
inline Matrix<float> loss_weights(Index features, Index images) {
  return random_matrix<float>(features, images, 4);
}

/// What is kept of a result: the first values, and of each block of parameters the norm of the
/// gradient and its product with a random direction.
struct EncoderResult {
  std::vector<double> features;
  std::vector<double> norms, products;
};

inline EncoderResult result_of(const Encoder<float>& encoder, const Matrix<float>& features,
                               const Vector<float>& gradients) {
  EncoderResult result;
  for (Index i = 0; i < std::min<Index>(200, features.rows()); ++i) {
    result.features.push_back(static_cast<double>(features(i, features.cols() - 1)));
  }
  for (const ParameterBlock& block : encoder.parameters().blocks()) {
    const Vector<double> g = gradients.segment(block.offset, block.size()).cast<double>();
    result.norms.push_back(g.norm());
    result.products.push_back(g.dot(random_matrix(block.size(), 1, 5).col(0)));
  }
  return result;
}

/// By this library.
inline EncoderResult run_case(const EncoderCase& c) {
  const auto encoder = encoder_of(c);
  Vector<float> gradients = Vector<float>::Zero(encoder->parameters().size());
  Tape<float> tape;
  const Var<float> features = encoder->encode(tape.constant(images_of(c)),
                                              {.training = c.training, .threads = 2}, &gradients);
  tape.backward(sum(features * tape.constant(loss_weights(features.rows(), c.images))));
  return result_of(*encoder, features.value(), gradients);
}

/// Equal to 1e-4 of the largest feature, or of a gradient's norm.
inline void check_same(const EncoderResult& got, const EncoderResult& expected) {
  REQUIRE(got.features.size() == expected.features.size());
  REQUIRE(got.norms.size() == expected.norms.size());
  double largest = 0;
  for (const double x : expected.features) largest = std::max(largest, std::abs(x));
  CHECK(largest > 0.1);
  for (std::size_t i = 0; i < got.features.size(); ++i) {
    INFO("feature " << i);
    CHECK(std::abs(got.features[i] - expected.features[i]) <= 1e-4 * largest);
  }
  for (std::size_t k = 0; k < got.norms.size(); ++k) {
    INFO("block " << k);
    CHECK(expected.norms[k] > 0);
    CHECK(std::abs(got.norms[k] - expected.norms[k]) <= 1e-4 * expected.norms[k]);
    CHECK(std::abs(got.products[k] - expected.products[k]) <= 1e-4 * expected.norms[k]);
  }
}

inline nlohmann::json to_json(const EncoderResult& r) {
  return {{"features", r.features}, {"norms", r.norms}, {"products", r.products}};
}
inline EncoderResult from_json(const nlohmann::json& json) {
  return {json.at("features"), json.at("norms"), json.at("products")};
}

}  // namespace plastic::testing
