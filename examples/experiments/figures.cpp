#include "figures.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iomanip>
#include <limits>
#include <set>
#include <sstream>
#include <stdexcept>

#include "plastic/io/atomic_file.hpp"

namespace experiments {
namespace {

namespace fs = std::filesystem;

// Colours that the colour-blind can tell apart.
std::string colour_of(const std::string& rule) {
  return rule == "gradient" ? "#0072B2" : rule == "hebbian" ? "#D55E00" : "#555555";
}

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

// A script that draws panels of equal axes in a grid.
class Plot {
 public:
  Plot(std::string title, std::string x, std::string y) : title_(std::move(title)) {
    script_ << std::setprecision(9);
    script_ << "set xlabel " << quoted(x) << "\nset ylabel " << quoted(y)
            << "\nset grid lc rgb '#dddddd'\nset key top right samplen 2\nset border 3\nset tics "
               "nomirror\nset style fill transparent solid 0.2 noborder\nset yrange [0:]\n";
  }

  std::ostream& script() { return script_; }

  // Bands between low and high, or error bars at points.
  void add(const Panel& panel, bool bars, const std::vector<Mark>& lines) {
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
      curves.push_back(block + " using 1:2 with " + (bars ? "linespoints pt 7 ps 0.6" : "lines") +
                       " lw 2" + colour + "title " + quoted(s.name));
    }
    for (const Mark& mark : lines) {
      curves.push_back(std::to_string(mark.query_steps) +
                       " with lines dt 2 lc rgb '#999999' title " + quoted(mark.name));
    }
    bands.insert(bands.end(), curves.begin(), curves.end());
    std::ostringstream plot;
    plot << "set title " << quoted(panel.title) << "\nplot ";
    for (std::size_t i = 0; i < bands.size(); ++i) plot << (i > 0 ? ", \\\n  " : "") << bands[i];
    panels_.push_back(plot.str() + "\n");
  }

  void write(const fs::path& stem) const {
    const std::size_t columns = panels_.size() <= 2   ? panels_.size()
                                : panels_.size() <= 4 ? 2
                                : panels_.size() <= 9 ? 3
                                                      : 4;
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
    const fs::path script = stem.string() + ".gp";
    const auto path = [&](const char* end) { return "'" + stem.filename().string() + end + "'"; };
    std::ostringstream text;
    text << "# gnuplot " << script.filename().string() << " draws the figure again.\n";
    for (const bool svg : {true, false}) {
      text << "reset session\nset terminal "
           << (svg ? "svg noenhanced font 'Arial,12' background 'white' size "
                   : "pngcairo noenhanced font 'Arial,10' background 'white' size ")
           << width << "," << height << "\nset output " << path(svg ? ".svg" : ".png") << "\n"
           << body << "unset output\n";
    }
    plastic::write_file_atomically(script, text.str());
    const std::string folder = fs::absolute(stem.parent_path()).string();
    if (folder.find('\'') != std::string::npos) {
      throw std::runtime_error(folder + ": figures cannot be drawn in a folder with a quote");
    }
    const std::string command =
        "cd '" + folder + "' && gnuplot '" + script.filename().string() + "' 2>gnuplot.log";
    if (std::system(command.c_str()) != 0) {
      throw std::runtime_error("gnuplot could not draw " + script.string() +
                               " (is it installed?): see gnuplot.log beside it");
    }
    fs::remove(stem.parent_path() / "gnuplot.log");
  }

 private:
  std::string title_;
  std::ostringstream script_;
  std::vector<std::string> panels_;
  std::size_t blocks_ = 0;
};

Point point(double x, const std::vector<double>& values) {
  const Estimate e = estimate(values);
  return {x, e.mean, e.mean - e.half_width, e.mean + e.half_width};
}

// The panels of a figure in order, each filled from its variants.
template <class MakeSeries>
std::vector<Panel> panels_of(const Results& results, MakeSeries&& make) {
  std::vector<Panel> panels;
  for (const Variant& variant : results.variants) {
    if (variant.runs.empty()) continue;
    Series series = make(variant);
    if (series.points.empty()) continue;
    series.name = variant.text("rule");
    series.colour = colour_of(series.name);
    const std::string title = results.panel(variant);
    auto panel = std::find_if(panels.begin(), panels.end(),
                              [&](const Panel& p) { return p.title == title; });
    if (panel == panels.end()) panel = panels.insert(panel, {title, {}});
    panel->series.push_back(std::move(series));
  }
  return panels;
}

Series learning_curve(const Variant& variant) {
  Series series;
  const std::vector<double>& batches = variant.runs.front().progress.at("batch");
  for (std::size_t i = 0; i < batches.size(); ++i) {
    std::vector<double> values;
    for (const RunResult& run : variant.runs) {
      values.push_back(run.progress.at("validation_loss").at(i));
    }
    series.points.push_back(point(batches[i], values));
  }
  return series;
}

// eta(t) with its standard deviation over episodes, both averaged over the runs.
Series eta_curve(const Variant& variant) {
  Series series;
  if (variant.text("rule") == "none") return series;
  const std::size_t steps = variant.runs.front().eta.at("step").size();
  for (std::size_t t = 0; t < steps; ++t) {
    std::vector<double> means, deviations;
    for (const RunResult& run : variant.runs) {
      means.push_back(run.eta.at("mean").at(t));
      deviations.push_back(run.eta.at("sd").at(t));
    }
    const double mean = estimate(means).mean, deviation = estimate(deviations).mean;
    series.points.push_back(
        {static_cast<double>(t), mean, std::max(0.0, mean - deviation), mean + deviation});
  }
  return series;
}

void draw_grid(const Results& results, const std::vector<Panel>& panels, const std::string& x,
               const std::string& y, const fs::path& stem) {
  Plot plot(results.title, x, y);
  for (const Panel& panel : panels) plot.add(panel, false, {});
  plot.write(stem);
}

// Error on the queries against the first setting that is varied beside cell and rule.
bool draw_axis(const Results& results, const fs::path& stem) {
  std::string axis;
  for (const std::string& name : results.varied) {
    if (axis.empty() && name != "cell" && name != "rule" && name != "task") axis = name;
  }
  if (axis.empty()) return false;
  Results rest = results;
  rest.varied.erase(std::find(rest.varied.begin(), rest.varied.end(), axis));
  const bool numeric = results.variants.front().settings.at(axis).is_number();
  std::vector<std::string> ticks;
  std::vector<Panel> panels;
  std::vector<std::vector<Mark>> lines;
  for (const Variant& variant : results.variants) {
    if (variant.runs.empty()) continue;
    const std::string tick = variant.text(axis);
    if (std::find(ticks.begin(), ticks.end(), tick) == ticks.end()) ticks.push_back(tick);
    const auto index = std::find(ticks.begin(), ticks.end(), tick) - ticks.begin();
    const double x = numeric ? variant.settings.at(axis).get<double>() : static_cast<double>(index);
    const std::string title = rest.panel(variant);
    auto panel = std::find_if(panels.begin(), panels.end(),
                              [&](const Panel& p) { return p.title == title; });
    if (panel == panels.end()) {
      panel = panels.insert(panel, {title, {}});
      // Marks that depend on the axis would be lines where there are none.
      lines.push_back(axis == "support" ? std::vector<Mark>{} : marks(variant));
    }
    const std::string rule = variant.text("rule");
    auto series = std::find_if(panel->series.begin(), panel->series.end(),
                               [&](const Series& s) { return s.name == rule; });
    if (series == panel->series.end()) {
      series = panel->series.insert(series, {rule, colour_of(rule), {}});
    }
    series->points.push_back(point(x, variant.over_runs(&RunResult::query_loss)));
  }
  Plot plot(results.title, axis, "error on queries");
  if (numeric) {
    plot.script() << "set offsets graph 0.05, graph 0.05, graph 0.15, 0\n";
  } else {
    plot.script() << "set xrange [-0.5:" << static_cast<double>(ticks.size()) - 0.5
                  << "]\nset xtics (";
    for (std::size_t i = 0; i < ticks.size(); ++i) {
      plot.script() << (i > 0 ? ", " : "") << quoted(ticks[i]) << " " << i;
    }
    plot.script() << ")\n";
  }
  for (std::size_t i = 0; i < panels.size(); ++i) plot.add(panels[i], true, lines[i]);
  plot.write(stem);
  return true;
}

// eta, norms of the fast weights and the recurrent ones that grow largest, step by step.
void draw_episode(const Variant& variant, const std::string& title, const fs::path& stem) {
  const fs::path folder = fs::absolute(variant.runs.front().folder);
  const std::string file = "'" + (folder / "episode.csv").string() + "'";
  const std::string fast = "'" + (folder / "fast.csv").string() + "'";
  const Columns columns = read_columns(folder / "episode.csv");
  const auto last = columns.at("step").back();
  std::ostringstream script;
  script
      << "set datafile separator comma\nset multiplot layout 3,1 title " << quoted(title)
      << " font ',14'\nset lmargin 10\nset rmargin 14\nset border 3\nset tics nomirror\nset xrange "
         "[-0.5:"
      << last + 0.5
      << "]\nset key outside right samplen 1\nset ylabel 'eta'\nset yrange [0:]\nplot " << file
      << " using 'step':'eta' with linespoints pt 7 ps 0.4 lw 2 lc rgb '"
      << colour_of(variant.text("rule")) << "' notitle\nset ylabel 'norm of fast weights'\nplot ";
  std::string separator;
  for (const auto& [name, values] : columns) {
    if (name == "step" || name == "eta") continue;
    script << separator << file << " using 'step':'" << name << "' with lines lw 2 title "
           << quoted(name);
    separator = ", ";
  }
  script << "\nset ylabel 'recurrent fast weights'\nset xlabel 'step'\nset yrange [*:*] noextend\n"
            "set palette defined (-1 '#0072B2', 0 'white', 1 '#D55E00')\nstats "
         << fast << " matrix nooutput\nm = abs(STATS_max) > abs(STATS_min) ? abs(STATS_max) : "
         << "abs(STATS_min)\nset cbrange [-m:m]\nset colorbox user origin graph 1.02, graph 0 size "
            "graph 0.02, graph 1\nunset ytics\nplot "
         << fast << " matrix with image pixels notitle\nunset multiplot\n";
  Plot::draw(stem, 800, 800, script.str());
}

}  // namespace

std::vector<Figure> draw_figures(const Results& results, const fs::path& folder) {
  std::vector<Figure> figures;
  draw_grid(results, panels_of(results, learning_curve), "batches", "validation error",
            folder / "learning_curves");
  figures.push_back({"learning_curves",
                     "Learning curves: mean over the runs; bands are 95% confidence intervals."});
  if (draw_axis(results, folder / "error")) {
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
  std::set<std::string> drawn;
  for (const Variant& variant : results.variants) {
    const std::string kind = variant.text("cell") + "_" + variant.text("rule");
    if (variant.runs.empty() || variant.text("rule") == "none" || !drawn.insert(kind).second) {
      continue;
    }
    const std::string file = "episode_" + kind;
    const std::string panel = results.panel(variant);
    draw_episode(variant, results.title + ": " + variant.text("cell") + ", " + variant.text("rule"),
                 folder / file);
    figures.push_back({file, "The network at work on one test episode (" + variant.text("cell") +
                                 ", " + variant.text("rule") + (panel.empty() ? "" : ", " + panel) +
                                 "): learning rate, norm of each layer's fast weights, and the 64 "
                                 "recurrent fast weights that grow largest."});
  }
  return figures;
}

}  // namespace experiments
