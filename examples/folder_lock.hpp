#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <iostream>
#include <stdexcept>
#include <system_error>

/// Another process is at work in the folder.
class FolderBusy : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Held while this process works in a folder; the system lifts it when the process ends or is
/// killed. Where the file system has no locks this is said, and nothing is held.
class FolderLock {
 public:
  /// What to do while another process holds the folder.
  enum class Busy { refuse, wait };

  /// Throws FolderBusy where that is refused, and std::system_error if nothing can be written.
  explicit FolderLock(const std::filesystem::path& folder, Busy busy = Busy::refuse)
      : file_(::open((folder / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    if (file_ < 0) {
      throw std::system_error(errno, std::generic_category(), "cannot work in " + folder.string());
    }
    const int how = busy == Busy::wait ? LOCK_EX : LOCK_EX | LOCK_NB;
    int error = 0;
    do {
      error = ::flock(file_, how) == 0 ? 0 : errno;
    } while (error == EINTR);
    if (error == 0) return;
    if (error == EWOULDBLOCK) {
      ::close(file_);
      throw FolderBusy(folder.string() + ": another process is using this folder");
    }
    std::cerr << folder.string()
              << ": this file system has no locks; do not start a second program here\n";
  }
  ~FolderLock() { ::close(file_); }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int file_;
};
