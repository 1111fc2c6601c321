#include "claims.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "figures.hpp"
#include "text_table.hpp"

namespace experiments {
namespace {

bool is_free(const Claim& claim, const std::string& setting) {
  if (setting == claim.setting || setting == "hidden") return true;
  return claim.kind == Claim::Kind::networks &&
         (setting == "cell" || setting == "options" || setting == "rule");
}

// Whether two variants differ in nothing but what the claim compares, and what follows from it.
bool are_peers(const Claim& claim, const Variant& a, const Variant& b) {
  for (const auto& [name, value] : a.settings.items()) {
    if (is_free(claim, name) || !b.settings.contains(name)) continue;
    if (b.settings.at(name) != value) return false;
  }
  return true;
}

std::string in_words(const Results& results, const Variant& variant) {
  const std::string panel = panel_title(results, variant);
  return results.title + (panel.empty() ? "" : ", " + panel) + ": ";
}

double mean_of(const std::vector<double>& values, long first, long last) {
  return std::accumulate(values.begin() + first, values.begin() + last, 0.0) /
         static_cast<double>(last - first);
}

}  // namespace

void Tally::compare(const std::vector<double>& better, const std::vector<double>& worse,
                    const std::string& words) {
  if (better.empty() || worse.empty()) {
    ++missing;
    return;
  }
  const Estimate apart = difference(better, worse);
  if (!std::isfinite(apart.half_width)) {
    ++single;
    single_agree += apart.mean < 0 ? 1 : 0;
  } else if (apart.mean + apart.half_width < 0) {
    ++agree;
  } else if (apart.mean - apart.half_width > 0) {
    ++reversed;
    exceptions.push_back(words);
  } else {
    ++open;
  }
}

std::string Tally::verdict() const {
  if (compared() == 0) return "not run yet";
  const std::string so_far = compared() < all() ? " so far" : "";
  if (agree == compared()) return "holds" + so_far;
  return (agree == 0 ? "does not hold here" : "holds partly") + so_far;
}

std::string Tally::counts() const {
  const auto text = [](int count) { return std::to_string(count); };
  return text(compared()) + " of " + text(all()) + " comparisons have intervals: " + text(agree) +
         " agree, " + text(reversed) + " the other way round, " + text(open) + " undecided. " +
         text(single) + " rest on one seed (" + text(single_agree) +
         " of them point the way of the claim), " + text(missing) + " have not been run";
}

EtaByPhase eta_by_phase(const Variant& variant) {
  EtaByPhase phases;
  const long shown = shown_steps(variant), query = first_query(variant);
  for (const RunResult& run : variant.runs) {
    if (run.eta.empty() || shown < 1) continue;
    const std::vector<double>& mean = run.eta.at("mean");
    const long steps = static_cast<long>(mean.size());
    if (query >= steps) continue;
    phases.shown.push_back(mean_of(mean, 0, shown));
    if (query > shown) phases.between.push_back(mean_of(mean, shown, query));
    phases.asked.push_back(mean_of(mean, query, steps));
  }
  return phases;
}

Tally tally(const Claim& claim, const std::vector<const Results*>& experiments) {
  Tally tally;
  std::set<std::string> counted;
  for (const Results* results : experiments) {
    for (const Variant& variant : results->variants) {
      if (claim.kind == Claim::Kind::eta_is_high) {
        if (variant.text("rule") == "none") continue;
        if (!counted.insert(variant.settings.dump()).second) continue;
        const EtaByPhase phases = eta_by_phase(variant);
        tally.compare(phases.asked, phases.shown,
                      in_words(*results, variant) + label_of("rule", variant.text("rule")));
        continue;
      }
      for (const auto& [better, worse] : claim.pairs) {
        const std::string value = variant.text(claim.setting);
        if (better == "*" ? value == worse : value != better) continue;
        for (const Variant& other : results->variants) {
          if (other.text(claim.setting) != worse || !are_peers(claim, variant, other)) continue;
          if (!counted.insert(variant.settings.dump() + other.settings.dump()).second) continue;
          const bool acts = variant.acts();
          const auto outcome = acts ? &RunResult::reward : &RunResult::query_loss;
          const auto a = variant.over_runs(outcome), b = other.over_runs(outcome);
          std::string words;
          if (!a.empty() && !b.empty()) {
            words = in_words(*results, variant) + label_of(claim.setting, value) + " " +
                    number(estimate(a).mean) + ", " + label_of(claim.setting, worse) + " " +
                    number(estimate(b).mean);
          }
          // A reward is to be high, an error low.
          tally.compare(acts ? b : a, acts ? a : b, words);
        }
      }
    }
  }
  return tally;
}

const std::vector<Claim>& paper_claims() {
  using Kind = Claim::Kind;
  static const std::vector<std::string> memory = {"cuereward_large", "seqreproduction_delay",
                                                  "seqreproduction_seqlength",
                                                  "seqreproduction_long_compare_delay"};
  static const std::vector<std::string> regression = {"regression", "regression_mlp"};
  static const std::vector<std::string> all = {"cuereward_large",
                                               "seqreproduction_delay",
                                               "seqreproduction_seqlength",
                                               "seqreproduction_long_compare_delay",
                                               "regression",
                                               "regression_mlp"};
  static const std::vector<Claim> claims = {
      {.title = "Both rules improve memory",
       .statement = "With either rule the network remembers better than a plain one: its error on "
                    "the queries is lower, in every cell, delay and length.",
       .experiments = memory,
       .kind = Kind::rules,
       .setting = "rule",
       .pairs = {{"gradient", "none"}, {"hebbian", "none"}},
       .figures = {"learning_curves", "error"},
       .note = "Without a delay the hidden state alone can do the work, so the plain network is "
               "expected to keep up there."},
      {.title = "Both rules learn from few examples",
       .statement = "With either rule the network learns a function from a few points better than "
                    "a plain one.",
       .experiments = regression,
       .kind = Kind::rules,
       .setting = "rule",
       .pairs = {{"gradient", "none"}, {"hebbian", "none"}},
       .figures = {"error"},
       .note = "One-shot images are not among these runs: see [other results](results/other.md)."},
      {.title = "Hebbian plasticity suits memory and association",
       .statement = "The Hebbian rule has a lower error than the gradient rule where something is "
                    "to be remembered.",
       .experiments = memory,
       .kind = Kind::rules,
       .setting = "rule",
       .pairs = {{"hebbian", "gradient"}},
       .note = "The figures and tables are those of the first claim."},
      {.title = "Gradient plasticity wins at regression",
       .statement = "The gradient rule has a lower error than the Hebbian rule where a function is "
                    "to be learned.",
       .experiments = regression,
       .kind = Kind::rules,
       .setting = "rule",
       .pairs = {{"gradient", "hebbian"}},
       .note = "The figures and tables are those of the second claim."},
      {.title = "eta is high when there is something to store",
       .statement = "The learning rate that the network sets itself is higher while it is shown "
                    "what it will need than while it is asked.",
       .experiments = all,
       .kind = Kind::eta_is_high,
       .figures = {"eta"}},
  };
  return claims;
}

const std::vector<Claim>& literature_claims() {
  using Kind = Claim::Kind;
  static const std::vector<std::pair<std::string, std::string>> any = {{"*", "none"}};
  static const std::vector<Claim> claims = {
      {.title = "Associative retrieval",
       .statement = "Fast weights that attend to the recent past name the digit that followed a "
                    "letter, where a plain network of as many units does not (Ba et al., 2016); "
                    "so do the other rules.",
       .experiments = {"associative_retrieval"},
       .kind = Kind::networks,
       .setting = "rule",
       .pairs = any,
       .figures = {"learning_curves", "error"}},
      {.title = "Cue-reward with all rules",
       .statement = "The network of every rule stores the rewards better than a plain one with "
                    "about as many learned numbers.",
       .experiments = {"rules_cue_reward"},
       .kind = Kind::networks,
       .setting = "rule",
       .pairs = any,
       .figures = {"error"}},
      {.title = "Sequence reproduction with all rules",
       .statement = "The network of every rule remembers a sequence over a delay better than a "
                    "plain one.",
       .experiments = {"rules_sequence"},
       .kind = Kind::networks,
       .setting = "rule",
       .pairs = any,
       .figures = {"error"}},
      {.title = "Few-shot regression with all rules",
       .statement = "The network of every rule learns a linear function from a few points better "
                    "than a plain one.",
       .experiments = {"rules_regression"},
       .kind = Kind::networks,
       .setting = "rule",
       .pairs = any,
       .figures = {"error"}},
      {.title = "Key-value retrieval",
       .statement = "A write that corrects what its key holds (the delta rule) lets the fast "
                    "weights hold more keys than one that only adds (Schlag et al., 2021).",
       .experiments = {"key_value"},
       .kind = Kind::rules,
       .setting = "options",
       .pairs = {{"feature=dpfp nu=1", "feature=dpfp nu=1 correct=false"}},
       .figures = {"error"}},
      {.title = "Pattern completion",
       .statement = "A network with plastic weights completes patterns of many bits that it has "
                    "seen a few times (Miconi et al., 2018). There is one network, so nothing is "
                    "compared, and there is no verdict.",
       .experiments = {"pattern_completion"},
       .kind = Kind::networks,
       .setting = "rule",
       .figures = {"learning_curves"}},
      {.title = "Modulated plasticity beats unmodulated plasticity in the maze",
       .statement = "A network that sets the rate of its own changes collects more reward than one "
                    "whose rate is learned once (Miconi et al., 2019).",
       .experiments = {"maze"},
       .kind = Kind::networks,
       .setting = "rule",
       .pairs = {{"modulated", "trace"}, {"retroactive", "trace"}},
       .figures = {"learning_curves"}},
      {.title = "Plastic networks beat a plain one in the maze",
       .statement = "The network of every rule collects more reward than a plain one with about as "
                    "many learned numbers (Miconi et al., 2019).",
       .experiments = {"maze"},
       .kind = Kind::networks,
       .setting = "rule",
       .pairs = any,
       .note = "The figure and the table are those of the claim before."},
      {.title = "Target discovery is learned by modulated networks alone",
       .statement =
           "Networks that set the rate of their own changes find out which of four cues is "
           "the target, and others do not (Miconi et al., 2019).",
       .experiments = {"target_discovery"},
       .kind = Kind::networks,
       .setting = "rule",
       .pairs = {{"modulated", "trace"},
                 {"modulated", "none"},
                 {"retroactive", "trace"},
                 {"retroactive", "none"}},
       .figures = {"learning_curves"}},
  };
  return claims;
}

}  // namespace experiments
