#pragma once

#include <filesystem>

#include "run.hpp"

namespace experiments {

/// What `train` does for the tasks maze and target_discovery, in which the network acts. Throws
/// std::invalid_argument if the network is not an rnn with the rule none, gradient, hebbian, trace,
/// modulated or retroactive.
void train_to_act(const RunSettings& settings, const std::filesystem::path& folder, int threads,
                  const Observers& observers, FolderLock* lock, plastic::Communicator* ranks);

}  // namespace experiments
