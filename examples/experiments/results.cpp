#include "results.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "run.hpp"
#include "settings.hpp"

namespace experiments {

namespace fs = std::filesystem;

namespace {

// 0.975 quantile of Student's t for a whole number of degrees of freedom.
double t_quantile(std::size_t freedom) {
  constexpr std::array quantiles = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365,
                                    2.306,  2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
                                    2.131,  2.120, 2.110, 2.101, 2.093, 2.086};
  if (freedom <= quantiles.size()) return quantiles[freedom - 1];
  return 1.96 + 2.5 / static_cast<double>(freedom);
}

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// The square of the standard error of the mean.
double square_of_error(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  const double mean = mean_of(values);
  double square = 0;
  for (const double x : values) square += (x - mean) * (x - mean);
  return square / (n - 1) / n;
}

}  // namespace

Estimate estimate(const std::vector<double>& values) {
  const double mean = mean_of(values);
  if (values.size() < 2) return {mean, std::numeric_limits<double>::quiet_NaN()};
  return {mean, t_quantile(values.size() - 1) * std::sqrt(square_of_error(values))};
}

Estimate difference(const std::vector<double>& a, const std::vector<double>& b) {
  const double mean = mean_of(a) - mean_of(b);
  if (a.size() < 2 || b.size() < 2) return {mean, std::numeric_limits<double>::quiet_NaN()};
  const double u = square_of_error(a), v = square_of_error(b);
  if (u + v == 0) return {mean, 0};
  const double freedom =
      (u + v) * (u + v) /
      (u * u / static_cast<double>(a.size() - 1) + v * v / static_cast<double>(b.size() - 1));
  // Rounded down, which is the wider interval.
  return {mean, t_quantile(static_cast<std::size_t>(std::max(1.0, freedom))) * std::sqrt(u + v)};
}

Quartiles quartiles(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const double place = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
  };
  if (values.size() > 1) return {at(0.25), at(0.5), at(0.75)};
  const double none = std::numeric_limits<double>::quiet_NaN();
  return {none, values.at(0), none};
}

std::string Variant::text(const std::string& setting) const {
  return settings.contains(setting) ? text_of(settings.at(setting)) : "-";
}

bool Variant::acts() const {
  const std::string task = text("task");
  return task == "maze" || task == "target_discovery";
}

std::vector<double> Variant::over_runs(double RunResult::*value) const {
  std::vector<double> values;
  for (const RunResult& run : runs) values.push_back(run.*value);
  return values;
}

Columns read_columns(const fs::path& path) {
  std::ifstream file(path);
  std::string line, cell;
  std::vector<std::string> names;
  Columns columns;
  if (!file) throw std::runtime_error("cannot read " + path.string());
  if (!std::getline(file, line)) throw std::runtime_error(path.string() + " is empty");
  std::istringstream header(line);
  while (std::getline(header, cell, ',')) names.push_back(cell);
  while (std::getline(file, line)) {
    std::istringstream row(line);
    for (const std::string& name : names) {
      double value = 0;
      const bool found = static_cast<bool>(std::getline(row, cell, ','));
      const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
      if (!found || error != std::errc() || end != cell.data() + cell.size()) {
        throw std::runtime_error(path.string() +
                                 ": every row must have a number in each column, got " + line);
      }
      columns[name].push_back(value);
    }
  }
  if (columns.empty()) throw std::runtime_error(path.string() + ": there is no row of numbers");
  return columns;
}

const std::vector<double>& column(const Columns& columns, const std::string& name,
                                  const fs::path& path) {
  const auto found = columns.find(name);
  if (found == columns.end()) {
    throw std::runtime_error(path.string() + ": there is no column " + name);
  }
  return found->second;
}

namespace {

RunResult read_run(const fs::path& folder, const Variant& variant) {
  RunResult run;
  run.folder = folder;
  const fs::path progress = folder / "progress.csv", test = folder / "test.csv";
  run.progress = read_columns(progress);
  if (column(run.progress, "batch", progress).back() !=
      variant.settings.at("batches").get<double>()) {
    throw std::runtime_error(progress.string() + ": rows are missing at its end");
  }
  for (const double loss : column(run.progress, "validation_loss", progress)) {
    if (loss < run.best_validation) run.best_validation = loss;
  }
  const Columns losses = read_columns(test);
  if (variant.acts()) {
    const std::vector<double>& rewards = column(run.progress, "reward", progress);
    run.best_reward = *std::max_element(rewards.begin(), rewards.end());
    run.reward = column(losses, "reward", test)[0];
    run.greedy_reward = column(losses, "greedy_reward", test)[0];
  } else {
    run.test_loss = column(losses, "test_loss", test)[0];
    run.query_loss = column(losses, "query_loss", test)[0];
    run.query_accuracy = column(losses, "query_accuracy", test)[0];
  }
  if (losses.contains("first_query_accuracy")) {
    run.first_query_accuracy = losses.at("first_query_accuracy")[0];
  }
  const fs::path eta = folder / "eta.csv";
  if (fs::exists(eta)) {
    run.eta = read_columns(eta);
    for (const char* name : {"step", "mean", "sd"}) column(run.eta, name, eta);
  }
  return run;
}

// Whether networks of the same cell and rule have the same options.
bool options_follow_the_rule(const std::vector<Variant>& variants) {
  std::map<std::string, std::string> options;
  return std::all_of(variants.begin(), variants.end(), [&](const Variant& variant) {
    const std::string network = variant.text("cell") + " " + variant.text("rule");
    return options.try_emplace(network, variant.text("options")).first->second ==
           variant.text("options");
  });
}

// Settings in which variants differ. A size or options that follow from cell and rule do not count.
std::vector<std::string> find_varied(const std::vector<Variant>& variants) {
  const bool by_rule = options_follow_the_rule(variants);
  std::vector<std::string> varied;
  for (const Variant& variant : variants) {
    for (const auto& [name, value] : variant.settings.items()) {
      const bool differs =
          std::any_of(variants.begin(), variants.end(), [&, &key = name](const Variant& other) {
            return other.settings.contains(key) && other.text(key) != variant.text(key);
          });
      if (differs && name != "hidden" && !(by_rule && name == "options") &&
          std::find(varied.begin(), varied.end(), name) == varied.end()) {
        varied.push_back(name);
      }
    }
  }
  return varied;
}

}  // namespace

bool is_experiment(const Json& json) {
  const auto has_text = [](const Json& object, const char* name) {
    return object.is_object() && object.contains(name) && object.at(name).is_string();
  };
  if (!has_text(json, "name") || !has_text(json, "title") || !json.contains("runs")) return false;
  // Json copies, compares and writes values inside values by recursion, which must not be deep.
  const auto is_flat = [](const Json& object) {
    return std::all_of(object.begin(), object.end(),
                       [](const Json& value) { return value.is_primitive(); });
  };
  const Json& runs = json.at("runs");
  return runs.is_array() && std::all_of(runs.begin(), runs.end(), [&](const Json& run) {
           return has_text(run, "folder") && run.size() == 2 && run.contains("settings") &&
                  run.at("settings").is_object() && is_flat(run.at("settings")) &&
                  run.at("settings").contains("batches") &&
                  run.at("settings").at("batches").is_number();
         });
}

Results collect_results(const std::string& name, const std::string& title,
                        const std::vector<ListedRun>& runs) {
  Results results;
  results.name = name;
  results.title = title;
  for (const ListedRun& run : runs) {
    Json settings = run.settings;
    settings.erase("seed");
    auto variant = std::find_if(results.variants.begin(), results.variants.end(),
                                [&](const Variant& v) { return v.settings == settings; });
    if (variant == results.variants.end()) {
      variant = results.variants.insert(variant, Variant{settings, {}, 0, 0});
    }
    if (is_finished(run.folder)) {
      try {
        variant->runs.push_back(read_run(run.folder, *variant));
      } catch (const std::runtime_error& error) {
        throw std::runtime_error(std::string(error.what()) + "; remove " + run.folder.string() +
                                 " to train it again");
      }
    } else {
      ++variant->missing;
      variant->failed += fs::exists(run.folder / "failed.txt") ? 1 : 0;
    }
  }
  results.varied = find_varied(results.variants);
  results.series = "rule";
  if (std::find(results.varied.begin(), results.varied.end(), "rule") == results.varied.end()) {
    for (const std::string& setting : results.varied) {
      if (setting != "cell" && setting != "task") results.series = setting;
    }
  }
  return results;
}

Results read_results(const fs::path& folder) {
  const fs::path path = folder / "experiment.json";
  std::ifstream file(path);
  if (!file || !fs::is_regular_file(path)) {
    throw std::runtime_error("cannot read " + path.string() + ": run the experiment first");
  }
  const Json json = Json::parse(file, nullptr, false);
  if (!is_experiment(json)) throw std::runtime_error(path.string() + " is damaged");
  std::vector<ListedRun> runs;
  for (const Json& run : json.at("runs")) {
    runs.push_back({folder / run.at("folder").get<std::string>(), run.at("settings")});
  }
  Results results = collect_results(json.at("name"), json.at("title"), runs);
  const bool any = std::any_of(results.variants.begin(), results.variants.end(),
                               [](const Variant& v) { return !v.runs.empty(); });
  if (!any) throw std::runtime_error(results.name + ": no run has finished");
  return results;
}

std::vector<Mark> marks(const Variant& variant) {
  const std::string task = variant.text("task");
  const bool few = variant.text("support") == "10";
  if (task == "cue_reward") {
    return {{"perfect memory", 0.0179, 0.0358,
             "remembers every reward; what it leaves are the cues that were never shown"},
            {"cue ignored", 0.1369, 0.2738,
             "is the best guess that uses the rewards that were shown, but not which cue each "
             "belongs to"},
            {"copy, then zero", 0.1667, 0.3333,
             "repeats the reward while it is shown, and says zero when asked"}};
  }
  if (task == "sequence_reproduction") {
    return {{"chance", 1.0 / 3, 1.0 / 3, "says zero, the mean of all values"}};
  }
  if (task == "linear_regression") {
    return {{"near-optimal", few ? 0.199 : 0.0145, few ? 0.293 : 0.0200,
             "is a Bayesian estimator that knows from what functions are drawn"}};
  }
  if (task == "mlp_regression") {
    return {{"near-optimal", few ? 0.040 : 0.0158, few ? 0.055 : 0.0220,
             "is a Bayesian estimator that knows from what functions are drawn"}};
  }
  if (task == "maze") {
    const bool large = variant.text("size") == "11";
    const double walk = large ? 7.4 : 14.5, known = large ? 325 : 417;
    return {
        {"random walk", walk, walk, "takes every action as often as any other"},
        {"cell known", known, known, "knows the cell from the start and takes the shortest way"}};
  }
  if (task == "target_discovery") {
    return {{"guessing", 0, 0, "takes both actions equally often"},
            {"best possible", 18.2, 18.2,
             "has to find the target out by its first answers, and errs no more"}};
  }
  return {};
}

namespace {

long count_of(const Variant& variant, const char* setting) {
  const auto found = variant.settings.find(setting);
  return found != variant.settings.end() && found->is_number() ? found->get<long>() : -1;
}

}  // namespace

long shown_steps(const Variant& variant) {
  const std::string task = variant.text("task");
  if (task == "cue_reward") return 10;
  if (task == "sequence_reproduction") return count_of(variant, "length");
  if (task == "linear_regression" || task == "mlp_regression") return count_of(variant, "support");
  return -1;
}

long first_query(const Variant& variant) {
  const long shown = shown_steps(variant);
  return variant.text("task") == "sequence_reproduction" ? shown + count_of(variant, "delay")
                                                         : shown;
}

}  // namespace experiments
