#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <locale>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "plastic/core/atomic_file.hpp"
#include "plastic/environments/grid_maze.hpp"

namespace examples {

/// What a network did in one episode of a maze.
struct Walk {
  std::vector<plastic::GridMaze::State> states;  ///< at first, and after each step
  std::vector<double> rewards;                   ///< of each step
  std::vector<double> modulator, eta;            ///< in each step; empty if there is none
};

/// The gnuplot script of a picture: the path in the maze, and beside it the rewards, the modulator
/// and eta, step by step. `file` is what it writes, an SVG file.
inline std::string walk_script(const plastic::GridMaze& maze, const Walk& walk,
                               const std::string& title, const std::string& file) {
  using plastic::Index;
  const std::size_t steps = walk.rewards.size();
  const Index size = maze.options().size;
  std::ostringstream script;
  script.imbue(std::locale::classic());
  script << std::setprecision(6);

  // Rows count downwards. Those who pass a cell again pass it a little further down to the right.
  const auto place = [&](std::size_t t, double row, double column) {
    const double beside = 0.5 * static_cast<double>(t) / static_cast<double>(steps) - 0.25;
    script << column + beside << " " << row + beside << " " << t << "\n";
  };
  script << "$path << END\n";
  for (std::size_t t = 0; t < steps; ++t) {
    const auto &from = walk.states[t], &to = walk.states[t + 1];
    place(t, from.row, from.column);
    if (walk.rewards[t] > 0) {
      place(t + 1, to.reward_row, to.reward_column);
      script << "\n";  // a jump is no part of the path
    } else if (t + 1 == steps) {
      place(t + 1, to.row, to.column);
    }
  }
  script << "END\n$steps << END\n";
  double sum = 0;
  for (std::size_t t = 0; t < steps; ++t) {
    sum += walk.rewards[t];
    script << t + 1 << " " << sum << " " << (walk.modulator.empty() ? 0 : walk.modulator[t]) << " "
           << (walk.eta.empty() ? 0 : walk.eta[t]) << "\n";
  }
  script << "END\n";

  script << "set terminal svg noenhanced font 'Arial,12' background 'white' size 1100,560\n"
         << "set output '" << file << "'\nset multiplot title \"" << title << "\" font ',14'\n"
         << "set palette defined (0 '#440154', 1 '#31688e', 2 '#35b779', 3 '#fde725')\n"
         << "set lmargin at screen 0.03\nset rmargin at screen 0.49\nset bmargin at screen 0.16\n"
         << "set tmargin at screen 0.92\nset size ratio -1\nunset tics\nunset border\n"
         << "set xrange [-0.5:" << size - 1 << ".5]\nset yrange [" << size - 1 << ".5:-0.5]\n"
         << "set cbrange [0:" << steps << "]\nset cblabel 'step'\nset cbtics\n"
         << "set colorbox horizontal user origin screen 0.08, screen 0.11 size screen 0.36, "
            "screen 0.02\n";
  int objects = 0;
  for (Index row = 0; row < size; ++row) {
    for (Index column = 0; column < size; ++column) {
      if (!maze.wall(row, column)) continue;
      script << "set object " << ++objects << " rectangle center " << column << "," << row
             << " size 1,1 behind fc rgb '#bbbbbb' fs solid noborder\n";
    }
  }
  const auto& first = walk.states.front();
  script << "set object " << ++objects << " rectangle center " << first.reward_column << ","
         << first.reward_row << " size 0.92,0.92 behind fc rgb '#f4b6a8' fs solid noborder\n"
         << "set label 1 'start' at " << first.column << "," << first.row
         << " center front boxed font ',10'\nset style textbox opaque noborder\n"
         << "plot $path using 1:2:3 with lines lw 1.5 lc palette notitle\n"
         << "unset colorbox\nunset label\n";
  for (int k = 1; k <= objects; ++k) script << "unset object " << k << "\n";

  struct Panel {
    const char *name, *colour;
    int column;
    std::string range;
  };
  // gnuplot complains of a range that is empty.
  const auto range_of = [](const std::vector<double>& values) {
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    return *low < *high ? std::string("[*:*]")
                        : "[" + std::to_string(*low - 1) + ":" + std::to_string(*low + 1) + "]";
  };
  std::vector<Panel> panels = {
      {"sum of rewards", "#D55E00", 2, "[0:" + std::to_string(std::max(sum, 1.0)) + "]"}};
  if (!walk.modulator.empty()) {
    panels.push_back({"modulator", "#0072B2", 3, range_of(walk.modulator)});
  }
  if (!walk.eta.empty()) panels.push_back({"eta", "#009E73", 4, range_of(walk.eta)});
  script << "set size noratio\nset border 3\nset xtics nomirror\nset ytics nomirror font ',9'\n"
         << "set grid lc rgb '#dddddd'\nset xrange [0:" << steps << "]\nset yrange [*:*]\n"
         << "set lmargin at screen 0.58\nset rmargin at screen 0.97\n";
  // A line in all panels for each reward.
  int arrows = 0;
  for (std::size_t t = 0; t < steps; ++t) {
    if (walk.rewards[t] <= 0) continue;
    script << "set arrow " << ++arrows << " from " << t + 1 << ", graph 0 to " << t + 1
           << ", graph 1 nohead back lc rgb '#f4b6a8'\n";
  }
  const double height = 0.84 / static_cast<double>(panels.size());
  for (std::size_t k = 0; k < panels.size(); ++k) {
    const double top = 0.92 - height * static_cast<double>(k);
    script << "set tmargin at screen " << top << "\nset bmargin at screen " << top - height + 0.06
           << "\nset yrange " << panels[k].range << "\nset ylabel '" << panels[k].name << "'\n"
           << (k + 1 == panels.size() ? "set xlabel 'step'\n" : "")
           << "plot $steps using 1:" << panels[k].column << " with lines lw 2 lc rgb '"
           << panels[k].colour << "' notitle\n";
  }
  script << "unset multiplot\nunset output\n";
  return script.str();
}

/// Draws the picture with gnuplot. Throws std::runtime_error where that fails.
inline void draw_walk(const plastic::GridMaze& maze, const Walk& walk, const std::string& title,
                      const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  // gnuplot works inside a folder of its own, so that no name of a user's is a part of its script.
  // mkdtemp replaces the last six characters.
  std::string folder = (fs::temp_directory_path() / ("maze-" + std::string(6, 'X'))).string();
  if (::mkdtemp(folder.data()) == nullptr) {
    throw std::runtime_error("no folder can be made in " + fs::temp_directory_path().string());
  }
  std::string word = "'";
  for (const char c : folder) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  std::FILE* gnuplot = ::popen(("cd " + word + "' && gnuplot").c_str(), "w");
  const bool written = gnuplot != nullptr &&
                       std::fputs(walk_script(maze, walk, title, "walk.svg").c_str(), gnuplot) >= 0;
  const bool drawn = gnuplot != nullptr && ::pclose(gnuplot) == 0 && written;
  std::ostringstream picture;
  picture << std::ifstream(fs::path(folder) / "walk.svg").rdbuf();
  fs::remove_all(folder);
  if (!drawn) {
    throw std::runtime_error("gnuplot could not draw " + path.string() + " (is it installed?)");
  }
  plastic::write_file_atomically(path, picture.str());
}

}  // namespace examples
