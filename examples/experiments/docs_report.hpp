#pragma once

#include <filesystem>

namespace experiments {

/// Writes DOCS/results.md and its figures, DOCS/results/figures, from the finished runs in
/// DOCS/results/data, and trains nothing. Every number on the page comes from there. Figures that
/// the runs no longer allow are removed. Throws std::runtime_error if there is no such folder of
/// runs, a run's files are bad or of other settings than its folder's name says, or gnuplot fails.
void write_docs(const std::filesystem::path& docs);

}  // namespace experiments
