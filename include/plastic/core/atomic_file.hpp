#pragma once

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#include <sys/stat.h>
#else
#include <unistd.h>
#endif

namespace plastic {
namespace detail {

// Opens a file that did not exist before, or returns nullptr and sets errno; and waits until the
// disk has it, returning 0 or an errno.
#ifdef _WIN32
inline std::FILE* create_file(const std::filesystem::path& path) {
  // Not _wfopen: the older of Windows' two C libraries, msvcrt, does not know its mode x.
  const int file = ::_wopen(path.c_str(), _O_CREAT | _O_EXCL | _O_WRONLY | _O_BINARY | _O_NOINHERIT,
                            _S_IREAD | _S_IWRITE);
  if (file < 0) return nullptr;
  std::FILE* const stream = ::_fdopen(file, "wb");
  if (stream == nullptr) ::_close(file);
  return stream;
}
inline int wait_for_disk(std::FILE*) { return 0; }
#else
inline std::FILE* create_file(const std::filesystem::path& path) {
  return std::fopen(path.c_str(), "wbxe");
}
inline int wait_for_disk(std::FILE* file) {
  // A file system that cannot sync has nothing to wait for.
  const bool done = ::fsync(::fileno(file)) == 0 || errno == EINVAL || errno == ENOTSUP;
  return done ? 0 : errno;
}
#endif

[[noreturn]] inline void fail(int error) {
  throw std::system_error(error, std::generic_category());
}

// Returns 0, or the errno of the write that failed.
inline int write_all(std::FILE* file, std::string_view bytes) {
  errno = 0;
  const bool written =
      std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size() && std::fflush(file) == 0;
  return written ? 0 : errno != 0 ? errno : EIO;
}

// A new file in a folder that either replaces another or is removed with this object.
class Replacement {
 public:
  explicit Replacement(const std::filesystem::path& folder) {
    static const unsigned process = std::random_device()();
    static std::atomic<unsigned> count = 0;
    // Another process may have drawn the same number, or have got it by fork.
    do {
      path_ =
          folder / (".plastic-" + std::to_string(process) + "-" + std::to_string(count++) + ".tmp");
      file_ = create_file(path_);
    } while (file_ == nullptr && (errno == EEXIST || errno == EINTR));
    if (file_ == nullptr) fail(errno);
  }

  ~Replacement() {
    if (file_ != nullptr) std::fclose(file_);
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove(path_, ignored);
  }

  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;

  const std::filesystem::path& path() const { return path_; }

  void write(std::string_view bytes) {
    if (const int error = write_all(file_, bytes)) fail(error);
    if (const int error = wait_for_disk(file_)) fail(error);
  }

  void take_place(const std::filesystem::path& target) {
    if (std::fclose(std::exchange(file_, nullptr)) != 0) fail(errno);
    std::filesystem::rename(path_, target);
    path_.clear();
  }

 private:
  std::filesystem::path path_;
  std::FILE* file_ = nullptr;
};

}  // namespace detail

/// Makes `bytes` the content of the file `path`, or changes nothing.
///
/// The bytes go to a new file in the same folder, reach the disk (fsync), and only then take the
/// name `path`: whoever reads `path`, at any time and after a crash, finds the whole old content or
/// the whole new one. A replaced file passes on its permissions where the file system has any;
/// where `path` is a symbolic link, the file it points to is replaced. Safe from several threads
/// and processes at once: the last one wins. On Windows, and on a file system that cannot sync, a
/// crash of the machine is not covered.
///
/// Throws std::system_error, a std::runtime_error, naming the path and the system's reason: no such
/// folder, no permission, a full disk, or a `path` that is a folder, a device or a broken link. The
/// new file is then removed.
inline void write_file_atomically(const std::filesystem::path& path, std::string_view bytes) {
  namespace fs = std::filesystem;
  fs::path target = path;
  try {
    if (fs::is_symlink(path)) target = fs::canonical(path);
    const fs::file_status old = fs::status(target);
    if (fs::is_directory(old)) detail::fail(EISDIR);
    if (fs::exists(old) && !fs::is_regular_file(old)) detail::fail(EINVAL);

    detail::Replacement file(target.parent_path());
    std::error_code ignored;  // some file systems have no permissions
    if (fs::exists(old)) fs::permissions(file.path(), old.permissions(), ignored);
    file.write(bytes);
    file.take_place(target);
  } catch (const std::system_error& error) {
    throw std::system_error(error.code(), "write_file_atomically: cannot write " + target.string());
  }
}

}  // namespace plastic
