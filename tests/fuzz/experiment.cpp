#include "experiments/results.hpp"
#include "input_files.hpp"
#include "readers.hpp"

namespace plastic::fuzz {
namespace {

// experiment.json beside runs/a, which has finished, and runs/b, which has not.
void read(Bytes bytes) {
  static const Workplace folder;
  static const bool written = [] {
    folder.write("runs/a/progress.csv", "batch,validation_loss\n100,0.5\n200,0.25\n");
    folder.write("runs/a/test.csv", "test_loss,query_loss,query_accuracy\n0.25,0.5,0.75\n");
    folder.write("runs/b/failed.txt", "killed\n");
    return true;
  }();
  if (written) folder.write("experiment.json", text_of(bytes));
  const experiments::Results results = experiments::read_results(folder.path());
  for (const experiments::Variant& variant : results.variants) {
    experiments::marks(variant);
    experiments::shown_steps(variant);
    experiments::first_query(variant);
    experiments::estimate(variant.over_runs(&experiments::RunResult::test_loss));
  }
}

std::vector<std::string> seeds() {
  const std::string begin = R"({"name": "cuereward", "title": "Cue-reward", "runs": [)";
  const std::string run =
      R"({"folder": "runs/a", "settings": {"task": "cue_reward", "cell": "rnn", "eta0": 0.1,)"
      R"( "modulation": true, "rule": "hebbian", "batches": 200, "seed": 0}})";
  std::string other = run;
  other.replace(other.find("/a"), 2, "/b").replace(other.find("hebbian"), 7, "gradient");
  return {begin + run + "]}", begin + run + ", " + other + "]}"};
}

}  // namespace

const Reader experiment{"experiment", read, seeds};

}  // namespace plastic::fuzz
