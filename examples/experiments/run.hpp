#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <stdexcept>

#include "../folder_lock.hpp"
#include "plastic/core/communicator.hpp"
#include "plastic/train/callback.hpp"
#include "settings.hpp"

namespace experiments {

/// A run's folder holds
///   settings.json           what determines the run
///   progress.csv            losses at every validation
///   best.safetensors        the best weights with a few test episodes, for `replay`
///   checkpoint.safetensors  all that the run needs to go on
/// and when it has finished, of the best weights on the test set,
///   eta.csv                 learning rate of the fast weights at every step, mean and sd
///   episode.csv, fast.csv   one episode at work: eta, norms of the fast weights, some of them
///   test.csv                losses, or rewards of networks that act; written last
/// Without fast weights there are no eta.csv, episode.csv and fast.csv. A run on images has
/// encoder.safetensors if its encoder was trained before, and instead of those three episode.svg,
/// a few test episodes with the network's answers; with a second test, second_test.csv and
/// second_episode.svg too. A run that has failed holds failed.txt, which says why, until it is
/// tried again.
inline bool is_finished(const std::filesystem::path& folder) {
  return std::filesystem::exists(folder / "test.csv");
}

/// Who hears how a run proceeds.
struct Observers {
  plastic::TrainingCallback& training;
  plastic::TrainingCallback* pretraining = nullptr;  ///< called while an encoder is pretrained
  std::function<void(Index done, Index all)> reading = {};  ///< called while image files are read
};

/// Trains what `settings` say, from the folder's checkpoint if there is one, to the end; does
/// nothing where that has been done. The result does not depend on `threads`, nor on how often the
/// run was killed on the way, nor on the number of ranks that train it together: all of them call
/// this, and the first works in the folder. Throws FolderBusy while another process holds the
/// folder, unless nothing was heard of it for `dead_after`; FolderLost if that has happened to this
/// one; Stopped after SIGTERM, while a StopSignal lives; std::runtime_error if the folder has a run
/// with other settings, std::system_error if the folder cannot be used, and whatever stops
/// training.
void train(const RunSettings& settings, const std::filesystem::path& folder, int threads,
           const Observers& observers, plastic::Communicator* ranks = nullptr,
           std::chrono::seconds dead_after = FolderLock::default_dead_after);

}  // namespace experiments
