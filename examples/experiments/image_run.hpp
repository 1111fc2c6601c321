#pragma once

#include <filesystem>

#include "run.hpp"

namespace experiments {

/// The part of `train` for the task one_shot_images: trains, or reads, the encoder, trains the
/// classifier from the folder's checkpoint if there is one, and tests its best state.
void train_on_images(const RunSettings& settings, const std::filesystem::path& folder, int threads,
                     const Observers& observers, FolderLock* lock, plastic::Communicator* ranks);

}  // namespace experiments
