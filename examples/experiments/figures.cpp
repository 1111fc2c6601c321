#include "figures.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <iomanip>
#include <map>
#include <sstream>
#include <stdexcept>

#include "plastic/core/atomic_file.hpp"
#include "settings.hpp"

namespace experiments {
namespace {

namespace fs = std::filesystem;

// Colours that the colour-blind can tell apart; the rules have theirs in every figure.
std::string colour_of(const std::string& series, std::size_t number) {
  if (series == "gradient") return "#0072B2";
  if (series == "hebbian") return "#D55E00";
  if (series == "none") return "#555555";
  if (series == "trace") return "#009E73";
  if (series == "modulated") return "#CC79A7";
  if (series == "retroactive") return "#E69F00";
  constexpr std::array colours = {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"};
  return colours[number % colours.size()];
}

// One word of a shell command.
std::string in_shell(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

// In gnuplot's double quotes.
std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + "\"";
}

struct Point {
  double x = 0, y = 0, low = 0, high = 0;  // low, high: NaN where there is no interval
};

struct Series {
  std::string name, colour;
  std::vector<Point> points;
};

struct Panel {
  std::string title;
  std::vector<Series> series;
};

// How a series is drawn: a curve in a band, or points with error bars, joined or not.
enum class Marker { curve, joined_bars, bars };

// 1, 2 or 5 times a power of ten, so that about five ticks reach the end: a panel may be narrow.
double tick_distance(const Panel& panel) {
  double last = 1;
  for (const Series& s : panel.series) {
    for (const Point& p : s.points) last = std::max(last, p.x);
  }
  const double power = std::pow(10, std::floor(std::log10(last / 5)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= last / 5) return factor * power;
  }
  return 10 * power;
}

// A script that draws panels of equal axes in a grid.
class Plot {
 public:
  Plot(std::string title, const std::string& x, const std::string& y) : title_(std::move(title)) {
    script_ << std::setprecision(9);
    script_ << "set xlabel " << quoted(x) << "\nset ylabel " << quoted(y)
            << "\nset grid lc rgb '#dddddd'\nset key top right samplen 2\nset border 3\n"
               "set tics nomirror\nset style fill transparent solid 0.2 noborder\n"
               "set yrange [*<0:]\nset offsets 0, 0, graph 0.2, 0\n";
  }

  std::ostream& script() { return script_; }

  void add(const Panel& panel, Marker marker, const std::vector<Mark>& lines) {
    const bool bars = marker != Marker::curve;
    std::vector<std::string> bands, curves;  // in this order, so that no band covers a curve
    for (const Series& s : panel.series) {
      const std::string block = "$d" + std::to_string(blocks_++);
      script_ << block << " << END\n";
      bool interval = false;
      for (const Point& p : s.points) {
        script_ << p.x << " " << p.y << " " << p.low << " " << p.high << "\n";
        interval = interval || std::isfinite(p.low);
      }
      script_ << "END\n";
      const std::string colour = " lc rgb '" + s.colour + "' ";
      if (interval) {
        bands.push_back(block + " using 1:" +
                        (bars ? "2:3:4 with yerrorbars lw 1.5 pt 0" : "3:4 with filledcurves") +
                        colour + "notitle");
      }
      curves.push_back(block + " using 1:2 with " +
                       (marker == Marker::bars        ? "points pt 7 ps 0.8"
                        : bars || s.points.size() < 4 ? "linespoints pt 7 ps 0.6"
                                                      : "lines") +
                       " lw 2" + colour + "title " + quoted(s.name));
    }
    for (std::size_t i = 0; i < lines.size(); ++i) {
      curves.push_back(std::to_string(lines[i].query_steps) + " with lines dt " +
                       std::to_string(2 + i) + " lw 1.5 lc rgb '#888888' title " +
                       quoted(lines[i].name));
    }
    bands.insert(bands.end(), curves.begin(), curves.end());
    std::ostringstream plot;
    if (!bars) plot << "set xtics " << tick_distance(panel) << "\n";
    plot << "set title " << quoted(panel.title) << "\nplot ";
    for (std::size_t i = 0; i < bands.size(); ++i) plot << (i > 0 ? ", \\\n  " : "") << bands[i];
    panels_.push_back(plot.str() + "\n");
  }

  void write(const fs::path& stem) const {
    // Two cells stand side by side.
    const std::size_t columns = panels_.size() == 1 ? 1 : panels_.size() <= 10 ? 2 : 4;
    const std::size_t rows = (panels_.size() + columns - 1) / columns;
    std::ostringstream all;
    all << script_.str() << "set multiplot layout " << rows << "," << columns << " title "
        << quoted(title_) << " font ',14'\n";
    for (const std::string& panel : panels_) all << panel;
    all << "unset multiplot\n";
    draw(stem, columns == 1 ? 640 : 420 * columns, 60 + (rows == 1 ? 380 : 300 * rows), all.str());
  }

  static void draw(const fs::path& stem, std::size_t width, std::size_t height,
                   const std::string& body) {
    const std::string name = stem.filename().string(), script = name + ".gp";
    std::ostringstream text;
    text << "# gnuplot " << script << " draws the figure again.\n"
         << "if (!exists('unfinished')) unfinished = ''\n";
    for (const bool svg : {true, false}) {
      text << "reset\nset terminal "
           << (svg ? "svg noenhanced font 'Arial,12' background 'white' size "
                   : "pngcairo noenhanced font 'Arial,10' background 'white' size ")
           << width << "," << height << "\nset output '" << name << (svg ? ".svg" : ".png")
           << "'.unfinished\n"
           << body << "unset output\n";
    }
    plastic::write_file_atomically(stem.string() + ".gp", text.str());
    const std::string end = "." + std::to_string(::getpid()) + ".tmp";
    const std::string log = name + ".log";
    const std::string command = "cd " + in_shell(fs::absolute(stem.parent_path()).string()) +
                                " && gnuplot -e \"unfinished='" + end + "'\" " + script + " 2>" +
                                log;
    if (std::system(command.c_str()) != 0) {
      throw std::runtime_error("gnuplot could not draw " + stem.string() +
                               ".gp (is it installed?): see " + log + " beside it");
    }
    fs::remove(stem.string() + ".log");
    for (const char* kind : {".svg", ".png"}) {
      fs::rename(stem.string() + kind + end, stem.string() + kind);
    }
  }

 private:
  std::string title_;
  std::ostringstream script_;
  std::vector<std::string> panels_;
  std::size_t blocks_ = 0;
};

// An error is never below 0, whatever its interval says.
Point point(double x, const std::vector<double>& values) {
  const Estimate e = estimate(values);
  const double low = e.mean - e.half_width;
  return {x, e.mean, low < 0 ? 0 : low, e.mean + e.half_width};
}

Panel& panel_of(std::vector<Panel>& panels, const std::string& title) {
  const auto found = std::find_if(panels.begin(), panels.end(),
                                  [&](const Panel& panel) { return panel.title == title; });
  return found != panels.end() ? *found : panels.emplace_back(Panel{title, {}});
}

Series& series_of(Panel& panel, const std::string& name) {
  const auto found = std::find_if(panel.series.begin(), panel.series.end(),
                                  [&](const Series& series) { return series.name == name; });
  if (found != panel.series.end()) return *found;
  return panel.series.emplace_back(Series{name, colour_of(name, panel.series.size()), {}});
}

std::string series_name(const Variant& variant, const std::string& setting) {
  return (setting == "rule" ? "" : setting + " ") + variant.text(setting);
}

// The panels of a figure in order, with a curve for each variant that has one.
template <class MakePoints>
std::vector<Panel> panels_of(const Results& results, MakePoints&& make) {
  std::vector<Panel> panels;
  for (const Variant& variant : results.variants) {
    if (variant.runs.empty()) continue;
    std::vector<Point> points = make(variant);
    if (points.empty()) continue;
    series_of(panel_of(panels, results.panel(variant)), series_name(variant, results.series))
        .points = std::move(points);
  }
  return panels;
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
  if (variant.runs.front().eta.empty()) return points;
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

void draw_grid(const Results& results, const std::vector<Panel>& panels, const std::string& x,
               const std::string& y, const fs::path& stem) {
  Plot plot(results.title, x, y);
  for (const Panel& panel : panels) plot.add(panel, Marker::curve, {});
  plot.write(stem);
}

bool acts(const Results& results) { return results.variants.front().acts(); }

// Rewards over a run, with what is known to be bad and good.
void draw_rewards(const Results& results, const fs::path& stem) {
  Plot plot(results.title, "batches", "reward of an episode");
  plot.script() << "set key below\nset offsets 0, 0, graph 0.05, 0\nset xrange [0:]\n";
  for (const Panel& panel : panels_of(results, learning_curve)) {
    const auto of_panel = [&](const Variant& v) { return results.panel(v) == panel.title; };
    plot.add(panel, Marker::curve,
             marks(*std::find_if(results.variants.begin(), results.variants.end(), of_panel)));
  }
  plot.write(stem);
}

// Error on the queries against the first setting that is varied beside cell, rule and task.
bool draw_axis(const Results& results, const fs::path& stem) {
  std::string axis;
  for (const std::string& name : results.varied) {
    if (axis.empty() && name != "cell" && name != "rule" && name != "task") axis = name;
  }
  if (axis.empty()) return false;
  Results rest = results;
  rest.varied.erase(std::find(rest.varied.begin(), rest.varied.end(), axis));
  if (rest.series == axis) rest.series = "rule";
  std::vector<std::string> ticks;
  std::vector<Panel> panels;
  std::vector<std::vector<Mark>> lines;
  bool numeric = true;
  for (const Variant& variant : results.variants) {
    if (variant.runs.empty() || !variant.settings.contains(axis)) continue;
    numeric = variant.settings.at(axis).is_number();
    const std::string tick = variant.text(axis);
    if (std::find(ticks.begin(), ticks.end(), tick) == ticks.end()) ticks.push_back(tick);
    const auto index = std::find(ticks.begin(), ticks.end(), tick) - ticks.begin();
    Panel& panel = panel_of(panels, rest.panel(variant));
    if (lines.size() < panels.size()) {
      // Marks that depend on the axis would not be horizontal lines.
      lines.push_back(axis == "support" ? std::vector<Mark>{} : marks(variant));
    }
    Series& series = series_of(panel, series_name(variant, rest.series));
    // Beside each other, so that no bar covers another.
    const double beside = 0.1 * static_cast<double>(&series - panel.series.data());
    const double x =
        numeric ? variant.settings.at(axis).get<double>() : static_cast<double>(index) + beside;
    series.points.push_back(point(x, variant.over_runs(&RunResult::query_loss)));
  }
  Plot plot(results.title, axis, "error on queries");
  if (numeric) {
    plot.script() << "set offsets graph 0.05, graph 0.05, graph 0.3, 0\n";
    for (const char* ratio : {"learning_rate", "max_norm", "weight_clip", "inner_scale"}) {
      if (axis == ratio) plot.script() << "set logscale x\nset offsets 0, 0, graph 0.3, 0\n";
    }
  } else {
    plot.script() << "set offsets 0, 0, graph 0.3, 0\nset xrange [-0.5:"
                  << static_cast<double>(ticks.size()) - 0.3 << "]\nset xtics (";
    for (std::size_t i = 0; i < ticks.size(); ++i) {
      plot.script() << (i > 0 ? ", " : "") << quoted(ticks[i]) << " " << i;
    }
    plot.script() << ")\n";
  }
  for (std::size_t i = 0; i < panels.size(); ++i) {
    plot.add(panels[i], numeric ? Marker::joined_bars : Marker::bars, lines[i]);
  }
  plot.write(stem);
  return true;
}

// eta, norms of the fast weights and the recurrent ones that grow largest, step by step.
void draw_episode(const Variant& variant, const std::string& title, const fs::path& stem) {
  const fs::path folder = variant.runs.front().folder;
  // From where the script lies, so that a folder of results may be moved.
  const fs::path from_script = fs::relative(folder, stem.parent_path());
  const std::string file = quoted((from_script / "episode.csv").string());
  const std::string fast = quoted((from_script / "fast.csv").string());
  const Columns columns = read_columns(folder / "episode.csv");
  const auto last = columns.at("step").back();
  std::ostringstream script;
  script
      << "set datafile separator comma\nset multiplot layout 3,1 title " << quoted(title)
      << " font ',14'\nset lmargin 12\nset rmargin 14\nset border 3\nset tics nomirror\nset xrange "
         "[-0.5:"
      << last + 0.5
      << "]\nset key outside right samplen 1\nset ylabel 'eta'\nset yrange [*<0:]\nplot " << file
      << " using 'step':'eta' with linespoints pt 7 ps 0.4 lw 2 lc rgb '"
      << colour_of(variant.text("rule"), 0)
      << "' notitle\nset ylabel 'norm of fast weights'\nplot ";
  std::string separator;
  for (const auto& [name, values] : columns) {
    if (name == "step" || name == "eta") continue;
    script << separator << file << " using 'step':'" << name << "' with lines lw 2 title "
           << quoted(name);
    separator = ", ";
  }
  script << "\nset ylabel 'recurrent fast weights'\nset xlabel 'step'\nset yrange [*:*] "
            "noextend\nset offsets 0, 0, 0, 0\n"
            "set palette defined (-1 '#0072B2', 0 'white', 1 '#D55E00')\nstats "
         << fast << " matrix nooutput\nm = abs(STATS_max) > abs(STATS_min) ? abs(STATS_max) : "
         << "abs(STATS_min)\nm = m > 0 ? m : 1\nset cbrange [-m:m]\nset colorbox user origin graph "
            "1.02, graph 0 size "
            "graph 0.02, graph 1\nunset ytics\nplot "
         << fast << " matrix with image pixels notitle\nunset multiplot\n";
  Plot::draw(stem, 800, 800, script.str());
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

}  // namespace

std::vector<Figure> draw_figures(const Results& results, const fs::path& folder) {
  std::vector<Figure> figures;
  if (acts(results)) {
    draw_rewards(results, folder / "learning_curves");
    figures.push_back(
        {"learning_curves", "Learning curves: median over the runs; bands are its quartiles."});
  } else {
    draw_grid(results, panels_of(results, learning_curve), "batches", "validation error",
              folder / "learning_curves");
    figures.push_back({"learning_curves",
                       "Learning curves: mean over the runs; bands are 95% confidence intervals."});
  }
  if (!acts(results) && draw_axis(results, folder / "error")) {
    figures.push_back(
        {"error",
         "Error on the query steps of the test set, of the best weights; bars are 95% "
         "confidence intervals."});
  }
  const std::vector<Panel> etas = panels_of(results, eta_curve);
  if (!etas.empty()) {
    draw_grid(results, etas, "step", "eta", folder / "eta");
    figures.push_back(
        {"eta",
         "Learning rate of the fast weights over an episode of the test set: mean and "
         "standard deviation over episodes."});
  }
  std::map<std::string, const Variant*> usual;  // one for each cell and rule
  for (const Variant& variant : results.variants) {
    if (variant.runs.empty() || variant.runs.front().eta.empty()) continue;
    const Variant*& best = usual[variant.text("cell") + "_" + variant.text("rule")];
    if (best == nullptr || defaults_in(variant) > defaults_in(*best)) best = &variant;
  }
  for (const auto& [kind, variant] : usual) {
    std::string what = variant->text("cell") + ", " + variant->text("rule");
    for (const std::string& name : results.varied) {
      if (name != "cell" && name != "rule" && variant->settings.contains(name)) {
        what += ", " + (name == "task" ? "" : name + " ") + variant->text(name);
      }
    }
    draw_episode(*variant,
                 results.title + ": " + variant->text("cell") + ", " + variant->text("rule"),
                 folder / ("episode_" + kind));
    figures.push_back(
        {"episode_" + kind, "The network at work on one test episode (" + what +
                                "): learning rate, norm of each layer's fast weights, and the 64 "
                                "recurrent fast weights that grow largest."});
  }
  return figures;
}

}  // namespace experiments
