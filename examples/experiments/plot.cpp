#include "plot.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <iomanip>
#include <map>
#include <stdexcept>

#include "plastic/core/atomic_file.hpp"

namespace experiments {
namespace {

namespace fs = std::filesystem;

// One word of a shell command.
std::string in_shell(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

// What all figures share.
constexpr auto style =
    "set encoding utf8\nset border 3 lc rgb '#555555'\nset tics nomirror tc rgb '#222222'\n"
    "set grid lc rgb '#e4e4e4' lw 0.8\nset style fill transparent solid 0.18 noborder\n"
    "set rmargin 3\n";

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

std::string three_digits(double x) {
  std::ostringstream text;
  text << std::setprecision(3) << x;
  return text.str();
}

}  // namespace

std::string colour_of(const std::string& series, std::size_t number) {
  static const std::map<std::string, std::string> rules = {
      {"gradient", "#0072B2"},     {"hebbian", "#D55E00"},   {"none", "#555555"},
      {"trace", "#E69F00"},        {"modulated", "#009E73"}, {"retroactive", "#CC79A7"},
      {"fast_weights", "#56B4E9"}, {"delta", "#8A7A00"},     {"stpn", "#332288"},
      {"abcd", "#882255"}};
  if (const auto found = rules.find(series); found != rules.end()) return found->second;
  constexpr std::array colours = {"#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288"};
  return colours[number % colours.size()];
}

std::string label_of(const std::string& setting, const std::string& value) {
  static const std::map<std::string, std::string> words = {
      {"hebbian", "Hebbian"},
      {"none", "plain"},
      {"rnn", "RNN"},
      {"lstm", "LSTM"},
      {"stpn", "STPN"},
      {"abcd", "ABCD"},
      {"fast_weights", "fast weights"},
      {"delta_rnn", "delta RNN"},
      {"delta_net", "DeltaNet"},
      {"recurrent_delta_net", "recurrent DeltaNet"},
      {"cue_reward", "cue-reward"},
      {"sequence_reproduction", "sequence reproduction"},
      {"linear_regression", "linear regression"},
      {"mlp_regression", "regression of a network"}};
  const bool is_word = setting == "rule" || setting == "cell" || setting == "task";
  if (const auto found = words.find(value); is_word && found != words.end()) return found->second;
  return value;
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + "\"";
}

std::string script_of(const Drawing& drawing, const std::vector<std::string>& kinds) {
  std::ostringstream text;
  text << "# gnuplot " << drawing.name << ".gp draws the figure again.\n"
       << "if (!exists('unfinished')) unfinished = ''\n";
  for (const std::string& kind : kinds) {
    text << "reset\nset terminal "
         << (kind == "svg" ? "svg noenhanced font 'Helvetica,Arial,sans-serif,14' "
                           : "pngcairo noenhanced font 'Sans,11' ")
         << "background 'white' size " << drawing.width << "," << drawing.height << "\nset output '"
         << drawing.name << "." << kind << "'.unfinished\n"
         << drawing.body << "unset output\n";
  }
  return text.str();
}

void draw(const Drawing& drawing, const fs::path& folder, const std::vector<std::string>& kinds) {
  const fs::path stem = folder / drawing.name;
  const std::string end = "." + std::to_string(::getpid()) + ".tmp";
  const std::string log = drawing.name + ".log";
  plastic::write_file_atomically(stem.string() + ".gp", script_of(drawing, kinds));
  const std::string command = "cd " + in_shell(fs::absolute(folder).string()) +
                              " && gnuplot -e \"unfinished='" + end + "'\" " + drawing.name +
                              ".gp 2>" + log;
  if (std::system(command.c_str()) != 0) {
    throw std::runtime_error("gnuplot could not draw " + stem.string() +
                             ".gp (is it installed?): see " + log + " beside it");
  }
  fs::remove(stem.string() + ".log");
  for (const std::string& kind : kinds) {
    const std::string file = stem.string() + "." + kind;
    fs::rename(file + end, file);
  }
}

Plot::Plot(Options options) : options_(std::move(options)) {
  script_ << std::setprecision(9);
  script_ << style << "set xlabel " << quoted(options_.x) << "\nset ylabel " << quoted(options_.y)
          << "\nset key outside top center horizontal reverse Left samplen 1.2 width -1\n";
  script_ << options_.extra;
}

void Plot::add(const Panel& panel) {
  const bool bars = options_.marker != Marker::curve;
  std::vector<std::string> bands, curves, rings;  // in this order, so that no band covers a curve
  for (const Series& s : panel.series) {
    const std::string block = "$d" + std::to_string(blocks_++);
    script_ << block << " << END\n";
    bool interval = false, seeds = false;
    for (const Point& p : s.points) {
      script_ << p.x << " " << p.y << " " << p.low << " " << p.high << "\n";
      // An interval of two seeds may be so wide that it would flatten everything else.
      const double top = std::isfinite(p.high) ? std::min(p.high, 1.5 * p.y) : p.y;
      highest_ = std::max(highest_, top);
      const double bottom = std::isfinite(p.low) ? std::min(p.low, p.y) : p.y;
      if (bottom > 0) lowest_ = std::min(lowest_, bottom);
      below_zero_ = std::min(below_zero_, bottom);
      interval = interval || std::isfinite(p.low);
      seeds = seeds || p.seeds.size() > 1;
    }
    script_ << "END\n";
    const std::string colour = " lc rgb '" + s.colour + "' ";
    if (interval) {
      bands.push_back(block + " using 1:" +
                      (bars ? "2:3:4 with yerrorbars lw 1.5 pt 0" : "3:4 with filledcurves") +
                      colour + "notitle");
    }
    if (bars && seeds) {
      script_ << block << "s << END\n";
      for (const Point& p : s.points) {
        for (const double y : p.seeds) script_ << p.x << " " << y << "\n";
      }
      script_ << "END\n";
      rings.push_back(block + "s using 1:2 with points pt 6 ps 0.5" + colour + "notitle");
    }
    curves.push_back(block + " using 1:2 with " +
                     (options_.marker == Marker::bars ? "points pt 7 ps 0.8"
                      : bars || s.points.size() < 4   ? "linespoints pt 7 ps 0.7"
                                                      : "lines") +
                     " lw 2.2" + (s.dashed ? " dt 2" : "") + colour + "title " + quoted(s.label));
  }
  std::ostringstream plot;
  plot << std::setprecision(9);
  plot << "unset arrow\nunset label\n";
  // A line carries its name itself: below it, since the curves that it is for come from above,
  // unless the axis is there.
  for (const Line& line : panel.lines) {
    highest_ = std::max(highest_, line.value);
    curves.push_back(three_digits(line.value) + " with lines dt 2 lw 1.5 lc rgb '#777777' notitle");
    plot << "set label " << quoted(line.name + " " + three_digits(line.value))
         << " at graph 0.99, first " << line.value << " right offset 0,(" << line.value
         << " < near_zero ? 0.6 : -0.6) font ',11' tc rgb '#666666' front\n";
  }
  if (std::isfinite(panel.first_query)) {
    double last = 0;
    for (const Series& s : panel.series) last = std::max(last, s.points.back().x);
    const double x = panel.first_query - 0.5;
    const bool late = x > 0.6 * last;
    plot << "set arrow from " << x << ", graph 0 to " << x
         << ", graph 1 nohead dt 3 lw 1.5 lc rgb '#777777'\nset label \"queries begin\" at " << x
         << ", graph 0.95 " << (late ? "right offset -0.5" : "left offset 0.5")
         << ",0 font ',11' tc rgb '#666666' front\n";
    room_for_label_ = true;
  }
  bands.insert(bands.end(), rings.begin(), rings.end());
  bands.insert(bands.end(), curves.begin(), curves.end());
  if (!bars) plot << "set xtics " << tick_distance(panel) << "\n";
  plot << "set title " << quoted(panel.title) << "\nplot ";
  for (std::size_t i = 0; i < bands.size(); ++i) plot << (i > 0 ? ", \\\n  " : "") << bands[i];
  panels_.push_back(plot.str() + "\n");
}

Drawing Plot::drawing(const std::string& name, const std::string& caption) const {
  // Two cells stand side by side.
  const std::size_t columns = panels_.size() == 1 ? 1 : panels_.size() <= 10 ? 2 : 4;
  const std::size_t rows = (panels_.size() + columns - 1) / columns;
  std::ostringstream all;
  all << std::setprecision(9) << script_.str();
  if (options_.logarithmic) {
    all << "near_zero = 0\nset logscale y\nset format y '1e%T'\nset yrange ["
        << std::pow(10, std::floor(std::log10(lowest_))) << ":"
        << std::pow(10, std::ceil(std::log10(highest_))) << "]\n";
  } else {
    const double top = highest_ > 0 ? (room_for_label_ ? 1.25 : 1.08) * highest_ : 1;
    all << "near_zero = " << 0.08 * top << "\nset yrange [" << 1.08 * below_zero_ << ":" << top
        << "]\n";
  }
  all << "set multiplot layout " << rows << "," << columns << " title " << quoted(options_.title)
      << " font ',16'\n";
  for (const std::string& panel : panels_) all << panel;
  all << "unset multiplot\n";
  return {name, caption, columns == 1 ? 640 : 420 * columns, 50 + (rows == 1 ? 380 : 310 * rows),
          all.str()};
}

Drawing rows_of_points(const std::string& name, const std::string& caption, const Panel& panel,
                       const std::string& x) {
  std::ostringstream script;
  const auto rows = panel.series.size();
  script << std::setprecision(9) << style << "set title " << quoted(panel.title)
         << " font ',16' offset 0,1.2\nset xlabel " << quoted(x)
         << "\nset xrange [0:*]\nset offsets 0, graph 0.04, 0, 0\nset yrange [" << rows
         << " - 0.4:-0.6] noextend\nset key off\nset tmargin 5\nset ytics (";
  for (std::size_t i = 0; i < rows; ++i) {
    script << (i > 0 ? ", " : "") << quoted(panel.series[i].label) << " " << i;
  }
  script << ")\n";
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < panel.lines.size(); ++i) {
    const Line& line = panel.lines[i];
    script << "set arrow from " << line.value << ", graph 0 to " << line.value
           << ", graph 1 nohead dt 2 lw 1.5 lc rgb '#777777'\nset label "
           << quoted(line.name + " " + three_digits(line.value)) << " at " << line.value
           << ", graph 1 center offset 0," << 0.7 + 0.9 * static_cast<double>(i % 2)
           << " font ',11' tc rgb '#666666'\n";
  }
  for (std::size_t i = 0; i < rows; ++i) {
    const Series& s = panel.series[i];
    const Point& p = s.points.front();
    const std::string block = "$d" + std::to_string(i), colour = " lc rgb '" + s.colour + "' ";
    script << block << " << END\n" << p.y << " " << i << " " << p.low << " " << p.high << "\nEND\n";
    if (p.seeds.size() > 1) {
      script << block << "s << END\n";
      for (const double y : p.seeds) script << y << " " << i << "\n";
      script << "END\n";
      parts.push_back(block + "s using 1:2 with points pt 6 ps 0.6" + colour);
    }
    if (std::isfinite(p.low)) {
      parts.push_back(block + " using 1:2:3:4 with xerrorbars lw 2 pt 0" + colour);
    }
    parts.push_back(block + " using 1:2 with points pt 7 ps 1.1" + colour);
  }
  script << "plot ";
  for (std::size_t i = 0; i < parts.size(); ++i) script << (i > 0 ? ", \\\n  " : "") << parts[i];
  script << "\n";
  return {name, caption, 840, 150 + 34 * rows, script.str()};
}

}  // namespace experiments
