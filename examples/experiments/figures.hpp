#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "results.hpp"

namespace experiments {

struct Figure {
  std::string file;  ///< without .svg or .png
  std::string caption;
};

/// Draws every figure that the results allow into `folder`, as SVG and PNG, through gnuplot. Throws
/// std::runtime_error if it fails.
std::vector<Figure> draw_figures(const Results& results, const std::filesystem::path& folder);

}  // namespace experiments
