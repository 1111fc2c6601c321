#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "plastic/core/settings.hpp"

namespace plastic {

/// How the coefficients A of the fast weights start: uniform in [-1, 1], all 1, all -1 (learned in
/// each case), or fixed at 1.
enum class AlphaMode { random, uniform, neg_uniform, none };

/// The modes' names in settings and files, in the order of AlphaMode.
inline constexpr std::array<std::string_view, 4> alpha_mode_names = {"random", "uniform",
                                                                     "neg_uniform", "none"};

/// Settings of a plastic cell; the defaults are the paper's. Sizes are at most 2^24, or
/// 2^13 where an Index has 32 bits; real numbers are in [0, 1e15], max_norm at least 1e-15.
struct CellOptions {
  Index inputs = 1;         ///< number of inputs
  Index hidden = 128;       ///< units of the hidden state
  Index outputs = 1;        ///< number of outputs of a prediction
  Index extra = 4;          ///< further outputs, seen only by the inner loss and the rule
  bool modulation = true;   ///< one more output sets eta and lambda: m = 2 sigmoid(o[last])
  double eta0 = 0.1;        ///< learning rate of the fast weights at m = 1
  double decay0 = 0.1;      ///< decay lambda of the fast weights per step at m = 1
  double max_norm = 1;      ///< bound on the norm of all layers' proposed changes together
  double weight_clip = 0;   ///< bound on each fast weight, at least 1e-30; 0 is off
  bool layer_norm = false;  ///< whether the hidden state is layer-normalised
  AlphaMode alpha_mode = AlphaMode::random;  ///< how A starts
  bool random_network = false;    ///< whether slow weights and biases keep their initial values
  double inner_scale = 1.0 / 64;  ///< s of the gradient rule's loss, per sample
  std::uint64_t seed = 0;         ///< seed of the initial slow weights

  /// Steps between the copies of the fast weights from which backward restarts; 0 chooses. It
  /// affects memory, speed and rounding only; files do not hold it.
  Index snapshot_interval = 0;

  /// Rows of the output layer: outputs + extra + (1 if modulated).
  Index all_outputs() const { return outputs + extra + (modulation ? 1 : 0); }

  /// Throws std::invalid_argument on the first setting out of its range.
  void validate() const {
    constexpr std::string_view here = "CellOptions";
    constexpr double huge = 1e15;
    check_size("inputs", inputs, 1);
    check_size("hidden", hidden, 1);
    check_size("outputs", outputs, 1);
    check_size("extra", extra, 0);
    detail::check_range(here, "eta0", eta0, 0, huge);
    detail::check_range(here, "decay0", decay0, 0, huge);
    detail::check_range(here, "max_norm", max_norm, 1e-15, huge);
    if (weight_clip != 0)
      detail::check_range(here, "weight_clip, if not 0,", weight_clip, 1e-30, huge);
    detail::check_range(here, "inner_scale", inner_scale, 0, huge);
    check_size("snapshot_interval", snapshot_interval, 0);
    const auto mode = static_cast<std::size_t>(alpha_mode);
    if (mode >= alpha_mode_names.size()) {
      detail::reject(here, "alpha_mode", "a value of AlphaMode", mode);
    }
  }

  /// Throws std::invalid_argument naming `name` unless the size is in least .. 2^24, or 2^13 where
  /// an Index has 32 bits. The bound keeps every product of sizes inside an Index.
  static void check_size(std::string_view name, Index size, Index least) {
    constexpr int bits = sizeof(Index) > 4 ? 24 : 13;
    detail::check_between("CellOptions", name, size, least, Index{1} << bits);
  }
};

namespace detail {

inline AlphaMode alpha_mode_from(std::string_view text) {
  const auto found = std::find(alpha_mode_names.begin(), alpha_mode_names.end(), text);
  if (found == alpha_mode_names.end()) {
    reject("settings", "\"alpha_mode\"", "random, uniform, neg_uniform or none", text);
  }
  return static_cast<AlphaMode>(found - alpha_mode_names.begin());
}

}  // namespace detail

/// Options as texts; a double gets as many digits as it takes to read the same bits back.
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

/// The inverse of `to_settings`. `random_network` may be missing and is then false; unknown names
/// are passed over. Throws std::invalid_argument naming a setting that is missing, unreadable or
/// out of its range.
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

/// Everything that defines a cell except its parameters: its settings, "cell" and "rule".
template <class Cell>
Settings settings_of(const Cell& cell) {
  Settings settings = to_settings(cell.options());
  settings["cell"] = Cell::cell_name;
  settings["rule"] = Cell::rule_name;
  return settings;
}

/// The same with the settings that affect only the rounding of training: for checkpoints.
template <class Cell>
Settings training_settings_of(const Cell& cell) {
  Settings settings = settings_of(cell);
  settings["snapshot_interval"] = detail::number_text(cell.options().snapshot_interval);
  return settings;
}

}  // namespace plastic
