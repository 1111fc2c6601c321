#pragma once

#include <array>
#include <charconv>
#include <map>
#include <stdexcept>
#include <string>
#include <system_error>

#include "plastic/core/check.hpp"

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

/// Adds settings under names that begin with `prefix`.
inline void add_settings(Settings& all, const std::string& prefix, const Settings& more) {
  for (const auto& [name, value] : more) all[prefix + name] = value;
}

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

inline std::string bool_text(bool value) { return value ? "true" : "false"; }

}  // namespace detail
}  // namespace plastic
