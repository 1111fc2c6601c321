#pragma once

#include <string>
#include <vector>

#include "results.hpp"

namespace experiments {

struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};

std::string joined(const std::vector<std::string>& cells, const std::string& separator);

/// "-" where x is not finite.
std::string number(double x, const char* format);

/// For readers: four decimals, or two digits of a number that they would not show, or two decimals
/// of a large one.
std::string number(double x);

/// "mean ± half width", or the mean alone where there is no interval.
std::string text_of_estimate(const Estimate& estimate);

std::string markdown(const Table& table);

/// A table that scrolls by itself where the page is narrow.
std::string html(const Table& table);

/// For HTML.
std::string escaped(const std::string& text);

}  // namespace experiments
