#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <string_view>
#include <system_error>

#include "readers.hpp"

/// Files for readers that take no bytes.
namespace plastic::fuzz {

/// A file in memory that is gone with this object.
class MemoryFile {
 public:
  explicit MemoryFile(Bytes bytes) : file_(::memfd_create("plastic_fuzz", MFD_CLOEXEC)) {
    const auto size = static_cast<::ssize_t>(bytes.size());
    if (file_ < 0 || ::write(file_, bytes.data(), bytes.size()) != size) std::abort();
  }
  ~MemoryFile() { ::close(file_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(file_); }

 private:
  int file_;
};

/// A new folder for as long as the program runs.
class Workplace {
 public:
  Workplace() {
    std::random_device random;
    do {
      path_ = std::filesystem::temp_directory_path() / ("plastic_fuzz_" + std::to_string(random()));
    } while (!std::filesystem::create_directory(path_));
  }
  ~Workplace() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;

  const std::filesystem::path& path() const { return path_; }

  void write(const std::filesystem::path& name, std::string_view bytes) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << bytes;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace plastic::fuzz
