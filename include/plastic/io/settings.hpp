#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "plastic/cells/options.hpp"

namespace plastic {

/// Settings as texts, the `__metadata__` of a model file.
using Settings = std::map<std::string, std::string>;

/// The text called `name`. Throws std::invalid_argument if there is none.
inline const std::string& setting(const Settings& settings, const std::string& name) {
  const auto found = settings.find(name);
  if (found == settings.end()) {
    throw std::invalid_argument("settings: \"" + name + "\" is missing from the metadata");
  }
  return found->second;
}

namespace detail {

template <class Number>
Number number_setting(const Settings& settings, const std::string& name) {
  const std::string& text = setting(settings, name);
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    reject("settings", "\"" + name + "\"", "a number in range", "\"" + text + "\"");
  }
  return value;
}

inline bool bool_setting(const Settings& settings, const std::string& name) {
  const std::string& text = setting(settings, name);
  if (text != "true" && text != "false") {
    reject("settings", "\"" + name + "\"", "true or false", "\"" + text + "\"");
  }
  return text == "true";
}

template <class Number>
std::string number_text(Number value) {
  std::array<char, 64> text;
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), end};
}

/// Throws, naming the first of `expected` that the file has otherwise.
inline void check_settings(std::string_view function, const std::filesystem::path& file,
                           const Settings& got, const Settings& expected) {
  for (const auto& [name, value] : expected) {
    const std::string& other = setting(got, name);
    if (other != value) {
      reject(function, "\"" + name + "\" in " + file.string(), value + ", as here", other);
    }
  }
}

inline AlphaMode alpha_mode_from(std::string_view text) {
  const auto found = std::find(alpha_mode_names.begin(), alpha_mode_names.end(), text);
  if (found == alpha_mode_names.end()) {
    reject("settings", "\"alpha_mode\"", "random, uniform, neg_uniform or none", text);
  }
  return static_cast<AlphaMode>(found - alpha_mode_names.begin());
}

}  // namespace detail

/// Options as texts; doubles with as many digits as read back to the same bits.
inline Settings to_settings(const CellOptions& o) {
  using detail::number_text;
  const auto text = [](bool value) { return std::string(value ? "true" : "false"); };
  return {{"inputs", number_text(o.inputs)},
          {"hidden", number_text(o.hidden)},
          {"outputs", number_text(o.outputs)},
          {"extra", number_text(o.extra)},
          {"modulation", text(o.modulation)},
          {"eta0", number_text(o.eta0)},
          {"decay0", number_text(o.decay0)},
          {"max_norm", number_text(o.max_norm)},
          {"weight_clip", number_text(o.weight_clip)},
          {"layer_norm", text(o.layer_norm)},
          {"alpha_mode", std::string(alpha_mode_names[static_cast<std::size_t>(o.alpha_mode)])},
          {"random_network", text(o.random_network)},
          {"inner_scale", number_text(o.inner_scale)},
          {"seed", number_text(o.seed)}};
}

/// The reverse. `random_network` may be missing and is then false; unknown names are passed over.
/// Throws std::invalid_argument naming a setting that is missing, unreadable or out of its range.
inline CellOptions from_settings(const Settings& settings) {
  using namespace detail;
  CellOptions o;
  o.inputs = number_setting<Index>(settings, "inputs");
  o.hidden = number_setting<Index>(settings, "hidden");
  o.outputs = number_setting<Index>(settings, "outputs");
  o.extra = number_setting<Index>(settings, "extra");
  o.modulation = bool_setting(settings, "modulation");
  o.eta0 = number_setting<double>(settings, "eta0");
  o.decay0 = number_setting<double>(settings, "decay0");
  o.max_norm = number_setting<double>(settings, "max_norm");
  o.weight_clip = number_setting<double>(settings, "weight_clip");
  o.layer_norm = bool_setting(settings, "layer_norm");
  o.alpha_mode = alpha_mode_from(setting(settings, "alpha_mode"));
  o.random_network =
      settings.contains("random_network") && bool_setting(settings, "random_network");
  o.inner_scale = number_setting<double>(settings, "inner_scale");
  o.seed = number_setting<std::uint64_t>(settings, "seed");
  o.validate();
  return o;
}

}  // namespace plastic
