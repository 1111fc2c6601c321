#include "selection.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <stdexcept>
#include <utility>

#include "plastic/core/atomic_file.hpp"

namespace experiments {
namespace {

namespace fs = std::filesystem;

RunSettings adjusted(RunSettings settings, const Experiment& experiment, const Changes& changes) {
  settings = scaled(experiment, std::move(settings), changes.hidden, changes.batches);
  if (changes.validate_every > 0) settings.validate_every = changes.validate_every;
  if (!changes.data.empty()) {
    if (settings.task != "one_shot_images") {
      throw std::invalid_argument("--data: the experiment " + experiment.name + " has no images");
    }
    settings.data = changes.data;
  }
  return settings;
}

// A filter: the setting, the values to choose, and how the command named it.
struct Term {
  std::string option;
  std::string setting;
  std::vector<std::string> values;
};

std::vector<Term> terms_of(const Filters& filters) {
  std::vector<Term> terms;
  if (!filters.rules.empty()) terms.push_back({"--rules", "rule", filters.rules});
  if (!filters.cells.empty()) terms.push_back({"--cells", "cell", filters.cells});
  for (const std::string& text : filters.only) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw std::invalid_argument("--only must be KEY=VALUE with a setting's name, got " + text);
    }
    const std::string setting = text.substr(0, equals), value = text.substr(equals + 1);
    const auto same = std::find_if(terms.begin(), terms.end(), [&](const Term& term) {
      return term.option == "--only" && term.setting == setting;
    });
    if (same != terms.end()) {
      same->values.push_back(value);
    } else {
      terms.push_back({"--only", setting, {value}});
    }
  }
  if (!filters.runs.empty()) terms.push_back({"--run", "", filters.runs});
  return terms;
}

// As the setting is shown, or a number that is the same.
bool has_value(const Json& value, const std::string& text) {
  if (text_of(value) == text) return true;
  if (value.is_boolean()) return text == (value.get<bool>() ? "true" : "false");
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [read, error] = std::from_chars(text.data(), end, number);
  return value.is_number() && error == std::errc() && read == end && value.get<double>() == number;
}

// Whether a filter's value chooses the run; the setting without a name is the folder.
bool chooses(const Term& term, const std::string& value, const ListedRun& run) {
  if (term.setting.empty()) return run.folder.filename() == value;
  return run.settings.contains(term.setting) && has_value(run.settings.at(term.setting), value);
}

std::string joined(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& one : all) text += (text.empty() ? "" : ", ") + one;
  return text;
}

void add_once(std::vector<std::string>& all, const std::string& one) {
  if (std::find(all.begin(), all.end(), one) == all.end()) all.push_back(one);
}

[[noreturn]] void choose_nothing(const Term& term, const std::string& value,
                                 const std::vector<ListedRun>& runs, const std::string& among) {
  std::vector<std::string> names, values;
  for (const ListedRun& run : runs) {
    if (term.setting.empty()) add_once(values, run.folder.filename().string());
    for (const auto& [name, has] : run.settings.items()) {
      add_once(names, name);
      if (name == term.setting) add_once(values, text_of(has));
    }
  }
  const std::string what = term.option == "--only" ? term.setting + "=" + value : value;
  const std::string says = term.option + " " + what + " chooses none of the runs" + among;
  if (values.empty()) {
    throw std::invalid_argument(says + ": their settings are " + joined(names));
  }
  throw std::invalid_argument(says + ": " + (term.setting.empty() ? "they are " : "") +
                              (term.setting.empty() ? "" : term.setting + " is one of ") +
                              joined(values));
}

std::vector<ListedRun> chosen(std::vector<ListedRun> runs, const Filters& filters) {
  const std::vector<ListedRun> all = runs;
  for (const Term& term : terms_of(filters)) {
    for (const std::string& value : term.values) {
      if (std::none_of(all.begin(), all.end(),
                       [&](const ListedRun& run) { return chooses(term, value, run); })) {
        choose_nothing(term, value, all, "");
      }
    }
    std::vector<ListedRun> left;
    std::copy_if(runs.begin(), runs.end(), std::back_inserter(left), [&](const ListedRun& run) {
      return std::any_of(term.values.begin(), term.values.end(),
                         [&](const std::string& value) { return chooses(term, value, run); });
    });
    if (left.empty()) {
      choose_nothing(term, term.values.front(), runs, " that the other filters leave");
    }
    runs = std::move(left);
  }
  return runs;
}

// The list, or null where there is none.
Json read_json(const fs::path& path) {
  std::ifstream file(path);
  if (!file) return {};
  Json list = Json::parse(file, nullptr, false);
  if (!is_experiment(list)) throw std::runtime_error(path.string() + " is damaged");
  return list;
}

Json without_seed(Json settings) {
  settings.erase("seed");
  return settings;
}

}  // namespace

std::vector<PlannedRun> plan(const Experiment& experiment, const Changes& changes,
                             const Filters& filters, const fs::path& out) {
  std::vector<PlannedRun> runs;
  std::vector<ListedRun> listed;
  for (int seed = 0; seed < changes.seeds; ++seed) {
    for (const RunSettings& variant : experiment.variants) {
      RunSettings settings = adjusted(variant, experiment, changes);
      settings.seed = static_cast<std::uint64_t>(seed);
      const fs::path folder = out / "runs" / folder_name(settings);
      listed.push_back({folder, to_json(settings)});
      runs.push_back({settings, folder});
    }
  }
  const std::vector<ListedRun> left = chosen(listed, filters);
  std::erase_if(runs, [&](const PlannedRun& run) {
    return std::none_of(left.begin(), left.end(),
                        [&](const ListedRun& one) { return one.folder == run.folder; });
  });
  return runs;
}

void write_list(const Experiment& experiment, const Changes& changes,
                const std::vector<PlannedRun>& runs, const fs::path& out) {
  const fs::path path = out / experiment.name / "experiment.json";
  const Json old = read_json(path);
  std::vector<Json> all;
  if (!old.is_null()) all.assign(old.at("runs").begin(), old.at("runs").end());
  for (const PlannedRun& run : runs) {
    Json listed = {{"folder", "../runs/" + run.folder.filename().string()},
                   {"settings", to_json(run.settings)}};
    if (std::find(all.begin(), all.end(), listed) == all.end()) all.push_back(std::move(listed));
  }
  // The order is that of `plan`, whichever run was listed first.
  std::vector<Json> variants;
  for (const RunSettings& variant : experiment.variants) {
    variants.push_back(without_seed(to_json(adjusted(variant, experiment, changes))));
  }
  const auto variant_of = [&](const Json& run) {
    return std::find(variants.begin(), variants.end(), without_seed(run.at("settings"))) -
           variants.begin();
  };
  std::erase_if(all, [&](const Json& run) { return variant_of(run) == std::ssize(variants); });
  const auto place = [&](const Json& run) {
    return std::pair(run.at("settings").value("seed", 0.0), variant_of(run));
  };
  std::stable_sort(all.begin(), all.end(),
                   [&](const Json& a, const Json& b) { return place(a) < place(b); });
  const Json list = all;
  const Json json = {{"name", experiment.name}, {"title", experiment.title}, {"runs", list}};
  if (json != old) plastic::write_file_atomically(path, json.dump(2) + "\n");
}

std::vector<ListedRun> read_list(const Experiment& experiment, const Filters& filters,
                                 const fs::path& out) {
  const fs::path path = out / experiment.name / "experiment.json";
  const Json list = read_json(path);
  if (list.is_null()) {
    throw std::runtime_error("cannot read " + path.string() +
                             ": run or submit the experiment first");
  }
  std::vector<ListedRun> runs;
  for (const Json& run : list.at("runs")) {
    runs.push_back({out / "runs" / fs::path(run.at("folder").get<std::string>()).filename(),
                    run.at("settings")});
  }
  return chosen(std::move(runs), filters);
}

}  // namespace experiments
