#pragma once

#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace experiments {

using Json = nlohmann::ordered_json;
using Columns = std::map<std::string, std::vector<double>>;

/// Mean over seeds and half the width of its 95% confidence interval (Student's t); the width is
/// NaN for a single value.
struct Estimate {
  double mean = 0;
  double half_width = 0;
};
Estimate estimate(const std::vector<double>& values);

/// Mean of `a` minus mean of `b` and half the width of its 95% confidence interval (Welch's t),
/// which is NaN where one of them has a single value.
Estimate difference(const std::vector<double>& a, const std::vector<double>& b);

/// Median and quartiles over seeds, interpolated; the quartiles of a single value are NaN.
struct Quartiles {
  double low, median, high;
};
Quartiles quartiles(std::vector<double> values);

struct RunResult {
  std::filesystem::path folder;
  Columns progress, eta;  ///< eta is empty without fast weights
  double best_validation = std::numeric_limits<double>::infinity();
  double test_loss = 0, query_loss = 0, query_accuracy = 0;
  double first_query_accuracy = std::numeric_limits<double>::quiet_NaN();  ///< only for images
  double best_reward = 0, reward = 0, greedy_reward = 0;  ///< only of networks that act
};

/// One setting of an experiment with the results of its seeds.
struct Variant {
  Json settings;  ///< without the seed
  std::vector<RunResult> runs;
  std::size_t missing = 0;  ///< seeds whose run has not finished
  std::size_t failed = 0;   ///< those of them that have failed

  std::string text(const std::string& setting) const;
  bool acts() const;  ///< whether the network acts, for rewards
  std::vector<double> over_runs(double RunResult::*value) const;
};

/// Reference values of a task, to judge an error by, or a reward, which has no queries.
struct Mark {
  std::string name;
  double all_steps, query_steps;
  std::string meaning;  ///< a sentence for readers, from its verb on
};

struct Results {
  std::string name, title;
  std::vector<Variant> variants;
  std::vector<std::string> varied;  ///< settings that differ between variants, but the size
  std::string series;  ///< the varied setting that makes the curves of a panel: mostly the rule
};

/// Whether this is what experiment.json of a folder holds: a name, a title and runs.
bool is_experiment(const Json& json);

/// A run of an experiment: where it is, or would be, and its settings with the seed.
struct ListedRun {
  std::filesystem::path folder;
  Json settings;
};

/// What the finished ones of these runs say; the others are counted as missing. Throws
/// std::runtime_error naming a file that is bad.
Results collect_results(const std::string& name, const std::string& title,
                        const std::vector<ListedRun>& runs);

/// The results of FOLDER/experiment.json. Throws std::runtime_error naming a file that is missing
/// or bad, and if no run has finished.
Results read_results(const std::filesystem::path& folder);

/// None for a mix of tasks.
std::vector<Mark> marks(const Variant& variant);

/// The first step that asks for what the episode has taught; -1 where the task is not one of the
/// paper's.
long first_query(const Variant& variant);

/// The steps from 0 on that show what is asked for later; -1 as above.
long shown_steps(const Variant& variant);

/// The columns of a CSV file of numbers with a header.
Columns read_columns(const std::filesystem::path& path);

/// The column of that name. Throws std::runtime_error naming the file if it has none.
const std::vector<double>& column(const Columns& columns, const std::string& name,
                                  const std::filesystem::path& path);

}  // namespace experiments
