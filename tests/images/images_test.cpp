#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "plastic/cells/compiled.hpp"
#include "plastic/images/few_shot_objective.hpp"
#include "plastic/images/glyphs.hpp"
#include "plastic/io/checkpoint.hpp"
#include "plastic/nn/encoders.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/rules/gradient.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/rules/none.hpp"
#include "plastic/train/trainer.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"
#include "support/gradcheck.hpp"

using namespace plastic;
using namespace plastic::testing;

namespace {

GlyphOptions few_glyphs() { return {.classes = 12, .images_per_class = 6, .size = 16, .seed = 3}; }

// Images whose every pixel tells their number, 3 x 4 x 5.
ImageSet numbered_images() {
  ImageSet set{.shape = {3, 4, 5},
               .pixels = {},
               .classes = {},
               .normalisation = {.mean = {0.1, 0.2, 0.3}, .deviation = {0.5, 1, 2}}};
  for (int k = 0; k < 8; ++k) {
    set.classes.push_back({"class" + std::to_string(k), k * 4, 4});
    for (int i = 0; i < 4 * 60; ++i)
      set.pixels.push_back(static_cast<std::uint8_t>((k * 240 + i) % 251));
  }
  return set;
}

template <class Rule, class Scalar>
using Rnn2 = PlasticCell<FeatureRnn, Rule, Scalar>;

template <class Cell>
ImageClassifier<Cell> small_classifier(const ImageShape& shape, std::uint64_t seed = 1) {
  using Scalar = typename Cell::ScalarType;
  return {std::make_unique<Conv4<Scalar>>(shape, seed, 3),
          {.inputs = 7, .hidden = 7, .outputs = 3, .extra = 2, .inner_scale = 1, .seed = seed}};
}

const FewShotImagesOptions three_way{.way = 3, .shot = 2, .queries = 1};
const AdamWOptions adamw{.learning_rate = 1e-3, .weight_decay = 5e-4};

}  // namespace

TEST_CASE("Glyphs are a function of seed, class and image", "[images]") {
  GlyphOptions options = few_glyphs();
  const ImageSet all = make_glyphs(options);
  CHECK(all.shape == ImageShape{1, 16, 16});
  CHECK(all.images() == 72);
  REQUIRE(all.classes.size() == 12);
  CHECK(all.classes[5].name == "glyph5");
  CHECK(all.classes[5].first == 30);

  options.first_class = 5;
  options.classes = 2;
  options.threads = 3;
  const ImageSet part = make_glyphs(options);
  CHECK(part.classes[0].name == "glyph5");
  CHECK(std::equal(part.pixels.begin(), part.pixels.end(), all.image(30)));
  options.seed = 4;
  CHECK(make_glyphs(options).pixels != part.pixels);

  // Every image has ink and space, and no two are the same.
  std::set<std::vector<std::uint8_t>> different;
  for (Index n = 0; n < all.images(); ++n) {
    const std::vector<std::uint8_t> image(all.image(n), all.image(n + 1));
    different.insert(image);
    const auto ink = std::count_if(image.begin(), image.end(), [](int v) { return v > 127; });
    CHECK(ink >= 10);
    CHECK(ink <= 128);
  }
  CHECK(different.size() == 72);
}

TEST_CASE("Images of one glyph are more alike than those of two", "[images]") {
  GlyphOptions options = few_glyphs();
  options.rotation = options.scaling = options.shift = 0;
  const ImageSet set = make_glyphs(options);
  double same = 0, other = 0;
  Index same_count = 0, other_count = 0;
  for (Index a = 0; a < set.images(); ++a) {
    for (Index b = 0; b < a; ++b) {
      double square = 0;
      for (Index p = 0; p < set.shape.size(); ++p) {
        square += std::pow(set.image(a)[p] / 255.0 - set.image(b)[p] / 255.0, 2);
      }
      (a / 6 == b / 6 ? same : other) += square;
      ++(a / 6 == b / 6 ? same_count : other_count);
    }
  }
  CHECK(same / static_cast<double>(same_count) < 0.6 * other / static_cast<double>(other_count));
}

TEST_CASE("An image is loaded as it is, but for its channels' mean and deviation", "[images]") {
  const ImageSet set = numbered_images();
  Random random({}, 0, 0);
  std::vector<double> x(60);
  load_image(set, 5, {}, random, x.data());
  for (std::size_t i = 0; i < 60; ++i) {
    const auto c = i / 20;
    CHECK(x[i] == Approx((set.image(5)[i] / 255.0 - set.normalisation.mean[c]) /
                         set.normalisation.deviation[c]));
  }
}

TEST_CASE("Crops and flips move an image, jitter changes its colours", "[images]") {
  ImageSet set = numbered_images();
  set.normalisation = {{0, 0, 0}, {1, 1, 1}};
  Random random({}, 0, 1);
  std::vector<double> x(60);
  std::set<std::pair<Index, Index>> seen;
  std::set<bool> flips;
  for (int trial = 0; trial < 300; ++trial) {
    load_image(set, 2, {.padding = 1, .flip = true}, random, x.data());
    bool explained = false;
    for (Index down = -1; down <= 1; ++down) {
      for (Index right = -1; right <= 1; ++right) {
        for (const bool flipped : {false, true}) {
          bool matches = true;
          for (Index c = 0; c < 3; ++c) {
            for (Index i = 0; i < 4; ++i) {
              for (Index j = 0; j < 5; ++j) {
                const Index row = i + down, column = (flipped ? 4 - j : j) + right;
                const bool inside = row >= 0 && row < 4 && column >= 0 && column < 5;
                const double expected =
                    inside ? set.image(2)[(c * 4 + row) * 5 + column] / 255.0 : 0;
                matches = matches && x[static_cast<std::size_t>((c * 4 + i) * 5 + j)] == expected;
              }
            }
          }
          if (!matches) continue;
          explained = true;
          seen.insert({down, right});
          flips.insert(flipped);
        }
      }
    }
    CHECK(explained);
  }
  CHECK(seen.size() == 9);
  CHECK(flips.size() == 2);

  double least = 10, most = 0;
  for (int trial = 0; trial < 200; ++trial) {
    load_image(set, 2, {.brightness = 0.4}, random, x.data());
    const double factor = x[10] / (set.image(2)[10] / 255.0);
    for (std::size_t i = 0; i < 60; ++i) {
      CHECK(x[i] == Approx(std::min(1.0, factor * set.image(2)[i] / 255.0)));
    }
    least = std::min(least, factor);
    most = std::max(most, factor);
  }
  CHECK(least == Approx(0.6).margin(0.03));
  CHECK(most == Approx(1.4).margin(0.03));
  load_image(set, 2, Augmentation::paper(set.shape), random, x.data());
  CHECK(*std::min_element(x.begin(), x.end()) >= 0);
  CHECK(*std::max_element(x.begin(), x.end()) <= 1);
}

TEST_CASE("An episode shows its classes' images and labels that tell nothing of the class",
          "[images]") {
  const ImageSet set = numbered_images();
  const FewShotImages task(set, three_way);
  CHECK(task.support_steps() == 6);
  CHECK(task.steps() == 9);
  constexpr int episodes = 6000;
  DrawnEpisode episode;
  std::map<std::pair<Index, Index>, int> label_of_class;  // label of the first support image
  std::map<Index, int> first_labels, first_query_labels;
  for (int e = 0; e < episodes; ++e) {
    Random random({.seed = 2}, 0, static_cast<std::uint64_t>(e));
    task.draw(random, episode);
    const std::vector<ShownImage>& shown = episode.steps;
    REQUIRE(shown.size() == 9);
    std::map<Index, Index> class_of_label;
    std::map<Index, int> times;
    std::set<Index> images;
    for (std::size_t t = 0; t < 9; ++t) {
      images.insert(shown[t].image);
      const Index of_class = shown[t].image / 4;
      const auto [at, is_new] = class_of_label.insert({shown[t].label, of_class});
      REQUIRE(at->second == of_class);
      REQUIRE(++times[shown[t].label] <= (t < 6 ? 2 : 3));
    }
    REQUIRE(images.size() == 9);
    REQUIRE(class_of_label.size() == 3);
    REQUIRE(class_of_label.begin()->first == 0);
    REQUIRE(class_of_label.rbegin()->first == 2);
    ++label_of_class[{shown[0].image / 4, shown[0].label}];
    ++first_labels[shown[0].label];
    ++first_query_labels[shown[6].label];
  }
  // Four standard deviations.
  const auto even = [](const auto& counts, std::size_t cells) {
    REQUIRE(counts.size() == cells);
    const double p = 1.0 / static_cast<double>(cells);
    for (const auto& [key, count] : counts) {
      CHECK(std::abs(count - p * episodes) <= 4 * std::sqrt(p * (1 - p) * episodes));
    }
  };
  even(label_of_class, 24);
  even(first_labels, 3);
  even(first_query_labels, 3);
}

TEMPLATE_TEST_CASE("The gradient of encoder, head and cell equals differences", "[images]", Hebbian,
                   Gradient, None) {
  using Cell = Rnn2<TestType, double>;
  const bool frozen = GENERATE(false, true);
  const ImageSet set = make_glyphs(few_glyphs());
  const FewShotImages episodes(set, three_way);
  auto model = small_classifier<Cell>(set.shape);
  FewShotObjective objective(model, {.train = &episodes}, {.smoothing = 0.1, .frozen = frozen});
  AdamW<double> optimizer(objective.parameters(), adamw);
  Trainer trainer(objective, optimizer, {.batch = 3, .threads = 2, .shard = 2});
  trainer.gradient(7);
  const std::vector<Parameters<double>*> parts = objective.parameters();
  REQUIRE(parts.size() == 3);
  CHECK(parts[1] == &model.head());
  CHECK(parts[2] == &model.cell().parameters());
  if (frozen) {
    CHECK(parts[0]->size() == 0);
  } else {
    CHECK(parts[0] == &model.encoder().parameters());
  }
  std::vector<Vector<double>> gradients;
  for (std::size_t k = 0; k < parts.size(); ++k) gradients.push_back(trainer.gradients(k));
  for (std::size_t k = 0; k < parts.size(); ++k) {
    const Vector<double> start = parts[k]->values();
    for (const ParameterBlock& block : parts[k]->blocks()) {
      INFO(block.name);
      Vector<double> direction = Vector<double>::Zero(start.size());
      direction.segment(block.offset, block.size()) = random_matrix(block.size(), 1, 3);
      constexpr double step = 1e-6;
      parts[k]->values() = start + step * direction;
      const double above = trainer.gradient(7);
      parts[k]->values() = start - step * direction;
      const double below = trainer.gradient(7);
      parts[k]->values() = start;
      CHECK(gradients[k].dot(direction) ==
            Approx((above - below) / (2 * step)).epsilon(1e-4).margin(1e-6));
    }
  }
}

TEST_CASE("Training on images has the same bits with any number of threads", "[images]") {
  using Cell = PlasticCell<FeatureLstm, Gradient, float>;
  const ImageSet set = make_glyphs(few_glyphs());
  const FewShotImages episodes(set, three_way);
  std::vector<Vector<float>> first;
  for (const int threads : {1, 2, 3}) {
    auto model = small_classifier<Cell>(set.shape);
    FewShotObjective objective(model, {.train = &episodes},
                               {.augmentation = {.padding = 2, .flip = true}});
    AdamW<float> optimizer(objective.parameters(), adamw);
    Trainer trainer(objective, optimizer, {.batch = 5, .threads = threads, .shard = 2});
    for (Index batch = 0; batch < 3; ++batch) trainer.step(batch);
    const double loss = trainer.evaluate({}, 2);
    std::vector<Vector<float>> results;
    for (const Vector<float>* values : model.state()) results.push_back(*values);
    results.push_back(Vector<float>::Constant(1, static_cast<float>(loss)));
    if (first.empty()) first = results;
    for (std::size_t k = 0; k < results.size(); ++k) {
      CHECK((results[k].array() == first[k].array()).all());
    }
  }
}

TEST_CASE("A classifier learns a few glyphs by heart", "[images]") {
  // With as many classes as labels and one image each, the right answer is in the support.
  using Cell = Rnn2<Hebbian, float>;
  const ImageSet set = make_glyphs(few_glyphs());
  const FewShotImages episodes(set, three_way);
  auto model = small_classifier<Cell>(set.shape);
  FewShotObjective objective(model, {.train = &episodes});
  AdamW<float> optimizer(objective.parameters(), adamw);
  Trainer trainer(objective, optimizer, {.batch = 16, .threads = 2});
  const double before = trainer.evaluate({}, 4);
  for (Index batch = 0; batch < 60; ++batch) trainer.step(batch);
  const Evaluation after = trainer.evaluate_in_detail({}, 4);
  CHECK(before > 1.05);  // log 3 = 1.0986
  CHECK(after.loss < before);
  const Measure first = after.measure("first_query"), all = after.measure("accuracy");
  CHECK(first.count == 64);
  CHECK(all.count == 64 * 3);
  CHECK(first.half_width() == Approx(1.96 * std::sqrt(first.mean() * (1 - first.mean()) / 64)));
}

TEST_CASE("A frozen encoder stays as it is", "[images]") {
  using Cell = Rnn2<None, double>;
  const ImageSet set = make_glyphs(few_glyphs());
  auto model = small_classifier<Cell>(set.shape);
  const Vector<double> before = model.encoder().parameters().values();
  const Vector<double> mean = model.encoder().statistics()[0].mean;
  const Vector<double> head = model.head().values();
  const FewShotImages episodes(set, three_way);
  FewShotObjective objective(model, {.train = &episodes}, {.frozen = true});
  AdamW<double> optimizer(objective.parameters(), adamw);
  Trainer trainer(objective, optimizer, {.batch = 4, .threads = 1});
  trainer.step(0);
  CHECK((model.encoder().parameters().values().array() == before.array()).all());
  CHECK((model.encoder().statistics()[0].mean.array() == mean.array()).all());
  CHECK(!(model.head().values().array() == head.array()).all());
}

TEST_CASE("Kept features of a frozen encoder are those of every batch", "[images]") {
  using Cell = Rnn2<Gradient, double>;
  const ImageSet set = make_glyphs(few_glyphs());
  const FewShotImages episodes(set, three_way);
  auto model = small_classifier<Cell>(set.shape);
  // A colour change that changes nothing is still an augmentation, so features are not stored.
  const auto loss = [&](const Augmentation& augmentation) {
    FewShotObjective objective(model, {.train = &episodes},
                               {.augmentation = augmentation, .frozen = true});
    AdamW<double> optimizer(objective.parameters(), adamw);
    Trainer trainer(objective, optimizer, {.batch = 4, .threads = 1});
    return trainer.gradient(3);
  };
  CHECK(loss({.grey_chance = 1e-9}) == Approx(loss({})));
}

TEMPLATE_TEST_CASE("Kept features follow the encoder when somebody changes it", "[images]", float,
                   double) {
  using Cell = Rnn2<Gradient, TestType>;
  const ImageSet set = make_glyphs(few_glyphs());
  const FewShotImages episodes(set, three_way);
  auto model = small_classifier<Cell>(set.shape);
  FewShotObjective objective(model, {.train = &episodes}, {.frozen = true});
  AdamW<TestType> optimizer(objective.parameters(), adamw);
  Trainer trainer(objective, optimizer, {.batch = 4, .threads = 1});
  const auto fresh = [&] {
    FewShotObjective other(model, {.train = &episodes}, {.frozen = true});
    AdamW<TestType> unused(other.parameters(), adamw);
    return Trainer(other, unused, {.batch = 4, .threads = 1}).gradient(3);
  };
  std::vector<double> losses{trainer.gradient(3)};
  CHECK(losses[0] == fresh());
  for (Vector<TestType>* vector : model.encoder().state()) {
    (*vector)[0] += TestType(0.5);
    losses.push_back(trainer.gradient(3));
    CHECK(losses.back() == fresh());
    CHECK(losses.back() != losses[losses.size() - 2]);
  }
  CHECK(trainer.gradient(3) == losses.back());
}

TEST_CASE("A run with a frozen encoder goes on with the encoder of its checkpoint", "[images]") {
  using Cell = Rnn2<Gradient, double>;
  const ImageSet set = make_glyphs(few_glyphs());
  const FewShotImages episodes(set, three_way);
  const Folder folder;
  // The values of a network with its own random numbers, which has had steps before the run begins.
  const auto values_after = [&](std::uint64_t seed, Index steps_before, Index batches,
                                const std::string& file) {
    auto model = small_classifier<Cell>(set.shape, 1);
    model.encoder().parameters().values() =
        small_classifier<Cell>(set.shape, seed).encoder().parameters().values();
    FewShotObjective objective(model, {.train = &episodes}, {.frozen = true});
    AdamW<double> optimizer(objective.parameters(), adamw);
    Trainer trainer(objective, optimizer,
                    {.batch = 4, .batches = batches, .validation_every = 0, .threads = 1});
    for (Index batch = 0; batch < steps_before; ++batch) trainer.step(batch);
    Checkpoint checkpoint(folder / file);
    trainer.run(checkpoint);
    return Vector<double>(model.cell().parameters().values());
  };
  const Vector<double> whole = values_after(1, 0, 4, "whole");
  values_after(1, 0, 2, "cut");
  CHECK(values_after(2, 1, 4, "cut") == whole);
}

TEMPLATE_TEST_CASE("A run on images with other episodes is refused by the name of what differs",
                   "[images]", float, double) {
  using Cell = Rnn2<None, TestType>;
  GlyphOptions other_glyphs = few_glyphs();
  other_glyphs.seed = 4;
  const ImageSet set = make_glyphs(few_glyphs()), other_set = make_glyphs(other_glyphs);
  const FewShotImages three(set, three_way), more_queries(set, {.way = 3, .shot = 2, .queries = 2}),
      one_shot(set, {.way = 3}), other(other_set, three_way);
  const Folder folder;
  const auto run = [&](const FewShotSets& sets, const FewShotObjectiveOptions& options = {}) {
    auto model = small_classifier<Cell>(set.shape);
    FewShotObjective objective(model, sets, options);
    AdamW<TestType> optimizer(objective.parameters(), adamw);
    Trainer trainer(objective, optimizer,
                    {.batch = 2, .batches = 1, .validation_every = 0, .threads = 1});
    Checkpoint checkpoint(folder / "checkpoint");
    trainer.run(checkpoint);
  };
  const auto refusal = [&](const FewShotSets& sets, const FewShotObjectiveOptions& options = {}) {
    return rejection([&] { run(sets, options); });
  };
  run({.train = &three, .validation = &three});
  CHECK(refusal({.train = &three, .validation = &three}) == "no error");
  CHECK(mentions(refusal({.train = &three, .validation = &other}), "\"validation.images\" in "));
  CHECK(mentions(refusal({.train = &three, .validation = &more_queries}),
                 "\"validation.episodes.queries\" in "));
  CHECK(mentions(refusal({.train = &three, .validation = &one_shot}),
                 "\"validation.episodes.shot\" in "));
  CHECK(mentions(refusal({.train = &three}), "\"validation.episodes.queries\" in "));
  CHECK(mentions(refusal({.train = &other, .validation = &three}), "\"images\" in "));
  CHECK(mentions(refusal({.train = &more_queries, .validation = &three}),
                 "\"episodes.queries\" in "));
  CHECK(mentions(refusal({.train = &three, .validation = &three}, {.frozen = true}),
                 "\"encoder.frozen\" in "));
  CHECK(mentions(refusal({.train = &three, .validation = &three}, {.seed = 1}),
                 "\"dropout_seed\" in "));
  CHECK(mentions(refusal({.train = &three, .validation = &three}, {.smoothing = 0.1}),
                 "\"loss.smoothing\" in "));
}

TEST_CASE("Each purpose has episodes of its own", "[images]") {
  using Cell = Rnn2<None, double>;
  const ImageSet set = make_glyphs(few_glyphs());
  const FewShotImages train(set, three_way), validation(set, {.way = 3, .queries = 2}),
      test(set, {.way = 3, .queries = 4});
  auto model = small_classifier<Cell>(set.shape);
  FewShotObjective objective(model, {.train = &train, .validation = &validation, .test = &test});
  AdamW<double> optimizer(objective.parameters(), adamw);
  Trainer trainer(objective, optimizer, {.batch = 5, .threads = 1});
  const auto queries = [&](Random::Purpose purpose) {
    return trainer.evaluate_in_detail({0, purpose}, 2).measure("accuracy").count;
  };
  CHECK(queries(Random::Purpose::training) == 2 * 5 * 3);
  CHECK(queries(Random::Purpose::validation) == 2 * 5 * 6);
  CHECK(queries(Random::Purpose::test) == 2 * 5 * 12);

  const auto without = [&](const FewShotSets& sets, Random::Purpose purpose) {
    FewShotObjective few(model, sets);
    Trainer other(few, optimizer, {.batch = 5, .threads = 1});
    return rejection([&] { other.evaluate({0, purpose}, 1); });
  };
  const std::string expected =
      "FewShotObjective::evaluate: the episodes for this purpose must be given, got none";
  CHECK(without({.train = &train}, Random::Purpose::validation) == expected);
  CHECK(without({.validation = &validation}, Random::Purpose::training) == expected);
  CHECK(without({.train = &train}, Random::Purpose::test) == expected);
  FewShotObjective untrained(model, {.test = &test});
  Trainer trainer_of_none(untrained, optimizer, {.batch = 5, .threads = 1});
  CHECK(rejection([&] { trainer_of_none.step(0); }) ==
        "FewShotObjective: the training episodes must be given, got none");
}

TEST_CASE("Images and episodes that do not fit throw and say why", "[images]") {
  const ImageSet set = make_glyphs(few_glyphs());
  CHECK(rejection([&] { FewShotImages(set, {.way = 13}); }) ==
        "FewShotImages: the classes of the set must be at least 13, got 12");
  CHECK(rejection([&] { FewShotImages(set, {.way = 5, .shot = 6}); }) ==
        "FewShotImages: the images of class glyph0 must be at least 7, got 6");
  CHECK(rejection([&] { FewShotImages(set, {.way = 0}); }) ==
        "FewShotImages: way must be at least 1, got 0");
  CHECK(rejection([] { make_glyphs({.size = 7}); }) ==
        "make_glyphs: size must be in 8 .. 4096, got 7");
  using Cell = Rnn2<Hebbian, float>;
  auto model = small_classifier<Cell>(set.shape);
  const FewShotImages good(set, three_way), four_way(set, {.way = 4});
  CHECK(rejection([&] { FewShotObjective(model, {.train = &four_way}); }) ==
        "FewShotObjective: the way of the episodes must be 3, the number of the cell's outputs, "
        "got 4");
  const ImageSet other = make_glyphs({.classes = 5, .size = 20});
  const FewShotImages larger(other, three_way);
  CHECK(rejection([&] { FewShotObjective(model, {.train = &good, .test = &larger}); }) ==
        "FewShotObjective: the images of the set must be 1 x 16 x 16, got 1 x 20 x 20");
  CHECK(mentions(rejection([&] { FewShotObjective(model, {.train = &good}, {.smoothing = 1.5}); }),
                 "FewShotObjectiveOptions: smoothing must be"));
  FewShotObjective objective(model, {.train = &good});
  AdamW<float> optimizer(model.cell().parameters());
  CHECK(rejection([&] { Trainer(objective, optimizer, {}); }) ==
        "Trainer: the optimizer must be for the 3 parameter sets of the objective, got 1");
  AdamW<float> fitting(objective.parameters());
  Trainer trainer(objective, fitting, {.batch = 2, .threads = 1});
  CHECK(rejection([&] { trainer.step(-1); }) ==
        "Trainer::gradient: batch must be at least 0, got -1");
  CHECK(rejection([&] {
          ImageClassifier<Cell>(std::make_unique<Conv4<float>>(set.shape),
                                {.inputs = 3, .outputs = 3});
        }) == "ImageClassifier: options.outputs must be below options.inputs, 3, got 3");
}
