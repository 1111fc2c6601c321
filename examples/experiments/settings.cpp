#include "settings.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <sstream>

#include "plastic/cells/options.hpp"
#include "plastic/core/check.hpp"

namespace experiments {

using namespace plastic;

bool has_own_options(std::string_view rule) {
  return rule != "gradient" && rule != "hebbian" && rule != "none";
}

void apply_options(const RunSettings& settings, Settings& all) {
  std::istringstream words(settings.options);
  std::string word;
  while (words >> word) {
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    if (equals == std::string::npos || !all.contains(name)) {
      detail::reject("experiments", "every word of the options of " + settings.rule,
                     "NAME=VALUE with a setting of that network", word);
    }
    all[name] = word.substr(equals + 1);
  }
}

nlohmann::ordered_json to_json(const RunSettings& settings) {
  nlohmann::ordered_json json;
  for_each_setting(settings, [&](const char* name, const auto& value) { json[name] = value; });
  return json;
}

std::string text_of(const nlohmann::ordered_json& value) {
  if (value.is_boolean()) return value.get<bool>() ? "on" : "off";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.4g", value.get<double>());
    return text.data();
  }
  return value.dump();
}

std::string folder_name(const RunSettings& settings) {
  // FNV-1a, 64 bits: the same name on every machine.
  std::uint64_t hash = 14695981039346656037u;
  for (const char c : to_json(settings).dump()) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  }
  std::array<char, 17> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(hash));
  std::string task = settings.task;
  std::replace_if(
      task.begin(), task.end(), [](char c) { return c == ' ' || c == '+'; }, '_');
  return task + "-" + settings.cell + "-" + settings.rule + "-seed" +
         std::to_string(settings.seed) + "-" + text.data();
}

Task make_task(const RunSettings& s) {
  std::vector<Task::Part> parts;
  std::istringstream terms(s.task);
  std::string term;
  while (std::getline(terms, term, '+')) {
    double weight = 1;
    std::istringstream words(term);
    if (!(words >> weight)) {
      weight = 1;
      words.clear();
      words.str(term);
    }
    std::string name;
    words >> name;
    if (std::string more; words >> more) name += " " + more;  // this is not the name of a task
    if (name == "cue_reward") {
      parts.push_back({CueReward({.noise = s.noise}), weight});
    } else if (name == "sequence_reproduction") {
      parts.push_back({SequenceReproduction({.length = s.length, .delay = s.delay}), weight});
    } else if (name == "linear_regression") {
      parts.push_back({FewShotRegression({.support = s.support}), weight});
    } else if (name == "mlp_regression") {
      parts.push_back(
          {FewShotRegression(
               {.function = RegressionFunction::mlp, .variables = 6, .support = s.support}),
           weight});
    } else if (name == "pattern_completion") {
      parts.push_back({PatternCompletion({.bits = s.bits}), weight});
    } else if (name == "key_value") {
      parts.push_back({KeyValueRetrieval({.keys = s.keys}), weight});
    } else if (name == "associative_retrieval") {
      parts.push_back({AssociativeRetrieval({.pairs = s.pairs}), weight});
    } else {
      detail::reject("make_task", "task",
                     "cue_reward, sequence_reproduction, linear_regression, mlp_regression, "
                     "pattern_completion, key_value, associative_retrieval or, not in a mix, "
                     "one_shot_images, maze or target_discovery",
                     name);
    }
  }
  return Task(std::move(parts));
}

CellOptions make_cell_options(const RunSettings& s, Index inputs, Index outputs) {
  return {.inputs = inputs,
          .hidden = s.hidden,
          .outputs = outputs,
          .extra = s.extra,
          .modulation = s.modulation,
          .eta0 = s.eta0,
          .decay0 = s.eta0,
          .max_norm = s.max_norm,
          .weight_clip = s.weight_clip,
          .alpha_mode = detail::alpha_mode_from(s.alpha_mode),
          .random_network = s.random_network,
          .inner_scale = s.inner_scale,
          .seed = s.seed};
}

}  // namespace experiments
