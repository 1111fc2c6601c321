#include "image_run.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "csv.hpp"
#include "episode_picture.hpp"
#include "plastic/cells/dispatch.hpp"
#include "plastic/image_files/image_data.hpp"
#include "plastic/images/encoder_trainer.hpp"
#include "plastic/images/image_trainer.hpp"
#include "plastic/io/image_model_file.hpp"
#include "plastic/io/joint_checkpoint.hpp"
#include "plastic/train/csv_log.hpp"

namespace experiments {
namespace {

using namespace plastic;
namespace fs = std::filesystem;

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
              const FewShotImages& validation, int threads, TrainingCallback* observer) {
  const bool contrast = settings.pretraining == "contrast";
  if (!contrast && settings.pretraining != "classification") {
    detail::reject("one_shot_images", "pretraining", "none, classification or contrast",
                   settings.pretraining);
  }
  EncoderTrainer<float> trainer(
      encoder, data.train,
      {.goal = contrast ? Pretraining::contrast : Pretraining::classification,
       .batches = settings.pretraining_batches,
       .augmentation =
           contrast ? Augmentation::for_contrast() : augmentation_of(settings, data.train.shape),
       .seed = settings.seed,
       .threads = threads});
  KeepBest<float> keep(encoder.state());
  std::vector<TrainingCallback*> callbacks{&keep};
  if (observer != nullptr) callbacks.push_back(observer);
  trainer.run(validation, callbacks);
  keep.restore();
}

std::unique_ptr<Encoder<float>> prepare_encoder(const RunSettings& settings,
                                                const ImageSplits& data,
                                                const FewShotImages& validation,
                                                const fs::path& folder, int threads,
                                                TrainingCallback* observer) {
  const fs::path trained = folder / "encoder.safetensors";
  if (fs::exists(trained)) return read_encoder<float>(trained);  // by this run before it was killed
  const bool is_file = fs::path(settings.encoder).extension() == ".safetensors";
  auto encoder = is_file ? read_encoder<float>(settings.encoder)
                         : make_encoder<float>(settings.encoder, data.train.shape, settings.seed);
  if (settings.pretraining != "none") {
    pretrain(settings, *encoder, data, validation, threads, observer);
    write_encoder(trained, *encoder);
  }
  return encoder;
}

template <class Cell>
void train_classifier(const RunSettings& settings, const fs::path& folder, int threads,
                      const Observers& observers) {
  const auto data = shared_data(settings.data, threads, observers.reading);
  const FewShotImagesOptions episodes{.way = settings.way, .shot = settings.shot};
  const FewShotImages train(data->train, episodes), validation(data->validation, episodes),
      test(data->test, episodes);
  ImageClassifier<Cell> model(
      prepare_encoder(settings, *data, validation, folder, threads, observers.pretraining),
      make_cell_options(settings, settings.hidden, settings.way));
  const double encoder_alone = nearest_support(model.encoder(), test, {0, Random::Purpose::test},
                                               100, settings.batch, threads)
                                   .accuracy;
  ImageTrainer<Cell> trainer(model, train,
                             {.batch = settings.batch,
                              .batches = settings.batches,
                              .learning_rate = settings.learning_rate,
                              .rate_every = std::clamp<Index>(settings.batches / 40, 1, 1000),
                              .clip_norm = settings.clip_norm,
                              .smoothing = settings.smoothing,
                              .augmentation = augmentation_of(settings, data->train.shape),
                              .frozen = !settings.joint,
                              .validation_every = settings.validate_every,
                              .seed = settings.seed,
                              .threads = threads,
                              .shard = Cell::plastic ? 2 : 8});
  const auto write = [&] { save(folder / "best.safetensors", model); };
  KeepBest<float> keep(model.state(), write);
  CsvLog log(folder / "progress.csv");
  JointCheckpoint<float> checkpoint(folder / "checkpoint.safetensors",
                                    to_settings(model.cell().options()), model.state(),
                                    trainer.optimizer(), keep);
  const Index first = checkpoint.exists() ? checkpoint.resume() : 0;
  if (first > 0) log.resume(first);
  TrainingCallback* callbacks[] = {&keep, &log, &checkpoint, &observers.training};
  trainer.run(validation, callbacks, first);

  if (!keep.found()) throw std::runtime_error("no validation loss was finite");
  keep.restore();
  write();
  const ImageEvaluation result = trainer.evaluate(test, {0, Random::Purpose::test}, 100);
  draw_episodes(model, test, 4, folder / "episode.svg");
  Csv csv;
  for (const char* name : {"test_loss", "query_loss", "query_share", "first_query_share",
                           "first_query_half_width", "encoder_alone"}) {
    csv << name;
  }
  csv.end_row();
  csv << result.loss << result.loss << result.all_accuracy << result.accuracy << result.half_width
      << encoder_alone;
  csv.end_row();
  csv.write(folder / "test.csv");
}

}  // namespace

void train_on_images(const RunSettings& settings, const fs::path& folder, int threads,
                     const Observers& observers) {
  with_feature_cell_type<float>(settings.cell, settings.rule,
                                [&]<class Cell>(std::type_identity<Cell>) {
                                  train_classifier<Cell>(settings, folder, threads, observers);
                                });
}

}  // namespace experiments
