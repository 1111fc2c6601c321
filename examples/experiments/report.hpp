#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "results.hpp"

namespace experiments {

/// Reads FOLDER/experiment.json and the runs that it names, and writes to FOLDER
///   results.csv, results.md    mean and 95% confidence interval over the seeds
///   *.svg, *.png               learning curves, error against what is varied, eta(t), one episode
///   report.html                all of it in one file that opens from disk
/// Runs that have not finished are counted as missing. Throws std::runtime_error if there is no
/// finished run, a file cannot be read, or gnuplot fails. Returns the Markdown table.
std::string write_report(const std::filesystem::path& folder);

/// What the errors of these results are to be held against, a sentence each; empty where nothing is
/// known.
std::vector<std::string> reference_values(const Results& results);

}  // namespace experiments
