#include "runner.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <deque>
#include <exception>
#include <iomanip>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <thread>

#include "plastic/core/parallel.hpp"
#include "plastic/optim/optimizer.hpp"
#include "plastic/train/callback.hpp"
#include "run.hpp"
#include "stop.hpp"

namespace experiments {
namespace {

using plastic::Measure;
using plastic::Progress;
using plastic::TrainingCallback;

// The latest validation's reward, where the network acts.
const Measure* reward_of(const Progress& now) {
  for (const Measure& measure : now.measures) {
    if (measure.name == "reward") return &measure;
  }
  return nullptr;
}

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
         << std::setprecision(4) << now.train_loss;
    if (const Measure* reward = reward_of(now)) {
      line << "  reward " << reward->mean();
    } else {
      line << "  validation loss " << now.validation_loss;
    }
    line << "  " << time_left();
    print(line.str());
  }

  void note(const std::string& line) {
    const std::lock_guard lock(mutex_);
    print(line);
  }

  void end(const std::string& run, plastic::Index batches, const std::string& what) {
    const std::lock_guard lock(mutex_);
    const auto at = active_.find(run);
    // What this process has not done it has no more to do.
    batches_ -= static_cast<double>(batches - (at == active_.end() ? 0 : at->second.batch));
    if (at != active_.end()) active_.erase(at);
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
      const Measure* reward = reward_of(now);
      line << "  " << now.batch << ": " << std::setprecision(3)
           << (reward != nullptr ? reward->mean() : now.validation_loss);
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

// How long a run that another process has is left alone.
constexpr std::chrono::milliseconds ask_again{1000};

struct OpenRun {
  const PlannedRun* run;
  std::chrono::steady_clock::time_point not_before = {};
  bool waited_for = false;
};

// Runs in the order in which they come, so that all ranks take the same ones.
class Queue {
 public:
  void push(const OpenRun& run) {
    const std::lock_guard lock(mutex_);
    runs_.push_back(run);
  }
  std::size_t size() const { return runs_.size(); }

  // The next run, when its time has come; none where there is no other, or after SIGTERM.
  std::optional<OpenRun> pop() {
    std::optional<OpenRun> next;
    {
      const std::lock_guard lock(mutex_);
      if (runs_.empty()) return {};
      next = runs_.front();
      runs_.pop_front();
    }
    while (!stop_requested && std::chrono::steady_clock::now() < next->not_before) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return next;
  }

 private:
  std::mutex mutex_;
  std::deque<OpenRun> runs_;
};

}  // namespace

Outcome do_runs(const std::vector<PlannedRun>& runs, int jobs, std::ostream& stream, bool terminal,
                plastic::Communicator* ranks, std::chrono::seconds dead_after) {
  const bool divided = plastic::detail::is_divided(ranks);
  Queue open;
  double batches = 0;
  for (const PlannedRun& run : runs) {
    const bool finished = is_finished(run.folder);
    if (divided ? plastic::detail::broadcast_value(*ranks, finished) : finished) continue;
    open.push({&run});
    batches += static_cast<double>(run.settings.batches);
  }
  const std::size_t count = open.size();
  Board board(stream, terminal, count, batches);
  stream << runs.size() << " runs, " << runs.size() - count << " of them had already finished\n"
         << std::flush;
  if (count == 0) return {};
  const int processors = ranks != nullptr ? ranks->threads() : plastic::available_threads();
  if (divided) {
    jobs = 1;
  } else {
    ranks = nullptr;  // runs at the same time cannot share it
  }
  if (jobs == 0) jobs = processors;
  jobs = std::min(jobs, static_cast<int>(count));
  const int threads = std::max(1, processors / jobs);

  const StopSignal signal;
  std::atomic<int> failed = 0;
  const auto work = [&] {
    while (std::optional<OpenRun> next = open.pop()) {
      const PlannedRun& run = *next->run;
      if (stop_requested) {
        if (divided) throw Stopped();  // ends the other ranks
        return;
      }
      const std::string name = run.folder.filename().string();
      Reporter reporter(board, name, !terminal);
      try {
        train(run.settings, run.folder, threads, {.training = reporter}, ranks, dead_after);
        board.end(name, run.settings.batches, "done");
      } catch (const FolderBusy& error) {
        if (!next->waited_for) board.note(std::string("waiting for ") + error.what());
        open.push({&run, std::chrono::steady_clock::now() + ask_again, true});
      } catch (const FolderLost& error) {
        board.note(error.what());
        open.push({&run, std::chrono::steady_clock::now() + ask_again, true});
      } catch (const Stopped&) {
        if (divided) throw;
        return;
      } catch (const plastic::NonFiniteLoss& error) {  // of all ranks
        ++failed;
        board.end(name, run.settings.batches, std::string("failed: ") + error.what());
      } catch (const std::exception& error) {
        if (divided) throw;
        ++failed;
        board.end(name, run.settings.batches, std::string("failed: ") + error.what());
      }
    }
  };
  if (divided) {  // MPI is for the first thread alone
    work();
  } else {
    std::vector<std::jthread> workers;
    workers.reserve(static_cast<std::size_t>(jobs));
    for (int k = 0; k < jobs; ++k) workers.emplace_back(work);
    workers.clear();  // waits for them
  }
  return {failed, stop_requested && !std::all_of(runs.begin(), runs.end(), [](const auto& run) {
                    return is_finished(run.folder);
                  })};
}

}  // namespace experiments
