#include "report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "definitions.hpp"
#include "figures.hpp"
#include "plastic/core/atomic_file.hpp"
#include "results.hpp"
#include "text_table.hpp"

namespace experiments {
namespace {

namespace fs = std::filesystem;

struct Measure {
  std::string name;
  double RunResult::*value;
};

bool has_task(const Variant& variant, const char* name) {
  return variant.text("task").find(name) != std::string::npos;
}
bool is_regression(const Variant& variant) { return has_task(variant, "regression"); }
bool is_of_images(const Variant& variant) { return has_task(variant, "one_shot_images"); }

std::vector<Measure> measures(const Results& results) {
  if (of_acting(results)) {
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
        row.push_back(text_of_estimate(e));
      } else {
        row.push_back(number(e.mean, "%.9g"));
        row.push_back(number(e.half_width, "%.9g"));
      }
    }
  }
  return table;
}

std::string loss_name(const Results& results) {
  const bool classes = std::any_of(
      results.variants.begin(), results.variants.end(),
      [](const Variant& variant) { return has_task(variant, "associative_retrieval"); });
  return classes ? "cross-entropies" : "mean squared errors";
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
  std::vector<std::string> lines;
  if (of_acting(results)) {
    lines.emplace_back(
        "Rewards of an episode, mean ± 95% confidence interval over the runs (seeds). "
        "\"validation\" is the highest one of a run; \"test\" is the one of those weights in new "
        "episodes, with actions drawn as in training and with the likeliest action at each step.");
  } else {
    lines.push_back(
        "Losses (" + loss_name(results) +
        "), mean ± 95% confidence interval over the runs (seeds). \"validation\" is the lowest "
        "loss "
        "of a run, over all steps that count; \"test\" is that of those weights on the fixed test "
        "set, over the same steps; \"test, queries\" is the " +
        query_measure(results) + ".");
  }
  const std::vector<std::string> references = reference_values(results);
  lines.insert(lines.end(), references.begin(), references.end());
  if (references.empty()) {
    lines.emplace_back(
        "There are no reference values for this task: compare with the plain network, where one is "
        "in the table.");
  }
  return lines;
}

// What a reader must know before believing the numbers.
std::vector<std::string> warnings(const Results& results) {
  std::vector<std::string> lines;
  std::size_t most = 0;
  Index batches = 0;
  for (const Variant& variant : results.variants) {
    most = std::max(most, variant.runs.size());
    if (!variant.runs.empty())
      batches = std::max(batches, variant.settings.at("batches").get<Index>());
  }
  if (most == 1) {
    lines.emplace_back(
        "One run of each setting: there are no intervals, and any difference between two rows may "
        "be the luck of one seed. Run more seeds before you conclude from it (--seeds 4).");
  }
  Index published = 0;
  for (const RunSettings& variant : find_experiment(results.name).variants) {
    published = std::max(published, variant.batches);
  }
  if (batches < published) {
    lines.push_back("Short training: " + std::to_string(batches) +
                    " batches, where the experiment has " + std::to_string(published) +
                    ". A network that has not learned yet may learn later.");
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

std::string html_report(const Results& results, const std::vector<Drawing>& figures,
                        const fs::path& folder) {
  std::string text =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
      escaped(results.title) +
      // What is wider than a phone scrolls in its own box, so that the page does not.
      "</title>\n<style>\nbody { font: 16px/1.5 sans-serif; max-width: 900px; margin: 2em auto; "
      "padding: 0 1em; color: #222; overflow-wrap: break-word; }\n"
      ".wide, figure, pre { overflow-x: auto; }\ntable { border-collapse: collapse; margin: 1em 0; "
      "font-size: 15px; }\n"
      "th, td { padding: 4px 14px 4px 0; text-align: left; border-bottom: 1px solid #ddd; "
      "white-space: nowrap; }\nfigure { margin: 2em 0; }\n"
      "figure svg { width: 100%; min-width: 560px; height: auto; }\n"
      "figcaption, .notes { color: #555; }\n.warning { background: #fff4e0; border-left: 4px solid "
      "#E69F00; padding: 0.5em 1em; }\npre { background: #f6f6f6; padding: 1em; }\n"
      "</style>\n</head>\n<body>\n<h1>" +
      escaped(results.title) + "</h1>\n<p>Experiment <code>" + escaped(results.name) +
      "</code></p>\n";
  for (const std::string& line : warnings(results)) {
    text += "<p class=\"warning\">" + escaped(line) + "</p>\n";
  }
  text += html(make_table(results, true)) + "<div class=\"notes\">\n";
  for (const std::string& line : notes(results)) text += "<p>" + escaped(line) + "</p>\n";
  text += "</div>\n";
  for (const Drawing& figure : figures) {
    // gnuplot gives the elements of every drawing the same names; in one document they must differ.
    std::string svg = svg_element(folder / (figure.name + ".svg"));
    const std::string label = "<title>Gnuplot</title>";
    if (const std::size_t at = svg.find(label); at != std::string::npos)
      svg.erase(at, label.size());
    for (const char* mark : {"id=\"", "id='", "url(#", "href='#", "href=\"#"}) {
      const std::string from(mark);
      for (std::size_t at = svg.find(from); at != std::string::npos;
           at = svg.find(from, at + from.size())) {
        svg.insert(at + from.size(), figure.name + "-");
      }
    }
    text += "<figure>\n" + svg + "<figcaption>" + escaped(figure.caption) +
            "</figcaption>\n</figure>\n";
  }
  text += "<h2>Settings</h2>\n";
  for (const Variant& variant : results.variants) {
    const std::string panel = panel_title(results, variant);
    text += "<details><summary>" +
            escaped(network_name(results, variant) + (panel.empty() ? "" : ", " + panel)) +
            "</summary><pre>" + escaped(variant.settings.dump(2)) + "</pre></details>\n";
  }
  return text + "</body>\n</html>\n";
}

}  // namespace

std::vector<std::string> reference_values(const Results& results) {
  std::vector<std::string> lines;
  const auto add = [&](const std::string& line) {
    if (std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(line);
  };
  for (const Variant& variant : results.variants) {
    std::string task = label_of("task", variant.text("task"));
    if (variant.text("support") != "-") task += ", " + variant.text("support") + " points shown";
    if (variant.text("size") != "-") task += " of size " + variant.text("size");
    for (const Mark& mark : marks(variant)) {
      if (variant.acts()) {
        add("\"" + mark.name + "\" in " + task + ": " + number(mark.all_steps, "%.1f") +
            " an episode. It " + mark.meaning + ".");
        continue;
      }
      add("\"" + mark.name + "\" in " + task + ": " + number(mark.query_steps) +
          " on the queries, " + number(mark.all_steps) + " over all steps. It " + mark.meaning +
          ".");
    }
  }
  for (const Variant& variant : results.variants) {
    if (variant.text("task") == "linear_regression") {
      add("The best possible share of queries within 0.05 in linear regression is about 31% with "
          "20 points shown and 9% with 10. Shares published elsewhere with 20 points: RNN 5%, LSTM "
          "10%, gated DeltaNet 11%, Transformer 30%.");
    }
  }
  return lines;
}

std::string write_report(const fs::path& folder) {
  const Results results = read_results(folder);
  const Table to_compute = make_table(results, false);
  std::string csv = joined(to_compute.header, ",") + "\n";
  for (const auto& row : to_compute.rows) csv += joined(row, ",") + "\n";
  plastic::write_file_atomically(folder / "results.csv", csv);

  // The tables are written before the figures are drawn, since figures need gnuplot.
  std::string table = markdown(make_table(results, true));
  std::string text = "# " + results.title + "\n\n";
  for (const std::string& line : warnings(results)) text += "**" + line + "**\n\n";
  text += table + "\n";
  for (const std::string& line : notes(results)) text += line + "\n\n";
  plastic::write_file_atomically(folder / "results.md", text);

  std::vector<Drawing> figures = figures_of(results);
  for (Drawing& drawing : episodes_of(results, folder)) figures.push_back(std::move(drawing));
  for (const Drawing& figure : figures) {
    draw(figure, folder);
    text += "![" + figure.caption + "](" + figure.name + ".svg)\n\n";
  }
  plastic::write_file_atomically(folder / "results.md", text);
  plastic::write_file_atomically(folder / "report.html", html_report(results, figures, folder));
  return table;
}

}  // namespace experiments
