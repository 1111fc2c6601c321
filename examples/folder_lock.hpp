#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <optional>
#include <random>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

/// The process that holds a folder.
struct FolderHolder {
  std::string host;
  long process = 0;
  bool alive = true;

  std::string text() const { return "process " + std::to_string(process) + " on " + host; }
};

/// Another process is at work in the folder.
class FolderBusy : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Another process has taken the folder, because this one seemed dead.
class FolderLost : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Held while this process works in a folder, also between machines that share a network file
/// system.
///
/// The folder FOLDER/.holder has one file. Its name is `free`, or says who holds the folder and how
/// often it has been heard of. Whoever takes, keeps or gives back the folder renames that file,
/// from the very name that it has seen. So all that is relied upon is that of several renames of
/// one name one succeeds, as POSIX and NFS have it; a thread of the holder does so every ten
/// seconds and sets the file's time. A holder is dead when
///   - it ran on this machine, and the system has lifted its flock on the file; or
///   - the system cannot say so, and the file's time is older than `dead_after`. Both that time
///     and the present one, of a file made for it, come from the file server. Where a file system
///     takes the clocks of its clients (Lustre), those must agree far better than that.
/// The next one then takes the folder. A holder that was only frozen learns so at its next `check`
/// or rename; until then it may write what the new one writes too.
class FolderLock {
 public:
  /// What to do while another process holds the folder.
  enum class Busy { refuse, wait };

  static constexpr std::chrono::seconds default_dead_after{300};

  /// Throws FolderBusy where that is refused, std::system_error if nothing can be written, and
  /// std::runtime_error if FOLDER/.holder is damaged.
  explicit FolderLock(const std::filesystem::path& folder, Busy busy = Busy::refuse,
                      std::chrono::seconds dead_after = default_dead_after)
      : folder_(std::filesystem::absolute(folder)), dead_after_(dead_after) {
    while (const std::optional<FolderHolder> holder = take()) {
      if (busy == Busy::refuse) {
        throw FolderBusy(folder.string() + ": another process is using this folder (" +
                         holder->text() + ")");
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    try {
      heart_ = std::jthread([this](const std::stop_token& stop) { beat_until(stop); });
    } catch (...) {
      give_back();
      throw;
    }
  }
  ~FolderLock() {
    heart_ = {};  // waits for it
    give_back();
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  /// Throws FolderLost if another process has taken the folder, and std::system_error if that
  /// cannot be found out. Costs a rename.
  void check() {
    beat();
    if (lost_) {
      throw FolderLost(folder_.string() +
                       ": another process has taken this folder, since nothing was heard of this "
                       "one for too long, or the folder was removed");
    }
  }

  /// Whether the thread has found that another process has taken the folder.
  bool lost() const { return lost_; }

  /// Who holds the folder now, alive or dead; nothing where it is free. Takes and changes nothing.
  static std::optional<FolderHolder> holder(const std::filesystem::path& folder,
                                            std::chrono::seconds dead_after = default_dead_after) {
    for (int attempt = 0; attempt < attempts; ++attempt, nap()) {
      if (!std::filesystem::exists(folder / ".holder")) return {};
      const std::string name = find(folder);
      if (name == "free") return {};
      if (name.empty()) continue;
      const int file = ::open((folder / ".holder" / name).c_str(), O_RDONLY | O_CLOEXEC);
      if (file < 0) continue;
      State state = parse(name);
      state.holder.alive = is_alive(state, file, try_lock(file, LOCK_SH), folder, dead_after);
      ::close(file);
      return state.holder;
    }
    damaged(folder);
  }

 private:
  static constexpr int attempts = 200;
  static constexpr std::chrono::seconds beat_every{10};

  // What a name HOST~PROCESS~MACHINE~f~RANDOM~COUNT says; without flock, n is in the place of f.
  struct State {
    FolderHolder holder;
    std::string machine;
    bool has_flock = false;
  };

  static void nap() { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }

  [[noreturn]] static void fail(const std::filesystem::path& folder) {
    throw std::system_error(errno, std::generic_category(), "cannot work in " + folder.string());
  }
  [[noreturn]] static void damaged(const std::filesystem::path& folder) {
    throw std::runtime_error((folder / ".holder").string() +
                             " is damaged: it must hold one file; remove it when no process works "
                             "in its folder");
  }

  static std::vector<std::string> parts(const std::string& name) {
    std::vector<std::string> all;
    std::istringstream text(name);
    for (std::string part; std::getline(text, part, '~');) all.push_back(part);
    return all;
  }

  static bool is_holder(const std::string& name) {
    const std::vector<std::string> all = parts(name);
    const auto is_number = [](const std::string& text) {
      return !text.empty() &&
             std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
    };
    return all.size() == 6 && is_number(all[1]) && is_number(all[5]);
  }

  static State parse(const std::string& name) {
    const std::vector<std::string> all = parts(name);
    State state{.holder = {.host = all.at(0)}, .machine = all.at(2), .has_flock = all.at(3) == "f"};
    std::from_chars(all[1].data(), all[1].data() + all[1].size(), state.holder.process);
    return state;
  }

  // The name of the one file, empty where it is just being renamed.
  static std::string find(const std::filesystem::path& folder) {
    std::error_code error;
    std::filesystem::directory_iterator at(folder / ".holder", error);
    while (!error && at != std::filesystem::directory_iterator()) {
      std::string name = at->path().filename();
      if (name == "free" || (name.front() != '.' && is_holder(name))) return name;
      at.increment(error);
    }
    return {};
  }

  // Name and running kernel of this machine: other machines may have the same name.
  static const std::pair<std::string, std::string>& here() {
    static const std::pair<std::string, std::string> machine = [] {
      std::string host(256, '\0'), kernel;
      if (::gethostname(host.data(), host.size() - 1) != 0) host = "unknown";
      host.resize(std::min<std::size_t>(host.find('\0'), 64));
      std::replace_if(
          host.begin(), host.end(), [](char c) { return c == '~' || c == '/' || c == '.'; }, '-');
      std::ifstream("/proc/sys/kernel/random/boot_id") >> kernel;
      return std::pair(host, host + (kernel.empty() ? "" : "-" + kernel));
    }();
    return machine;
  }

  // 0, EWOULDBLOCK, or why there is no flock.
  static int try_lock(int file, int how) {
    while (::flock(file, how | LOCK_NB) != 0) {
      if (errno != EINTR) return errno;
    }
    return 0;
  }

  static std::chrono::duration<double> seconds_of(const ::timespec& time) {
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  }

  // The file server's time; the system's for those who may not write there.
  static std::chrono::duration<double> now(const std::filesystem::path& folder) {
    std::string name = folder / ".holder" / (".clock-" + std::string(6, 'X'));  // for mkstemp
    const int file = ::mkstemp(name.data());
    if (file < 0) return std::chrono::system_clock::now().time_since_epoch();
    struct ::stat made {};
    const bool known = ::fstat(file, &made) == 0;
    ::close(file);
    ::unlink(name.c_str());
    if (!known) fail(folder);
    return seconds_of(made.st_mtim);
  }

  static bool is_alive(const State& state, int file, int flocked,
                       const std::filesystem::path& folder, std::chrono::seconds dead_after) {
    const bool can_be_asked = state.has_flock && state.machine == here().second &&
                              (flocked == 0 || flocked == EWOULDBLOCK);
    if (can_be_asked) return flocked == EWOULDBLOCK;
    struct ::stat heard {};
    if (::fstat(file, &heard) != 0) fail(folder);
    return now(folder) - seconds_of(heard.st_mtim) <= dead_after;
  }

  // Makes FOLDER/.holder with its file at once, or leaves the one that another process has made.
  void create() const {
    const std::string name = folder_ / (".holder-" + std::to_string(std::random_device()()));
    if (::mkdir(name.c_str(), 0777) != 0) fail(folder_);
    const std::string free = name + "/free";
    const int file = ::open(free.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    const bool made = file >= 0 && ::close(file) == 0 &&
                      ::rename(name.c_str(), (folder_ / ".holder").c_str()) == 0;
    const int error = errno;
    ::unlink(free.c_str());
    ::rmdir(name.c_str());
    errno = error;
    if (!made && !std::filesystem::exists(folder_ / ".holder")) fail(folder_);
  }

  std::string path(const std::string& name) const { return folder_ / ".holder" / name; }

  // Renames the file, which only one process can do from one name. A server may have done so and
  // its answer may have been lost: then the new name is there.
  bool rename(const std::string& from, const std::string& to) const {
    if (::rename(path(from).c_str(), path(to).c_str()) == 0) return true;
    const int error = errno;
    if (::access(path(to).c_str(), F_OK) == 0) return true;
    if (error == ENOENT || error == ESTALE) return false;
    errno = error;
    fail(folder_);
  }

  // Takes the folder, or returns who holds it.
  std::optional<FolderHolder> take() {
    if (!std::filesystem::exists(folder_ / ".holder")) create();
    for (int attempt = 0; attempt < attempts; ++attempt, nap()) {
      const std::string name = find(folder_);
      if (name.empty()) continue;
      file_ = ::open(path(name).c_str(), O_RDWR | O_CLOEXEC);
      if (file_ < 0 && errno != ENOENT && errno != ESTALE) fail(folder_);
      if (file_ < 0) continue;
      const int flocked = try_lock(file_, LOCK_EX);
      if (name != "free") {
        const State state = parse(name);
        if (is_alive(state, file_, flocked, folder_, dead_after_)) {
          ::close(file_);
          return state.holder;
        }
      }
      // While others take the folder or look at it, they may have the flock for a moment.
      const bool last = attempt + 1 == attempts;
      if (flocked != EWOULDBLOCK || last) {
        ::futimens(file_, nullptr);  // the next one must not find the time of the one before
        name_ = here().first + "~" + std::to_string(::getpid()) + "~" + here().second + "~" +
                (flocked == 0 ? "f" : "n") + "~" + std::to_string(std::random_device()()) +
                std::to_string(std::random_device()()) + "~";
        if (rename(name, name_ + "0")) return {};
      }
      ::close(file_);
    }
    damaged(folder_);
  }

  void beat() {
    const std::lock_guard lock(mutex_);
    if (lost_) return;
    ::futimens(file_, nullptr);
    lost_ = !rename(name_ + std::to_string(beats_), name_ + std::to_string(beats_ + 1));
    ++beats_;
  }

  void beat_until(const std::stop_token& stop) {
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable_any stopped;
    while (!stopped.wait_for(lock, stop, beat_every, [&] { return stop.stop_requested(); })) {
      try {
        beat();
      } catch (const std::system_error&) {
        // A server that is away may come back in time. If not, `check` says so.
      }
    }
  }

  void give_back() noexcept {
    try {
      if (!lost_) rename(name_ + std::to_string(beats_), "free");
    } catch (const std::exception&) {
      // Whoever comes next waits until this process counts as dead.
    }
    ::close(file_);
  }

  std::filesystem::path folder_;
  std::chrono::seconds dead_after_;
  int file_ = -1;
  std::string name_;  // of the file, without the count
  std::atomic<bool> lost_ = false;
  std::mutex mutex_;
  long beats_ = 0;
  std::jthread heart_;
};
