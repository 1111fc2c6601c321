#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "settings.hpp"

namespace experiments {

struct Experiment {
  std::string name;
  std::string title;
  std::vector<RunSettings> variants;    ///< each is run with several seeds
  Index hidden = RunSettings().hidden;  ///< the size that others are in proportion to
};

/// The experiments of Duan et al., ICLR 2023, with their ablations, and some of ours.
const std::vector<Experiment>& all_experiments();

/// A variant of the experiment in another size: `hidden` units instead of the experiment's, where a
/// network that has more or fewer because of its rule or cell keeps its proportion to it, and
/// another number of training batches. 0: the experiment's own.
RunSettings scaled(const Experiment& experiment, RunSettings variant, Index hidden, Index batches);

/// Throws std::invalid_argument if there is none of that name.
const Experiment& find_experiment(std::string_view name);

}  // namespace experiments
