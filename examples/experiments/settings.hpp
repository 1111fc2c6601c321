#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "plastic/cells/options.hpp"
#include "plastic/core/settings.hpp"
#include "plastic/tasks/associative_retrieval.hpp"
#include "plastic/tasks/cue_reward.hpp"
#include "plastic/tasks/few_shot_regression.hpp"
#include "plastic/tasks/key_value_retrieval.hpp"
#include "plastic/tasks/pattern_completion.hpp"
#include "plastic/tasks/sequence_reproduction.hpp"
#include "plastic/tasks/task_mix.hpp"

namespace experiments {

using plastic::Index;
using Task = plastic::TaskMix<plastic::CueReward, plastic::SequenceReproduction,
                              plastic::FewShotRegression, plastic::PatternCompletion,
                              plastic::KeyValueRetrieval, plastic::AssociativeRetrieval>;

/// All that determines one training run. The defaults are the paper's.
struct RunSettings {
  /// cue_reward, sequence_reproduction, linear_regression, mlp_regression, pattern_completion,
  /// key_value or associative_retrieval; or several with their weights, "cue_reward + 2
  /// sequence_reproduction"; or, alone, one_shot_images, maze or target_discovery.
  std::string task = "cue_reward";
  double noise = 0.1;  ///< cue-reward: on the cues
  Index length = 20;   ///< sequence reproduction
  Index delay = 20;    ///< sequence reproduction
  Index support = 20;  ///< regression: k
  Index bits = 1000;   ///< pattern completion
  Index keys = 20;     ///< key-value retrieval: S
  Index pairs = 4;     ///< associative retrieval

  // Settings of one_shot_images.
  std::string data = "glyphs";       ///< as of plastic::load_image_data
  std::string test_data = {};        ///< likewise: a second test, on its test split
  std::string encoder = "conv4";     ///< conv4, resnet12, r2d2, or the file of one
  std::string pretraining = "none";  ///< classification, contrast
  Index pretraining_batches = 1000;
  bool joint = true;                  ///< the encoder is trained together with the cell
  std::string augmentation = "none";  ///< paper
  Index way = 5;
  Index shot = 1;
  double smoothing = 0;

  // Settings of maze and target_discovery, where the network acts.
  Index size = 9;  ///< maze: cells on a side
  double gamma = 0.9;
  double value_coefficient = 0.1;
  double concentration = 0.03;
  double epsilon = 1e-4;  ///< of Adam
  Index still = 101;      ///< first batches, which leave the weights as they are

  std::string cell = "rnn";
  std::string rule = "gradient";
  /// Settings of a network whose rule is not gradient, hebbian or none, "form=clip clip=1", in the
  /// place of all those from `extra` to `inner_scale`; the others have their defaults.
  std::string options = {};
  Index hidden = 128;
  Index extra = 4;
  bool modulation = true;
  double eta0 = 0.1;  ///< also lambda0, the decay
  double max_norm = 1;
  double weight_clip = 0;
  std::string alpha_mode = "random";
  bool random_network = false;
  double inner_scale = 1.0 / 64;

  Index batch = 64;
  double learning_rate = 1e-3;
  double clip_norm = 5;
  Index batches = 5000;
  Index validate_every = 200;
  std::uint64_t seed = 0;

  bool has_task(std::string_view name) const { return task.find(name) != std::string::npos; }
  bool acts() const { return task == "maze" || task == "target_discovery"; }
};

/// Whether a rule's networks have settings of their own: all but gradient, hebbian and none.
bool has_own_options(std::string_view rule);

/// Calls f(name, member) for every setting that matters to the run's task, in the order of files.
template <class S, class F>
void for_each_setting(S& s, F&& f) {
  f("task", s.task);
  if (s.has_task("cue_reward")) f("noise", s.noise);
  if (s.has_task("sequence_reproduction")) {
    f("length", s.length);
    f("delay", s.delay);
  }
  if (s.has_task("regression")) f("support", s.support);
  if (s.has_task("pattern_completion")) f("bits", s.bits);
  if (s.has_task("key_value")) f("keys", s.keys);
  if (s.has_task("associative_retrieval")) f("pairs", s.pairs);
  if (s.has_task("one_shot_images")) {
    f("data", s.data);
    if (!s.test_data.empty()) f("test_data", s.test_data);
    f("encoder", s.encoder);
    f("pretraining", s.pretraining);
    if (s.pretraining != "none") f("pretraining_batches", s.pretraining_batches);
    f("joint", s.joint);
    f("augmentation", s.augmentation);
    f("way", s.way);
    f("shot", s.shot);
    f("smoothing", s.smoothing);
  }
  if (s.task == "maze") f("size", s.size);
  if (s.acts()) {
    f("gamma", s.gamma);
    f("value_coefficient", s.value_coefficient);
    f("concentration", s.concentration);
    f("epsilon", s.epsilon);
    f("still", s.still);
  }
  f("cell", s.cell);
  f("rule", s.rule);
  f("hidden", s.hidden);
  if (has_own_options(s.rule)) {
    f("options", s.options);
  } else {
    f("extra", s.extra);
    f("modulation", s.modulation);
    f("eta0", s.eta0);
    f("max_norm", s.max_norm);
    f("weight_clip", s.weight_clip);
    f("alpha_mode", s.alpha_mode);
    f("random_network", s.random_network);
    f("inner_scale", s.inner_scale);
  }
  f("batch", s.batch);
  f("learning_rate", s.learning_rate);
  f("clip_norm", s.clip_norm);
  f("batches", s.batches);
  f("validate_every", s.validate_every);
  f("seed", s.seed);
}

nlohmann::ordered_json to_json(const RunSettings& settings);

/// One setting as a text: on, off, a number, a name.
std::string text_of(const nlohmann::ordered_json& value);

/// TASK-CELL-RULE-seedN-HASH, the name of the run's folder: a changed setting is another folder.
std::string folder_name(const RunSettings& settings);

/// Throws std::invalid_argument if a task has no such name or options.
Task make_task(const RunSettings& settings);

/// Throws std::invalid_argument on a bad alpha_mode.
plastic::CellOptions make_cell_options(const RunSettings& settings, Index inputs, Index outputs);

/// Changes `all`, the settings of a network, as `settings.options` says. Throws
/// std::invalid_argument if one of them is not in `all`.
void apply_options(const RunSettings& settings, plastic::Settings& all);

}  // namespace experiments
