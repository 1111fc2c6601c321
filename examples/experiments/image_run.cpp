#include "image_run.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "csv.hpp"
#include "episode_picture.hpp"
#include "plastic/cells/dispatch.hpp"
#include "plastic/image_files/image_data.hpp"
#include "plastic/images/encoder_objective.hpp"
#include "plastic/images/few_shot_objective.hpp"
#include "plastic/io/image_model_file.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/train/keep_best.hpp"
#include "plastic/train/trainer.hpp"
#include "run_files.hpp"
#include "stop.hpp"

namespace experiments {
namespace {

using namespace plastic;
namespace fs = std::filesystem;

constexpr double weight_decay = 5e-4;  // the paper's, for images

// Runs of one process share what they read.
std::shared_ptr<const ImageSplits> shared_data(const std::string& name, int threads,
                                               const ReadingProgress& progress) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<const ImageSplits>> known;
  const std::lock_guard lock(mutex);
  std::shared_ptr<const ImageSplits> data = known[name].lock();
  if (data == nullptr) {
    data = std::make_shared<const ImageSplits>(
        load_image_data(name, {.threads = threads, .progress = progress}));
    known[name] = data;
  }
  return data;
}

Augmentation augmentation_of(const RunSettings& settings, const ImageShape& shape) {
  if (settings.augmentation == "none") return {};
  if (settings.augmentation == "paper") return Augmentation::paper(shape);
  detail::reject("one_shot_images", "augmentation", "none or paper", settings.augmentation);
}

void pretrain(const RunSettings& settings, Encoder<float>& encoder, const ImageSplits& data,
              const FewShotImages& validation, int threads, TrainingCallback* observer,
              Communicator* ranks) {
  const bool contrast = settings.pretraining == "contrast";
  if (!contrast && settings.pretraining != "classification") {
    detail::reject("one_shot_images", "pretraining", "none, classification or contrast",
                   settings.pretraining);
  }
  EncoderObjective<float> objective(
      encoder, data.train,
      {.goal = contrast ? Pretraining::contrast : Pretraining::classification,
       .augmentation =
           contrast ? Augmentation::for_contrast() : augmentation_of(settings, data.train.shape),
       .seed = settings.seed,
       .validation = &validation});
  AdamW<float> optimizer(objective.parameters(), {.weight_decay = weight_decay});
  Trainer trainer(objective, optimizer,
                  {.batch = 128,
                   .batches = settings.pretraining_batches,
                   .schedule = CosineSchedule({.floor = 1e-5}),
                   .validation_batches = 10,
                   .seed = settings.seed,
                   .threads = threads,
                   .communicator = ranks});
  KeepBest<float> keep(encoder.state());
  std::vector<TrainingCallback*> callbacks{&keep};
  if (observer != nullptr) callbacks.push_back(observer);
  trainer.run(callbacks);
  if (plastic::detail::leads(ranks)) keep.restore();
}

std::unique_ptr<Encoder<float>> prepare_encoder(const RunSettings& settings,
                                                const ImageSplits& data,
                                                const FewShotImages& validation,
                                                const fs::path& folder, int threads,
                                                TrainingCallback* observer, Communicator* ranks) {
  const fs::path trained = folder / "encoder.safetensors";
  bool exists = fs::exists(trained);
  if (ranks != nullptr) exists = plastic::detail::broadcast_value(*ranks, exists);
  if (exists) return read_encoder<float>(trained);  // by this run before it was killed
  const bool is_file = fs::path(settings.encoder).extension() == ".safetensors";
  auto encoder = is_file ? read_encoder<float>(settings.encoder)
                         : make_encoder<float>(settings.encoder, data.train.shape, settings.seed);
  if (settings.pretraining != "none") {
    pretrain(settings, *encoder, data, validation, threads, observer, ranks);
    if (plastic::detail::leads(ranks)) write_encoder(trained, *encoder);
  }
  return encoder;
}

// What answers test episodes without a plastic network.
struct Baselines {
  double pixels = 0, support = 0, prototype = 0;  // share of first queries
};

Baselines measure_baselines(const RunSettings& settings, Encoder<float>& encoder,
                            const FewShotImages& test, int threads) {
  constexpr Random::Stream stream{0, Random::Purpose::test};
  const auto share = [](const Evaluation& answers) {
    return answers.measure("first_query").mean();
  };
  return {share(nearest_pixels(test, stream, 100, settings.batch, threads)),
          share(nearest_support(encoder, test, stream, 100, settings.batch, threads)),
          share(nearest_prototype(encoder, test, stream, 100, settings.batch, threads))};
}

void write_test(const Evaluation& result, const Baselines& baselines, const fs::path& path) {
  const Measure &first = result.measure("first_query"), &all = result.measure("accuracy");
  Csv csv;
  for (const char* name :
       {"test_loss", "query_loss", "query_accuracy", "first_query_accuracy",
        "first_query_half_width", "encoder_alone", "prototypes", "pixels_alone"}) {
    csv << name;
  }
  csv.end_row();
  csv << result.loss << result.loss << all.mean() << first.mean() << first.half_width()
      << baselines.support << baselines.prototype << baselines.pixels;
  csv.end_row();
  csv.write(path);
}

template <class Cell>
void train_classifier(const RunSettings& settings, const fs::path& folder, int threads,
                      const Observers& observers, FolderLock* lock, Communicator* ranks) {
  const bool writes = plastic::detail::leads(ranks);
  const auto data = shared_data(settings.data, threads, observers.reading);
  const FewShotImagesOptions episodes{.way = settings.way, .shot = settings.shot};
  const FewShotImages train(data->train, episodes), validation(data->validation, episodes),
      test(data->test, episodes);
  // Other images, which networks see as they have learned to.
  ImageSet other;
  std::optional<FewShotImages> second;
  if (!settings.test_data.empty()) {
    other = shared_data(settings.test_data, threads, observers.reading)->test;
    const ImageShape &there = other.shape, &here = data->train.shape;
    if (there != here) {
      const auto text = [](const ImageShape& shape) {
        return std::to_string(shape.channels) + " x " + std::to_string(shape.height) + " x " +
               std::to_string(shape.width);
      };
      throw std::invalid_argument("the images of " + settings.test_data + " must be " + text(here) +
                                  ", as those of " + settings.data + " are, got " + text(there));
    }
    other.normalisation = data->train.normalisation;
    second.emplace(other, episodes);
  }
  ImageClassifier<Cell> model(
      prepare_encoder(settings, *data, validation, folder, threads, observers.pretraining, ranks),
      make_cell_options(settings, settings.hidden, settings.way));
  // Only the first rank has the encoder that pretraining found best, until all train.
  Baselines baselines, of_second;
  if (writes) {
    baselines = measure_baselines(settings, model.encoder(), test, threads);
    if (second) of_second = measure_baselines(settings, model.encoder(), *second, threads);
  }
  FewShotObjective<Cell> objective(model,
                                   {.train = &train, .validation = &validation, .test = &test},
                                   {.smoothing = settings.smoothing,
                                    .augmentation = augmentation_of(settings, data->train.shape),
                                    .frozen = !settings.joint,
                                    .seed = settings.seed});
  AdamW<float> optimizer(objective.parameters(),
                         {.learning_rate = settings.learning_rate, .weight_decay = weight_decay});
  Trainer trainer(
      objective, optimizer,
      {.batch = settings.batch,
       .batches = settings.batches,
       .clip_norm = settings.clip_norm,
       .schedule = CosineSchedule({.learning_rate = settings.learning_rate,
                                   .floor = settings.learning_rate / 10,
                                   .every = std::clamp<Index>(settings.batches / 40, 1, 1000)}),
       .validation_every = settings.validate_every,
       .validation_batches = 20,
       .seed = settings.seed,
       .threads = threads,
       .shard = Cell::plastic ? 2 : 8,
       .communicator = ranks});
  StopWhenLost lost(lock);
  const auto write = [&] { save(folder / "best.safetensors", model); };
  train_and_keep_best(trainer, model.state(), write, folder, observers.training, lost, ranks);
  const Evaluation result = trainer.evaluate_in_detail({0, Random::Purpose::test}, 100);
  if (!writes) return;
  lost.check();
  draw_episodes(model, test, 4, folder / "episode.svg");
  if (second) {
    const FewShotObjective<Cell> of_other(model, {.test = &*second});
    write_test(of_other.evaluate({0, Random::Purpose::test}, 100, settings.batch, threads),
               of_second, folder / "second_test.csv");
    draw_episodes(model, *second, 4, folder / "second_episode.svg");
  }
  write_test(result, baselines, folder / "test.csv");
}

}  // namespace

void train_on_images(const RunSettings& settings, const fs::path& folder, int threads,
                     const Observers& observers, FolderLock* lock, Communicator* ranks) {
  with_feature_cell_type<float>(
      settings.cell, settings.rule, [&]<class Cell>(std::type_identity<Cell>) {
        train_classifier<Cell>(settings, folder, threads, observers, lock, ranks);
      });
}

}  // namespace experiments
