#include "docs_report.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <stdexcept>

#include "claims.hpp"
#include "definitions.hpp"
#include "figures.hpp"
#include "plastic/core/atomic_file.hpp"
#include "report.hpp"
#include "run.hpp"
#include "text_table.hpp"

namespace experiments {
namespace {

namespace fs = std::filesystem;

// An experiment at the size at which the page shows it: one row of the table of runs.
struct Planned {
  const char* name;
  Index hidden, batches;  // 0: the experiment's own
  const char* cell;       // empty: all
  int seeds;
};

// Claims are judged by the first row of an experiment. The paper's widths are twice as large, and
// cue-reward has four times as many batches there.
constexpr Planned plan[] = {
    {"cuereward_large", 64, 5000, "", 4},
    {"seqreproduction_delay", 64, 0, "", 4},
    {"regression", 64, 0, "", 4},
    {"regression_mlp", 64, 0, "", 4},
    {"seqreproduction_seqlength", 64, 0, "", 4},
    {"seqreproduction_long_compare_delay", 64, 0, "", 4},
    {"cuereward_modulation", 64, 0, "", 4},
    {"regression_mlp_modulation", 64, 0, "", 4},
    {"cuereward_inner_lr_mode", 64, 0, "", 4},
    {"cuereward_plr", 64, 0, "", 4},
    {"cuereward_extradim", 64, 0, "", 4},
    {"inner_scale", 64, 0, "", 4},
    {"associative_retrieval", 0, 0, "", 3},
    {"rules_cue_reward", 0, 0, "", 3},
    {"rules_sequence", 0, 0, "", 3},
    {"rules_regression", 0, 0, "", 3},
    {"key_value", 0, 0, "", 3},
    {"pattern_completion", 0, 0, "", 3},
    {"maze", 0, 30000, "", 3},
    {"target_discovery", 0, 30000, "", 3},
    {"cuereward_large", 0, 5000, "rnn", 1},
    {"seqreproduction_delay", 0, 0, "rnn", 1},
    {"regression_mlp", 0, 0, "rnn", 1},
};

std::string command_of(const Planned& planned) {
  std::string text = std::string("run ") + planned.name;
  if (planned.hidden > 0) text += " --hidden " + std::to_string(planned.hidden);
  if (planned.batches > 0) text += " --batches " + std::to_string(planned.batches);
  if (*planned.cell != '\0') text += std::string(" --cells ") + planned.cell;
  return text + " --seeds " + std::to_string(planned.seeds);
}

// The runs of data/ that belong to a row, and those that it lacks.
Results results_of(const Planned& planned, const fs::path& data) {
  const Experiment& experiment = find_experiment(planned.name);
  std::vector<ListedRun> runs;
  for (const RunSettings& variant : experiment.variants) {
    if (*planned.cell != '\0' && variant.cell != planned.cell) continue;
    for (int seed = 0; seed < planned.seeds; ++seed) {
      RunSettings settings = scaled(experiment, variant, planned.hidden, planned.batches);
      settings.seed = static_cast<std::uint64_t>(seed);
      const fs::path folder = data / folder_name(settings);
      if (is_finished(folder)) {
        std::ifstream file(folder / "settings.json");
        if (Json::parse(file, nullptr, false) != to_json(settings)) {
          throw std::runtime_error((folder / "settings.json").string() +
                                   " is damaged or of another run");
        }
      }
      runs.push_back({folder, to_json(settings)});
    }
  }
  return collect_results(experiment.name, experiment.title, runs);
}

struct Count {
  std::size_t done = 0, missing = 0;
  double seconds = 0;
};

Count count(const Results& results) {
  Count count;
  for (const Variant& variant : results.variants) {
    count.done += variant.runs.size();
    count.missing += variant.missing;
    for (const RunResult& run : variant.runs) count.seconds += run.progress.at("seconds").back();
  }
  return count;
}

bool is_regression(const Results& results) {
  return results.name.find("regression") != std::string::npos;
}

// Whether each of its settings has been run once at least.
bool has_all_settings(const Results& results) {
  return std::none_of(results.variants.begin(), results.variants.end(),
                      [](const Variant& variant) { return variant.runs.empty(); });
}

std::string with_count(const std::vector<double>& values) {
  if (values.empty()) return "-";
  return text_of_estimate(estimate(values)) + " (" + std::to_string(values.size()) + ")";
}

// A row for each setting and a column for each rule, where anything has been run.
std::string by_rule(const Results& results, double RunResult::*value) {
  std::vector<std::string> rules, settings;
  std::map<std::pair<std::string, std::string>, std::string> cells;
  for (const Variant& variant : results.variants) {
    const std::string rule = label_of(results.series, variant.text(results.series));
    const std::string setting = panel_title(results, variant);
    if (std::find(rules.begin(), rules.end(), rule) == rules.end()) rules.push_back(rule);
    if (variant.runs.empty()) continue;
    if (std::find(settings.begin(), settings.end(), setting) == settings.end()) {
      settings.push_back(setting);
    }
    cells[{setting, rule}] = with_count(variant.over_runs(value));
  }
  Table table{{"setting"}, {}};
  table.header.insert(table.header.end(), rules.begin(), rules.end());
  for (const std::string& setting : settings) {
    std::vector<std::string>& row = table.rows.emplace_back(1, setting);
    for (const std::string& rule : rules) {
      const auto found = cells.find({setting, rule});
      row.push_back(found == cells.end() ? "-" : found->second);
    }
  }
  return markdown(table);
}

// A row for each network.
std::string by_network(const Results& results) {
  if (of_acting(results)) {
    Table table{{"network", "setting", "reward", "with the likeliest actions"}, {}};
    for (const Variant& variant : results.variants) {
      table.rows.push_back({network_name(results, variant), panel_title(results, variant),
                            with_count(variant.over_runs(&RunResult::reward)),
                            with_count(variant.over_runs(&RunResult::greedy_reward))});
    }
    return markdown(table);
  }
  Table table{{"network", query_measure(results), "lowest validation loss"}, {}};
  for (const Variant& variant : results.variants) {
    table.rows.push_back({network_name(results, variant),
                          with_count(variant.over_runs(&RunResult::query_loss)),
                          with_count(variant.over_runs(&RunResult::best_validation))});
  }
  return markdown(table);
}

std::string of_eta(const Results& results) {
  Table table{{"setting", "rule", "while shown", "in between", "while asked"}, {}};
  for (const Variant& variant : results.variants) {
    const EtaByPhase phases = eta_by_phase(variant);
    if (phases.shown.empty()) continue;
    table.rows.push_back({panel_title(results, variant), label_of("rule", variant.text("rule")),
                          with_count(phases.shown), with_count(phases.between),
                          with_count(phases.asked)});
  }
  return markdown(table);
}

// The page as it grows, and the figures that it shows.
class Page {
 public:
  explicit Page(const fs::path& data) : data_(data) {
    for (const Planned& planned : plan) rows_.push_back({planned, results_of(planned, data)});
  }

  // The whole page; notes the figures that it shows.
  std::string text() {
    figures_.clear();
    std::string page = introduction() + summary();
    page += sections();
    page += further();
    return page + runs() + others();
  }

  const std::vector<Drawing>& figures() const { return figures_; }

 private:
  struct Row {
    Planned planned;
    Results results;
  };

  const Results& results(const std::string& name) const {
    return std::find_if(rows_.begin(), rows_.end(),
                        [&](const Row& row) { return row.results.name == name; })
        ->results;
  }

  std::string introduction() const {
    return "# Results\n\n"
           "`build/examples/experiments report --docs` makes this page and its figures from what "
           "finished runs have left in [results/data](results/data), one folder a run. It trains "
           "nothing, and no number here is typed by hand; a test checks that the page is that of "
           "the data. What was measured in other ways is in [other results](results/other.md).\n\n"
           "Unless a table says otherwise, " +
           sizes() +
           ", half of the paper's; a plain network has more, to make up for the weights that the "
           "others learn besides. An error is that of the weights with the lowest validation loss, "
           "on the queries of a fixed test set. Numbers are means with 95% confidence intervals "
           "over seeds (Student's t), with the number of seeds in parentheses. One seed has no "
           "interval, and a difference that rests on it may be chance.\n\n"
           "**Verdicts** follow from the intervals alone. A comparison counts where both sides "
           "have two seeds or more. It agrees with the claim where the 95% interval of the "
           "difference of the two means (Welch's t) lies on the side of zero that the claim says; "
           "an interval with zero in it is undecided. A claim *holds* if all that count agree, "
           "*holds partly* if some do, *does not hold here* if none does, and is *not run yet* if "
           "none counts. *So far* says that some of the planned comparisons do not count yet.\n\n";
  }

  // The hidden units of the first experiment's networks.
  std::string sizes() const {
    std::vector<std::string> parts;
    for (const Variant& variant : rows_[0].results.variants) {
      const std::string rule = variant.text("rule");
      if (rule == "hebbian") continue;  // as gradient
      const std::string cell = label_of("cell", variant.text("cell"));
      parts.push_back((rule == "none" ? "a plain " + cell + " " : "an " + cell + " has ") +
                      variant.text("hidden") + (parts.empty() ? " hidden units" : ""));
    }
    return joined(parts, ", ");
  }

  Tally tally_of(const Claim& claim) const {
    std::vector<const Results*> all;
    for (const std::string& name : claim.experiments) all.push_back(&results(name));
    return tally(claim, all);
  }

  static bool is_judged(const Claim& claim) {
    return claim.kind == Claim::Kind::eta_is_high || !claim.pairs.empty();
  }

  std::string summary() const {
    Table table{
        {"claim", "verdict", "agree", "other way round", "undecided", "one seed", "not run"}, {}};
    for (const auto* claims : {&paper_claims(), &literature_claims()}) {
      for (const Claim& claim : *claims) {
        if (!is_judged(claim)) continue;
        const Tally t = tally_of(claim);
        const std::string counted =
            " (" + std::to_string(t.compared()) + " of " + std::to_string(t.all()) + ")";
        table.rows.push_back({claim.title, t.verdict() + (t.compared() > 0 ? counted : ""),
                              std::to_string(t.agree), std::to_string(t.reversed),
                              std::to_string(t.open), std::to_string(t.single),
                              std::to_string(t.missing)});
      }
    }
    return markdown(table) +
           "\nIn parentheses: how many of the planned comparisons have intervals. The last five "
           "columns "
           "count comparisons.\n\n";
  }

  std::string figure(const Results& r, const std::string& name) {
    const std::vector<Drawing> all = figures_of(r);
    const auto is_error = [](const Drawing& drawing) { return drawing.name == "error"; };
    for (Drawing drawing : all) {
      if (drawing.name != name) continue;
      // Ten panels of learning curves say less than the error at their end against the delay.
      if (name == "learning_curves" && r.varied.size() > 2 && !is_of_networks(r) &&
          std::any_of(all.begin(), all.end(), is_error)) {
        continue;
      }
      drawing.name = r.name + "_" + name;
      figures_.push_back(drawing);
      return "![" + r.title + ". " + drawing.caption + "](results/figures/" + drawing.name +
             ".svg)\n\n";
    }
    return "";
  }

  static std::string tables(const Claim& claim, const Results& r) {
    if (claim.kind == Claim::Kind::eta_is_high) return of_eta(r) + "\n";
    if (claim.kind == Claim::Kind::networks) return by_network(r) + "\n";
    std::string text = "Error on the queries (" + query_measure(r) + "):\n\n" +
                       by_rule(r, &RunResult::query_loss) + "\n";
    if (is_regression(r)) {
      text += "Share of queries within 0.05:\n\n" + by_rule(r, &RunResult::query_accuracy) + "\n";
    }
    return text;
  }

  std::string section(const Claim& claim, const std::string& heading) {
    std::string text = heading + " " + claim.title + "\n\n" + claim.statement + "\n\n";
    if (is_judged(claim)) {
      const Tally t = tally_of(claim);
      text += "**Verdict: " + t.verdict() + ".** " + t.counts() + ".";
      if (!t.exceptions.empty()) {
        text += " The other way round: " + joined(t.exceptions, "; ") + ".";
      }
      text += "\n\n";
    }
    if (!claim.note.empty()) text += claim.note + "\n\n";
    std::vector<std::string> missing;
    std::set<fs::path> shown;
    for (const std::string& name : claim.experiments) {
      const Results& r = results(name);
      bool is_new = false;  // whether it has runs that the experiments before it have not
      for (const Variant& variant : r.variants) {
        for (const RunResult& run : variant.runs) {
          is_new = shown.insert(run.folder).second || is_new;
        }
      }
      const Count c = count(r);
      if (c.missing > 0) {
        missing.push_back("`" + name + "` " + std::to_string(c.missing) + " of " +
                          std::to_string(c.done + c.missing));
      }
      if (!is_new || claim.figures.empty()) continue;
      if (claim.experiments.size() > 1) text += heading + "# " + r.title + "\n\n";
      for (const std::string& which : claim.figures) text += figure(r, which);
      text += tables(claim, r);
      if (claim.kind != Claim::Kind::rules) continue;  // else the figure says it, or nothing does
      const std::vector<std::string> references = reference_values(r);
      for (const std::string& line : references) text += "- " + line + "\n";
      if (!references.empty()) text += "\n";
    }
    if (!missing.empty()) text += "Not run yet: " + joined(missing, ", ") + " runs.\n\n";
    return text;
  }

  std::string sections() {
    std::string text;
    for (const Claim& claim : paper_claims()) text += section(claim, "##");
    text += "## Rules of the literature\n\n";
    for (const Claim& claim : literature_claims()) text += section(claim, "###");
    return text;
  }

  // Experiments that no claim is about, each setting run once at least: the ablations and
  // the paper's own widths.
  std::string further() {
    std::set<std::string> shown;
    for (const auto* claims : {&paper_claims(), &literature_claims()}) {
      for (const Claim& claim : *claims) {
        shown.insert(claim.experiments.begin(), claim.experiments.end());
      }
    }
    std::string text;
    for (const Row& row : rows_) {
      const bool first = shown.insert(row.results.name).second;
      const bool own_width = &row.results != &results(row.results.name);
      if ((!first && !own_width) || !has_all_settings(row.results)) continue;
      text += "### " + row.results.title + (own_width ? ", the paper's width" : "") + "\n\n";
      if (!own_width) text += figure(row.results, "error");
      text += by_rule(row.results, &RunResult::query_loss) + "\n";
    }
    return text.empty() ? "" : "## Further experiments\n\n" + text;
  }

  std::string runs() const {
    Table table{{"experiment", "runs done", "missing", "hours"}, {}};
    std::set<std::string> planned, used;
    for (const Row& row : rows_) {
      const Count c = count(row.results);
      planned.insert(row.results.name);
      for (const Variant& variant : row.results.variants) {
        for (const RunResult& run : variant.runs) used.insert(run.folder.filename().string());
      }
      table.rows.push_back({"`" + command_of(row.planned) + "`", std::to_string(c.done),
                            std::to_string(c.missing), number(c.seconds / 3600, "%.2f")});
    }
    std::string text =
        "## Runs\n\nThe commands are those of `build/examples/experiments`; experiments share "
        "runs, "
        "and a finished one is not repeated. Of its folder, `settings.json`, `progress.csv`, "
        "`test.csv` and `eta.csv` are kept in [results/data](results/data). Hours are wall time on "
        "one or two cores of machines that did other work besides, so they only say what to "
        "expect.\n\n" +
        markdown(table) + "\n";
    std::size_t all = 0;
    double seconds = 0;
    std::vector<std::string> unused;
    std::set<fs::path> folders;
    for (const auto& entry : fs::directory_iterator(data_)) folders.insert(entry.path());
    for (const fs::path& folder : folders) {
      if (!is_finished(folder)) continue;
      ++all;
      seconds += read_columns(folder / "progress.csv").at("seconds").back();
      if (!used.contains(folder.filename().string()))
        unused.push_back("`" + folder.filename().string() + "`");
    }
    text +=
        "All runs kept: " + std::to_string(all) + ", " + number(seconds / 3600, "%.1f") + " hours.";
    if (!unused.empty()) {
      text += " Kept, but of no experiment in the table: " + joined(unused, ", ") + ".";
    }
    std::vector<std::string> rest;
    for (const Experiment& experiment : all_experiments()) {
      if (!planned.contains(experiment.name)) rest.push_back("`" + experiment.name + "`");
    }
    return text + "\n\nNot planned for this page, though some share runs with those above: " +
           joined(rest, ", ") + ".\n\n";
  }

  static std::string others() {
    return "## Results that this command does not make\n\n"
           "Parity with the published equations, one-shot images, a control loop and older single "
           "runs of regression: [other results](results/other.md).\n";
  }

  fs::path data_;
  std::vector<Row> rows_;
  std::vector<Drawing> figures_;
};

}  // namespace

void write_docs(const fs::path& docs) {
  const fs::path data = docs / "results" / "data", folder = docs / "results" / "figures";
  if (!fs::is_directory(data)) {
    throw std::runtime_error(data.string() +
                             " is not a folder: it must have the finished runs, one folder each");
  }
  Page page(data);
  const std::string text = page.text();
  fs::create_directories(folder);
  std::set<std::string> made;
  for (const Drawing& drawing : page.figures()) {
    draw(drawing, folder, {"svg"});
    made.insert({drawing.name + ".gp", drawing.name + ".svg"});
  }
  std::vector<fs::path> old;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!made.contains(entry.path().filename().string())) old.push_back(entry.path());
  }
  for (const fs::path& path : old) fs::remove(path);
  plastic::write_file_atomically(docs / "results.md", text);
}

}  // namespace experiments
