#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#ifdef __GLIBC__
#include <malloc.h>
#endif

/// What all benchmark programs share: the cases, their names, and their data.
namespace bench {

enum class Rule { gradient, hebbian, none };

inline std::string name_of(Rule rule) {
  return rule == Rule::gradient ? "gradient" : rule == Rule::hebbian ? "hebbian" : "none";
}

/// One network at one size. The layers' shapes are those of the cue-reward experiments.
struct Case {
  bool lstm = false;
  Rule rule = Rule::gradient;
  int hidden = 128;
  int batch = 64;
  int steps = 20;
  int threads = 1;

  static constexpr int inputs = 16;
  static constexpr int outputs = 1;
  static constexpr int extra = 4;

  std::string cell() const { return lstm ? "lstm" : "rnn"; }

  /// KIND/CELL/RULE/hidden:H/batch:B/steps:T/threads:N
  std::string name(const std::string& kind) const {
    return kind + "/" + cell() + "/" + name_of(rule) + "/hidden:" + std::to_string(hidden) +
           "/batch:" + std::to_string(batch) + "/steps:" + std::to_string(steps) +
           "/threads:" + std::to_string(threads);
  }
};

/// Shape of one layer: in_fc, h_fc, i_fc, out_fc.
struct LayerSize {
  std::size_t inputs, outputs;
  std::size_t weights() const { return inputs * outputs; }
};

inline std::vector<LayerSize> layer_sizes(bool lstm, std::size_t inputs, std::size_t hidden,
                                          std::size_t all_outputs) {
  const std::size_t gates = lstm ? 4 : 1;
  return {
      {inputs, hidden}, {hidden, gates * hidden}, {hidden, gates * hidden}, {hidden, all_outputs}};
}

/// Episodes of cue-reward association, always the same: inputs [batch][steps][inputs], targets
/// [batch][steps][outputs]. Each sample has five cues, and a reward for each. A step shows a noisy
/// cue, in the first half of the steps with its reward; the target is that reward.
struct Data {
  std::vector<float> inputs, targets;

  explicit Data(const Case& c) {
    constexpr std::size_t cues = 5, features = Case::inputs - 2;
    std::mt19937 random(1);
    const auto draw = [&] {
      return static_cast<float>(static_cast<double>(random()) / 4294967296.0);
    };
    for (int sample = 0; sample < c.batch; ++sample) {
      std::vector<float> cue(cues * features), reward(cues);
      for (float& x : cue) x = draw();
      for (float& x : reward) x = 2 * draw() - 1;
      for (int t = 0; t < c.steps; ++t) {
        const bool recall = 2 * t >= c.steps;
        const std::size_t shown = random() % cues;
        for (std::size_t i = 0; i < features; ++i) {
          inputs.push_back(cue[shown * features + i] + 0.2f * draw() - 0.1f);
        }
        inputs.push_back(recall ? 0.f : reward[shown]);
        inputs.push_back(recall ? 1.f : 0.f);
        targets.push_back(reward[shown]);
      }
    }
  }
};

/// The size at which a case is verified: its own, but at most 60 steps, as rounding grows with
/// them, and fewer samples, then steps, where the naive loops would take more than some seconds.
inline Case verified_size(Case c) {
  constexpr double budget = 2e8;
  double weights = 0;
  for (const LayerSize& layer :
       layer_sizes(c.lstm, Case::inputs, static_cast<std::size_t>(c.hidden), 6)) {
    weights += static_cast<double>(layer.weights());
  }
  c.steps = std::min(c.steps, 60);
  while (c.batch > 2 && weights * c.steps * c.batch > budget) c.batch = (c.batch + 1) / 2;
  while (c.steps > 10 && weights * c.steps * c.batch > budget) c.steps = (c.steps + 1) / 2;
  return c;
}

/// Floating-point operations of all samples and steps that the rule's formulas ask for, counted
/// per weight, and the bytes of weights that must pass through the core if each pass of a step
/// reads and writes every matrix once. Most of these bytes come from the caches.
struct Work {
  double flops = 0, bytes = 0;
};

inline Work work_of(const Case& c, bool backward) {
  const double columns = static_cast<double>(c.batch) * c.steps;
  const auto layers = layer_sizes(c.lstm, Case::inputs, static_cast<std::size_t>(c.hidden), 6);
  Work work;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const double weights = static_cast<double>(layers[l].weights()) * columns;
    if (c.rule == Rule::none) {
      work.flops += weights * (backward ? 6 : 2);
      continue;
    }
    // w' = rho w + A (eta p) q is 4 operations, y = x (W + w) is 3; read w, A, W, write w.
    work.flops += 7 * weights;
    work.bytes += 4 * 4 * weights;
    // <w, G> 2, A G 1, p and q 2 each, dA 3, dx 3, G 3, dW 2; read w, A, W, G, dA, write G, dA.
    if (backward) {
      work.flops += 18 * weights;
      work.bytes += 7 * 4 * weights;
    }
    // The inner gradient multiplies by i_fc and out_fc: product 3; backward product 3, G 2, dW 2.
    if (c.rule == Rule::gradient && l >= 2) {
      work.flops += (backward ? 10 : 3) * weights;
      work.bytes += (backward ? 4 : 2) * 4 * weights;
    }
  }
  return work;
}

/// Largest resident memory of this process since `reset_peak_memory`, in MiB: of one benchmark only
/// where each has a process of its own. 0 where the system does not tell.
inline double peak_memory() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    double kibibytes = 0;
    if (word == "VmHWM:" && status >> kibibytes) return kibibytes / 1024;
  }
  return 0;
}

/// Forgets the memory that a verification took.
inline void reset_peak_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
  std::ofstream("/proc/self/clear_refs") << "5";
}

/// The cases of one kind of benchmark: a small default set, or the sweep over sizes.
inline std::vector<Case> cases(bool lstm, Rule rule, bool sweep, int all_threads) {
  std::vector<Case> list;
  const auto add = [&](int hidden, int batch, int steps, int threads) {
    for (const Case& c : list) {
      if (c.hidden == hidden && c.batch == batch && c.steps == steps && c.threads == threads) {
        return;
      }
    }
    list.push_back({lstm, rule, hidden, batch, steps, threads});
  };
  for (const int threads : {1, std::min(2, all_threads), all_threads}) {
    add(128, 64, 20, threads);
    if (!lstm) add(128, 64, 60, threads);
  }
  if (!sweep) return list;
  for (const int hidden : {64, 128, 256, 512, 1024}) add(hidden, 64, 20, all_threads);
  for (const int steps : {20, 60, 200, 600, 2000}) add(128, 64, steps, all_threads);
  for (const int batch : {1, 4, 16, 64, 128, 512}) add(128, batch, 20, all_threads);
  for (int threads = 1; threads < all_threads; threads *= 2) add(128, 64, 20, threads);
  return list;
}

}  // namespace bench
