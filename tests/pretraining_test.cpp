#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>
#include <vector>

#include "gradcheck.hpp"
#include "plastic/images/encoder_trainer.hpp"
#include "plastic/images/glyphs.hpp"
#include "plastic/nn/conv4.hpp"

using namespace plastic;
using namespace plastic::testing;

namespace {

ImageSet few_glyphs() {
  return make_glyphs({.classes = 8, .images_per_class = 6, .size = 16, .seed = 3});
}

EncoderTrainerOptions options_of(Pretraining goal) {
  EncoderTrainerOptions o{.goal = goal, .batch = 5, .batches = 60, .projection = 6};
  if (goal == Pretraining::contrast) o.augmentation = {.padding = 2, .flip = true};
  return o;
}

// A colour picture whose left half is red and whose right half is dark blue.
ImageSet two_colours() {
  ImageSet set{.shape = {3, 4, 6},
               .pixels = {},
               .classes = {{"only", 0, 1}},
               .normalisation = {{0, 0, 0}, {1, 1, 1}}};
  const std::array<std::array<int, 3>, 2> colours{{{200, 40, 40}, {20, 20, 100}}};
  for (std::size_t c = 0; c < 3; ++c) {
    for (int p = 0; p < 24; ++p) {
      set.pixels.push_back(static_cast<std::uint8_t>(colours[p % 6 < 3 ? 0 : 1][c]));
    }
  }
  return set;
}

std::vector<double> changed(const ImageSet& set, const Augmentation& a, std::uint64_t sample) {
  Random random({}, 0, sample);
  std::vector<double> x(static_cast<std::size_t>(set.shape.size()));
  load_image(set, 0, a, random, x.data());
  return x;
}

}  // namespace

TEST_CASE("The gradient of an encoder and its goal equals differences", "[pretraining]") {
  const Pretraining goal = GENERATE(Pretraining::classification, Pretraining::contrast);
  const ImageSet set = few_glyphs();
  Conv4<double> encoder(set.shape, 1, 3);
  EncoderTrainerOptions options = options_of(goal);
  options.threads = 2;
  EncoderTrainer<double> trainer(encoder, set, options);
  trainer.gradient(4);
  const Vector<double> gradient = trainer.optimizer().gradients()[0];
  const Vector<double> start = encoder.parameters().values();
  for (const ParameterBlock& block : encoder.parameters().blocks()) {
    INFO(block.name);
    Vector<double> direction = Vector<double>::Zero(start.size());
    direction.segment(block.offset, block.size()) = random_matrix(block.size(), 1, 3);
    constexpr double step = 1e-6;
    encoder.parameters().values() = start + step * direction;
    const double above = trainer.gradient(4);
    encoder.parameters().values() = start - step * direction;
    const double below = trainer.gradient(4);
    encoder.parameters().values() = start;
    CHECK(gradient.dot(direction) ==
          Approx((above - below) / (2 * step)).epsilon(1e-4).margin(1e-6));
  }
}

TEST_CASE("An encoder that has trained tells new classes apart better than before",
          "[pretraining]") {
  const Pretraining goal = GENERATE(Pretraining::classification, Pretraining::contrast);
  const ImageSet set = make_glyphs({.classes = 40, .images_per_class = 10, .size = 16});
  const ImageSet unseen =
      make_glyphs({.classes = 40, .images_per_class = 10, .size = 16, .first_class = 40});
  const FewShotImages test(unseen);
  Conv4<float> encoder(set.shape, 1, 16);
  const auto accuracy = [&] { return nearest_support(encoder, test, {}, 5, 100, 2).all_accuracy; };
  const double before = accuracy();
  EncoderTrainerOptions options = options_of(goal);
  options.batch = 64;
  options.batches = 150;
  options.learning_rate = 3e-3;
  options.threads = 2;
  options.validation_every = 50;
  options.validation_batches = 1;
  if (goal == Pretraining::contrast) options.augmentation = {.resized_crop = 0.5};
  EncoderTrainer<float> trainer(encoder, set, options);
  const Progress end = trainer.run(test, {});
  CHECK(end.batch == options.batches);
  CHECK(end.validation_loss < 1 - before);
  CHECK(accuracy() > before + 0.05);
}

TEST_CASE("Training an encoder has the same bits with any number of threads", "[pretraining]") {
  const Pretraining goal = GENERATE(Pretraining::classification, Pretraining::contrast);
  const ImageSet set = few_glyphs();
  Vector<float> expected;
  for (const int threads : {1, 3}) {
    Conv4<float> encoder(set.shape, 1, 3);
    EncoderTrainerOptions options = options_of(goal);
    options.threads = threads;
    EncoderTrainer<float> trainer(encoder, set, options);
    for (Index batch = 0; batch < 3; ++batch) trainer.step(batch);
    if (threads == 1) expected = encoder.parameters().values();
    CHECK(encoder.parameters().values() == expected);
  }
}

TEST_CASE("The contrast loss is that of its formula", "[pretraining]") {
  // With as many views as two images have and no head that learns, checked on the loss alone: two
  // equal images and equal views leave log 3, for one other view among three.
  ImageSet set = few_glyphs();
  std::fill(set.pixels.begin(), set.pixels.end(), std::uint8_t{90});
  Conv4<double> encoder(set.shape, 1, 3);
  EncoderTrainerOptions options = options_of(Pretraining::contrast);
  options.batch = 2;
  options.augmentation = {.flip = true};
  EncoderTrainer<double> trainer(encoder, set, options);
  CHECK(trainer.gradient(0) == Approx(std::log(3)));
}

TEST_CASE("The nearest support image answers by cosine", "[pretraining]") {
  // Images of one class are equal: nothing is nearer.
  ImageSet set = few_glyphs();
  for (const ImageClass& c : set.classes) {
    for (Index i = 1; i < c.count; ++i) {
      std::copy(set.image(c.first), set.image(c.first + 1),
                set.pixels.begin() + (c.first + i) * set.shape.size());
    }
  }
  Conv4<float> encoder(set.shape, 1, 3);
  const ImageEvaluation e =
      nearest_support(encoder, FewShotImages(set, {.way = 4, .queries = 2}), {}, 2, 10, 2);
  CHECK(e.accuracy == 1);
  CHECK(e.all_accuracy == 1);
  CHECK(e.loss == 0);
  CHECK(e.half_width == 0);
}

TEST_CASE("A turn of the hue keeps value and saturation, and a whole one changes nothing",
          "[pretraining]") {
  const auto turned = [](std::array<double, 3> c, double turn) {
    detail::turn_hue(c[0], c[1], c[2], turn);
    return c;
  };
  const std::array<double, 3> red{0.8, 0.2, 0.2};
  const auto is = [](const std::array<double, 3>& got, const std::array<double, 3>& expected) {
    for (std::size_t c = 0; c < 3; ++c) CHECK(got[c] == Approx(expected[c]).margin(1e-12));
  };
  is(turned(red, 1.0 / 3), {0.2, 0.8, 0.2});
  is(turned(red, -1.0 / 3), {0.2, 0.2, 0.8});
  is(turned(red, 1.0 / 6), {0.8, 0.8, 0.2});
  is(turned({0.3, 0.3, 0.3}, 0.4), {0.3, 0.3, 0.3});
  for (const std::array<double, 3> c :
       {std::array<double, 3>{0.1, 0.5, 0.9}, {0.9, 0.1, 0.4}, {0.2, 0.7, 0.3}, {0.5, 0.5, 0.1}}) {
    is(turned(c, 0), c);
    is(turned(turned(c, 0.27), -0.27), c);
    const auto t = turned(c, 0.11);
    CHECK(std::max({t[0], t[1], t[2]}) == Approx(std::max({c[0], c[1], c[2]})));
    CHECK(std::min({t[0], t[1], t[2]}) == Approx(std::min({c[0], c[1], c[2]})));
  }
}

TEST_CASE("Grey, blur and resized crops do what they say", "[pretraining]") {
  const ImageSet set = two_colours();
  const std::vector<double> as_it_is = changed(set, {}, 0);

  const std::vector<double> grey = changed(set, {.grey_chance = 1}, 0);
  for (std::size_t p = 0; p < 24; ++p) {
    const double expected =
        0.299 * as_it_is[p] + 0.587 * as_it_is[p + 24] + 0.114 * as_it_is[p + 48];
    for (std::size_t c = 0; c < 3; ++c) CHECK(grey[c * 24 + p] == Approx(expected));
  }

  // A blur keeps what is even and the sum of a row; here wide enough to mix the halves.
  std::vector<double> x = as_it_is;
  detail::blur(set.shape, 1.5, x.data());
  CHECK(x[2] < as_it_is[2] - 0.05);
  CHECK(x[3] > as_it_is[3] + 0.05);
  CHECK(x[2] + x[3] == Approx(as_it_is[2] + as_it_is[3]));
  std::vector<double> even(72, 0.4);
  detail::blur(set.shape, 0.7, even.data());
  for (const double v : even) CHECK(v == Approx(0.4));

  // The whole image stretched to itself, and parts of it that have one colour or both.
  int one_colour = 0, both = 0, flipped = 0;
  for (std::uint64_t sample = 0; sample < 200; ++sample) {
    const std::vector<double> part = changed(set, {.resized_crop = 0.1, .flip = true}, sample);
    for (std::size_t p = 0; p < 72; ++p) {
      const std::size_t plane = p / 24 * 24;
      CHECK(part[p] >= std::min(as_it_is[plane], as_it_is[plane + 3]) - 1e-12);
      CHECK(part[p] <= std::max(as_it_is[plane], as_it_is[plane + 3]) + 1e-12);
    }
    const double left = part[0], right = part[5];
    one_colour += std::abs(left - right) < 1e-9 ? 1 : 0;
    both += std::abs(left - right) > 0.3 ? 1 : 0;
    flipped += right > left + 0.3 ? 1 : 0;
  }
  CHECK(one_colour > 5);
  CHECK(both > 50);
  CHECK(flipped > 20);
  Random random({}, 0, 0);
  detail::resized_crop(set.shape, set.image(0), 1, false, random, x.data());
  for (std::size_t p = 0; p < 72; ++p) CHECK(x[p] == Approx(as_it_is[p]));

  // A change with a chance happens about as often.
  int changes = 0;
  for (std::uint64_t sample = 0; sample < 400; ++sample) {
    changes += changed(set, {.hue = 0.2, .jitter_chance = 0.8}, sample) != as_it_is ? 1 : 0;
  }
  CHECK(changes > 285);
  CHECK(changes < 355);
}

TEST_CASE("Goals and augmentations out of range are rejected by name", "[pretraining]") {
  const ImageSet set = few_glyphs();
  Conv4<float> encoder(set.shape, 1, 3);
  const auto error = [&](const EncoderTrainerOptions& o) {
    return rejection([&] { EncoderTrainer<float>(encoder, set, o); });
  };
  CHECK(error({.goal = Pretraining::contrast}) ==
        "EncoderTrainerOptions: augmentation must be more than nothing: the views would be the "
        "same, got none");
  CHECK(error({.batch = 0}) == "EncoderTrainerOptions: batch must be at least 1, got 0");
  CHECK(error({.augmentation = {.padding = 1, .resized_crop = 0.5}}).find("resized_crop") !=
        std::string::npos);
  CHECK(error({.augmentation = {.hue = 0.6}}).find("hue") != std::string::npos);
  Conv4<float> larger({1, 20, 20}, 1, 3);
  CHECK(rejection([&] { EncoderTrainer<float>(larger, set, {}); }) ==
        "EncoderTrainer: the images of the set must be 1 x 20 x 20, got 1 x 16 x 16");
}
