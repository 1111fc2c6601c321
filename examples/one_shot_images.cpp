// Teaches a plastic network to recognise images of new classes after one look at each.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <string>

#include "command_line.hpp"
#include "experiments/results.hpp"
#include "experiments/run.hpp"
#include "plastic/core/parallel.hpp"
#include "plastic/train/progress_bar.hpp"
#include "ranks.hpp"

namespace {

using namespace plastic;
using experiments::RunSettings;
namespace fs = std::filesystem;

std::string percent(double share) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(1) << 100 * share << "%";
  return text.str();
}

void say_test(const fs::path& file) {
  const experiments::Columns test = experiments::read_columns(file);
  const auto share = [&](const char* name) {
    return percent(experiments::column(test, name, file).front());
  };
  std::cout << "  first query right       " << share("first_query_accuracy") << " +- "
            << share("first_query_half_width") << "\n"
            << "  all queries right       " << share("query_accuracy") << "\n"
            << "Without a plastic network, first query right:\n"
            << "  nearest support image   " << share("encoder_alone")
            << ", by the encoder's initial features\n"
            << "  nearest class prototype " << share("prototypes")
            << ", by the encoder's initial features\n"
            << "  nearest support image   " << share("pixels_alone") << ", by its pixels\n";
}

void run(const RunSettings& settings, const fs::path& out, int threads, Communicator* ranks) {
  const bool writes = plastic::detail::leads(ranks);
  const bool terminal = ::isatty(STDOUT_FILENO) != 0;
  ProgressBar training(std::cout, settings.cell + " " + settings.rule, terminal);
  ProgressBar pretraining(std::cout, "encoder", terminal);
  const auto reading = [&](Index done, Index all) {
    if (terminal && writes && (done % 500 == 0 || done == all)) {
      std::cout << "\rreading images: " << done << " of " << all << (done == all ? "\n" : "")
                << std::flush;
    }
  };
  const bool finished_before = experiments::is_finished(out);
  experiments::train(settings, out, threads,
                     {.training = training, .pretraining = &pretraining, .reading = reading},
                     ranks);
  if (!writes) return;
  if (finished_before) std::cout << "This run had already finished.\n";

  std::cout << "\nOn classes that training never showed, " << settings.way << "-way "
            << settings.shot
            << "-shot (guessing: " << percent(1.0 / static_cast<double>(settings.way)) << "):\n";
  say_test(out / "test.csv");
  if (!settings.test_data.empty()) {
    std::cout << "\nThe same on the test split of " << settings.test_data << ":\n";
    say_test(out / "second_test.csv");
  }
  std::cout << "\n"
            << "Picture:  " << (out / "episode.svg").string() << "\n"
            << "Network:  " << (out / "best.safetensors").string() << "\n"
            << "Progress: " << (out / "progress.csv").string() << "\n";
  if (fs::exists(out / "encoder.safetensors")) {
    std::cout << "Encoder:  " << (out / "encoder.safetensors").string() << "\n";
  }
  if (!std::cout.flush()) throw std::runtime_error("cannot write to standard output");
}

}  // namespace

int main(int argc, char** argv) {
  RunSettings settings{.task = "one_shot_images",
                       .pretraining = "classification",
                       .pretraining_batches = 1500,
                       .joint = false,
                       .rule = "hebbian",
                       .inner_scale = 1,
                       .batches = 8000,
                       .validate_every = 500};
  int threads = 0;
  fs::path out = "one_shot_images_out";
  CLI::App app(
      "Teaches a plastic network to recognise images of new classes after one look at each.\n\n"
      "In each episode the network sees an image of each of several classes together with a\n"
      "label that is new in every episode, then further images of these classes without labels.\n"
      "An encoder (a convolutional network) computes the features of the images. The network can\n"
      "keep which label belongs to which class only in its fast weights or its hidden state. The\n"
      "same command continues a run that was stopped.\n\n"
      "Training everything at once, as in the paper, takes hours:  --pretrain none\n"
      "    --train-encoder --hidden 512 --batches 40000 --inner-scale 0.015625");
  app.add_option("--data", settings.data,
                 "glyphs (drawn by the program), or a folder: CIFAR-100's binary version, or\n"
                 "CLASS/IMAGE.png or .jpg (also in a folder data or images) with split files\n"
                 "train, val and test, .txt or .csv (also in splits/bertinetto or splits)")
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--test-data", settings.test_data,
                 "such a folder, with its three splits, for a second test on its test split:\n"
                 "the same classes drawn in another way, say")
      ->type_name("NAME");
  app.add_option("--encoder", settings.encoder,
                 "conv4, resnet12, r2d2, or the encoder.safetensors of another run")
      ->type_name("NAME")
      ->capture_default_str();
  examples::takes_word(
      app.add_option("--pretrain", settings.pretraining,
                     "what the encoder learns beforehand: classification of the training images,\n"
                     "contrast (which images are views of the same one), or none"),
      {"classification", "contrast", "none"})
      ->capture_default_str();
  examples::takes_number(app.add_option("--pretrain-batches", settings.pretraining_batches,
                                        "pretraining batches of 128 images"),
                         1, 1'000'000'000)
      ->capture_default_str();
  app.add_flag("--train-encoder", settings.joint,
               "also train the encoder together with the plastic network");
  examples::takes_word(
      app.add_option(
          "--augment", settings.augmentation,
          "changes to training images: none, or the paper's crops, flips and colour changes"),
      {"none", "paper"})
      ->capture_default_str();
  examples::takes_word(app.add_option("--rule", settings.rule, "plasticity rule"),
                       {"hebbian", "gradient", "none"})
      ->capture_default_str();
  examples::takes_word(app.add_option("--cell", settings.cell, "recurrent cell"), {"rnn", "lstm"})
      ->capture_default_str();
  examples::takes_number(app.add_option("--hidden", settings.hidden,
                                        "hidden units (default: 128, or 192 for rule none)"),
                         1, 100'000);
  examples::takes_number(app.add_option("--way", settings.way, "classes in an episode"), 2, 1000)
      ->capture_default_str();
  examples::takes_number(app.add_option("--shot", settings.shot, "labelled images of each class"),
                         1, 1000)
      ->capture_default_str();
  examples::takes_number(
      app.add_option("--batches", settings.batches, "training batches of 64 episodes"), 1,
      1'000'000'000)
      ->capture_default_str();
  examples::takes_number(app.add_option("--validate-every", settings.validate_every,
                                        "batches between validations on 20 fresh batches"),
                         1, 1'000'000'000)
      ->capture_default_str();
  app.add_option("--learning-rate", settings.learning_rate, "initial learning rate of AdamW")
      ->type_name("NUMBER")
      ->capture_default_str();
  app.add_option("--inner-scale", settings.inner_scale, "scale s of the gradient rule's own loss")
      ->type_name("NUMBER")
      ->capture_default_str();
  app.add_option("--smoothing", settings.smoothing, "label smoothing")
      ->type_name("NUMBER (0 to 1)")
      ->capture_default_str();
  examples::takes_number(
      app.add_option("--seed", settings.seed, "seed of the initial weights and the episodes"), 0,
      1'000'000'000'000'000'000)
      ->capture_default_str();
  examples::takes_number(
      app.add_option("--threads", threads,
                     "number of threads (0: one per processor); the results do not depend on it"),
      0, 4096)
      ->capture_default_str();
  app.add_option(
         "--out", out,
         "folder for settings.json, encoder.safetensors, best.safetensors, progress.csv,\n"
         "checkpoint.safetensors, test.csv and episode.svg; with a second test, second_test.csv\n"
         "and second_episode.svg too")
      ->type_name("FOLDER")
      ->capture_default_str();
  examples::say_in_one_line(app, "one_shot_images");
  CLI11_PARSE(app, argc, argv);
  return examples::on_all_ranks("one_shot_images", [&](Communicator* ranks) {
    if (app.count("--hidden") == 0) settings.hidden = settings.rule == "none" ? 192 : 128;
    if (settings.pretraining == "none" && !settings.joint && !fs::exists(settings.encoder)) {
      throw std::invalid_argument(
          "the encoder would never be trained: give --train-encoder, a --pretrain other than none, "
          "or --encoder with a file");
    }
    if (threads == 0 && ranks != nullptr) threads = ranks->threads();
    run(settings, out, threads == 0 ? available_threads() : threads, ranks);
    return 0;
  });
}
