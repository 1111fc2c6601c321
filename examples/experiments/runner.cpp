#include "runner.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <exception>
#include <iomanip>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>

#include "../folder_lock.hpp"
#include "plastic/core/parallel.hpp"
#include "plastic/optim/optimizer.hpp"
#include "plastic/train/callback.hpp"
#include "run.hpp"

namespace experiments {
namespace {

using plastic::Progress;
using plastic::TrainingCallback;

// What all runs in progress have done so far, on one stream.
class Board {
 public:
  Board(std::ostream& stream, bool terminal, std::size_t runs, double batches)
      : stream_(stream), terminal_(terminal), runs_(runs), batches_(batches) {}

  // A run has done one more batch; `first` says whether it is the first one of this process.
  void batch(const std::string& run, const Progress& now, bool first) {
    const std::lock_guard lock(mutex_);
    if (first) batches_ -= static_cast<double>(now.batch - 1);
    done_ += 1;
    active_[run] = now;
    if (terminal_ && seconds() - drawn_ >= 0.2) draw();
  }

  void validation(const std::string& run, const Progress& now) {
    const std::lock_guard lock(mutex_);
    std::ostringstream line;
    line << run << "  batch " << now.batch << "/" << now.batches << "  train loss "
         << std::setprecision(4) << now.train_loss << "  validation loss " << now.validation_loss
         << "  " << time_left();
    print(line.str());
  }

  void end(const std::string& run, const std::string& what) {
    const std::lock_guard lock(mutex_);
    if (const auto at = active_.find(run); at != active_.end()) {
      batches_ -= static_cast<double>(at->second.batches - at->second.batch);
      active_.erase(at);
    }
    ++ended_;
    std::ostringstream line;
    line << "[" << ended_ << "/" << runs_ << "] " << run << ": " << what;
    print(line.str());
  }

 private:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

  void print(const std::string& line) {
    wipe();
    stream_ << line << "\n" << std::flush;
  }

  std::string time_left() const {
    const double left = seconds() * (batches_ - done_) / std::max(done_, 1.0);
    const auto all = static_cast<long>(std::ceil(std::max(left, 0.0)));
    std::ostringstream text;
    text << std::setfill('0') << all / 3600 << ':' << std::setw(2) << all / 60 % 60 << ':'
         << std::setw(2) << all % 60 << " left";
    return text.str();
  }

  void wipe() {
    if (width_ > 0) stream_ << "\r" << std::string(width_, ' ') << "\r";
    width_ = 0;
  }

  // At most 79 characters: a line that wraps cannot be drawn again.
  void draw() {
    constexpr std::size_t bar = 16, longest = 79;
    const double done = batches_ > 0 ? std::clamp(done_ / batches_, 0.0, 1.0) : 1;
    const auto full = static_cast<std::size_t>(done * bar);
    std::ostringstream line;
    line << ended_ << "/" << runs_ << " runs " << static_cast<int>(100 * done) << "% ["
         << std::string(full, '#') << std::string(bar - full, '.') << "] " << time_left();
    for (const auto& [run, now] : active_) {
      if (std::isnan(now.validation_loss)) continue;
      line << "  " << now.batch << ": " << std::setprecision(3) << now.validation_loss;
    }
    std::string text = line.str();
    if (text.size() > longest) text.resize(longest);
    wipe();
    stream_ << text << std::flush;
    width_ = text.size();
    drawn_ = seconds();
  }

  std::ostream& stream_;
  const bool terminal_;
  const std::size_t runs_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::mutex mutex_;
  double batches_;
  double done_ = 0;
  std::size_t ended_ = 0;
  std::map<std::string, Progress> active_;
  std::size_t width_ = 0;
  double drawn_ = 0;
};

// Reports progress to the board; without a terminal, it prints a line at every tenth of the run.
class Reporter : public TrainingCallback {
 public:
  Reporter(Board& board, std::string run, bool lines)
      : board_(board), run_(std::move(run)), lines_(lines) {}

  void on_batch(const Progress& now) override {
    board_.batch(run_, now, first_);
    first_ = false;
  }

  void on_validation(const Progress& now) override {
    const plastic::Index tenth = 10 * now.batch / now.batches;
    if (!lines_ || tenth == tenth_) return;
    tenth_ = tenth;
    board_.validation(run_, now);
  }

 private:
  Board& board_;
  std::string run_;
  bool lines_;
  bool first_ = true;
  plastic::Index tenth_ = 0;
};

}  // namespace

Outcome do_runs(const std::vector<PlannedRun>& runs, int jobs, std::ostream& stream, bool terminal,
                plastic::Communicator* ranks) {
  const bool divided = plastic::detail::is_divided(ranks);
  std::vector<const PlannedRun*> open;
  double batches = 0;
  for (const PlannedRun& run : runs) {
    const bool finished = is_finished(run.folder);
    if (divided ? plastic::detail::broadcast_value(*ranks, finished) : finished) continue;
    open.push_back(&run);
    batches += static_cast<double>(run.settings.batches);
  }
  Board board(stream, terminal, open.size(), batches);
  stream << runs.size() << " runs, " << runs.size() - open.size()
         << " of them had already finished\n"
         << std::flush;
  if (open.empty()) return {};
  const int processors = ranks != nullptr ? ranks->threads() : plastic::available_threads();
  if (divided) {
    jobs = 1;
  } else {
    ranks = nullptr;  // runs at the same time cannot share it
  }
  if (jobs == 0) jobs = processors;
  jobs = std::min(jobs, static_cast<int>(open.size()));
  const int threads = std::max(1, processors / jobs);

  std::atomic<std::size_t> next = 0;
  std::atomic<int> failed = 0, busy = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < open.size(); i = next++) {
      const std::string name = open[i]->folder.filename().string();
      Reporter reporter(board, name, !terminal);
      try {
        train(open[i]->settings, open[i]->folder, threads, {.training = reporter}, ranks);
        board.end(name, "done");
      } catch (const FolderBusy&) {
        ++busy;
        board.end(name, "left to another process, which is working on it");
      } catch (const plastic::NonFiniteLoss& error) {  // of all ranks
        ++failed;
        board.end(name, std::string("failed: ") + error.what());
      } catch (const std::exception& error) {
        if (divided) throw;
        ++failed;
        board.end(name, std::string("failed: ") + error.what());
      }
    }
  };
  if (divided) {  // MPI is for the first thread alone
    work();
    return {failed, busy};
  }
  std::vector<std::jthread> workers;
  workers.reserve(static_cast<std::size_t>(jobs));
  for (int k = 0; k < jobs; ++k) workers.emplace_back(work);
  workers.clear();  // waits for them
  return {failed, busy};
}

}  // namespace experiments
