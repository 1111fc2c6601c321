#include "report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "figures.hpp"
#include "plastic/core/atomic_file.hpp"
#include "results.hpp"

namespace experiments {
namespace {

namespace fs = std::filesystem;

std::string number(double x, const char* format) {
  if (!std::isfinite(x)) return "-";
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), format, x);
  return text.data();
}

// For readers: four decimals, or two digits of a number that they would not show, or two decimals
// of a large one.
std::string number(double x) {
  if (std::abs(x) >= 10) return number(x, "%.2f");
  return number(x, std::abs(x) < 0.001 && x != 0 ? "%.1e" : "%.4f");
}

struct Measure {
  std::string name;
  double RunResult::*value;
};

struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};

bool has_task(const Variant& variant, const char* name) {
  return variant.text("task").find(name) != std::string::npos;
}
bool is_regression(const Variant& variant) { return has_task(variant, "regression"); }
bool is_of_images(const Variant& variant) { return has_task(variant, "one_shot_images"); }

bool acts(const Results& results) { return results.variants.front().acts(); }

std::vector<Measure> measures(const Results& results) {
  if (acts(results)) {
    return {{"validation", &RunResult::best_reward},
            {"test", &RunResult::reward},
            {"test, likeliest actions", &RunResult::greedy_reward}};
  }
  std::vector<Measure> list = {{"validation", &RunResult::best_validation},
                               {"test", &RunResult::test_loss}};
  if (std::any_of(results.variants.begin(), results.variants.end(), is_of_images)) {
    list.push_back({"first query right", &RunResult::first_query_accuracy});
    list.push_back({"all queries right", &RunResult::query_accuracy});
    return list;
  }
  list.push_back({"test, queries", &RunResult::query_loss});
  if (std::any_of(results.variants.begin(), results.variants.end(), is_regression)) {
    list.push_back({"share of queries within 0.05", &RunResult::query_accuracy});
  }
  return list;
}

// A table to read has mean and interval in one cell; a table to compute with has them in two cells
// and rounds nothing.
Table make_table(const Results& results, bool to_read) {
  Table table;
  table.header = results.varied;
  for (const char* name : {"hidden", "batches", "runs"}) table.header.emplace_back(name);
  if (!to_read) table.header.emplace_back("missing");
  for (const Measure& m : measures(results)) {
    table.header.push_back(to_read ? m.name : "\"" + m.name + "\"");
    if (!to_read) table.header.push_back("\"" + m.name + " +-\"");
  }
  for (const Variant& variant : results.variants) {
    std::vector<std::string>& row = table.rows.emplace_back();
    for (const std::string& name : results.varied) {
      const bool raw = !to_read && variant.settings.contains(name);
      row.push_back(raw ? variant.settings.at(name).dump() : variant.text(name));
    }
    row.push_back(variant.text("hidden"));
    row.push_back(variant.text("batches"));
    std::string runs = std::to_string(variant.runs.size());
    if (to_read && variant.missing > 0) {
      runs += " of " + std::to_string(variant.runs.size() + variant.missing);
      if (variant.failed > 0) runs += " (" + std::to_string(variant.failed) + " failed)";
    }
    row.push_back(runs);
    if (!to_read) row.push_back(std::to_string(variant.missing));
    for (const Measure& m : measures(results)) {
      const bool none = variant.runs.empty() || (m.value == &RunResult::query_accuracy &&
                                                 !is_regression(variant) && !is_of_images(variant));
      const Estimate e = none ? Estimate{NAN, NAN} : estimate(variant.over_runs(m.value));
      if (to_read) {
        row.push_back(number(e.mean) +
                      (std::isfinite(e.half_width) ? " ± " + number(e.half_width) : ""));
      } else {
        row.push_back(number(e.mean, "%.9g"));
        row.push_back(number(e.half_width, "%.9g"));
      }
    }
  }
  return table;
}

std::string joined(const std::vector<std::string>& cells, const std::string& separator) {
  std::string text;
  for (const std::string& cell : cells) text += (text.empty() ? "" : separator) + cell;
  return text;
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
  std::string text = "<table>\n<tr>";
  for (const std::string& cell : table.header) text += "<th>" + escaped(cell) + "</th>";
  text += "</tr>\n";
  for (const auto& row : table.rows) {
    text += "<tr>";
    for (const std::string& cell : row) text += "<td>" + escaped(cell) + "</td>";
    text += "</tr>\n";
  }
  return text + "</table>\n";
}

// What the numbers are, and what to compare them with.
std::vector<std::string> notes(const Results& results) {
  if (std::any_of(results.variants.begin(), results.variants.end(), is_of_images)) {
    const std::string way = results.variants.front().text("way");
    return {
        "Cross-entropies of the queries, mean ± 95% confidence interval over the runs (seeds). "
        "\"validation\" is the lowest one of a run; \"test\" is the one of those weights on the "
        "test classes. The other columns are the shares of right answers to the first query of an "
        "episode and to all queries. Guessing among " +
        way + " labels gives a loss of " + number(std::log(std::stod(way))) + " and a share of " +
        number(1 / std::stod(way)) + "."};
  }
  if (acts(results)) {
    std::vector<std::string> lines = {
        "Rewards of an episode, mean ± 95% confidence interval over the runs (seeds). "
        "\"validation\" is the highest one of a run; \"test\" is the one of those weights in new "
        "episodes, with actions drawn as in training and with the likeliest action at each step."};
    for (const Variant& variant : results.variants) {
      const std::string size = variant.text("size");
      std::string line = variant.text("task") + (size == "-" ? "" : " of size " + size) + ":";
      for (const Mark& mark : marks(variant)) {
        line +=
            (line.back() == ':' ? " " : "; ") + mark.name + " " + number(mark.all_steps, "%.1f");
      }
      line += ".";
      if (std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(line);
    }
    return lines;
  }
  std::vector<std::string> lines = {
      "Mean squared errors, mean ± 95% confidence interval over the runs (seeds). \"validation\" "
      "is the lowest error of a run, over all steps that count; \"test\" is the error of those "
      "weights on "
      "the "
      "fixed test set, over the same steps and over the query steps alone."};
  std::vector<std::string> seen;
  for (const Variant& variant : results.variants) {
    std::string line;
    for (const Mark& mark : marks(variant)) {
      line += (line.empty() ? "" : "; ") + mark.name + " " + number(mark.all_steps) +
              ", queries alone " + number(mark.query_steps);
    }
    std::string task = variant.text("task");
    if (line.empty()) {
      line = "there are no reference values; errors are over the steps of all tasks together";
    }
    if (variant.text("support") != "-") task += ", " + variant.text("support") + " points shown";
    line = task + ": " + line + ".";
    if (std::find(seen.begin(), seen.end(), line) == seen.end()) seen.push_back(line);
  }
  lines.insert(lines.end(), seen.begin(), seen.end());
  for (const Variant& variant : results.variants) {
    if (variant.text("task") == "linear_regression") {
      lines.emplace_back(
          "linear_regression: the best possible share of queries within 0.05 is about 31% with 20 "
          "points shown and 9% with 10. Shares published elsewhere with 20 points: RNN 5%, LSTM "
          "10%, gated DeltaNet 11%, "
          "Transformer 30%.");
      break;
    }
  }
  return lines;
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The drawing, without the parts that only a separate file needs.
std::string svg_element(const fs::path& path) {
  const std::string text = read_text(path);
  const std::size_t begin = text.find("<svg");
  if (begin == std::string::npos) throw std::runtime_error(path.string() + " is not an SVG file");
  return text.substr(begin);
}

std::string html_report(const Results& results, const std::vector<Figure>& figures,
                        const fs::path& folder) {
  std::string text =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>" +
      escaped(results.title) +
      "</title>\n<style>\nbody { font: 15px/1.5 sans-serif; max-width: 1200px; margin: 2em auto; "
      "padding: 0 1em; color: #222; }\ntable { border-collapse: collapse; margin: 1em 0; }\n"
      "th, td { padding: 3px 12px 3px 0; text-align: left; border-bottom: 1px solid #ddd; }\n"
      "figure { margin: 2em 0; overflow-x: auto; }\nfigure svg { max-width: 100%; height: auto; }\n"
      "figcaption, .notes { color: #555; }\npre { background: #f6f6f6; padding: 1em; }\n"
      "</style>\n</head>\n<body>\n<h1>" +
      escaped(results.title) + "</h1>\n<p>Experiment <code>" + escaped(results.name) +
      "</code></p>\n" + html(make_table(results, true)) + "<div class=\"notes\">\n";
  for (const std::string& line : notes(results)) text += "<p>" + escaped(line) + "</p>\n";
  text += "</div>\n";
  for (const Figure& figure : figures) {
    // gnuplot gives the elements of every drawing the same names; in one document they must differ.
    std::string svg = svg_element(folder / (figure.file + ".svg"));
    const std::string label = "<title>Gnuplot</title>";
    if (const std::size_t at = svg.find(label); at != std::string::npos)
      svg.erase(at, label.size());
    for (const char* mark : {"id=\"", "id='", "url(#", "href='#", "href=\"#"}) {
      const std::string from(mark);
      for (std::size_t at = svg.find(from); at != std::string::npos;
           at = svg.find(from, at + from.size())) {
        svg.insert(at + from.size(), figure.file + "-");
      }
    }
    text += "<figure>\n" + svg + "<figcaption>" + escaped(figure.caption) +
            "</figcaption>\n</figure>\n";
  }
  text += "<h2>Settings</h2>\n";
  for (const Variant& variant : results.variants) {
    const std::string rule = variant.text("rule");
    const std::string panel = results.panel(variant);
    text += "<details><summary>" + escaped(rule + (panel.empty() ? "" : ", " + panel)) +
            "</summary><pre>" + escaped(variant.settings.dump(2)) + "</pre></details>\n";
  }
  return text + "</body>\n</html>\n";
}

}  // namespace

std::string write_report(const fs::path& folder) {
  const Results results = read_results(folder);
  const Table to_compute = make_table(results, false);
  std::string csv = joined(to_compute.header, ",") + "\n";
  for (const auto& row : to_compute.rows) csv += joined(row, ",") + "\n";
  plastic::write_file_atomically(folder / "results.csv", csv);

  // The tables are written before the figures are drawn, since figures need gnuplot.
  std::string table = markdown(make_table(results, true));
  std::string text = "# " + results.title + "\n\n" + table + "\n";
  for (const std::string& line : notes(results)) text += line + "\n\n";
  plastic::write_file_atomically(folder / "results.md", text);

  const std::vector<Figure> figures = draw_figures(results, folder);
  for (const Figure& figure : figures) {
    text += "![" + figure.caption + "](" + figure.file + ".svg)\n\n";
  }
  plastic::write_file_atomically(folder / "results.md", text);
  plastic::write_file_atomically(folder / "report.html", html_report(results, figures, folder));
  return table;
}

}  // namespace experiments
