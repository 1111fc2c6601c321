#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "plastic/io/safetensors.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"
#include "support/process.hpp"

using namespace plastic::testing;
using plastic::Index;
using plastic::read_safetensors;
using plastic::TensorFile;

namespace {

// Training that takes moments. `extra` comes last and so may not repeat what is here.
Arguments short_run(const fs::path& out, const Arguments& extra = {}) {
  Arguments all{"--hidden", "4", "--threads", "1", "--out", out.string()};
  all.insert(all.end(), extra.begin(), extra.end());
  return all;
}

Arguments endless_run(const fs::path& out, const std::string& validate_every) {
  return short_run(out, {"--batches", "100000000", "--validate-every", validate_every});
}

// What replay makes of a file that cue_reward wrote.
TensorFile replayed(const fs::path& model) {
  const Folder folder;
  run_well("replay", {model.string(), folder / "out"});
  return read_safetensors(folder / "out");
}

void check_model(const fs::path& model) {
  const TensorFile out = replayed(model);
  CHECK(out.tensor("output").shape() == std::vector<Index>{8, 20, 1});
  CHECK(std::isfinite(values_of(out.tensor("loss")).at(0)));
}

}  // namespace

TEST_CASE("Cue-reward refuses options that make no sense", "[programs][cue_reward]") {
  const Folder folder;
  const std::string out = folder / "out";
  const auto refuses = [&](const std::string& option, const std::string& value,
                           const std::string& part) {
    // If a value is accepted by mistake, the run must end soon.
    std::map<std::string, std::string> options{
        {"--hidden", "1"}, {"--batches", "1"}, {"--threads", "1"}, {"--out", out}};
    options[option] = value;
    Arguments arguments;
    for (const auto& [name, text] : options) arguments.insert(arguments.end(), {name, text});
    check_refusal("cue_reward", arguments, {part});
  };
  refuses("--rule", "oja", "--rule");
  refuses("--rule", "", "--rule");
  refuses("--cell", "gru", "--cell");
  for (const std::string value : {"0", "-3"}) {
    refuses("--hidden", value, "--hidden");
    refuses("--batches", value, "--batches");
  }
  for (const std::string option : {"--hidden", "--batches", "--threads", "--seed"}) {
    for (const std::string value : {"many", "1.5", "1e3", "7x", "nan"}) {
      refuses(option, value, option);
    }
  }
  for (const std::string value : {"nan", "inf", "-1", "1e99"}) {
    refuses("--learning-rate", value, "learning_rate must be");
  }
  for (const std::string value : {"nan", "inf", "-1"}) {
    refuses("--inner-scale", value, "inner_scale must be");
  }
  refuses("--learning-rate", "fast", "--learning-rate");
  refuses("--threads", "-1", "--threads");
  refuses("--threads", "100000000", "--threads");
  refuses("--seed", "-1", "--seed");
  refuses("--batches", "99999999999999999999", "--batches");
  refuses("--hidden", "99999999999999999999", "--hidden");
  for (const std::string value : {"0", "-5", "nan"}) {
    refuses("--validate-every", value, "--validate-every");
  }
  refuses("--colour", "red", "--colour");
  check_refusal("cue_reward", {"--out"}, {"--out"});
  check_refusal("cue_reward", {"extra", "--out", out}, {"extra"});
  CHECK(names_in(folder.path()).empty());

  write_plainly(folder / "file", "not a folder");
  for (const std::string name : {folder / "file", folder / "file/below", fs::path("/dev/null/x")}) {
    refuses("--out", name, name);
  }
  CHECK(content(folder / "file") == "not a folder");
}

TEST_CASE("Cue-reward ends with an error where its files cannot be written",
          "[programs][cue_reward]") {
  const Folder folder;
  const auto stops = [&](const fs::path& out, const std::vector<std::string>& parts) {
    const Ended ended = run("cue_reward", short_run(out, {"--batches", "1"}));
    INFO(ended.err);
    CHECK(ended.code > 0);
    for (const std::string& part : parts) CHECK(mentions(ended.err, part));
  };
  for (const std::string name : {"progress.csv", "best.safetensors", "test.csv"}) {
    INFO(name);
    fs::create_directories(folder / ("no_" + name) / name);
    stops(folder / ("no_" + name), {name});
  }
  fs::create_directory(folder / "disk");
  const SmallDisk disk(folder / "disk");
  if (!disk.mounted()) {
    WARN("not tested: this user may not mount a small disk");
    return;
  }
  write_plainly(folder / "disk/fill", std::string(52'000, 'x'));
  stops(folder / "disk", {"best.safetensors", "No space left on device"});
  CHECK(names_in(folder / "disk") == std::vector<std::string>{".holder", "fill"});
}

TEST_CASE("A run that fails at once leaves the files of the run before", "[programs][cue_reward]") {
  const Folder folder;
  run_well("cue_reward", short_run(folder / "out", {"--batches", "4", "--rule", "none"}));
  std::map<std::string, std::string> before;
  for (const std::string& name : names_in(folder / "out")) {
    if (name != ".holder") before[name] = content(folder / "out" / name);
  }
  CHECK(before.size() >= 3);
  const Ended ended = run(
      "cue_reward",
      short_run(folder / "out", {"--batches", "50", "--rule", "none", "--learning-rate", "1e30"}));
  CHECK(ended.code > 0);
  for (const auto& [name, bytes] : before) {
    INFO(name);
    CHECK(content(folder / "out" / name) == bytes);
  }
  CHECK(names_in(folder / "out").size() == before.size() + 1);  // .holder
}

TEST_CASE("A folder's name is no command", "[programs][cue_reward]") {
  const Folder folder;
  const std::string name = "it's `touch pwned` \"$(touch pwned)\"\n%s";
  run_well("cue_reward", short_run(folder / name, {"--batches", "2", "--rule", "none"}));
  CHECK(fs::exists(folder / name / "progress.csv"));
  CHECK(fs::exists(folder / name / "learning_curve.svg"));
  CHECK_FALSE(fs::exists("pwned"));
  CHECK(names_in(folder.path()).size() == 1);
}

TEST_CASE("Training that diverges ends with an error", "[programs][cue_reward]") {
  const Folder folder;
  const Ended ended = run(
      "cue_reward",
      short_run(folder / "out", {"--batches", "50", "--rule", "none", "--learning-rate", "1e30"}));
  INFO(ended.err);
  CHECK(ended.code > 0);
  CHECK(ended.signal == 0);
  CHECK(mentions(ended.err, "cue_reward: "));
  CHECK(mentions(ended.err, "batch "));
  CHECK(mentions(ended.err, "loss"));
  CHECK_FALSE(fs::exists(folder / "out/test.csv"));
  CHECK_FALSE(fs::exists(folder / "out/best.safetensors"));
}

TEST_CASE("A short training writes its progress, test loss, best network and plot",
          "[programs][cue_reward]") {
  const Folder folder;
  const Ended ended = run_well(
      "cue_reward", short_run(folder / "new/out", {"--batches", "5", "--validate-every", "2"}));
  INFO(ended.out);

  const std::vector<Row> rows = rows_of(content(folder / "new/out/progress.csv"));
  REQUIRE(rows.size() == 3);
  CHECK(rows[0].batch == 2);
  CHECK(rows[1].batch == 4);
  CHECK(rows[2].batch == 5);
  for (const Row& row : rows) {
    CHECK(row.train_loss > 0.05);
    CHECK(row.train_loss < 1);
    CHECK(row.validation_loss > 0.05);
    CHECK(row.validation_loss < 1);
  }
  CHECK(rows[0].seconds <= rows[2].seconds);

  std::istringstream test(content(folder / "new/out/test.csv"));
  std::string header, rest;
  double test_loss = 0;
  test >> header >> test_loss;
  CHECK(header == "test_loss");
  const auto best = std::min_element(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return a.validation_loss < b.validation_loss;
  });
  CHECK(test_loss == Approx(best->validation_loss).epsilon(0.1));
  CHECK_FALSE(test >> rest);

  const fs::path model = folder / "new/out/best.safetensors";
  check_model(model);
  const TensorFile file = read_safetensors(model);
  CHECK(file.metadata.at("hidden") == "4");
  CHECK(file.metadata.at("rule") == "hebbian");
  CHECK(file.tensor("input").shape() == std::vector<Index>{8, 20, 16});
  CHECK(file.tensor("target").shape() == std::vector<Index>{8, 20, 1});

  std::vector<std::string> expected{".holder",  "answers.csv",  "best.safetensors", "episode.csv",
                                    "fast.csv", "progress.csv", "test.csv"};
  const std::string curve = content(folder / "new/out/learning_curve.svg");
  if (std::system("command -v gnuplot >/dev/null 2>&1") == 0) {
    expected.insert(expected.begin() + 5, "learning_curve.svg");
    CHECK(mentions(curve, "<svg"));
    CHECK(mentions(curve, "</svg>"));
    CHECK(mentions(curve, "validation"));
  }
  CHECK(names_in(folder / "new/out") == expected);

  // Plain lines: nobody watches a file.
  CHECK_FALSE(mentions(ended.out, "\r"));
  CHECK(mentions(ended.out, "batch 2/5"));
  CHECK(mentions(ended.out, "batch 4/5"));
  CHECK(mentions(ended.out, "batch 5/5"));
  CHECK(mentions(ended.out, "Best after " + std::to_string(best->batch) + " batches"));
  CHECK(mentions(ended.out, model.string()));
  CHECK(ended.out.ends_with("\n"));
}

TEST_CASE("The same seed gives the same network on one thread and on two",
          "[programs][cue_reward]") {
  const Folder folder;
  const auto model = [&](const std::string& out, const Arguments& kind, const std::string& threads,
                         const std::string& seed) {
    Arguments all{"--hidden", "3", "--batches", "3", "--out", folder / out};
    all.insert(all.end(), {"--threads", threads, "--seed", seed});
    all.insert(all.end(), kind.begin(), kind.end());
    const Ended ended = run("cue_reward", all);
    INFO(ended.err);
    REQUIRE(ended.code == 0);
    return content(folder / out / "best.safetensors");
  };
  for (const Arguments& kind :
       {Arguments{"--rule", "hebbian"}, Arguments{"--rule", "gradient", "--cell", "lstm"}}) {
    INFO(kind.back());
    const std::string one = model("one", kind, "1", "7");
    CHECK_FALSE(one.empty());
    CHECK(model("two", kind, "2", "7") == one);
    const std::vector<Row> a = rows_of(content(folder / "one/progress.csv"));
    const std::vector<Row> b = rows_of(content(folder / "two/progress.csv"));
    REQUIRE(a.size() == 1);
    REQUIRE(b.size() == 1);
    CHECK(a[0].train_loss == b[0].train_loss);
    CHECK(a[0].validation_loss == b[0].validation_loss);
    CHECK(content(folder / "one/test.csv") == content(folder / "two/test.csv"));
  }
  const std::string last = content(folder / "one/best.safetensors");
  CHECK(model("other", {"--rule", "gradient", "--cell", "lstm"}, "1", "8") != last);
}

TEST_CASE("An interrupt ends training in good order", "[programs][cue_reward]") {
  const Folder folder;
  const fs::path out = folder / "out", csv = out / "progress.csv";
  SECTION("between two validations") {
    Process training("cue_reward", endless_run(out, "100000000"));
    training.wait_for([&] { return fs::exists(out); });
    training.send(SIGINT);
    const Ended ended = training.wait();
    INFO(ended.out << ended.err);
    CHECK(ended.code == 0);
    const std::vector<Row> rows = rows_of(content(csv));
    REQUIRE(rows.size() == 1);
    CHECK(mentions(ended.out, "Stopped after " + std::to_string(rows[0].batch) + " batches"));
  }
  SECTION("after some, while others read its files") {
    Process training("cue_reward", endless_run(out, "1"));
    const fs::path model = out / "best.safetensors";
    // Whoever looks finds whole files.
    training.wait_for([&] {
      if (fs::exists(model)) CHECK_NOTHROW(read_safetensors(model));
      return fs::exists(csv) && rows_of(content(csv)).size() >= 3;
    });
    training.send(SIGINT);
    const Ended ended = training.wait();
    INFO(ended.out << ended.err);
    CHECK(ended.code == 0);
    const std::vector<Row> rows = rows_of(content(csv));
    CHECK(rows.size() >= 3);
    CHECK(mentions(ended.out, "Stopped after " + std::to_string(rows.back().batch) + " batches"));
    CHECK(content(out / "test.csv").starts_with("test_loss\n0."));
  }
  check_model(out / "best.safetensors");
}

TEST_CASE("An interrupt that the caller has told a program to ignore is ignored",
          "[programs][cue_reward]") {
  const Folder folder;
  const auto in_background = [](const std::string& program, Arguments arguments) {
    const std::string path = (fs::path(PLASTIC_PROGRAMS) / program).string();
    arguments.insert(arguments.begin(), {"-c", "trap '' INT; exec \"$0\" \"$@\"", path});
    return std::make_unique<Process>("/bin/sh", arguments);
  };
  const fs::path out = folder / "out";
  const auto cue_reward = in_background("cue_reward", endless_run(out, "1"));
  const auto lines = [&] {
    return fs::exists(out / "progress.csv") ? rows_of(content(out / "progress.csv")).size() : 0;
  };
  cue_reward->wait_for([&] { return lines() >= 1; });
  cue_reward->send(SIGINT);
  const std::size_t before = lines();
  cue_reward->wait_for([&] { return lines() >= before + 3; });
}

TEST_CASE("One process at a time works in a folder", "[programs][cue_reward]") {
  const Folder folder;
  const fs::path out = folder / "out";
  Process first("cue_reward", endless_run(out, "100000000"));
  first.wait_for([&] { return fs::exists(out / ".holder"); });
  // The folder is there before it is held.
  std::this_thread::sleep_for(200ms);
  check_refusal("cue_reward", endless_run(out, "1"), {out.string(), "another process is using"});
  CHECK(first.running());
}

TEST_CASE("A file system that cannot sync ends no run", "[programs][cue_reward]") {
  const Folder folder;
  const fs::path out = folder / "out";
  const std::string program = (fs::path(PLASTIC_PROGRAMS) / "cue_reward").string();
  run_well("/usr/bin/env", {"LD_PRELOAD=" PLASTIC_NO_FSYNC, "ASAN_OPTIONS=verify_asan_link_order=0",
                            program, "--rule", "none", "--hidden", "8", "--batches", "6",
                            "--validate-every", "2", "--out", out.string()});
  CHECK(rows_of(content(out / "progress.csv")).size() == 3);
  check_model(out / "best.safetensors");
}

TEST_CASE("A kill at any moment leaves whole files or none", "[programs][cue_reward]") {
  const Folder folder;
  const fs::path csv = folder / "progress.csv", model = folder / "best.safetensors";
  std::mt19937 random{std::random_device()()};
  for (int kill = 0; kill < 6; ++kill) {
    const auto moment = std::chrono::microseconds(
        std::uniform_int_distribution<int>(0, kill < 3 ? 20'000 : 200'000)(random));
    INFO(moment.count() << " microseconds");
    Process training("cue_reward", endless_run(folder.path(), "1"));
    // The last ones are killed while files are there to be replaced.
    if (kill >= 4) training.wait_for([&] { return fs::exists(csv); });
    std::this_thread::sleep_for(moment);
    training.send(SIGKILL);
    CHECK(training.wait().signal == SIGKILL);
    if (fs::exists(csv)) CHECK_NOTHROW(rows_of(content(csv)));
    if (fs::exists(model)) check_model(model);
    CHECK_FALSE(fs::exists(folder / "test.csv"));
  }
  CHECK(fs::exists(csv));
  CHECK(fs::exists(model));
}
