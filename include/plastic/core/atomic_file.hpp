#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

namespace plastic {

namespace detail {

[[noreturn]] inline void fail_to_write(const std::filesystem::path& path, std::error_code error) {
  throw std::system_error(error, "write_file_atomically: cannot write " + path.string());
}

// Returns 0, or the errno of the write that failed.
inline int write_all(int file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ::ssize_t written = ::write(file, bytes.data(), bytes.size());
    if (written > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
    } else if (written == 0) {
      return EIO;
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

// A new file in the folder of `target`: it takes the target's place or is gone with this object.
class Replacement {
 public:
  explicit Replacement(const std::filesystem::path& target) : target_(target) {
    static std::atomic<unsigned> count = 0;
    // Another machine on the same file system may have a process of the same number.
    do {
      path_ = target.parent_path() /
              (".plastic-" + std::to_string(::getpid()) + "-" + std::to_string(count++) + ".tmp");
      file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (file_ < 0 && (errno == EEXIST || errno == EINTR));
    check(file_ < 0 ? errno : 0);
  }

  ~Replacement() {
    if (file_ >= 0) ::close(file_);
    if (!path_.empty()) ::unlink(path_.c_str());
  }

  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;

  void set_permissions(std::filesystem::perms permissions) {
    check(::fchmod(file_, static_cast<::mode_t>(permissions)) == 0 ? 0 : errno);
  }

  void write(std::string_view bytes) {
    check(write_all(file_, bytes));
    check(::fsync(file_) == 0 ? 0 : errno);
  }

  void take_place() {
    const int error = ::close(file_) == 0 ? 0 : errno;
    file_ = -1;
    check(error);
    check(std::rename(path_.c_str(), target_.c_str()) == 0 ? 0 : errno);
    path_.clear();
  }

 private:
  void check(int error) const {
    if (error != 0) fail_to_write(target_, {error, std::generic_category()});
  }

  std::filesystem::path target_;
  std::filesystem::path path_;
  int file_ = -1;
};

}  // namespace detail

/// Makes `bytes` the content of the file `path`, or changes nothing.
///
/// The bytes go to a new file in the same folder, reach the disk (fsync), and only then take the
/// name `path`: whoever reads `path`, at any time and after a crash, finds the whole old content or
/// the whole new one. A file that is replaced hands on its permissions; of a symbolic link, the
/// file it points to is replaced. Safe from several threads and processes at once: the last one
/// wins. POSIX only.
///
/// Throws std::system_error, a std::runtime_error, naming the path and the system's reason: no such
/// folder, no permission, a full disk, or a `path` that is a folder, a device or a broken link. The
/// new file is then removed.
inline void write_file_atomically(const std::filesystem::path& path, std::string_view bytes) {
  namespace fs = std::filesystem;
  std::error_code error;
  const bool is_link = fs::is_symlink(fs::symlink_status(path, error));
  const fs::path target = is_link ? fs::canonical(path, error) : path;
  if (is_link && error) detail::fail_to_write(path, error);

  const fs::file_status old = fs::status(target, error);
  const bool replaces = fs::exists(old);
  if (!fs::status_known(old)) detail::fail_to_write(path, error);
  if (fs::is_directory(old)) {
    detail::fail_to_write(path, std::make_error_code(std::errc::is_a_directory));
  }
  if (replaces && !fs::is_regular_file(old)) {
    detail::fail_to_write(path, std::make_error_code(std::errc::invalid_argument));
  }

  detail::Replacement file(target);
  if (replaces) file.set_permissions(old.permissions());
  file.write(bytes);
  file.take_place();
}

}  // namespace plastic
