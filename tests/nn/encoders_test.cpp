#include "plastic/nn/encoders.hpp"

#include <catch2/catch.hpp>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/encoder_cases.hpp"
#include "support/errors.hpp"
#include "support/gradcheck.hpp"

using namespace plastic;
using namespace plastic::testing;

namespace {

template <class Scalar>
std::vector<std::unique_ptr<Encoder<Scalar>>> encoders(const ImageShape& input) {
  std::vector<std::unique_ptr<Encoder<Scalar>>> all;
  all.push_back(std::make_unique<Conv4<Scalar>>(input, 1, 8));
  all.push_back(std::make_unique<R2D2<Scalar>>(input, 1));
  all.push_back(std::make_unique<ResNet12<Scalar>>(input, 1));
  return all;
}

}  // namespace

TEST_CASE("Encoders have the features that their images and filters give", "[nn][encoders]") {
  struct Expected {
    ImageShape input;
    Index conv4, r2d2, resnet12;
  };
  for (const Expected& e : {Expected{{1, 28, 28}, 64, 384 * 9 + 512, 640},
                            Expected{{3, 32, 32}, 256, 384 * 16 + 512 * 4, 2560},
                            Expected{{3, 84, 84}, 1600, 384 * 100 + 512 * 25, 16000}}) {
    CHECK(Conv4<float>(e.input).features() == e.conv4);
    CHECK(R2D2<float>(e.input).features() == e.r2d2);
    CHECK(ResNet12<float>(e.input).features() == e.resnet12);
  }
  CHECK(rejection([] {
          Conv4<float>({1, 15, 28});
        }) == "Conv4: input must be an image of at least 16 rows and columns, got 1 x 15 x 28");
}

TEST_CASE("Initial filters are normal by fan-out", "[nn][encoders]") {
  const Conv4<double> encoder({3, 32, 32}, 5);
  for (Index k = 0; k < 4; ++k) {
    const auto weight = encoder.parameters().matrix(3 * k).array();
    CHECK(weight.mean() == Approx(0).margin(0.005));
    CHECK(std::sqrt(weight.square().mean()) == Approx(std::sqrt(2.0 / (64 * 9))).epsilon(0.05));
  }
}

TEST_CASE("An encoder's gradient equals differences along random directions", "[nn][encoders]") {
  const ImageShape input{2, 16, 16};
  const Matrix<double> images = random_matrix(input.size(), 3, 1);
  for (const auto& encoder : encoders<double>(input)) {
    for (const bool training : {true, false}) {
      INFO(encoder->name() << ", training " << training);
      const EncoderPass pass{.training = training, .seed = 4, .batch = 40000};
      const Matrix<double> look = random_matrix(encoder->features(), 3, 2);
      const auto loss = [&](Vector<double>* gradients) {
        Tape<double> tape;
        const auto y = encoder->encode(tape.constant(images), pass, gradients);
        const auto total = sum(y * tape.constant(look));
        if (gradients != nullptr) tape.backward(total);
        return total.value()(0, 0);
      };
      Parameters<double>& parameters = encoder->parameters();
      Vector<double> gradients = Vector<double>::Zero(parameters.size());
      loss(&gradients);
      const Vector<double> start = parameters.values();
      for (const ParameterBlock& block : parameters.blocks()) {
        INFO(block.name);
        Vector<double> direction = Vector<double>::Zero(parameters.size());
        direction.segment(block.offset, block.size()) = random_matrix(block.size(), 1, 3);
        constexpr double step = 1e-7;  // small, for the kinks
        parameters.values() = start + step * direction;
        const double above = loss(nullptr);
        parameters.values() = start - step * direction;
        const double below = loss(nullptr);
        parameters.values() = start;
        const double slope = (above - below) / (2 * step);
        CHECK(gradients.dot(direction) == Approx(slope).epsilon(1e-4).margin(1e-4));
      }
    }
  }
}

TEST_CASE("In use an encoder sees each image alone, in training all of them", "[nn][encoders]") {
  const ImageShape input{1, 16, 16};
  const Matrix<double> images = random_matrix(input.size(), 4, 1);
  for (const auto& encoder : encoders<double>(input)) {
    INFO(encoder->name());
    const auto encode = [&](const Matrix<double>& x, bool training) {
      Tape<double> tape;
      return Matrix<double>(
          encoder->encode(tape.constant(x), {.training = training, .seed = 1}).value());
    };
    encode(images, true);
    const Matrix<double> all = encode(images, false);
    for (Index n = 0; n < 4; ++n) {
      CHECK((encode(images.col(n), false) - all.col(n)).cwiseAbs().maxCoeff() <= 1e-12);
    }
    CHECK((encode(images, false) - all).cwiseAbs().maxCoeff() == 0);
    CHECK((encode(images, true).leftCols(2) - encode(images.leftCols(2), true))
              .cwiseAbs()
              .maxCoeff() > 1e-3);
  }
}

TEST_CASE("An encoder that is misused throws and says why", "[nn][encoders]") {
  Conv4<double> encoder({1, 16, 16}, 0, 2);
  Tape<double> tape;
  const auto x = tape.constant(random_matrix(255, 2, 1));
  CHECK(rejection([&] { encoder.encode(x, {}); }) ==
        "Encoder::encode: x must be 256 x images (1 x 16 x 16 each), got 255 x 2");
  const auto y = tape.constant(random_matrix(256, 2, 1));
  CHECK(rejection([&] { encoder.encode(y, {.threads = 0}); }) ==
        "Encoder::encode: threads must be at least 1, got 0");
  Vector<double> gradients(3);
  CHECK(rejection([&] { encoder.encode(y, {}, &gradients); }) ==
        "Encoder::encode: gradients must be a vector of length " +
            std::to_string(encoder.parameters().size()) + ", got 3");
}

TEST_CASE("Encoders have the features and gradients that libtorch had", "[nn][encoders]") {
  std::ifstream file(std::string(PLASTIC_TEST_DATA) + "/encoders.json");
  const nlohmann::json stored = nlohmann::json::parse(file);
  for (const EncoderCase& c : encoder_cases()) {
    INFO(c.text());
    check_same(run_case(c), from_json(stored.at(c.text())));
  }
}
