#pragma once

#include <array>
#include <concepts>
#include <span>
#include <type_traits>

#include "plastic/cells/options.hpp"

namespace plastic {

/// Shape of the coefficients A of a fast matrix: one per synapse, one per neuron after the synapse,
/// or one for all.
enum class AlphaShape { full, neuron, single };

/// How a modulator is squashed.
enum class Squash { tanh, sigmoid, none };

/// @{
/// Names of an enumeration's values in settings and files, in their order.
inline std::span<const std::string_view> setting_names(AlphaShape) {
  static constexpr std::array<std::string_view, 3> names = {"full", "neuron", "single"};
  return names;
}
inline std::span<const std::string_view> setting_names(Squash) {
  static constexpr std::array<std::string_view, 3> names = {"tanh", "sigmoid", "none"};
  return names;
}
/// @}

namespace detail {

template <class Value>
std::string setting_text(const Value& value) {
  if constexpr (std::is_enum_v<Value>) {
    return std::string(setting_names(value)[static_cast<std::size_t>(value)]);
  } else if constexpr (std::is_same_v<Value, bool>) {
    return bool_text(value);
  } else {
    return number_text(value);
  }
}

template <class Value>
void read_setting(const Settings& settings, const std::string& name, Value& value) {
  if constexpr (std::is_enum_v<Value>) {
    const std::span<const std::string_view> names = setting_names(Value{});
    const std::string& text = setting(settings, name);
    const auto found = std::find(names.begin(), names.end(), text);
    if (found == names.end()) {
      std::string expected = "one of";
      for (const std::string_view known : names) expected.append(" ").append(known);
      reject("settings", "\"" + name + "\"", expected, "\"" + text + "\"");
    }
    value = static_cast<Value>(found - names.begin());
  } else if constexpr (std::is_same_v<Value, bool>) {
    value = bool_setting(settings, name);
  } else {
    value = number_setting<Value>(settings, name);
  }
}

/// Settings of a model, whose `visit` names them.
template <class Options>
concept ModelOptions = requires(Options& options) {
  Options::visit(options, [](const char*, auto&) {});
};

/// Calls f(name, member) for the settings that all models have.
template <class Options, class F>
void visit_common(Options& o, F&& f) {
  f("inputs", o.inputs);
  f("hidden", o.hidden);
  f("outputs", o.outputs);
  f("seed", o.seed);
  f("snapshot_interval", o.snapshot_interval);
}

/// Checks them.
template <class Options>
void check_common(std::string_view here, const Options& o) {
  const auto check = [&](std::string_view name, Index size, Index least) {
    constexpr int bits = sizeof(Index) > 4 ? 24 : 13;
    check_between(here, name, size, least, Index{1} << bits);
  };
  check("inputs", o.inputs, 1);
  check("hidden", o.hidden, 1);
  check("outputs", o.outputs, 1);
  check("snapshot_interval", o.snapshot_interval, 0);
}

/// Checks that an enumeration has one of its values.
template <class Enumeration>
void check_enumeration(std::string_view here, std::string_view name, Enumeration value) {
  const auto number = static_cast<std::size_t>(value);
  if (number >= setting_names(value).size()) {
    reject(here, name, "one of its " + std::to_string(setting_names(value).size()) + " values",
           number);
  }
}

/// Whether a file may lack a setting, which then has its default.
template <class Options>
bool may_be_missing(std::string_view name) {
  if (name == "seed") return true;
  if constexpr (requires { Options::optional; }) {
    return std::find(Options::optional.begin(), Options::optional.end(), name) !=
           Options::optional.end();
  } else {
    return false;
  }
}

/// Settings from a file's texts, for cells of any kind. The seed and those that the options call
/// `optional` may be missing.
template <class Options>
Options options_from(const Settings& settings) {
  if constexpr (ModelOptions<Options>) {
    Options options;
    Options::visit(options, [&](const char* name, auto& value) {
      if (std::string_view(name) == "snapshot_interval") return;
      if (may_be_missing<Options>(name) && !settings.contains(name)) return;
      read_setting(settings, name, value);
    });
    options.validate();
    return options;
  } else {
    return from_settings(settings);
  }
}

}  // namespace detail

/// A model's settings as texts; doubles with as many digits as read back to the same bits.
template <detail::ModelOptions Options>
Settings to_settings(const Options& options) {
  Settings settings;
  Options::visit(options, [&](const char* name, const auto& value) {
    if (std::string_view(name) != "snapshot_interval") settings[name] = detail::setting_text(value);
  });
  return settings;
}

}  // namespace plastic
