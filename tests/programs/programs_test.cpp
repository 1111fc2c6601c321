#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "plastic/io/safetensors.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"
#include "support/image_files.hpp"
#include "support/process.hpp"

using namespace plastic::testing;
using plastic::read_safetensors;
using plastic::TensorFile;

TEST_CASE("The help of the programs names every option and argument", "[programs]") {
  const Ended training = run_well("cue_reward", {"--help"});
  for (const std::string option :
       {"--help", "--rule", "--cell", "--hidden", "--batches", "--seed", "--threads",
        "--inner-scale", "--learning-rate", "--validate-every", "--out", "hebbian", "gradient",
        "none", "rnn", "lstm", "progress.csv", "best.safetensors"}) {
    INFO(option);
    CHECK(mentions(training.out, option));
  }
  const Ended replay = run_well("replay", {"--help"});
  for (const std::string word :
       {"--help", "IN", "OUT", "safetensors", "input", "target", "grad."}) {
    INFO(word);
    CHECK(mentions(replay.out, word));
  }
}

TEST_CASE("Every program that takes arguments or runs long says what it does", "[programs]") {
  const auto check_help = [](const std::string& name, const Arguments& arguments) {
    INFO(name);
    const Ended help = run_well(name, arguments);
    CHECK(mentions(help.out, "Usage: "));
    for (const std::string jargon : {"INT", "FLOAT", "TEXT", "e+", "[1 - "}) {
      INFO(jargon);
      CHECK_FALSE(mentions(help.out, jargon));
    }
  };
  for (const char* name : {"key_value", "ragged", "train", "adaptive_control", "own_loop",
                           "own_objective", "own_rule", "own_cell", "own_model", "own_data",
                           "own_task", "own_callback", "own_environment", "published_rules"}) {
    check_help(name, {"--help"});
    CHECK(mentions(run_well(name, {"--help"}).out, "[BATCHES]"));
    for (const std::string value :
         {"0", "-3", "x", "7x", "1.5", "1e3", "", "--fast", "99999999999999999999"}) {
      check_refusal(name, {value}, {name, "BATCHES", "whole number from 1", "--help"});
    }
    check_refusal(name, {"3", "4"}, {name, "\"4\""});
  }
  for (const char* name : {"by_hand", "fit_curve", "own_operation"}) {
    check_help(name, {"--help"});
    check_refusal(name, {"3"}, {name, "\"3\"", "--help"});
  }
  for (const char* name :
       {"cue_reward", "replay", "state_dict", "one_shot_images", "experiments", "maze"}) {
    check_help(name, {"--help"});
    const std::string program = name;
    // Arguments that are required, so that nothing else is wrong.
    Arguments arguments;
    if (program == "replay" || program == "state_dict") arguments = {"in", "out"};
    if (program == "experiments") arguments = {"list"};
    arguments.emplace_back("--fast");
    check_refusal(name, arguments, {name, "--fast", "--help"});
  }
  check_help("experiments", {"run", "--help"});
  check_help("experiments", {"report", "--help"});
  const Ended refused = run("cue_reward", {"--batches", "1.5"});
  CHECK(refused.err ==
        "cue_reward: --batches: must be a whole number from 1 to 1000000000, got 1.5; --help "
        "explains the options\n");
}

TEST_CASE("Fit_curve fits its curve", "[programs]") {
  const Ended ended = run_well("fit_curve", {});
  INFO(ended.out);
  std::istringstream lines(ended.out);
  std::string line;
  std::getline(lines, line);
  CHECK(mentions(line, "mean squared error"));
  int count = 0, step = 0;
  double error = 1, first_error = 0;
  while (lines >> step >> error) {
    if (count++ == 0) first_error = error;
    CHECK(step == 250 * (count - 1));
  }
  CHECK(count == 9);
  CHECK(first_error > 0.1);
  CHECK(error < 1e-3);
  CHECK(error > 0);
}

TEST_CASE("One_shot_images learns from a folder of images, from files to a picture", "[programs]") {
  const Folder folder;
  write_data_set(folder / "images", 6, 4);
  const fs::path out = folder / "out";
  const Arguments arguments{"--data",
                            (folder / "images").string(),
                            "--way",
                            "3",
                            "--pretrain-batches",
                            "3",
                            "--batches",
                            "6",
                            "--validate-every",
                            "3",
                            "--hidden",
                            "12",
                            "--augment",
                            "paper",
                            "--out",
                            out.string()};
  const Ended first = run_well("one_shot_images", arguments);
  CHECK(mentions(first.out, "3-way 1-shot (guessing: 33.3%)"));
  CHECK(names_in(out) == std::vector<std::string>{".holder", "best.safetensors",
                                                  "checkpoint.safetensors", "encoder.safetensors",
                                                  "episode.svg", "progress.csv", "settings.json",
                                                  "test.csv"});
  CHECK(rows_of(content(out / "progress.csv")).size() == 2);
  CHECK(read_safetensors(out / "best.safetensors").metadata.at("encoder") == "conv4");
  const std::string picture = content(out / "episode.svg");
  CHECK(mentions(picture, "data:image/png;base64,iVBORw0KGgo"));
  CHECK(std::count(picture.begin(), picture.end(), '\n') > 4 * 6 * 3);

  // Again: nothing is done twice. With other settings: refused.
  const std::string best = content(out / "best.safetensors");
  CHECK(mentions(run_well("one_shot_images", arguments).out, "had already finished"));
  CHECK(content(out / "best.safetensors") == best);
  Arguments changed = arguments;
  changed.insert(changed.end(), {"--seed", "3"});
  const Ended refused = run("one_shot_images", changed);
  CHECK(refused.code == 1);
  CHECK(mentions(refused.err, "other settings; choose another folder"));
  CHECK(content(out / "best.safetensors") == best);

  // Its encoder serves another run, which trains it on. A second test has images of its own.
  write_data_set(folder / "others", 4, 5);
  Arguments more{"--data",
                 (folder / "images").string(),
                 "--way",
                 "3",
                 "--batches",
                 "2",
                 "--validate-every",
                 "2",
                 "--hidden",
                 "12",
                 "--pretrain",
                 "none",
                 "--train-encoder",
                 "--rule",
                 "gradient",
                 "--cell",
                 "lstm",
                 "--encoder",
                 (out / "encoder.safetensors").string(),
                 "--test-data",
                 (folder / "others").string(),
                 "--out",
                 (folder / "more").string()};
  const std::string tested = run_well("one_shot_images", more).out;
  CHECK(mentions(tested, "The same on the test split of " + (folder / "others").string()));
  CHECK(mentions(tested, "nearest class prototype"));
  for (const char* name : {"test.csv", "second_test.csv"}) {
    CHECK(mentions(content(folder / "more" / name), ",encoder_alone,prototypes,pixels_alone\n"));
  }
  CHECK(mentions(content(folder / "more" / "second_episode.svg"), "data:image/png;base64"));
  CHECK(mentions(content(folder / "more" / "settings.json"), "\"test_data\""));
  CHECK_FALSE(mentions(content(out / "settings.json"), "\"test_data\""));
  CHECK(read_safetensors(folder / "more" / "best.safetensors").metadata.at("cell") ==
        "feature_lstm");
}

TEST_CASE("One_shot_images learns from CIFAR-100's binary version", "[programs]") {
  const Folder folder;
  write_cifar(folder / "cifar");
  const std::string out =
      run_well("one_shot_images",
               {"--data", (folder / "cifar").string(), "--pretrain", "contrast",
                "--pretrain-batches", "1", "--batches", "1", "--validate-every", "1", "--hidden",
                "8", "--augment", "paper", "--out", (folder / "out").string()})
          .out;
  CHECK(mentions(out, "On classes that training never showed, 5-way 1-shot"));
  CHECK(read_safetensors(folder / "out" / "best.safetensors").metadata.at("image_channels") == "3");
}

TEST_CASE("One_shot_images refuses what cannot be, by name", "[programs]") {
  const Folder folder;
  check_refusal("one_shot_images", {"--rule", "oja"}, {"--rule", "oja"});
  check_refusal("one_shot_images", {"--pretrain", "none"}, {"--train-encoder"});
  const std::string none = (folder / "none").string();
  check_refusal("one_shot_images", {"--data", none, "--out", (folder / "a").string()}, {none});
  // What was wrong can be put right in the same folder.
  write_data_set(folder / "good", 6, 2);
  run_well("one_shot_images",
           {"--data", (folder / "good").string(), "--pretrain-batches", "1", "--batches", "1",
            "--validate-every", "1", "--hidden", "8", "--out", (folder / "a").string()});
  check_refusal(
      "one_shot_images",
      {"--data", (folder / "good").string(), "--test-data", none, "--out", (folder / "b").string()},
      {none});
  const std::string small = (folder / "small").string();
  write_data_set(small, 6, 2, 8);
  check_refusal("one_shot_images",
                {"--data", (folder / "good").string(), "--test-data", small, "--out",
                 (folder / "b").string()},
                {small, "3 x 16 x 16", "got 3 x 8 x 8"});
  CHECK_FALSE(fs::exists(folder / "b" / "encoder.safetensors"));  // before any training
  write_data_set(folder / "images", 2, 2);
  check_refusal("one_shot_images",
                {"--data", (folder / "images").string(), "--out", (folder / "b").string()},
                {"FewShotImages", "classes", "at least 5, got 2"});
  write_plainly(folder / "text.safetensors", "text");
  check_refusal(
      "one_shot_images",
      {"--encoder", (folder / "text.safetensors").string(), "--out", (folder / "c").string()},
      {"text.safetensors"});
}

TEST_CASE("Examples of what one may add to the library do what they say", "[programs]") {
  // The first losses of the cue-reward task are at about 0.4.
  for (const char* name : {"own_rule", "own_cell", "own_model", "own_task"}) {
    const std::string out = run_well(name, {"200"}).out;
    INFO(out);
    const std::size_t at = out.find_last_of("0123456789", out.find(" ("));
    const std::size_t begin = out.find_last_not_of("0123456789.", at) + 1;
    CHECK(std::stod(out.substr(begin)) < (std::string(name) == "own_task" ? 0.4 : 0.2));
  }
  CHECK(mentions(run_well("own_callback", {"2000"}).out, "ended after "));
  CHECK(mentions(run_well("own_operation", {}).out, "largest difference"));
  const std::string line = run_well("own_objective", {}).out;
  double slope = 0, offset = 0;
  REQUIRE(std::sscanf(line.substr(line.find("y = ")).c_str(), "y = %lf x + %lf", &slope, &offset) ==
          2);
  CHECK(std::abs(slope - 2) < 0.02);
  CHECK(std::abs(offset + 1) < 0.02);
}

TEST_CASE("Every published rule is trained, saved, loaded and stepped", "[programs]") {
  const Folder folder;  // the program writes where it is
  const std::string out =
      run_well("/bin/sh",
               {"-c", "cd '" + folder.path().string() + "' && exec '" +
                          (fs::path(PLASTIC_PROGRAMS) / "published_rules").string() + "' 400"})
          .out;
  INFO(out);
  std::vector<std::string> files;
  for (const std::string rule :
       {"abcd", "delta", "fast_weights", "modulated", "retroactive", "stpn", "trace"}) {
    CHECK(mentions(out, rule + "  batch 400/400"));
    files.push_back(rule + ".safetensors");
  }
  CHECK(names_in(folder.path()) == files);
  CHECK_FALSE(mentions(out, "nan"));
  CHECK_FALSE(mentions(out, "norm 0\n"));
}

TEST_CASE("Adaptive_control trains, steers and tells how long a step takes", "[programs]") {
  const std::string out = run_well("adaptive_control", {"500"}).out;
  INFO(out);
  const auto cost_of = [&](const std::string& name) {
    const std::size_t at = out.find(name + "  batch 500/500  cost ");
    REQUIRE(at != std::string::npos);
    return std::stod(out.substr(out.find("cost ", at) + 5));
  };
  CHECK(cost_of("plastic") < cost_of("plain"));
  CHECK(mentions(out, "the plant has changed"));
  std::istringstream lines(out.substr(out.find("angle in degrees")));
  std::string line;
  int angles = 0;
  while (std::getline(lines, line)) {
    double seconds = 0, plastic = 0, plain = 0;
    if (std::sscanf(line.c_str(), "%lf s %lf %lf", &seconds, &plastic, &plain) != 3) continue;
    ++angles;
    CHECK(std::max(std::abs(plastic), std::abs(plain)) <= 180);
  }
  CHECK(angles == 16);
  CHECK(mentions(out, "Time per step: median "));
}

TEST_CASE("Own_environment finds the better of two arms", "[programs]") {
  const std::string out = run_well("own_environment", {}).out;
  INFO(out);
  for (const std::string name : {"plastic", "modulated", "plain"}) {
    const std::string mark = name + ": better arm in ";
    REQUIRE(mentions(out, mark));
    const double share = std::stod(out.substr(out.find(mark) + mark.size()));
    CHECK(share > (name == "plain" ? 60 : 90));
  }
}

TEST_CASE("Maze trains, shows an episode and goes on from its checkpoint", "[programs]") {
  const Folder folder;
  const std::string file = (folder / "checkpoint").string();
  const fs::path picture = folder / "it's a walk.svg";
  Arguments arguments{
      "--rule",    "retroactive",    "--hidden",     "6",   "--size",       "11", "--watch",
      "--picture", picture.string(), "--iterations", "104", "--checkpoint", file};
  const std::string out = run_well("maze", arguments).out;
  CHECK(std::count(out.begin(), out.end(), '@') == 201);  // the start and 200 steps
  CHECK(mentions(out, "step 200  reward "));
  CHECK(mentions(out, "# # # # # # # # # # #\n# "));
  CHECK(mentions(out, "batch 104/104"));
  CHECK(content(picture).ends_with("</svg>\n\n"));
  CHECK(mentions(content(picture), "modulator"));
  const std::string said = "Reward of an episode: ";
  REQUIRE(mentions(out, said));
  // It had ended: the same weights say the same.
  const std::string again = run_well("maze", arguments).out;
  CHECK_FALSE(mentions(again, "batch 100/"));
  CHECK(again.substr(again.find(said)) == out.substr(out.find(said)));
  check_refusal("maze", {"--size", "10"}, {"maze", "--size", "9, 11 or 13"});
  check_refusal("maze", {"--rule", "delta"}, {"maze", "--rule", "retroactive"});
  for (const std::string where : {"/nowhere/a.svg", "/dev/full"}) {
    check_refusal("maze", {"--iterations", "1", "--hidden", "2", "--picture", where},
                  {"maze", where});
  }
  arguments[3] = "7";
  check_refusal("maze", arguments, {"maze", "hidden"});
}

TEST_CASE("The programs of the first pages learn", "[programs]") {
  // "batch 1000  loss 3e-05" as the last loss that was printed.
  const auto last_loss = [](const std::string& out) {
    INFO(out);
    const std::string word = "loss ";
    const std::size_t at = out.rfind(word);
    REQUIRE(at != std::string::npos);
    return std::stod(out.substr(at + word.size()));
  };
  CHECK(last_loss(run_well("getting_started", {}).out) < 1e-3);
  CHECK(last_loss(run_well("own_loop", {}).out) < 1e-3);
  const std::string out = run_well("by_hand", {}).out;
  CHECK(last_loss(out) < 0.01);
  double expected = 0, comes = 0;
  REQUIRE(std::sscanf(out.substr(out.find("after")).c_str(),
                      "after 30 steps it predicts %lf; the true value is %lf", &expected,
                      &comes) == 2);
  CHECK(std::abs(expected - comes) < 0.2);
}

TEST_CASE("State_dict turns a model file into a state dictionary and back", "[programs]") {
  const Folder folder;
  for (const char* name : {"rnn_gradient", "lstm_hebbian", "lstm_none", "rnn_gradient_no_alpha"}) {
    CAPTURE(name);
    const std::string model = fs::path(PLASTIC_TEST_DATA) / (std::string(name) + ".safetensors");
    const std::string dictionary = folder / "dictionary", again = folder / "again";
    run_well("state_dict", {model, dictionary});
    CHECK(read_safetensors(dictionary).tensors.contains("out_weight"));
    run_well("state_dict", {dictionary, again});
    const TensorFile before = read_safetensors(model), after = read_safetensors(again);
    for (const auto& [tensor, values] : after.tensors) {
      CAPTURE(tensor);
      CHECK(std::ranges::equal(values.bytes(), before.tensor(tensor).bytes()));
    }
    CHECK(plastic::setting(after.metadata, "eta0") == plastic::setting(before.metadata, "eta0"));
  }
  const std::string image = folder / "no_model";
  std::ofstream(image) << "text";
  const Ended refused = run("state_dict", {image, folder / "never"});
  CHECK(refused.code == 1);
  CHECK(mentions(refused.err, image));
  CHECK_FALSE(fs::exists(folder / "never"));
}

TEST_CASE("The programs of the training page learn to classify", "[programs]") {
  CHECK(mentions(run_well("ragged", {}).out, "right: 100%"));
  const std::string own = run_well("own_data", {}).out;
  CHECK(mentions(own, "% of 200 rows"));
  CHECK(std::stod(own.substr(own.find("right: ") + 7)) > 95);
  const std::string out = run_well("key_value", {"3000"}).out;
  INFO(out);
  CHECK(std::stod(out.substr(out.find("right: ") + 7)) > 98);
}

TEST_CASE("A training run that is killed at any moment ends with the bits of one left alone",
          "[programs]") {
  // In a folder of the test's own, since the program writes where it is.
  const Folder folder;
  const auto command = [&](const std::string& name) {
    fs::create_directories(folder / name);
    return Arguments{"-c", "cd '" + (folder / name).string() + "' && exec '" +
                               (fs::path(PLASTIC_PROGRAMS) / "train").string() + "' 600"};
  };
  const std::string shell = "/bin/sh";
  const std::string whole = run_well(shell, command("whole")).out;
  std::mt19937 random{std::random_device()()};
  int kills = 0;
  for (int k = 0; k < 6; ++k) {
    Process process(shell, command("killed"));
    std::this_thread::sleep_for(
        std::chrono::milliseconds(std::uniform_int_distribution<int>(0, 1500)(random)));
    if (!process.running()) break;
    process.send(SIGKILL);
    CHECK(process.wait().signal == SIGKILL);
    ++kills;
  }
  CHECK(kills > 0);
  const std::string killed = run_well(shell, command("killed")).out;
  CHECK(killed.substr(killed.find("stopped after")) == whole.substr(whole.find("stopped after")));
  CHECK(content(folder / "killed/train.safetensors") ==
        content(folder / "whole/train.safetensors"));
  CHECK(losses(folder / "killed/train.csv") == losses(folder / "whole/train.csv"));
  CHECK(same_checkpoints(folder / "killed/train.checkpoint", folder / "whole/train.checkpoint"));
}
