#include "definitions.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <utility>

#include "plastic/core/check.hpp"

namespace experiments {
namespace {

// One setting that is varied: what each of its values does to a run.
using Axis = std::vector<std::function<void(RunSettings&)>>;

template <class T>
Axis vary(T RunSettings::*setting, const std::vector<T>& values) {
  Axis axis;
  for (const T& value : values) {
    axis.push_back([=](RunSettings& run) { run.*setting = value; });
  }
  return axis;
}

// Every combination; the last axis varies fastest.
std::vector<RunSettings> grid(const RunSettings& base, const std::vector<Axis>& axes) {
  std::vector<RunSettings> runs{base};
  for (const Axis& axis : axes) {
    std::vector<RunSettings> more;
    for (const RunSettings& run : runs) {
      for (const auto& change : axis) change(more.emplace_back(run));
    }
    runs = std::move(more);
  }
  return runs;
}

// A plain network is 1.5 times as wide, to make up for the weights that the others have in A.
std::vector<RunSettings> widened(std::vector<RunSettings> runs, Index rnn_factor) {
  for (RunSettings& run : runs) {
    if (run.cell == "rnn") run.hidden *= rnn_factor;
    if (run.rule == "none") run.hidden = run.hidden * 3 / 2;
  }
  return runs;
}

// The paper's size: an RNN has twice the units of an LSTM.
std::vector<RunSettings> paper(const RunSettings& base, const std::vector<Axis>& axes) {
  return widened(grid(base, axes), 2);
}

// A network of each rule, with the units that give it about as many learned numbers as the Hebbian
// rule's RNN with 128 has, 71,000 on cue-reward. A delta RNN would need 800, and six hours; it has
// 22,000.
struct RuleNetwork {
  const char* rule;
  const char* cell;
  Index hidden;
  const char* options;
};

constexpr std::array<RuleNetwork, 14> rule_networks = {{
    {"gradient", "rnn", 128, ""},
    {"hebbian", "rnn", 128, ""},
    {"none", "rnn", 180, ""},
    {"trace", "rnn", 184, "form=decay"},
    {"trace", "rnn", 184, "form=oja"},
    {"trace", "rnn", 184, "form=clip"},
    {"modulated", "rnn", 184, ""},
    {"modulated", "lstm", 112, ""},
    {"retroactive", "rnn", 184, ""},
    {"fast_weights", "rnn", 256, ""},
    {"delta", "recurrent_delta_net", 146, ""},
    {"delta", "delta_rnn", 256, ""},
    {"stpn", "rnn", 146, ""},
    {"abcd", "rnn", 108, "form=ABCD_lr normalise=max"},
}};

std::vector<RunSettings> with_all_rules(const RunSettings& base) {
  std::vector<RunSettings> runs;
  for (const RuleNetwork& network : rule_networks) {
    RunSettings& run = runs.emplace_back(base);
    run.rule = network.rule;
    run.cell = network.cell;
    run.hidden = network.hidden;
    run.options = network.options;
  }
  return runs;
}

// Networks that act, as published, and others of about as many learned numbers: 22,600 in the maze,
// 86,800 in target discovery.
std::vector<RunSettings> acting(const std::vector<RunSettings>& bases, Index usual, Index plain,
                                Index layered) {
  std::vector<RunSettings> runs;
  for (const RunSettings& base : bases) {
    for (const RuleNetwork& network : {RuleNetwork{"none", "rnn", plain, ""},
                                       {"trace", "rnn", usual, "form=clip clip=2"},
                                       {"modulated", "rnn", usual, ""},
                                       {"retroactive", "rnn", usual, ""},
                                       {"gradient", "rnn", layered, ""},
                                       {"hebbian", "rnn", layered, ""}}) {
      RunSettings& run = runs.emplace_back(base);
      run.rule = network.rule;
      run.cell = network.cell;
      run.hidden = network.hidden;
      run.options = network.options;
    }
  }
  return runs;
}

// Key-value retrieval by the networks of Schlag et al., ICML 2021: how many keys each can hold.
std::vector<RunSettings> key_value(const RunSettings& base) {
  std::vector<RunSettings> runs;
  for (const Index keys : {20, 40, 60, 80, 100}) {
    for (const char* options :
         {"feature=dpfp nu=1 correct=false", "feature=elu", "feature=dpfp nu=1"}) {
      RunSettings& run = runs.emplace_back(base);
      run.keys = keys;
      run.options = options;
    }
  }
  return runs;
}

// Associative retrieval by the network of Ba et al., NIPS 2016, and others of as many units.
std::vector<RunSettings> associative_retrieval(const RunSettings& base) {
  std::vector<RunSettings> runs;
  for (const auto& [rule, options] :
       std::vector<std::pair<const char*, const char*>>{{"fast_weights", "activation=tanh"},
                                                        {"fast_weights", "activation=relu"},
                                                        {"stpn", ""},
                                                        {"hebbian", ""},
                                                        {"none", ""}}) {
    RunSettings& run = runs.emplace_back(base);
    run.rule = rule;
    run.options = options;
  }
  return runs;
}

std::vector<Experiment> make_experiments() {
  using S = RunSettings;
  const Axis cells = vary(&S::cell, {"rnn", "lstm"});
  const Axis rules = vary(&S::rule, {"gradient", "hebbian", "none"});
  const Axis plastic_rules = vary(&S::rule, {"gradient", "hebbian"});
  const Axis modulation = vary(&S::modulation, {true, false});
  const Axis alpha_modes = vary(&S::alpha_mode, {"none", "uniform", "neg_uniform", "random"});
  const Axis learned_alpha_modes = vary(&S::alpha_mode, {"uniform", "neg_uniform", "random"});
  const Axis random_network = vary(&S::random_network, {false, true});
  const Axis supports = vary(&S::support, {Index{10}, Index{20}});

  const S cue{.task = "cue_reward"};
  const S long_cue{.task = "cue_reward", .batches = 20000};
  const S noisy_cue{.task = "cue_reward", .noise = 0.5};
  const S random_cue{.task = "cue_reward", .random_network = true};
  const S sequence{.task = "sequence_reproduction", .batches = 10000};
  const S short_sequence{.task = "sequence_reproduction", .length = 5};
  const S immediate{.task = "sequence_reproduction", .delay = 0};
  const S delayed{.task = "sequence_reproduction", .delay = 40};
  const S delayed_long{.task = "sequence_reproduction", .delay = 40, .batches = 10000};
  const S delayed_short{.task = "sequence_reproduction", .length = 5, .delay = 40};
  const S hebbian_sequence{.task = "sequence_reproduction", .rule = "hebbian"};
  const S linear{.task = "linear_regression", .batches = 10000};
  const S mlp{.task = "mlp_regression", .batches = 10000};
  const S images{.task = "one_shot_images",
                 .augmentation = "paper",
                 .hidden = 256,
                 .batches = 40000,
                 .validate_every = 1000};

  const S maze{.task = "maze",
               .batch = 30,
               .learning_rate = 1e-4,
               .clip_norm = 4,
               .batches = 200'000,
               .validate_every = 500};
  S large_maze = maze;
  large_maze.size = 11;
  const S target_discovery{.task = "target_discovery",
                           .concentration = 0.1,
                           .epsilon = 1e-6,
                           .batch = 30,
                           .learning_rate = 1e-4,
                           .clip_norm = 2,
                           .batches = 200'000,
                           .validate_every = 500};

  return {
      {"cuereward_demo", "Cue-reward, RNN", widened(grid(cue, {rules}), 1)},
      {"cuereward_large", "Cue-reward", paper(long_cue, {cells, rules})},
      {"cuereward_lr", "Cue-reward: learning rate of the slow weights",
       paper(cue, {vary(&S::learning_rate, {0.01, 0.0003}), cells, rules})},
      {"cuereward_plr", "Cue-reward: learning rate and decay of the fast weights",
       paper(cue, {vary(&S::eta0, {0.0, 0.025, 0.05, 0.1, 0.2}), cells, plastic_rules})},
      {"cuereward_extradim", "Cue-reward: further outputs",
       paper(cue,
             {vary(&S::extra, {Index{0}, Index{4}, Index{8}, Index{16}}), cells, plastic_rules})},
      {"cuereward_modulation", "Cue-reward: modulation",
       paper(cue, {modulation, cells, plastic_rules})},
      {"cuereward_inner_lr_mode", "Cue-reward: initial coefficients A",
       grid(cue, {alpha_modes, random_network, cells, plastic_rules})},
      {"cuereward_random_network", "Cue-reward: fixed random slow weights",
       paper(random_cue, {learned_alpha_modes, cells, plastic_rules})},
      {"cuereward_noisy", "Cue-reward: noise of 0.5 on the cues", paper(noisy_cue, {cells, rules})},
      {"seqreproduction_long_compare_delay", "Sequence reproduction: delay, 20 values",
       paper(sequence, {vary(&S::delay, {Index{0}, Index{20}, Index{40}}), cells, rules})},
      {"seqreproduction_delay", "Sequence reproduction: delay, 5 values",
       paper(short_sequence,
             {vary(&S::delay, {Index{0}, Index{10}, Index{20}, Index{40}, Index{60}}), cells,
              rules})},
      {"seqreproduction_seqlength", "Sequence reproduction: length, no delay",
       paper(immediate, {vary(&S::length, {Index{5}, Index{10}, Index{20}, Index{30}, Index{40}}),
                         cells, rules})},
      {"seqreproduction_modulation", "Sequence reproduction, delay 40: modulation",
       paper(delayed, {modulation, cells, plastic_rules})},
      {"seqreproduction_norm", "Sequence reproduction, 5 values, delay 40: norm clip",
       paper(delayed_short, {vary(&S::max_norm, {1.0, 100.0}), plastic_rules})},
      {"seqreproduction_weight_clip", "Sequence reproduction: bound on the fast weights",
       paper(hebbian_sequence, {vary(&S::weight_clip, {0.01, 0.1, 1.0})})},
      {"regression", "Few-shot linear regression", paper(linear, {supports, cells, rules})},
      {"regression_mlp", "Few-shot regression of a small network",
       paper(mlp, {supports, cells, rules})},
      {"regression_mlp_modulation", "Few-shot regression of a small network: modulation",
       paper(mlp, {modulation, cells, plastic_rules})},

      {"fsc", "One-shot image classification, Conv4", paper(images, {cells, rules})},
      {"fsc_resnet", "One-shot image classification, ResNet-12",
       paper(images, {vary(&S::encoder, {"resnet12"}), cells, rules})},

      // The learning rate over an episode, of networks that experiments above have trained.
      {"cuereward_test", "Cue-reward: learning rate over an episode",
       widened(grid(cue, {plastic_rules}), 1)},
      {"seqreproduction_test", "Sequence reproduction, delay 40: learning rate over an episode",
       paper(delayed_long, {cells, plastic_rules})},
      {"regression_mlp_test", "Few-shot regression: learning rate over an episode",
       paper(mlp, {cells, plastic_rules})},

      // Not in the paper, or of other papers.
      {"inner_scale", "Scale of the gradient rule's own loss",
       paper({.rule = "gradient"}, {vary(&S::task, {"cue_reward", "sequence_reproduction",
                                                    "linear_regression", "mlp_regression"}),
                                    vary(&S::inner_scale, {1.0 / 64, 1.0 / 8, 1.0}), cells})},
      {"rules_cue_reward", "Cue-reward: all rules", with_all_rules(cue)},
      {"rules_sequence", "Sequence reproduction, 5 values, delay 20: all rules",
       with_all_rules(S{.task = "sequence_reproduction", .length = 5, .batches = 10000})},
      {"rules_regression", "Few-shot linear regression: all rules", with_all_rules(linear)},
      {"pattern_completion",
       "Completion of patterns of 1000 bits",
       {S{.task = "pattern_completion",
          .cell = "clamp",
          .rule = "trace",
          .options = "alpha=full eta=0.01 readout=false",
          .hidden = 1001,
          .batch = 1,
          .learning_rate = 3e-4,
          .batches = 2000,
          .validate_every = 100}}},
      {"key_value", "Key-value retrieval",
       key_value(S{.task = "key_value",
                   .cell = "delta_net",
                   .rule = "delta",
                   .hidden = 64,
                   .batch = 32,
                   .batches = 20000,
                   .validate_every = 500})},
      {"associative_retrieval", "Associative retrieval, 50 units",
       associative_retrieval(S{.task = "associative_retrieval",
                               .hidden = 50,
                               .batch = 128,
                               .learning_rate = 3e-3,
                               .batches = 20000,
                               .validate_every = 500})},
      {"maze", "A maze with a hidden reward", acting({maze, large_maze}, 100, 99, 68), 100},
      {"target_discovery", "Which cue is the target", acting({target_discovery}, 200, 199, 138),
       200},
      {"mixed_tasks", "Cue-reward and sequence reproduction in one network",
       paper({.task = "cue_reward + sequence_reproduction"}, {cells, rules})},
  };
}

}  // namespace

const std::vector<Experiment>& all_experiments() {
  static const std::vector<Experiment> experiments = make_experiments();
  return experiments;
}

RunSettings scaled(const Experiment& experiment, RunSettings variant, Index hidden, Index batches) {
  if (hidden > 0) {
    variant.hidden = std::max<Index>(1, variant.hidden * hidden / experiment.hidden);
  }
  if (batches > 0) variant.batches = batches;
  return variant;
}

const Experiment& find_experiment(std::string_view name) {
  for (const Experiment& experiment : all_experiments()) {
    if (experiment.name == name) return experiment;
  }
  throw std::invalid_argument("there is no experiment " + std::string(name) +
                              "; `experiments list` names them");
}

}  // namespace experiments
