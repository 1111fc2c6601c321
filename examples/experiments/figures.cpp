#include "figures.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>

#include "settings.hpp"

namespace experiments {
namespace {

namespace fs = std::filesystem;

bool has(const std::vector<std::string>& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

bool has_task(const Results& results, const std::string& part) {
  return std::any_of(results.variants.begin(), results.variants.end(), [&](const Variant& v) {
    return v.text("task").find(part) != std::string::npos;
  });
}

// Errors of this task differ by powers of ten.
bool is_logarithmic(const Results& results) {
  return !results.variants.empty() &&
         std::all_of(results.variants.begin(), results.variants.end(),
                     [](const Variant& v) { return v.text("task") == "sequence_reproduction"; });
}

// No error is below 0, whatever its interval says, and no bar reaches below all seeds and 0 alike.
Point point(double x, const std::vector<double>& values) {
  const Estimate e = estimate(values);
  double low = e.mean - e.half_width;
  if (low <= 0) low = *std::min_element(values.begin(), values.end());
  return {x, e.mean, low, e.mean + e.half_width, values};
}

std::string series_label(const Variant& variant, const std::string& setting) {
  return (setting == "rule" ? "" : setting + " ") + label_of(setting, variant.text(setting));
}

// Panels in the order of the variants, and the numbers of runs of what is in each.
class Panels {
 public:
  Panel& of(const std::string& title, std::size_t runs) {
    std::size_t i = 0;
    while (i < panels_.size() && panels_[i].title != title) ++i;
    if (i == panels_.size()) {
      panels_.push_back({title, {}, {}});
      runs_.emplace_back(runs, runs);
    }
    runs_[i] = {std::min(runs_[i].first, runs), std::max(runs_[i].second, runs)};
    return panels_[i];
  }
  bool empty() const { return panels_.empty(); }

  // With n in the titles.
  std::vector<Panel> finished() const {
    std::vector<Panel> panels = panels_;
    for (std::size_t i = 0; i < panels.size(); ++i) {
      const auto [least, most] = runs_[i];
      panels[i].title += (panels[i].title.empty() ? "n = " : ", n = ") + std::to_string(least);
      if (least < most) panels[i].title += " to " + std::to_string(most);
    }
    return panels;
  }

 private:
  std::vector<Panel> panels_;
  std::vector<std::pair<std::size_t, std::size_t>> runs_;
};

Series& series_of(Panel& panel, const Variant& variant, const std::string& setting) {
  const std::string name =
      setting == "rule" ? variant.text("rule") : series_label(variant, setting);
  for (Series& series : panel.series) {
    if (series.name == name) return series;
  }
  return panel.series.emplace_back(
      Series{name, series_label(variant, setting), colour_of(name, panel.series.size()), {}});
}

// A curve for each network; the second one of a rule is dashed.
Series& network_of(Panel& panel, const Results& results, const Variant& variant) {
  const std::string rule = variant.text("rule");
  const bool dashed = std::any_of(panel.series.begin(), panel.series.end(),
                                  [&](const Series& series) { return series.name == rule; });
  return panel.series.emplace_back(
      Series{rule, network_name(results, variant), colour_of(rule), {}, dashed});
}

// The lines that help to judge an error: not all marks, so that a panel stays legible.
std::vector<Line> lines_of(const Variant& variant, double Mark::*value) {
  std::vector<Line> lines;
  for (const Mark& mark : marks(variant)) {
    if (mark.name != "copy, then zero") lines.push_back({mark.name, mark.*value});
  }
  return lines;
}

std::vector<Point> learning_curve(const Variant& variant) {
  std::vector<Point> points;
  const std::vector<double>& batches = variant.runs.front().progress.at("batch");
  for (std::size_t i = 0; i < batches.size(); ++i) {
    std::vector<double> values;
    const char* const curve = variant.acts() ? "reward" : "validation_loss";
    for (const RunResult& run : variant.runs) values.push_back(run.progress.at(curve).at(i));
    if (variant.acts()) {
      const Quartiles q = quartiles(values);
      points.push_back({batches[i], q.median, q.low, q.high});
    } else {
      points.push_back(point(batches[i], values));
    }
  }
  return points;
}

// eta(t) with its standard deviation over episodes, both averaged over the runs.
std::vector<Point> eta_curve(const Variant& variant) {
  std::vector<Point> points;
  const std::size_t steps = variant.runs.front().eta.at("step").size();
  for (std::size_t t = 0; t < steps; ++t) {
    std::vector<double> means, deviations;
    for (const RunResult& run : variant.runs) {
      means.push_back(run.eta.at("mean").at(t));
      deviations.push_back(run.eta.at("sd").at(t));
    }
    const double mean = estimate(means).mean, deviation = estimate(deviations).mean;
    points.push_back({static_cast<double>(t), mean, mean - deviation, mean + deviation});
  }
  // A learning rate is never below 0, whatever its deviation says; a modulator may be.
  const auto below = [](const Point& p) { return p.y < 0; };
  if (std::none_of(points.begin(), points.end(), below)) {
    for (Point& p : points) p.low = std::max(0.0, p.low);
  }
  return points;
}

std::string loss_name(const Results& results) {
  if (has_task(results, "one_shot_images") || has_task(results, "associative_retrieval")) {
    return "cross-entropy";
  }
  return "mean squared error";
}

Drawing learning_curves(const Results& results) {
  Panels panels;
  for (const Variant& variant : results.variants) {
    if (variant.runs.empty()) continue;
    Panel& panel = panels.of(panel_title(results, variant), variant.runs.size());
    panel.lines = lines_of(variant, &Mark::all_steps);
    Series& series = is_of_networks(results) ? network_of(panel, results, variant)
                                             : series_of(panel, variant, results.series);
    series.points = learning_curve(variant);
  }
  Plot plot({.title = results.title,
             .x = "training batches",
             .y = of_acting(results) ? "reward of an episode" : loss_name(results) + ", validation",
             .logarithmic = is_logarithmic(results)});
  for (const Panel& panel : panels.finished()) plot.add(panel);
  return plot.drawing(
      "learning_curves",
      of_acting(results)
          ? "Learning curves: median over n runs; bands are the quartiles."
          : "Learning curves: mean over n runs; bands are 95% confidence intervals.");
}

// Many networks of different kinds: a row for each.
Drawing networks(const Results& results) {
  Panel panel{results.title, {}, {}};
  for (const Variant& variant : results.variants) {
    if (variant.runs.empty()) continue;
    panel.lines = lines_of(variant, &Mark::query_steps);
    panel.series.push_back(
        {variant.text("rule"),
         network_name(results, variant) + ", n = " + std::to_string(variant.runs.size()),
         colour_of(variant.text("rule")),
         {point(0, variant.over_runs(&RunResult::query_loss))}});
  }
  return rows_of_points("error",
                        "Error on the queries of the test set, of the best weights; bars are 95% "
                        "confidence intervals, rings are single runs.",
                        panel, query_measure(results));
}

std::string axis_label(const std::string& setting) {
  static const std::map<std::string, std::string> labels = {
      {"delay", "delay (steps)"},
      {"length", "values to reproduce"},
      {"support", "points shown"},
      {"keys", "keys to remember"},
      {"extra", "further outputs"},
      {"eta0", "largest learning rate and decay, eta0"},
      {"inner_scale", "scale s"},
      {"alpha_mode", "initial coefficients A"},
      {"max_norm", "bound on the norm of a change"},
      {"weight_clip", "bound on the fast weights"}};
  const auto found = labels.find(setting);
  return found != labels.end() ? found->second : setting;
}

// Error on the queries against the first setting that is varied beside cell, rule and task.
std::vector<Drawing> error_against(const Results& results) {
  std::string axis;
  for (const std::string& name : results.varied) {
    if (axis.empty() && name != "cell" && name != "rule" && name != "task") axis = name;
  }
  if (axis.empty()) return {};
  Results rest = results;
  rest.varied.erase(std::find(rest.varied.begin(), rest.varied.end(), axis));
  if (rest.series == axis) rest.series = "rule";
  std::vector<std::string> ticks;
  Panels panels;
  bool numeric = true;
  for (const Variant& variant : results.variants) {
    if (variant.runs.empty() || !variant.settings.contains(axis)) continue;
    numeric = variant.settings.at(axis).is_number();
    const std::string tick = variant.text(axis);
    if (!has(ticks, tick)) ticks.push_back(tick);
    const auto index = std::find(ticks.begin(), ticks.end(), tick) - ticks.begin();
    Panel& panel = panels.of(panel_title(rest, variant), variant.runs.size());
    Series& series = series_of(panel, variant, rest.series);
    // Beside each other, so that no bar covers another.
    const double beside = 0.1 * static_cast<double>(&series - panel.series.data());
    const double x =
        numeric ? variant.settings.at(axis).get<double>() : static_cast<double>(index) + beside;
    series.points.push_back(point(x, variant.over_runs(&RunResult::query_loss)));
    if (axis != "support") panel.lines = lines_of(variant, &Mark::query_steps);
  }
  std::vector<Panel> finished = panels.finished();
  if (axis == "support") {  // the optimum depends on it, so it is a series
    for (Panel& panel : finished) {
      Series optimum{"optimum", "near-optimal", "#777777", {}, true};
      for (const Variant& variant : results.variants) {
        const std::vector<Mark> list = marks(variant);
        const double x = std::stod(variant.text(axis));
        const auto same = [&](const Point& p) { return p.x == x; };
        if (list.empty() || std::any_of(optimum.points.begin(), optimum.points.end(), same)) {
          continue;
        }
        optimum.points.push_back({x, list.front().query_steps, NAN, NAN});
      }
      panel.series.push_back(optimum);
    }
  }
  std::ostringstream extra;
  if (numeric) {
    // All values that the experiment has, so that one sees what has not been run.
    std::set<double> values;
    for (const Variant& variant : results.variants) {
      if (variant.settings.contains(axis)) values.insert(variant.settings.at(axis).get<double>());
    }
    const double first = *values.begin(), last = *values.rbegin();
    const bool ratio = first > 0 && last / first >= 30;
    if (ratio) {
      extra << "set logscale x\nset xrange [" << first / 1.3 << ":" << last * 1.3 << "]\n";
    } else {
      const double margin = last > first ? 0.06 * (last - first) : 1;
      extra << "set xrange [" << first - margin << ":" << last + margin << "]\n";
    }
    std::string separator = "set xtics (";
    for (const double value : values) {
      extra << separator << value;
      separator = ", ";
    }
    extra << ")\n";
  } else {
    extra << "set xrange [-0.5:" << static_cast<double>(ticks.size()) - 0.3 << "]\nset xtics (";
    for (std::size_t i = 0; i < ticks.size(); ++i) {
      extra << (i > 0 ? ", " : "") << quoted(ticks[i]) << " " << i;
    }
    extra << ")\n";
  }
  Plot plot({.title = results.title,
             .x = axis_label(axis),
             .y = query_measure(results),
             .logarithmic = is_logarithmic(results),
             .marker = numeric ? Marker::joined_bars : Marker::bars,
             .extra = extra.str()});
  for (const Panel& panel : finished) plot.add(panel);
  return {plot.drawing("error",
                       "Error on the queries of the test set, of the best weights: mean over n "
                       "runs; bars are 95% confidence intervals, rings are single runs.")};
}

// How many settings have their default; the usual network has the most.
std::size_t defaults_in(const Variant& variant) {
  std::size_t count = 0;
  const Json defaults = to_json(RunSettings());
  for (const auto& [name, value] : variant.settings.items()) {
    count += defaults.contains(name) && defaults.at(name) == value ? 1 : 0;
  }
  return count;
}

// eta, norms of the fast weights and the recurrent ones that grow largest, step by step.
Drawing episode(const Results& results, const Variant& variant, const fs::path& folder,
                const std::string& kind) {
  const fs::path run = variant.runs.front().folder;
  // From where the script lies, so that a folder of results may be moved.
  const fs::path from_script = fs::relative(run, folder);
  const std::string file = quoted((from_script / "episode.csv").string());
  const std::string fast = quoted((from_script / "fast.csv").string());
  const Columns columns = read_columns(run / "episode.csv");
  const auto last = columns.at("step").back();
  const std::string network =
      label_of("cell", variant.text("cell")) + ", " + label_of("rule", variant.text("rule"));
  std::ostringstream script;
  const long query = first_query(variant);
  script << "set datafile separator comma\nset multiplot layout 3,1 title "
         << quoted(results.title + ": " + network)
         << " font ',16'\nset lmargin 12\nset rmargin 16\nset border 3 lc rgb '#555555'\n"
            "set tics nomirror\nset xrange [-0.5:"
         << last + 0.5
         << "]\nset key outside right samplen 1\nset ylabel 'eta'\nset yrange [*<0:]\n";
  if (query >= 0) {
    script << "set arrow 1 from " << static_cast<double>(query) - 0.5 << ", graph 0 to "
           << static_cast<double>(query) - 0.5
           << ", graph 1 nohead dt 3 lw 1.5 lc rgb '#777777' front\nset label 1 'queries begin' at "
           << static_cast<double>(query) - 0.5
           << ", graph 0.93 left offset 0.5,0 font ',11' tc rgb '#666666' front\n";
  }
  script << "plot " << file << " using 'step':'eta' with linespoints pt 7 ps 0.5 lw 2.2 lc rgb '"
         << colour_of(variant.text("rule"))
         << "' notitle\nunset label 1\nset ylabel 'norm of fast weights'\nplot ";
  std::string separator;
  std::size_t number = 0;
  for (const auto& [name, values] : columns) {
    if (name == "step" || name == "eta") continue;
    script << separator << file << " using 'step':'" << name << "' with lines lw 2.2 lc rgb '"
           << colour_of("", number++) << "' title " << quoted(name);
    separator = ", ";
  }
  script << "\nset ylabel 'recurrent fast weights'\nset xlabel 'step'\nset yrange [*:*] "
            "noextend\nset offsets 0, 0, 0, 0\n"
            "set palette defined (-1 '#0072B2', 0 'white', 1 '#D55E00')\nstats "
         << fast << " matrix nooutput\nm = abs(STATS_max) > abs(STATS_min) ? abs(STATS_max) : "
         << "abs(STATS_min)\nm = m > 0 ? m : 1\nset cbrange [-m:m]\nset colorbox user origin graph "
            "1.02, graph 0 size graph 0.02, graph 1\nunset ytics\nplot "
         << fast << " matrix with image pixels notitle\nunset multiplot\n";

  std::string what = network;
  for (const std::string& name : results.varied) {
    if (name != "cell" && name != "rule" && variant.settings.contains(name)) {
      what += ", " + (name == "task" ? "" : name + " ") + label_of(name, variant.text(name));
    }
  }
  return {"episode_" + kind,
          "The network at work on one test episode (" + what +
              "): learning rate, norm of each layer's fast weights, and the 64 recurrent fast "
              "weights that grow largest.",
          800, 800, script.str()};
}

}  // namespace

bool is_of_networks(const Results& results) {
  return has(results.varied, "rule") && has(results.varied, "options");
}

bool of_acting(const Results& results) {
  return !results.variants.empty() && results.variants.front().acts();
}

std::string query_measure(const Results& results) {
  if (has_task(results, "one_shot_images") || has_task(results, "associative_retrieval")) {
    return "share of wrong answers";
  }
  if (has_task(results, "pattern_completion")) return "share of wrong bits";
  return "mean squared error of queries";
}

std::string network_name(const Results& results, const Variant& variant) {
  std::string name = label_of("rule", variant.text("rule"));
  if (has(results.varied, "cell")) name += ", " + label_of("cell", variant.text("cell"));
  const std::string options = variant.text("options");
  return options.empty() || options == "-" ? name : name + " (" + options + ")";
}

std::string panel_title(const Results& results, const Variant& variant) {
  std::string text;
  const bool networks = is_of_networks(results);  // curves of one panel
  for (const std::string& setting : results.varied) {
    if (setting == results.series || !variant.settings.contains(setting)) continue;
    if (networks && (setting == "cell" || setting == "options")) continue;
    const bool is_word = setting == "cell" || setting == "task" || setting == "rule";
    text += text.empty() ? "" : ", ";
    text += (is_word ? "" : setting + " ") + label_of(setting, variant.text(setting));
  }
  return text;
}

std::vector<Drawing> figures_of(const Results& results) {
  std::vector<Drawing> figures = {learning_curves(results)};
  if (!of_acting(results)) {  // a reward has no queries
    std::vector<Drawing> errors =
        is_of_networks(results) ? std::vector<Drawing>{networks(results)} : error_against(results);
    for (Drawing& drawing : errors) figures.push_back(std::move(drawing));
  }
  Panels panels;
  for (const Variant& variant : results.variants) {
    if (variant.runs.empty() || variant.runs.front().eta.empty()) continue;
    Panel& panel = panels.of(panel_title(results, variant), variant.runs.size());
    Series& series = is_of_networks(results) ? network_of(panel, results, variant)
                                             : series_of(panel, variant, results.series);
    series.points = eta_curve(variant);
    const long query = first_query(variant);
    if (query >= 0) panel.first_query = static_cast<double>(query);
  }
  if (panels.empty()) return figures;
  Plot plot({.title = results.title, .x = "step of the episode", .y = "learning rate eta"});
  for (const Panel& panel : panels.finished()) plot.add(panel);
  figures.push_back(
      plot.drawing("eta",
                   "Learning rate of the fast weights over an episode of the test set: mean over n "
                   "runs; bands are the standard deviation over episodes."));
  return figures;
}

std::vector<Drawing> episodes_of(const Results& results, const fs::path& folder) {
  std::map<std::string, const Variant*> usual;  // one for each cell and rule
  for (const Variant& variant : results.variants) {
    if (variant.runs.empty() || variant.runs.front().eta.empty()) continue;
    const Variant*& best = usual[variant.text("cell") + "_" + variant.text("rule")];
    if (best == nullptr || defaults_in(variant) > defaults_in(*best)) best = &variant;
  }
  std::vector<Drawing> drawings;
  drawings.reserve(usual.size());
  for (const auto& [kind, variant] : usual) {
    drawings.push_back(episode(results, *variant, folder, kind));
  }
  return drawings;
}

}  // namespace experiments
