#include "text_table.hpp"

#include <array>
#include <cmath>
#include <cstdio>

namespace experiments {

std::string joined(const std::vector<std::string>& cells, const std::string& separator) {
  std::string text;
  for (std::size_t i = 0; i < cells.size(); ++i) text += (i == 0 ? "" : separator) + cells[i];
  return text;
}

std::string number(double x, const char* format) {
  if (!std::isfinite(x)) return "-";
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), format, x);
  return text.data();
}

std::string number(double x) {
  if (std::abs(x) >= 10) return number(x, "%.2f");
  return number(x, std::abs(x) < 0.001 && x != 0 ? "%.1e" : "%.4f");
}

std::string text_of_estimate(const Estimate& estimate) {
  const bool interval = std::isfinite(estimate.half_width);
  return number(estimate.mean) + (interval ? " ± " + number(estimate.half_width) : "");
}

std::string markdown(const Table& table) {
  std::string text = "| " + joined(table.header, " | ") + " |\n|";
  for (std::size_t i = 0; i < table.header.size(); ++i) text += "---|";
  text += "\n";
  for (const auto& row : table.rows) text += "| " + joined(row, " | ") + " |\n";
  return text;
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    result += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
  }
  return result;
}

std::string html(const Table& table) {
  std::string text = "<div class=\"wide\"><table>\n<tr>";
  for (const std::string& cell : table.header) text += "<th>" + escaped(cell) + "</th>";
  text += "</tr>\n";
  for (const auto& row : table.rows) {
    text += "<tr>";
    for (const std::string& cell : row) text += "<td>" + escaped(cell) + "</td>";
    text += "</tr>\n";
  }
  return text + "</table></div>\n";
}

}  // namespace experiments
