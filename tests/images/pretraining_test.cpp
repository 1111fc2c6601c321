#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>
#include <vector>

#include "plastic/images/encoder_objective.hpp"
#include "plastic/images/glyphs.hpp"
#include "plastic/nn/encoders.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/train/trainer.hpp"
#include "support/errors.hpp"
#include "support/gradcheck.hpp"

using namespace plastic;
using namespace plastic::testing;

namespace {

ImageSet few_glyphs() {
  return make_glyphs({.classes = 8, .images_per_class = 6, .size = 16, .seed = 3});
}

EncoderObjectiveOptions options_of(Pretraining goal) {
  EncoderObjectiveOptions o{.goal = goal, .projection = 6};
  if (goal == Pretraining::contrast) o.augmentation = {.padding = 2, .flip = true};
  return o;
}

const AdamWOptions adamw{.learning_rate = 1e-3, .weight_decay = 5e-4};

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

TEST_CASE("The gradient of an encoder and its goal equals differences", "[images][pretraining]") {
  const Pretraining goal = GENERATE(Pretraining::classification, Pretraining::contrast);
  const ImageSet set = few_glyphs();
  Conv4<double> encoder(set.shape, 1, 3);
  EncoderObjective<double> objective(encoder, set, options_of(goal));
  AdamW<double> optimizer(objective.parameters(), adamw);
  Trainer trainer(objective, optimizer, {.batch = 5, .threads = 2});
  trainer.gradient(4);
  const std::vector<Parameters<double>*> sets = objective.parameters();
  REQUIRE(sets.size() == 2);
  CHECK(sets[0] == &encoder.parameters());
  const std::vector<Vector<double>> gradients{trainer.gradients(0), trainer.gradients(1)};
  for (std::size_t k = 0; k < sets.size(); ++k) {
    const Vector<double> start = sets[k]->values();
    for (const ParameterBlock& block : sets[k]->blocks()) {
      INFO(block.name);
      Vector<double> direction = Vector<double>::Zero(start.size());
      direction.segment(block.offset, block.size()) = random_matrix(block.size(), 1, 3);
      constexpr double step = 1e-6;
      sets[k]->values() = start + step * direction;
      const double above = trainer.gradient(4);
      sets[k]->values() = start - step * direction;
      const double below = trainer.gradient(4);
      sets[k]->values() = start;
      CHECK(gradients[k].dot(direction) ==
            Approx((above - below) / (2 * step)).epsilon(1e-4).margin(1e-6));
    }
  }
}

TEST_CASE("An encoder that has trained tells new classes apart better than before",
          "[images][pretraining]") {
  const Pretraining goal = GENERATE(Pretraining::classification, Pretraining::contrast);
  const ImageSet set = make_glyphs({.classes = 40, .images_per_class = 10, .size = 16});
  const ImageSet unseen =
      make_glyphs({.classes = 40, .images_per_class = 10, .size = 16, .first_class = 40});
  const FewShotImages test(unseen);
  Conv4<float> encoder(set.shape, 1, 16);
  const auto accuracy = [&] {
    return nearest_support(encoder, test, {}, 5, 100, 2).measure("accuracy").mean();
  };
  const double before = accuracy();
  EncoderObjectiveOptions options = options_of(goal);
  options.validation = &test;
  if (goal == Pretraining::contrast) options.augmentation = {.resized_crop = 0.5};
  EncoderObjective<float> objective(encoder, set, options);
  AdamW<float> optimizer(objective.parameters(), {.learning_rate = 3e-3, .weight_decay = 5e-4});
  Trainer trainer(objective, optimizer,
                  {.batch = 64,
                   .batches = 150,
                   .schedule = CosineSchedule({.learning_rate = 3e-3, .floor = 3e-5}),
                   .validation_every = 50,
                   .validation_batches = 1,
                   .threads = 2});
  const Progress end = trainer.run();
  CHECK(end.batch == 150);
  CHECK(end.validation_loss < 1 - before);
  CHECK(accuracy() > before + 0.05);
}

TEST_CASE("Training an encoder has the same bits with any number of threads",
          "[images][pretraining]") {
  const Pretraining goal = GENERATE(Pretraining::classification, Pretraining::contrast);
  const ImageSet set = few_glyphs();
  std::vector<Vector<float>> expected;
  for (const int threads : {1, 3}) {
    Conv4<float> encoder(set.shape, 1, 3);
    EncoderObjective<float> objective(encoder, set, options_of(goal));
    AdamW<float> optimizer(objective.parameters(), adamw);
    Trainer trainer(objective, optimizer, {.batch = 5, .threads = threads});
    for (Index batch = 0; batch < 3; ++batch) trainer.step(batch);
    std::vector<Vector<float>> got{objective.parameters()[1]->values()};
    for (const Vector<float>* values : encoder.state()) got.push_back(*values);
    if (threads == 1) expected = got;
    CHECK(got == expected);
  }
}

TEST_CASE("The contrast loss is that of its formula", "[images][pretraining]") {
  EncoderObjectiveOptions options = options_of(Pretraining::contrast);
  options.augmentation = {.flip = true};
  const auto loss_of = [&](const ImageSet& set, Index batch, Matrix<double>* z) {
    Conv4<double> encoder(set.shape, 1, 3);
    EncoderObjective<double> objective(encoder, set, options);
    AdamW<double> optimizer(objective.parameters(), adamw);
    Trainer trainer(objective, optimizer, {.batch = batch, .threads = 1});
    const double loss = trainer.gradient(0);
    if (z == nullptr) return loss;
    // What the layers make of the batch's views, with the same random numbers.
    Matrix<double> views(set.shape.size(), 2 * batch);
    for (Index k = 0; k < batch; ++k) {
      Random random({0, Random::Purpose::training}, 0, static_cast<std::uint64_t>(k));
      const Index image = random.below(static_cast<std::uint32_t>(set.images()));
      for (const Index at : {k, batch + k}) {
        load_image(set, image, options.augmentation, random, views.col(at).data());
      }
    }
    Tape<double> tape;
    const Matrix<double> features =
        encoder.encode(tape.constant(views), {.training = true}).value();
    const Parameters<double>& layers = *objective.parameters()[1];
    const auto apply = [&](const std::string& name, const Matrix<double>& x) -> Matrix<double> {
      return (layers.matrix(name + ".weight").transpose() * x).colwise() +
             layers.matrix(name + ".bias").col(0);
    };
    *z = apply("projection2", apply("projection1", features).cwiseMax(0));
    return loss;
  };

  // Two equal images and equal views leave log 3, for one other view among three.
  ImageSet equal = few_glyphs();
  std::fill(equal.pixels.begin(), equal.pixels.end(), std::uint8_t{90});
  CHECK(loss_of(equal, 2, nullptr) == Approx(std::log(3)));

  Matrix<double> z;
  const double loss = loss_of(few_glyphs(), 5, &z);
  const Matrix<double> cosine = z.colwise().normalized().transpose() * z.colwise().normalized();
  double expected = 0;
  for (Index i = 0; i < 10; ++i) {
    double others = 0;
    for (Index k = 0; k < 10; ++k) {
      if (k != i) others += std::exp(cosine(i, k) / options.temperature);
    }
    expected -= std::log(std::exp(cosine(i, (i + 5) % 10) / options.temperature) / others) / 10;
  }
  CHECK(loss == Approx(expected));
}

TEST_CASE("The nearest support image answers by cosine", "[images][pretraining]") {
  // Images of one class are equal: nothing is nearer.
  ImageSet set = few_glyphs();
  for (const ImageClass& c : set.classes) {
    for (Index i = 1; i < c.count; ++i) {
      std::copy(set.image(c.first), set.image(c.first + 1),
                set.pixels.begin() + (c.first + i) * set.shape.size());
    }
  }
  Conv4<float> encoder(set.shape, 1, 3);
  const Evaluation e =
      nearest_support(encoder, FewShotImages(set, {.way = 4, .queries = 2}), {}, 2, 10, 2);
  CHECK(e.measure("first_query").mean() == 1);
  CHECK(e.measure("first_query").count == 20);
  CHECK(e.measure("accuracy").mean() == 1);
  CHECK(e.measure("accuracy").count == 20 * 8);
  CHECK(e.loss == 0);
  CHECK(e.measure("first_query").half_width() == 0);
}

TEST_CASE("The nearest pixels answer by the cosine of normalised images", "[images][pretraining]") {
  ImageSet set = few_glyphs();
  set.normalisation = measure_normalisation(set);
  const FewShotImages episodes(set, {.way = 4, .shot = 2, .queries = 1});
  const DrawnEpisodes drawn(episodes, {}, 3, 10, 1);
  const auto cosine = [&](Index a, Index b) {
    double ab = 0, aa = 0, bb = 0;
    for (Index p = 0; p < set.shape.size(); ++p) {
      const auto value = [&](Index image) {
        return (set.image(image)[p] / 255.0 - set.normalisation.mean[0]) /
               set.normalisation.deviation[0];
      };
      ab += value(a) * value(b);
      aa += value(a) * value(a);
      bb += value(b) * value(b);
    }
    return ab / std::sqrt(aa * bb);
  };
  int right = 0;
  for (Index e = 0; e < drawn.count(); ++e) {
    const std::vector<ShownImage>& steps = drawn[e];
    for (std::size_t query = 8; query < 12; ++query) {
      const auto nearer = [&](const ShownImage& a, const ShownImage& b) {
        return cosine(a.image, steps[query].image) < cosine(b.image, steps[query].image);
      };
      const auto nearest = std::max_element(steps.begin(), steps.begin() + 8, nearer);
      right += nearest->label == steps[query].label;
    }
  }
  const Evaluation e = nearest_pixels(episodes, {}, 3, 10, 2);
  CHECK(e.measure("accuracy").mean() == Approx(right / 120.0));
  CHECK(e.loss == Approx(1 - right / 120.0));
  CHECK(e.measure("first_query").count == 30);
  CHECK_THROWS_AS(nearest_pixels(episodes, {}, 0, 10, 2), std::invalid_argument);
}

TEST_CASE("The nearest prototype is the mean of a class's features that is nearest",
          "[images][pretraining]") {
  ImageSet set = few_glyphs();
  set.normalisation = measure_normalisation(set);
  Conv4<float> encoder(set.shape, 1, 3);
  const FewShotImages episodes(set, {.way = 4, .shot = 3, .queries = 2});
  const DrawnEpisodes drawn(episodes, {}, 2, 10, 1);
  Matrix<float> features(encoder.features(), static_cast<Index>(drawn.images().size()));
  encode_images(encoder, set, drawn.images(), 1, [&](Index first, const Var<float>& some) {
    features.middleCols(first, some.cols()) = some.value();
  });
  int right = 0;
  for (Index e = 0; e < drawn.count(); ++e) {
    const std::vector<ShownImage>& steps = drawn[e];
    Matrix<double> means = Matrix<double>::Zero(features.rows(), 4);
    for (std::size_t k = 0; k < 12; ++k) {
      means.col(steps[k].label) += features.col(drawn.place(steps[k].image)).cast<double>() / 3;
    }
    for (std::size_t query = 12; query < 20; ++query) {
      const Vector<double> of_query = features.col(drawn.place(steps[query].image)).cast<double>();
      Index guess = 0;
      (means.colwise() - of_query).colwise().squaredNorm().minCoeff(&guess);
      right += guess == steps[query].label;
    }
  }
  const Evaluation e = nearest_prototype(encoder, episodes, {}, 2, 10, 2);
  CHECK(e.measure("accuracy").mean() == Approx(right / 160.0));
  CHECK(e.measure("first_query").count == 20);
  CHECK_THROWS_AS(nearest_prototype(encoder, episodes, {}, 2, 0, 2), std::invalid_argument);
}

TEST_CASE("A turn of the hue keeps value and saturation, and a whole one changes nothing",
          "[images][pretraining]") {
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

TEST_CASE("Grey, blur and resized crops do what they say", "[images][pretraining]") {
  const ImageSet set = two_colours();
  const std::vector<double> as_it_is = changed(set, {}, 0);

  const std::vector<double> grey = changed(set, {.grey_chance = 1}, 0);
  for (std::size_t p = 0; p < 24; ++p) {
    const double expected =
        0.299 * as_it_is[p] + 0.587 * as_it_is[p + 24] + 0.114 * as_it_is[p + 48];
    for (std::size_t c = 0; c < 3; ++c) CHECK(grey[c * 24 + p] == Approx(expected));
  }

  // A blur keeps what is uniform and the sum of a row; here it is wide enough to mix the halves.
  constexpr std::size_t memory = 6 + 11;  // behind the image: a line, and the weights of sigma 1.5
  std::vector<double> x = as_it_is;
  x.resize(72 + memory);
  detail::blur(set.shape, 1.5, x.data());
  CHECK(x[2] < as_it_is[2] - 0.05);
  CHECK(x[3] > as_it_is[3] + 0.05);
  CHECK(x[2] + x[3] == Approx(as_it_is[2] + as_it_is[3]));
  std::vector<double> even(72 + memory, 0.4);
  detail::blur(set.shape, 0.7, even.data());
  for (std::size_t p = 0; p < 72; ++p) CHECK(even[p] == Approx(0.4));

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

  // A change with a given probability happens about that often.
  int changes = 0;
  for (std::uint64_t sample = 0; sample < 400; ++sample) {
    changes += changed(set, {.hue = 0.2, .jitter_chance = 0.8}, sample) != as_it_is ? 1 : 0;
  }
  CHECK(changes > 285);
  CHECK(changes < 355);
}

TEST_CASE("Goals and augmentations out of range are rejected by name", "[images][pretraining]") {
  const ImageSet set = few_glyphs();
  Conv4<float> encoder(set.shape, 1, 3);
  const auto error = [&](const EncoderObjectiveOptions& o) {
    return rejection([&] { EncoderObjective<float>(encoder, set, o); });
  };
  CHECK(error({.goal = Pretraining::contrast}) ==
        "EncoderObjectiveOptions: augmentation must be one that changes images, since both views "
        "would otherwise be the same, got none");
  CHECK(error({.projection = 0}) ==
        "EncoderObjectiveOptions: projection must be at least 1, got 0");
  CHECK(error({.augmentation = {.padding = 1, .resized_crop = 0.5}}).find("resized_crop") !=
        std::string::npos);
  CHECK(error({.augmentation = {.hue = 0.6}}).find("hue") != std::string::npos);
  Conv4<float> larger({1, 20, 20}, 1, 3);
  CHECK(rejection([&] { EncoderObjective<float>(larger, set, {}); }) ==
        "EncoderObjective: the images of the set must be 1 x 20 x 20, got 1 x 16 x 16");

  EncoderObjective<float> objective(encoder, set, options_of(Pretraining::contrast));
  AdamW<float> optimizer(objective.parameters(), adamw);
  const auto step_error = [&](const TrainerOptions& o) {
    return rejection([&] { Trainer(objective, optimizer, o).step(0); });
  };
  CHECK(step_error({.batch = 0}) == "TrainerOptions: batch must be at least 1, got 0");
  CHECK(step_error({.batch = 1}) ==
        "EncoderObjective: the batch must be at least 2 for contrast, got 1");
  CHECK(step_error({.batch = 5, .shard = 2}) ==
        "EncoderObjective: a shard must be the whole batch, got 2");
  CHECK(rejection([&] { Trainer(objective, optimizer, {.batch = 5}).validate(); }) ==
        "EncoderObjective::evaluate: the validation episodes must be given, got none");
}
