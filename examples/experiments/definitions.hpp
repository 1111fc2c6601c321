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

/// Throws std::invalid_argument if there is none of that name.
const Experiment& find_experiment(std::string_view name);

}  // namespace experiments
