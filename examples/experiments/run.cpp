#include "run.hpp"

#include <algorithm>
#include <fstream>
#include <iomanip>
#include <locale>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "../folder_lock.hpp"
#include "acting_run.hpp"
#include "csv.hpp"
#include "episode_files.hpp"
#include "image_run.hpp"
#include "plastic/cells/dispatch.hpp"
#include "plastic/io/model_file.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/train/trainer.hpp"
#include "run_files.hpp"
#include "stop.hpp"
#include "task_loss.hpp"

namespace experiments {
namespace {

using namespace plastic;
namespace fs = std::filesystem;

// The settings of a run that has produced nothing yet may change.
void write_settings(const RunSettings& settings, const fs::path& folder) {
  const fs::path path = folder / "settings.json";
  const std::string text = to_json(settings).dump(2) + "\n";
  const auto has = [&](const char* name) { return fs::exists(folder / name); };
  const bool begun = has("encoder.safetensors") || has("checkpoint.safetensors") || has("test.csv");
  if (!has("settings.json") || !begun) return write_file_atomically(path, text);
  std::ifstream file(path);
  const std::string old((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (old != text) {
    throw std::runtime_error(path.string() +
                             ": the folder has a run with other settings; choose another folder");
  }
}

// Removes the unfinished files that a kill has left, and the message of an earlier failure.
void remove_leftovers(const fs::path& folder) {
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".tmp") leftovers.push_back(entry.path());
  }
  for (const fs::path& path : leftovers) fs::remove(path);
  fs::remove(folder / "failed.txt");
}

template <class Cell>
void train_cell(const RunSettings& settings, const fs::path& folder, int threads,
                TrainingCallback& observer, FolderLock* lock, Communicator* ranks) {
  const Task task = make_task(settings);
  Cell cell(make_options<Cell>(settings, task.inputs(), task.outputs()));
  AdamW<float> optimizer(cell.parameters(), {.learning_rate = settings.learning_rate});
  Trainer trainer(cell, task, TaskLoss(settings.task), optimizer,
                  {.batch = settings.batch,
                   .batches = settings.batches,
                   .clip_norm = settings.clip_norm,
                   .validation_every = settings.validate_every,
                   .seed = settings.seed,
                   .threads = threads,
                   // The machine's cache does not decide this: a run may move to another machine.
                   .shard = Cell::plastic ? 2 : 8,
                   .communicator = ranks});
  StopWhenLost lost(lock);
  const auto write = [&] { save(folder / "best.safetensors", cell, task); };
  train_and_keep_best(trainer, cell.parameters(), write, folder, observer, lost, ranks);
  const Evaluation test = trainer.evaluate_in_detail({0, Random::Purpose::test}, 100);
  if (!plastic::detail::leads(ranks)) return;
  lost.check();
  if constexpr (Cell::plastic) {
    write_eta(test, folder / "eta.csv");
    Episodes<float> episodes;
    task.generate({0, Random::Purpose::test}, 0, 0, 1, episodes);
    CellState<float> state = cell.initial_state(1);
    const auto advance = [&](Index t) {
      return cell.step(state, episodes.inputs.col(t)).eta(0, 0);
    };
    write_episode(cell, state, episodes.inputs.cols(), advance, folder);
  }
  Csv csv;
  csv << "test_loss"
      << "query_loss"
      << "query_accuracy";
  csv.end_row();
  csv << test.loss << test.measure("query_error").mean() << test.measure("within_bound").mean();
  csv.end_row();
  csv.write(folder / "test.csv");
}

}  // namespace

void train(const RunSettings& settings, const fs::path& folder, int threads,
           const Observers& observers, Communicator* ranks, std::chrono::seconds dead_after) {
  // The first rank finds out what there is to do, and all do it.
  enum class Found { work, finished, busy } found = Found::work;
  std::optional<FolderLock> lock;
  std::string busy = folder.string() + ": another process is using this folder";
  if (plastic::detail::leads(ranks)) {
    fs::create_directories(folder);
    try {
      lock.emplace(folder, FolderLock::Busy::refuse, dead_after);
      write_settings(settings, folder);
      if (is_finished(folder)) {
        found = Found::finished;
      } else {
        remove_leftovers(folder);
      }
    } catch (const FolderBusy& error) {
      busy = error.what();
      found = Found::busy;
    }
  }
  if (ranks != nullptr) found = plastic::detail::broadcast_value(*ranks, found);
  if (found == Found::busy) throw FolderBusy(busy);
  if (found == Found::finished) return;
  FolderLock* const held = lock ? &*lock : nullptr;
  try {
    if (settings.task == "one_shot_images") {
      train_on_images(settings, folder, threads, observers, held, ranks);
    } else if (settings.acts()) {
      train_to_act(settings, folder, threads, observers, held, ranks);
    } else {
      with_cell_type<float>(
          settings.cell, settings.rule, [&]<class Cell>(std::type_identity<Cell>) {
            train_cell<Cell>(settings, folder, threads, observers.training, held, ranks);
          });
    }
  } catch (const Stopped&) {
    throw;
  } catch (const FolderLost&) {
    throw;
  } catch (const std::exception& error) {
    write_file_atomically(folder / "failed.txt", std::string(error.what()) + "\n");
    throw;
  }
}

}  // namespace experiments
