#pragma once

#include <cmath>
#include <filesystem>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

namespace experiments {

/// The colour of a rule in every figure, which the colour-blind can tell from the other rules of
/// the paper; of what is not a rule, the colour of that number.
std::string colour_of(const std::string& series, std::size_t number = 0);

/// A value of a setting as readers know it: hebbian is "Hebbian", rnn is "RNN".
std::string label_of(const std::string& setting, const std::string& value);

/// In gnuplot's double quotes.
std::string quoted(const std::string& text);

struct Point {
  double x = 0, y = 0, low = 0, high = 0;  ///< low, high: NaN where there is no interval
  std::vector<double> seeds = {};          ///< what y is the mean of; drawn as small rings
};

struct Series {
  std::string name, label, colour;
  std::vector<Point> points;
  bool dashed = false;  ///< another network of the same rule
};

/// A value to hold the others against.
struct Line {
  std::string name;
  double value;
};

struct Panel {
  std::string title;
  std::vector<Series> series;
  std::vector<Line> lines;
  double first_query = std::numeric_limits<double>::quiet_NaN();  ///< where one is marked
};

/// How a series is drawn: a curve in a band, or points with error bars, joined or not.
enum class Marker { curve, joined_bars, bars };

/// A figure that has not been drawn yet: a script for gnuplot with all its numbers.
struct Drawing {
  std::string name;  ///< of its files, without their ends
  std::string caption;
  std::size_t width, height;
  std::string body;
};

/// The whole script, which makes files of these kinds ("svg", "png") beside it.
std::string script_of(const Drawing& drawing, const std::vector<std::string>& kinds);

/// Writes FOLDER/NAME.gp and runs it. Throws std::runtime_error if gnuplot fails.
void draw(const Drawing& drawing, const std::filesystem::path& folder,
          const std::vector<std::string>& kinds = {"svg", "png"});

/// Panels in a grid, with one y axis from 0, or from below the lowest negative point, or from a
/// power of ten, to above all points.
class Plot {
 public:
  struct Options {
    std::string title, x, y;
    bool logarithmic = false;  ///< the y axis
    Marker marker = Marker::curve;
    std::string extra = {};  ///< commands of gnuplot, before the first panel
  };

  explicit Plot(Options options);
  void add(const Panel& panel);
  Drawing drawing(const std::string& name, const std::string& caption) const;

 private:
  Options options_;
  std::ostringstream script_;
  std::vector<std::string> panels_;
  std::size_t blocks_ = 0;
  bool room_for_label_ = false;
  double highest_ = 0, lowest_ = 1;  // of all panels, which share the y axis; lowest above 0
  double below_zero_ = 0;            // the lowest of all, or 0
};

/// One row for each series, which has one point: its value along the x axis. For many networks.
Drawing rows_of_points(const std::string& name, const std::string& caption, const Panel& panel,
                       const std::string& x);

}  // namespace experiments
