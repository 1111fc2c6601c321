// The page of results is made from what finished runs have left.

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "support/errors.hpp"
#include "support/files.hpp"
#include "support/process.hpp"

namespace {

using namespace plastic::testing;

const fs::path docs = fs::path(PLASTIC_TEST_DATA).parent_path().parent_path() / "docs";

// The runs of cue-reward by an RNN with these rules, four seeds each.
const std::vector<std::string> hebbian = {"cue_reward-rnn-hebbian-seed0-d61852272e184254",
                                          "cue_reward-rnn-hebbian-seed1-d61456272e146049",
                                          "cue_reward-rnn-hebbian-seed2-d61156272e122a72",
                                          "cue_reward-rnn-hebbian-seed3-d60e52272e0fedcf"};
const std::vector<std::string> gradient = {"cue_reward-rnn-gradient-seed0-d3c3206193513629",
                                           "cue_reward-rnn-gradient-seed1-d3c71c6193551834",
                                           "cue_reward-rnn-gradient-seed2-d3bc1c61934b10af",
                                           "cue_reward-rnn-gradient-seed3-d3c02061934f0052"};

// Documents that have nothing but these runs.
void copy_runs(const fs::path& to) {
  const fs::path from = docs / "results" / "data", data = to / "results" / "data";
  for (const auto* names : {&hebbian, &gradient}) {
    for (const std::string& name : *names) {
      fs::create_directories(data);
      fs::copy(from / name, data / name, fs::copy_options::recursive);
    }
  }
}

std::string page_of(const fs::path& folder) {
  run_well("experiments", {"report", "--docs=" + folder.string()});
  return content(folder / "results.md");
}

// The line of the page's first table that is about this claim.
std::string verdict_on(const std::string& page, const std::string& claim) {
  const std::size_t begin = page.find("| " + claim + " | ");
  REQUIRE(begin != std::string::npos);
  return page.substr(begin, page.find('\n', begin) - begin);
}

}  // namespace

TEST_CASE("The page of results is that of the runs that are kept", "[programs][docs_report]") {
  const Folder folder;
  fs::create_directory(folder / "results");
  fs::create_directory_symlink(docs / "results" / "data", folder / "results/data");
  // `build/examples/experiments report --docs` makes what differs anew.
  CHECK(page_of(folder.path()) == content(docs / "results.md"));
  const fs::path figures = docs / "results" / "figures";
  CHECK(names_in(folder / "results/figures") == names_in(figures));
  for (const std::string& name : names_in(figures)) {
    INFO(name);
    // Drawings differ between versions of gnuplot; the scripts hold all that is drawn.
    if (name.ends_with(".gp"))
      CHECK(content(folder / ("results/figures/" + name)) == content(figures / name));
    if (name.ends_with(".svg")) CHECK(content(figures / name).ends_with("</svg>\n\n"));
  }
}

TEST_CASE("A verdict follows from the intervals of the runs", "[programs][docs_report]") {
  const std::string claim = "Hebbian plasticity suits memory and association";
  const auto verdict_with = [&](const std::vector<std::string>& errors) {
    const Folder folder;
    copy_runs(folder.path());
    for (std::size_t seed = 0; seed < hebbian.size(); ++seed) {
      const fs::path run = folder / ("results/data/" + hebbian[seed]);
      if (errors[seed].empty()) {
        fs::remove_all(run);
      } else {
        write_plainly(run / "test.csv",
                      "test_loss,query_loss,query_accuracy\n0.1," + errors[seed] + ",0\n");
      }
    }
    return verdict_on(page_of(folder.path()), claim);
  };
  const auto check = [&](const std::vector<std::string>& errors, const std::string& verdict,
                         const std::string& counts) {
    const std::string line = verdict_with(errors);
    CHECK(mentions(line, "| " + verdict));
    CHECK(mentions(line, "| " + counts + " |"));
  };
  check({"0.01", "0.011", "0.01", "0.011"}, "holds so far (1 of", "1 | 0 | 0");
  check({"0.31", "0.32", "0.31", "0.32"}, "does not hold here so far (1 of", "0 | 1 | 0");
  check({"0.01", "0.4", "0.01", "0.4"}, "does not hold here so far (1 of", "0 | 0 | 1");
  check({"0.01", "", "", ""}, "not run yet |", "0 | 0 | 0 | 1");
}

TEST_CASE("The page of results refuses runs that are damaged, and a folder without any",
          "[programs][docs_report]") {
  const Folder folder;
  const Arguments report{"report", "--docs=" + folder.path().string()};
  check_refusal("experiments", report, {"results/data is not a folder"});
  check_refusal("experiments", {"report"}, {"takes either NAME or --docs"});
  check_refusal("experiments", {"report", "regression", "--docs"}, {"takes either NAME or --docs"});
  copy_runs(folder.path());
  const fs::path run = folder / ("results/data/" + hebbian[0]);
  const std::string settings = content(run / "settings.json");
  write_plainly(run / "settings.json", "{}");
  check_refusal("experiments", report, {"settings.json is damaged or of another run"});
  write_plainly(run / "settings.json", settings);
  write_plainly(run / "eta.csv", "step,mean,sd\n0,0.1\n");
  check_refusal("experiments", report, {"eta.csv"});
}
