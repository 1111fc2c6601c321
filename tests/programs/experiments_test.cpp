#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "plastic/io/safetensors.hpp"
#include "support/errors.hpp"
#include "support/image_files.hpp"
#include "support/process.hpp"

namespace {

using namespace plastic::testing;

// Runs that take a second together.
Arguments small(const fs::path& out, const std::string& name, const Arguments& extra = {}) {
  Arguments all{"run", name, "--out", out.string(), "--hidden", "12"};
  all.insert(all.end(), extra.begin(), extra.end());
  return all;
}

std::vector<fs::path> run_folders(const fs::path& out) {
  std::vector<fs::path> folders;
  if (!fs::exists(out / "runs")) return folders;
  for (const auto& entry : fs::directory_iterator(out / "runs")) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  return folders;
}

// The bits that a run leaves.
void check_same_results(const fs::path& got, const fs::path& expected) {
  const std::vector<fs::path> all = run_folders(expected);
  REQUIRE(run_folders(got).size() == all.size());
  for (const fs::path& run : all) {
    const fs::path same = got / "runs" / run.filename();
    for (const char* name : {"best.safetensors", "test.csv", "eta.csv", "settings.json"}) {
      INFO(same / name);
      CHECK(content(same / name) == content(run / name));
    }
    CHECK(losses(same / "progress.csv") == losses(run / "progress.csv"));
    CHECK(same_checkpoints(same / "checkpoint.safetensors", run / "checkpoint.safetensors"));
  }
}

// The folder is held by a process of another machine, which was last heard of so long ago.
void hold(const fs::path& folder, std::chrono::seconds ago) {
  const fs::path file = folder / ".holder" / "elsewhere~7~elsewhere-kernel~f~12345~3";
  fs::create_directories(folder / ".holder");
  fs::remove(folder / ".holder" / "free");
  write_plainly(file, "");
  fs::last_write_time(file, fs::file_time_type::clock::now() - ago);
}

std::string status(const fs::path& out, const std::string& name, const Arguments& extra = {}) {
  Arguments all{"status", name, "--out", out.string()};
  all.insert(all.end(), extra.begin(), extra.end());
  return run_well("experiments", all).out;
}

// Whether the status, which needs a list of runs, shows one at work.
bool is_running(const fs::path& out) {
  return fs::exists(out / "cuereward_demo/experiment.json") &&
         mentions(status(out, "cuereward_demo"), "running on ");
}

// A run of one network.
Arguments single(const fs::path& out, const std::string& batches, const Arguments& extra = {}) {
  Arguments all{"--seeds",          "1",  "--batches", batches, "--rules", "hebbian",
                "--validate-every", "20", "--jobs",    "1"};
  all.insert(all.end(), extra.begin(), extra.end());
  return small(out, "cuereward_demo", all);
}

// Every file of a run, at any moment, is whole.
void check_whole_files(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    INFO(entry.path());
    if (name.ends_with(".tmp") || name.starts_with(".holder"))
      continue;  // not yet, or never, a result
    if (name == "settings.json") {
      CHECK_NOTHROW(nlohmann::json::parse(content(entry.path())));
    } else if (name == "progress.csv") {
      CHECK_NOTHROW(rows_of(content(entry.path())));
    } else if (name.ends_with(".safetensors")) {
      CHECK_NOTHROW(plastic::read_safetensors(entry.path()));
    } else if (name == "episode.svg") {
      CHECK(content(entry.path()).ends_with("</svg>\n"));
    } else {
      CHECK(name.ends_with(".csv"));
      CHECK(content(entry.path()).ends_with("\n"));
    }
  }
}

// Runs that are killed `wanted` times, after up to `longest` microseconds each, end with the bits
// of runs that are left alone.
void check_killed_runs(const std::string& experiment, const Arguments& options, std::size_t runs,
                       int wanted, int longest) {
  const Folder alone, killed;
  run_well("experiments", small(alone.path(), experiment, options));

  std::mt19937 random{std::random_device()()};
  int kills = 0;
  while (kills < wanted) {
    Process process("experiments", small(killed.path(), experiment, options));
    const auto moment =
        std::chrono::microseconds(std::uniform_int_distribution<int>(0, longest)(random));
    std::this_thread::sleep_for(moment);
    if (!process.running()) {  // they were quicker: again
      REQUIRE(process.wait().code == 0);
      fs::remove_all(killed / "runs");
      continue;
    }
    process.send(SIGKILL);
    CHECK(process.wait().signal == SIGKILL);
    ++kills;
    INFO("killed after " << moment.count() << " microseconds");
    for (const fs::path& folder : run_folders(killed.path())) check_whole_files(folder);
    // At the pace of the kills the runs may finish before the last: then they start again.
    bool finished = run_folders(killed.path()).size() == runs;
    for (const fs::path& folder : run_folders(killed.path())) {
      finished = finished && fs::exists(folder / "test.csv");
    }
    if (finished && kills < wanted) fs::remove_all(killed / "runs");
  }
  CHECK(kills == wanted);
  run_well("experiments", small(killed.path(), experiment, options));

  const std::vector<fs::path> expected = run_folders(alone.path());
  const std::vector<fs::path> got = run_folders(killed.path());
  REQUIRE(expected.size() == runs);
  REQUIRE(got.size() == runs);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    INFO(expected[i]);
    REQUIRE(got[i].filename() == expected[i].filename());
    for (const char* name : {"best.safetensors", "test.csv", "eta.csv", "settings.json"}) {
      INFO(name);
      CHECK(content(got[i] / name) == content(expected[i] / name));
    }
    CHECK(losses(got[i] / "progress.csv") == losses(expected[i] / "progress.csv"));
    CHECK(same_checkpoints(got[i] / "checkpoint.safetensors",
                           expected[i] / "checkpoint.safetensors"));
  }
}

}  // namespace

TEST_CASE("The list names every experiment of the paper", "[programs][experiments]") {
  const std::string list = run_well("experiments", {"list"}).out;
  for (const char* name : {"cuereward_demo",
                           "cuereward_large",
                           "cuereward_lr",
                           "cuereward_plr",
                           "cuereward_extradim",
                           "cuereward_modulation",
                           "cuereward_inner_lr_mode",
                           "cuereward_random_network",
                           "cuereward_noisy",
                           "seqreproduction_long_compare_delay",
                           "seqreproduction_delay",
                           "seqreproduction_seqlength",
                           "seqreproduction_modulation",
                           "seqreproduction_norm",
                           "seqreproduction_weight_clip",
                           "regression",
                           "regression_mlp",
                           "regression_mlp_modulation",
                           "cuereward_test",
                           "seqreproduction_test",
                           "regression_mlp_test",
                           "inner_scale",
                           "fsc",
                           "fsc_resnet"}) {
    CHECK(mentions(list, std::string(name) + " "));
  }
}

TEST_CASE("Runs killed twenty times end with the bits of runs left alone",
          "[programs][experiments]") {
  const Arguments options{"--seeds",          "1",  "--batches", "400",
                          "--validate-every", "20", "--jobs",    "2"};
  check_killed_runs("cuereward_demo", options, 3, 20, 150'000);
}

TEST_CASE("So do runs of networks that act", "[programs][experiments]") {
  const Arguments options{"--seeds", "1",       "--batches", "30",     "--validate-every",
                          "3",       "--rules", "modulated", "--jobs", "2"};
  check_killed_runs("maze", options, 2, 6, 1'000'000);
}

TEST_CASE("Networks that act are run and reported", "[programs][experiments]") {
  const Folder folder;
  for (const std::string name : {"maze", "target_discovery"}) {
    INFO(name);
    const std::string out = folder.path().string();
    const Arguments options{"--seeds", "2",       "--batches", "4",    "--validate-every",
                            "2",       "--rules", "none",      "trace"};
    CHECK(mentions(run_well("experiments", small(folder.path(), name, options)).out, "  reward "));
    const std::string report = run_well("experiments", {"report", name, "--out", out}).out;
    CHECK(mentions(report, "| validation | test | test, likeliest actions |"));
    CHECK(mentions(report, "| trace |"));
    for (const char* file : {"learning_curves.svg", "eta.svg", "episode_rnn_trace.svg"}) {
      CHECK(fs::file_size(folder / name / file) > 100);
    }
    const std::string html = content(folder / name / "report.html");
    CHECK(mentions(html, "Learning curves: median over n runs; bands are the quartiles."));
    CHECK(mentions(html, name == "maze" ? "in maze of size 11: 325.0 an episode"
                                        : "in target_discovery: 18.2 an episode"));
  }
  const fs::path run = run_folders(folder.path()).front();
  CHECK(content(run / "test.csv")
            .starts_with("reward,reward_half_width,greedy_reward,greedy_reward_half_width,"
                         "episodes\n"));
  CHECK(content(run / "progress.csv")
            .starts_with("batch,train_loss,validation_loss,seconds,reward\n"));
}

TEST_CASE("An experiment on images is run and reported", "[programs][experiments]") {
  const Folder folder;
  write_data_set(folder / "images", 6, 4);
  const fs::path out = folder / "out";
  run_well("experiments", small(out, "fsc",
                                {"--data", (folder / "images").string(), "--cells", "rnn",
                                 "--seeds", "1", "--batches", "2"}));
  const std::string report = run_well("experiments", {"report", "fsc", "--out", out.string()}).out;
  CHECK(mentions(report, "first query right"));
  CHECK(mentions(report, "gradient"));
  CHECK(fs::exists(out / "fsc" / "report.html"));
  check_refusal("experiments", small(out, "cuereward_demo", {"--data", "glyphs"}), {"no images"});
}

TEST_CASE("Runs on images that are killed end with the bits of a run left alone",
          "[programs][experiments]") {
  const Folder folder;
  write_data_set(folder / "images", 6, 4);
  const auto arguments = [&](const char* out) {
    return Arguments{"--data",
                     (folder / "images").string(),
                     "--pretrain-batches",
                     "4",
                     "--batches",
                     "40",
                     "--validate-every",
                     "5",
                     "--hidden",
                     "12",
                     "--train-encoder",
                     "--out",
                     (folder / out).string()};
  };
  run_well("one_shot_images", arguments("alone"));
  std::mt19937 random{std::random_device()()};
  int kills = 0;
  while (kills < 8 && !fs::exists(folder.path() / "killed" / "test.csv")) {
    Process process("one_shot_images", arguments("killed"));
    std::this_thread::sleep_for(
        std::chrono::milliseconds(std::uniform_int_distribution<int>(0, 500)(random)));
    if (!process.running()) break;
    process.send(SIGKILL);
    CHECK(process.wait().signal == SIGKILL);
    ++kills;
    if (fs::exists(folder / "killed")) check_whole_files(folder / "killed");
  }
  CHECK(kills > 0);
  run_well("one_shot_images", arguments("killed"));
  for (const char* name :
       {"encoder.safetensors", "best.safetensors", "test.csv", "episode.svg", "settings.json"}) {
    INFO(name);
    CHECK(content(folder.path() / "killed" / name) == content(folder.path() / "alone" / name));
  }
  CHECK(same_checkpoints(folder / "killed/checkpoint.safetensors",
                         folder / "alone/checkpoint.safetensors"));
  CHECK(losses(folder.path() / "killed" / "progress.csv") ==
        losses(folder.path() / "alone" / "progress.csv"));
}

TEST_CASE("Finished runs are not repeated, and other settings are other runs",
          "[programs][experiments]") {
  const Folder folder;
  const Arguments options{"--seeds", "1", "--batches", "20"};
  run_well("experiments", small(folder.path(), "cuereward_demo", options));
  const std::vector<fs::path> first = run_folders(folder.path());
  REQUIRE(first.size() == 3);
  std::map<fs::path, fs::file_time_type> times;
  for (const fs::path& run : first) times[run] = fs::last_write_time(run / "best.safetensors");

  CHECK(mentions(run_well("experiments", small(folder.path(), "cuereward_demo", options)).out,
                 "3 of them had already finished"));
  // The same networks under another name are the same runs.
  CHECK(mentions(run_well("experiments", small(folder.path(), "cuereward_test", options)).out,
                 "2 of them had already finished"));
  CHECK(run_folders(folder.path()) == first);
  for (const fs::path& run : first) {
    CHECK(fs::last_write_time(run / "best.safetensors") == times[run]);
  }
  run_well("experiments",
           small(folder.path(), "cuereward_demo", {"--seeds", "1", "--batches", "21"}));
  CHECK(run_folders(folder.path()).size() == 6);
  run_well("experiments",
           small(folder.path(), "cuereward_demo", {"--seeds", "2", "--batches", "20"}));
  CHECK(run_folders(folder.path()).size() == 9);
}

TEST_CASE("A report has every table, figure and setting in one file", "[programs][experiments]") {
  const Folder folder;
  const fs::path out = folder / "it's a folder";
  // Rules that differ and a rule alone, several tasks, fast weights that stay zero.
  for (const std::string name : {"cuereward_demo", "regression", "inner_scale", "cuereward_plr"}) {
    INFO(name);
    const bool demo = name == "cuereward_demo";
    run_well("experiments",
             small(out, name, {"--seeds", demo ? "2" : "1", "--batches", "2", "--cells", "rnn"}));
    const Ended ended = run_well("experiments", {"report", name, "--out", out.string()});
    CHECK(mentions(ended.out, "| hidden | batches | runs | validation | test | test, queries |"));
    const fs::path report = out / name;
    std::vector<std::string> files = {
        "results.csv",         "results.md", "report.html", "learning_curves.svg",
        "learning_curves.png", "eta.svg",    "eta.png",     "episode_rnn_gradient.svg"};
    if (!demo) files.push_back("error.png");
    for (const std::string& file : files) {
      INFO(file);
      REQUIRE(fs::exists(report / file));
      CHECK(fs::file_size(report / file) > 100);
    }
    const std::string html = content(report / "report.html");
    CHECK(mentions(html, "</html>"));
    CHECK(mentions(html, "<svg"));
    CHECK(mentions(html, "\"inner_scale\": 0.015625"));
    CHECK_FALSE(mentions(html, "src="));  // nothing from outside
    CHECK_FALSE(mentions(html, "<script"));
    for (const std::string& left : names_in(report)) {
      CHECK_FALSE(left.ends_with(".tmp"));
      CHECK_FALSE(left.ends_with(".log"));
    }
  }
  CHECK(mentions(content(out / "cuereward_demo/results.md"), " ± "));
  CHECK(mentions(content(out / "cuereward_demo/results.md"), "0.1369"));
  CHECK(mentions(content(out / "regression/results.md"), "0.2930"));
  CHECK(mentions(content(out / "regression/results.md"), "share of queries within 0.05"));
  CHECK(mentions(content(out / "inner_scale/results.csv"), "\"mlp_regression\",0.125,"));
}

TEST_CASE("Runs of other seeds and cells stay in the report", "[programs][experiments]") {
  const Folder folder;
  const auto run_cells = [&](const std::string& cell, const std::string& batches) {
    run_well("experiments", small(folder.path(), "cuereward_noisy",
                                  {"--seeds", "1", "--batches", batches, "--cells", cell}));
  };
  const auto settings = [&] {
    run_well("experiments", {"report", "cuereward_noisy", "--out", folder.path().string()});
    const std::string csv = content(folder / "cuereward_noisy/results.csv");
    return std::count(csv.begin(), csv.end(), '\n') - 1;
  };
  run_cells("rnn", "2");
  CHECK(settings() == 3);
  run_cells("lstm", "2");
  CHECK(settings() == 6);
  run_cells("rnn", "3");  // another length is another report
  CHECK(settings() == 3);
}

TEST_CASE("Two processes at once leave all their runs in the list", "[programs][experiments]") {
  for (int round = 0; round < 3; ++round) {
    const Folder folder;
    const auto begin = [&](const std::string& cell) {
      return std::make_unique<Process>("experiments",
                                       small(folder.path(), "cuereward_noisy",
                                             {"--seeds", "1", "--batches", "1", "--cells", cell}));
    };
    const auto rnn = begin("rnn"), lstm = begin("lstm");
    CHECK(rnn->wait().code == 0);
    CHECK(lstm->wait().code == 0);
    const auto list =
        nlohmann::json::parse(content(folder / "cuereward_noisy/experiment.json")).at("runs");
    CHECK(list.size() == 6);
    CHECK(run_folders(folder.path()).size() == 6);
  }
}

TEST_CASE("A report counts the runs that are missing", "[programs][experiments]") {
  const Folder folder;
  run_well("experiments",
           small(folder.path(), "cuereward_demo", {"--seeds", "2", "--batches", "2"}));
  fs::remove(run_folders(folder.path()).front() / "test.csv");
  CHECK(mentions(
      run_well("experiments", {"report", "cuereward_demo", "--out", folder.path().string()}).out,
      "| 1 of 2 |"));
}

TEST_CASE("A report names the file that is damaged", "[programs][experiments]") {
  const Folder folder;
  run_well("experiments", small(folder.path(), "cuereward_demo",
                                {"--seeds", "1", "--batches", "4", "--validate-every", "2"}));
  const Arguments report{"report", "cuereward_demo", "--out", folder.path().string()};
  const fs::path damaged = run_folders(folder.path()).front();
  const auto check_damage = [&](const std::string& file, const std::string& bytes) {
    const std::string whole = content(damaged / file);
    write_plainly(damaged / file, bytes);
    check_refusal("experiments", report, {file});
    write_plainly(damaged / file, whole);
  };
  check_damage("test.csv", "test_loss,query_loss,query_accuracy\n");
  check_damage("test.csv", "test_loss,query_loss\n0.5,0.5\n");
  check_damage("eta.csv", "step,mean,sd\n0,0.1\n");
  check_damage("progress.csv", csv_header + "\n2,0.5,0.5,x\n");
  check_damage("progress.csv", csv_header + "\n2,0.5,0.5,1\n");  // its last row is missing
  for (const std::string bytes : {"{", "[]", "{\"runs\": 5}",
                                  "{\"name\": \"a\", \"title\": \"b\", \"runs\": [{\"x\": 1}]}"}) {
    write_plainly(folder / "cuereward_demo/experiment.json", bytes);
    check_refusal("experiments", report, {"experiment.json is damaged"});
    check_refusal("experiments", {"run", "cuereward_demo", "--out", folder.path().string()},
                  {"experiment.json is damaged"});
  }
}

TEST_CASE("Experiments refuse what makes no sense and say what", "[programs][experiments]") {
  const Folder folder;
  const std::string out = folder.path().string();
  check_refusal("experiments", {"run", "cuereward_dmo", "--out", out},
                {"experiments list", "cuereward_dmo"});
  check_refusal("experiments", {"report", "cuereward_demo", "--out", out},
                {"experiment.json", "run the experiment first"});
  check_refusal("experiments", {"run", "cuereward_demo", "--seeds", "0"}, {"--seeds"});
  check_refusal("experiments", {"run", "cuereward_demo", "--cells", "gru"}, {"gru"});
  check_refusal("experiments", {"run", "cuereward_demo", "--cells", "lstm", "--out", out},
                {"--cells lstm", "cell is one of rnn"});
  check_refusal("experiments", {}, {"subcommand"});
}

TEST_CASE("A run with a damaged checkpoint fails by name and the others go on",
          "[programs][experiments]") {
  const Folder folder;
  const Arguments options{"--seeds", "1", "--batches", "4", "--validate-every", "2"};
  run_well("experiments", small(folder.path(), "cuereward_demo", options));
  const fs::path damaged = run_folders(folder.path()).front();
  fs::remove(damaged / "test.csv");
  write_plainly(damaged / "checkpoint.safetensors", "no tensors");
  fs::remove_all(run_folders(folder.path()).back());
  const Ended ended = run("experiments", small(folder.path(), "cuereward_demo", options));
  CHECK(ended.code == 1);
  CHECK(mentions(ended.out, "failed: "));
  CHECK(mentions(ended.out, "checkpoint.safetensors"));
  CHECK(mentions(ended.err, "1 of 3 runs failed"));
  CHECK(fs::exists(damaged / "failed.txt"));
  CHECK(mentions(
      run_well("experiments", {"report", "cuereward_demo", "--out", folder.path().string()}).out,
      "| 0 of 1 (1 failed) |"));
  CHECK(fs::exists(run_folders(folder.path()).back() / "test.csv"));
}

TEST_CASE("Filters choose among the runs, and say what there is where they choose none",
          "[programs][experiments]") {
  const Folder folder;
  const auto chosen = [&](const std::string& name, const Arguments& filters) {
    Arguments all{"submit", name, "--print", "--seeds", "2", "--out", folder / "none"};
    all.insert(all.end(), filters.begin(), filters.end());
    const std::string script = run("experiments", all).out;
    const std::size_t begin = script.find("\nruns=(\n"), end = script.find("\n)\n");
    REQUIRE(begin < end);
    return std::count(script.begin() + static_cast<std::ptrdiff_t>(begin) + 8,
                      script.begin() + static_cast<std::ptrdiff_t>(end) + 1, '\n');
  };
  CHECK(chosen("cuereward_noisy", {}) == 12);
  CHECK(chosen("cuereward_noisy", {"--rules", "hebbian", "none"}) == 8);
  CHECK(chosen("cuereward_noisy", {"--rules", "hebbian", "--cells", "lstm"}) == 2);
  CHECK(chosen("cuereward_demo", {"--only", "rule=none", "--only", "seed=1"}) == 1);
  CHECK(chosen("seqreproduction_delay",
               {"--only", "delay=0", "delay=10", "--only", "rule=none", "cell=rnn"}) == 4);
  CHECK(chosen("cuereward_modulation", {"--only", "modulation=off", "seed=0"}) == 4);
  CHECK(chosen("inner_scale", {"--only", "inner_scale=0.015625", "seed=0", "cell=rnn"}) == 4);

  const auto refuses = [&](const std::string& name, const Arguments& filters,
                           const std::vector<std::string>& parts) {
    check_refusal("experiments", small(folder / "none", name, filters), parts);
    CHECK_FALSE(fs::exists(folder / "none"));
  };
  CHECK(run_folders(folder / "none").empty());
  run_well("experiments", single(folder / "out", "1", {"--only", "rule=hebbian"}));
  CHECK(run_folders(folder / "out").size() == 1);
  refuses("cuereward_demo", {"--rules", "trace"}, {"--rules trace", "gradient, hebbian, none"});
  refuses("cuereward_demo", {"--only", "colour=red"}, {"colour=red", "learning_rate", "seed"});
  refuses("cuereward_demo", {"--only", "red"}, {"KEY=VALUE", "red"});
  refuses("seqreproduction_delay", {"--only", "delay=15"}, {"delay=15", "0, 10, 20, 40, 60"});
  refuses("seqreproduction_delay", {"--only", "delay=20", "delay=21"}, {"delay=21"});
  refuses("cuereward_noisy", {"--cells", "lstm", "--only", "cell=rnn"},
          {"that the other filters leave: cell is one of lstm"});
  refuses("cuereward_demo", {"--run", "mine"}, {"--run mine", "cue_reward-rnn-gradient-seed0-"});
}

TEST_CASE("A process waits for runs that another one has, and ends when they have finished",
          "[programs][experiments]") {
  const Folder folder;
  const fs::path out = folder / "out";
  Process first("experiments", single(out, "160"));
  first.wait_for([&] { return is_running(out); });
  const Ended second = run_well("experiments", single(out, "160"));
  CHECK(mentions(second.out, "waiting for "));
  CHECK(mentions(second.out, ": done"));
  CHECK(fs::exists(run_folders(out).front() / "test.csv"));
  CHECK(first.wait().code == 0);
  CHECK(mentions(status(out, "cuereward_demo"), "1 finished"));
}

TEST_CASE("A process takes over the run of another one that is killed", "[programs][experiments]") {
  const Folder folder;
  run_well("experiments", single(folder / "alone", "200"));
  const fs::path out = folder / "out";
  Process first("experiments", single(out, "200"));
  first.wait_for([&] {
    return !run_folders(out).empty() &&
           fs::exists(run_folders(out).front() / "checkpoint.safetensors");
  });
  Process second("experiments", single(out, "200"));
  std::this_thread::sleep_for(200ms);
  first.send(SIGKILL);
  CHECK(first.wait().signal == SIGKILL);
  CHECK(second.wait().code == 0);
  check_same_results(out, folder / "alone");
}

TEST_CASE("SIGTERM writes checkpoints, and the runs go on with the same bits",
          "[programs][experiments]") {
  const Folder folder;
  run_well("experiments", single(folder / "alone", "160"));
  const fs::path out = folder / "out";
  std::mt19937 random{std::random_device()()};
  int stops = 0;
  for (bool stopped = true; stopped;) {
    Process process("experiments", single(out, "160"));
    if (stops < 8) {
      process.wait_for([&] { return is_running(out); });
      std::this_thread::sleep_for(
          std::chrono::milliseconds(std::uniform_int_distribution<int>(0, 100)(random)));
      process.send(SIGTERM);
    }
    const Ended ended = process.wait();
    stopped = ended.code == 143;
    INFO(ended.out << ended.err);
    CHECK((ended.code == 0 || ended.code == 143));
    if (ended.code == 143) {
      CHECK(mentions(ended.err, "stopped by SIGTERM"));
      CHECK(mentions(status(out, "cuereward_demo"), "1 waiting"));
      ++stops;
    }
  }
  CHECK(stops > 0);
  check_same_results(out, folder / "alone");
}

TEST_CASE("A holder of another machine is waited for while it is heard of",
          "[programs][experiments]") {
  const Folder folder;
  const fs::path out = folder / "out";
  run_well("experiments", single(out, "20"));
  const fs::path held = run_folders(out).front();
  fs::remove(held / "test.csv");
  hold(held, 100s);
  CHECK(mentions(status(out, "cuereward_demo"), "running on elsewhere, 20 of 20 batches"));
  CHECK(mentions(status(out, "cuereward_demo", {"--dead-after", "60"}),
                 "waiting, 20 of 20 batches; process 7 on elsewhere is dead"));
  Process process("experiments", single(out, "20"));
  std::this_thread::sleep_for(1500ms);
  CHECK(process.running());
  CHECK_FALSE(fs::exists(held / "test.csv"));
  hold(held, 301s);
  const Ended ended = process.wait();
  CHECK(ended.code == 0);
  CHECK(mentions(ended.out, "process 7 on elsewhere"));
  CHECK(fs::exists(held / "test.csv"));
  CHECK(names_in(held / ".holder") == std::vector<std::string>{"free"});
}

TEST_CASE("Of many processes one takes the run of a dead holder", "[programs][experiments]") {
  const Folder folder;
  const fs::path out = folder / "out";
  run_well("experiments", single(out, "20"));
  const fs::path held = run_folders(out).front();
  for (int round = 0; round < 3; ++round) {
    fs::remove(held / "test.csv");
    fs::remove(held / "checkpoint.safetensors");
    hold(held, 301s);
    std::vector<std::unique_ptr<Process>> all;
    for (int k = 0; k < 6; ++k) {
      all.push_back(std::make_unique<Process>("experiments", single(out, "20")));
    }
    int trained = 0;
    for (const auto& process : all) {
      const Ended ended = process->wait();
      INFO(ended.out << ended.err);
      CHECK(ended.code == 0);
      trained += mentions(ended.out, "batch 20/20") ? 1 : 0;
    }
    CHECK(trained == 1);
    CHECK(names_in(held / ".holder") == std::vector<std::string>{"free"});
  }
}

TEST_CASE("A process whose folder another one has taken ends its run and waits",
          "[programs][experiments]") {
  const Folder folder;
  const fs::path out = folder / "out";
  Process process("experiments", single(out, "200"));
  process.wait_for([&] {
    return !run_folders(out).empty() &&
           fs::exists(run_folders(out).front() / "checkpoint.safetensors");
  });
  const fs::path held = run_folders(out).front();
  fs::remove_all(held / ".holder");
  hold(held, 0s);
  std::this_thread::sleep_for(2s);
  const std::string before = content(held / "progress.csv");
  std::this_thread::sleep_for(500ms);
  CHECK(content(held / "progress.csv") == before);
  CHECK(process.running());
  hold(held, 301s);
  const Ended ended = process.wait();
  CHECK(ended.code == 0);
  CHECK(mentions(ended.out, "another process has taken this folder"));
}

TEST_CASE("The status shows runs that have failed, finished, and not begun",
          "[programs][experiments]") {
  const Folder folder;
  const fs::path out = folder.path();
  check_refusal("experiments", {"status", "cuereward_demo", "--out", out.string()},
                {"experiment.json", "run or submit"});
  const Arguments options{"--seeds", "1", "--batches", "4", "--validate-every", "2"};
  run_well("experiments", small(out, "cuereward_demo", options));
  const fs::path damaged = run_folders(out).front();
  fs::remove(damaged / "test.csv");
  write_plainly(damaged / "checkpoint.safetensors", "no tensors");
  run("experiments", small(out, "cuereward_demo", options));
  const fs::path gone = run_folders(out).back();
  fs::remove_all(gone);
  const std::string text = status(out, "cuereward_demo");
  CHECK(mentions(text, "checkpoint.safetensors is damaged; remove it"));
  CHECK(mentions(text, "waiting, 0 of 4 batches"));
  CHECK(mentions(text, "3 runs: 1 finished, 0 running, 1 waiting, 1 failed"));
  CHECK(mentions(status(out, "cuereward_demo", {"--rules", "none", "gradient"}), "2 runs: "));

  // One that is damaged does not hide the others.
  for (const std::string holder : {"", "nobody", "a~b~c~d~e~f"}) {
    fs::create_directories(gone / ".holder");
    if (!holder.empty()) write_plainly(gone / ".holder" / holder, "");
    const std::string all = status(out, "cuereward_demo");
    CHECK(mentions(all, "failed: " + (gone / ".holder").string() + " is damaged"));
    CHECK(mentions(all, "3 runs: 1 finished, 0 running, 0 waiting, 2 failed"));
    fs::remove_all(gone);
  }
}

TEST_CASE("Experiments say so where their output is lost", "[programs][experiments]") {
  if (!fs::is_character_file("/dev/full")) return;
  const std::string program = std::string(PLASTIC_PROGRAMS) + "/experiments";
  CHECK(std::system((program + " list >/dev/full 2>/dev/null").c_str()) != 0);
}

TEST_CASE("The job for Slurm can be printed, and nothing is written", "[programs][experiments]") {
  const Folder folder;
  const fs::path out = folder / "it's a folder";
  const Arguments options{
      "submit", "cuereward_demo", "--out", out.string(), "--print",         "--seeds",
      "2",      "--cpus",         "3",     "--sbatch",   "--partition=long"};
  const Ended ended = run("experiments", options);
  CHECK(ended.code == 0);
  CHECK(mentions(ended.err, "6 runs: 0 finished"));
  for (const char* line : {"#!/bin/bash\n", "#SBATCH --array=0-5\n", "#SBATCH --cpus-per-task=3\n",
                           "#SBATCH --partition=long\n", "--seeds 2", "it'\\''s a folder",
                           "\ncue_reward-rnn-gradient-seed0-"}) {
    INFO(line);
    CHECK(mentions(ended.out, line));
  }
  CHECK_FALSE(fs::exists(out));
  check_refusal(
      "experiments",
      {"submit", "cuereward_demo", "--out", out.string(), "--print", "--sbatch", "--a\n--b"},
      {"--sbatch", "line ends"});
}
