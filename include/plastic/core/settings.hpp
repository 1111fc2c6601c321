#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <ios>
#include <limits>
#include <locale>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>

#include "plastic/core/check.hpp"

namespace plastic {

/// Settings as strings: the `__metadata__` of a model file.
using Settings = std::map<std::string, std::string>;

/// The setting called `name`. Throws std::invalid_argument if there is none.
inline const std::string& setting(const Settings& settings, const std::string& name) {
  const auto found = settings.find(name);
  if (found == settings.end()) {
    throw std::invalid_argument("settings: \"" + name + "\" is missing from the metadata");
  }
  return found->second;
}

namespace detail {

/// Adds settings with `prefix` before their names.
inline void add_settings(Settings& all, const std::string& prefix, const Settings& more) {
  for (const auto& [name, value] : more) all[prefix + name] = value;
}

// Older versions of libc++ convert integers only. For floating-point numbers, streams in the C
// locale do the same.

/// Reads the whole of `text` with std::from_chars; returns false if it is not a number in range.
template <class Number>
bool read_by_stream(const std::string& text, Number& value) {
  using Limits = std::numeric_limits<Number>;
  const bool minus = text.starts_with('-');
  if (const std::string size = text.substr(minus ? 1 : 0); size == "inf" || size == "nan") {
    value = size == "inf" ? Limits::infinity() : Limits::quiet_NaN();
    if (minus) value = -value;
    return true;
  }
  if (text.starts_with('+')) return false;
  if (text.find_first_not_of("0123456789+-.eE") != std::string::npos) return false;
  std::istringstream in(text);
  in.imbue(std::locale::classic());
  in >> value;
  // Such a stream may also fail on a valid number that is subnormal.
  const bool subnormal = value != 0 && std::abs(value) < Limits::min();
  return (in || subnormal) && in.rdbuf()->in_avail() == 0;
}

/// The shortest text that reads as the same number: with an exponent if that is shorter.
template <class Number>
std::string shortest_text(Number value) {
  if (!std::isfinite(value)) {
    return (std::signbit(value) ? "-" : "") + std::string(std::isnan(value) ? "nan" : "inf");
  }
  const auto text = [value](std::ios::fmtflags format, int digits) {
    std::ostringstream out;
    out.imbue(std::locale::classic());
    out.setf(format, std::ios::floatfield);
    out.precision(digits);
    out << value;
    return out.str();
  };
  int digits = 0;
  std::string scientific;
  for (Number same{}; digits < std::numeric_limits<Number>::max_digits10; ++digits) {
    scientific = text(std::ios::scientific, digits);
    if (read_by_stream(scientific, same) && same == value) break;
  }
  const int exponent = std::stoi(scientific.substr(scientific.find('e') + 1));
  // Fixed notation of a number of that size would be longer, and very long.
  if (std::abs(exponent) > 25) return scientific;
  std::string fixed = text(std::ios::fixed, std::max(0, digits - exponent));
  return fixed.size() <= scientific.size() ? fixed : scientific;
}

template <class Number>
bool read_number(const std::string& text, Number& value) {
  const char* const end = text.data() + text.size();
  if constexpr (requires { std::from_chars(end, end, value); }) {
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    return error == std::errc() && stop == end;
  } else {
    return read_by_stream(text, value);
  }
}

template <class Number>
Number number_setting(const Settings& settings, const std::string& name) {
  const std::string& text = setting(settings, name);
  Number value{};
  if (!read_number(text, value)) {
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
  if constexpr (requires(char* text) { std::to_chars(text, text, value); }) {
    std::array<char, 64> text;
    const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), value);
    return {text.data(), end};
  } else {
    return shortest_text(value);
  }
}

inline std::string bool_text(bool value) { return value ? "true" : "false"; }

}  // namespace detail
}  // namespace plastic
