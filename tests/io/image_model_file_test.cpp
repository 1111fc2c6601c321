#include "plastic/io/image_model_file.hpp"

#include <catch2/catch.hpp>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "plastic/cells/compiled.hpp"
#include "plastic/images/encoder_objective.hpp"
#include "plastic/images/few_shot_objective.hpp"
#include "plastic/images/glyphs.hpp"
#include "plastic/io/checkpoint.hpp"
#include "plastic/nn/encoders.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/train/keep_best.hpp"
#include "plastic/train/trainer.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"

using namespace plastic;
using namespace plastic::testing;

namespace {

using Cell = PlasticFeatureRNN<Hebbian, float>;
using Classifier = ImageClassifier<Cell>;

Classifier small_classifier(std::uint64_t seed) {
  return {std::make_unique<Conv4<float>>(ImageShape{1, 16, 16}, seed, 3),
          {.inputs = 7, .hidden = 7, .outputs = 3, .extra = 2, .seed = seed}};
}

struct Killed {};

// Kills a run after so many batches.
struct KillAt : TrainingCallback {
  Index at;
  explicit KillAt(Index batch) : at(batch) {}
  void on_batch(const Progress& progress) override {
    if (progress.batch == at) throw Killed();
  }
};

// Nine batches with three validations, and a checkpoint after each of those.
template <class Objective>
struct Run {
  AdamW<float> optimizer;
  Trainer<Objective&, AdamW<float>> trainer;
  KeepBest<float> keep;
  Checkpoint checkpoint;

  Run(Objective& objective, const std::vector<Vector<float>*>& state, const fs::path& path,
      int threads = 1)
      : optimizer(objective.parameters(), {.learning_rate = 1e-3, .weight_decay = 5e-4}),
        trainer(objective, optimizer,
                {.batch = 4,
                 .batches = 9,
                 .schedule = CosineSchedule({.learning_rate = 1e-3, .floor = 1e-4, .every = 2}),
                 .validation_every = 3,
                 .validation_batches = 1,
                 .threads = threads}),
        keep(state),
        checkpoint(path) {}

  Progress go(Index kill_at = 0) {
    KillAt kill(kill_at);
    return trainer.run(checkpoint, keep, kill);
  }
};

// What a checkpoint holds, but for the time that the run took.
void check_same_run(const fs::path& path, const fs::path& expected_path) {
  TensorFile got = read_safetensors(path), expected = read_safetensors(expected_path);
  CHECK(got.metadata.erase("state.seconds") == 1);
  CHECK(expected.metadata.erase("state.seconds") == 1);
  CHECK(safetensors_bytes(got) == safetensors_bytes(expected));
}

void check_same(const std::vector<Vector<float>*>& got,
                const std::vector<Vector<float>*>& expected) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t k = 0; k < got.size(); ++k) CHECK(*got[k] == *expected[k]);
}

}  // namespace

TEST_CASE("Encoders come back from their files with all their bits", "[io][image_model_file]") {
  const Folder folder;
  const fs::path path = folder / "encoder.safetensors";
  for (const char* name : {"conv4", "r2d2", "resnet12"}) {
    INFO(name);
    const auto encoder = make_encoder<float>(name, {3, 16, 18}, 5, 4);
    float value = 0.5f;
    for (RunningStatistics<float>& s : encoder->statistics()) {
      s.mean.setConstant(value += 0.25f);
      s.variance.setConstant(value += 0.25f);
    }
    write_encoder(path, *encoder);
    const auto read = read_encoder<float>(path);
    CHECK(read->name() == name);
    CHECK(read->input() == encoder->input());
    const auto expected = encoder->state(), got = read->state();
    REQUIRE(got.size() == expected.size());
    for (std::size_t k = 0; k < got.size(); ++k) CHECK(*got[k] == *expected[k]);
    CHECK_THROWS_AS(read_encoder<double>(path), std::invalid_argument);
  }
  // Names and shapes as other programs expect them.
  const TensorFile file = read_safetensors(path);
  CHECK(file.tensor("encoder.block2.3.conv.weight").shape() == std::vector<Index>{160, 1440});
  CHECK(file.tensor("encoder.block2.3.norm.weight").shape() == std::vector<Index>{160});
  CHECK(file.tensor("encoder.block1.shortcut.norm.running_var").shape() == std::vector<Index>{64});

  TensorFile changed = file;
  changed.tensors.erase("encoder.block3.1.norm.running_mean");
  CHECK(mentions(rejection([&] { encoder_from_tensors<float>(changed); }),
                 "encoder.block3.1.norm.running_mean"));
  changed = file;
  changed.tensors["encoder.more"] = Tensor();
  CHECK(mentions(rejection([&] { encoder_from_tensors<float>(changed); }),
                 "the number of encoder.* tensors"));
  changed = file;
  changed.metadata["encoder"] = "vgg";
  CHECK(mentions(rejection([&] { encoder_from_tensors<float>(changed); }),
                 "conv4, resnet12 or r2d2"));
}

TEST_CASE("A classifier comes back from its file with all its bits", "[io][image_model_file]") {
  Classifier model = small_classifier(3);
  const TensorFile file = to_tensors(model);
  Classifier read = classifier_from_tensors<Cell>(file);
  const auto expected = model.state(), got = read.state();
  REQUIRE(got.size() == expected.size());
  for (std::size_t k = 0; k < got.size(); ++k) CHECK(*got[k] == *expected[k]);
  CHECK(mentions(
      rejection([&] { classifier_from_tensors<PlasticFeatureLSTM<Hebbian, float>>(file); }),
      "\"cell\" of the file must be feature_lstm, got feature_rnn"));
  const Folder folder;
  save(folder / "model.safetensors", model);
  CHECK(content(folder / "model.safetensors") == safetensors_bytes(file));
}

TEST_CASE("A run on images goes on from its checkpoint with the bits of one never cut off",
          "[io][image_model_file]") {
  const bool frozen = GENERATE(false, true);
  const Folder folder;
  const ImageSet set = make_glyphs({.classes = 6, .images_per_class = 4, .size = 16});
  const FewShotImages episodes(set, {.way = 3});
  struct ImageRun {
    Classifier model = small_classifier(1);
    FewShotObjective<Cell> objective;
    Run<FewShotObjective<Cell>> run;
    ImageRun(const FewShotImages& e, const fs::path& path, const FewShotObjectiveOptions& options,
             int threads = 1)
        : objective(model, {.train = &e, .validation = &e}, options),
          run(objective, model.state(), path, threads) {}
  };
  const FewShotObjectiveOptions options{
      .augmentation = {.padding = frozen ? 0 : 2, .flip = !frozen}, .frozen = frozen};
  const fs::path whole_path = folder / "whole.safetensors", path = folder / "cut.safetensors";
  ImageRun whole(episodes, whole_path, options);
  whole.run.go();
  CHECK_THROWS_AS(ImageRun(episodes, path, options).run.go(5), Killed);
  // It goes on after batch 3.
  CHECK_THROWS_AS(ImageRun(episodes, path, options).run.go(8), Killed);

  const auto refusal = [&](const FewShotImages& e, const FewShotObjectiveOptions& o) {
    ImageRun other(e, path, o);
    const std::string error = rejection([&] { other.run.go(); });
    CHECK(other.run.optimizer.steps() == 0);
    check_same(other.model.state(), small_classifier(1).state());
    return error;
  };
  ImageSet changed = set;
  changed.pixels.back() ^= 1;
  CHECK(mentions(refusal(FewShotImages(changed, {.way = 3}), options), "\"images\""));
  changed = set;
  changed.normalisation.mean[0] += 0.1;
  CHECK(mentions(refusal(FewShotImages(changed, {.way = 3}), options), "\"images\""));
  CHECK(mentions(refusal(FewShotImages(set, {.way = 3, .queries = 2}), options),
                 "\"episodes.queries\""));
  FewShotObjectiveOptions other = options;
  other.smoothing = 0.1;
  CHECK(mentions(refusal(episodes, other), "\"loss.smoothing\""));
  other = options;
  other.frozen = !frozen;
  CHECK(mentions(refusal(episodes, other), "\"encoder.frozen\""));
  other = options;
  other.augmentation.brightness = 0.1;
  CHECK(mentions(refusal(episodes, other), "\"augmentation.brightness\""));

  ImageRun resumed(episodes, path, options, 2);
  CHECK(resumed.run.go().batch == 9);
  check_same(resumed.model.state(), whole.model.state());
  CHECK(resumed.run.keep.best() == whole.run.keep.best());
  CHECK(resumed.run.keep.loss() == whole.run.keep.loss());
  check_same_run(path, whole_path);
}

TEST_CASE("Training an encoder goes on from its checkpoint with the bits of one never cut off",
          "[io][image_model_file]") {
  const Pretraining goal = GENERATE(Pretraining::classification, Pretraining::contrast);
  const Folder folder;
  const ImageSet set = make_glyphs({.classes = 6, .images_per_class = 4, .size = 16});
  const FewShotImages episodes(set, {.way = 3});
  struct EncoderRun {
    Conv4<float> encoder{{1, 16, 16}, 1, 3};
    EncoderObjective<float> objective;
    Run<EncoderObjective<float>> run;
    EncoderRun(Pretraining kind, const ImageSet& images, const FewShotImages& e,
               const fs::path& path, Index projection = 6)
        : objective(encoder, images,
                    {.goal = kind,
                     .projection = projection,
                     .augmentation = {.padding = 2, .flip = true},
                     .validation = &e}),
          run(objective, encoder.state(), path) {}
  };
  const fs::path whole_path = folder / "whole.safetensors", path = folder / "cut.safetensors";
  EncoderRun whole(goal, set, episodes, whole_path);
  whole.run.go();
  CHECK_THROWS_AS(EncoderRun(goal, set, episodes, path).run.go(7), Killed);

  ImageSet changed = set;
  changed.pixels[0] ^= 1;
  EncoderRun other(goal, changed, episodes, path);
  CHECK(mentions(rejection([&] { other.run.go(); }), "\"images\""));
  EncoderRun wider(goal, set, episodes, path, 7);
  CHECK(mentions(rejection([&] { wider.run.go(); }), "\"loss.projection\""));

  EncoderRun resumed(goal, set, episodes, path);
  resumed.run.go();
  check_same(resumed.encoder.state(), whole.encoder.state());
  check_same({&resumed.objective.parameters()[1]->values()},
             {&whole.objective.parameters()[1]->values()});
  CHECK(resumed.run.keep.best() == whole.run.keep.best());
  check_same_run(path, whole_path);
}
