#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "plastic/cells/options.hpp"
#include "plastic/core/settings.hpp"

namespace plastic {

namespace detail {

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
  using detail::bool_text, detail::number_text;
  return {{"inputs", number_text(o.inputs)},
          {"hidden", number_text(o.hidden)},
          {"outputs", number_text(o.outputs)},
          {"extra", number_text(o.extra)},
          {"modulation", bool_text(o.modulation)},
          {"eta0", number_text(o.eta0)},
          {"decay0", number_text(o.decay0)},
          {"max_norm", number_text(o.max_norm)},
          {"weight_clip", number_text(o.weight_clip)},
          {"layer_norm", bool_text(o.layer_norm)},
          {"alpha_mode", std::string(alpha_mode_names[static_cast<std::size_t>(o.alpha_mode)])},
          {"random_network", bool_text(o.random_network)},
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

/// All that makes a cell what it is but its parameters: its settings, "cell" and "rule".
template <class Cell>
Settings settings_of(const Cell& cell) {
  Settings settings = to_settings(cell.options());
  settings["cell"] = Cell::cell_name;
  settings["rule"] = Cell::rule_name;
  return settings;
}

/// The same with what changes the bits of training and no result: for checkpoints.
template <class Cell>
Settings training_settings_of(const Cell& cell) {
  Settings settings = settings_of(cell);
  settings["snapshot_interval"] = detail::number_text(cell.options().snapshot_interval);
  return settings;
}

}  // namespace plastic
