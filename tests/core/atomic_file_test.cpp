#include "plastic/core/atomic_file.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "plastic/io/safetensors.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"

using namespace plastic::testing;
using plastic::DType;
using plastic::Tensor;
using plastic::TensorFile;
using plastic::write_file_atomically;
using plastic::write_safetensors;

TEST_CASE("A file is written whole, and again over itself", "[core][atomic_file]") {
  const Folder folder;
  const fs::path path = folder / "file";
  for (const std::string& bytes : {std::string("first"), std::string(),
                                   std::string("with\0zero\n", 10), std::string(3'000'000, 'x')}) {
    write_file_atomically(path, bytes);
    CHECK(content(path) == bytes);
    CHECK(files_in(folder.path()) == 1);
  }
}

TEST_CASE("A file without a folder in its name goes into the current folder",
          "[core][atomic_file]") {
  const Folder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  const std::string error =
      error_of<std::exception>([] { write_file_atomically("bare", "bytes"); });
  fs::current_path(before);
  CHECK(error == "no error");
  CHECK(content(folder / "bare") == "bytes");
}

TEST_CASE("A file that is replaced hands on its permissions", "[core][atomic_file]") {
  const Folder folder;
  const fs::path path = folder / "file";
  write_plainly(path, "old");
  const fs::perms permissions = fs::perms::owner_read | fs::perms::owner_write;
  fs::permissions(path, permissions);
  write_file_atomically(path, "new");
  CHECK(fs::status(path).permissions() == permissions);
}

TEST_CASE("A symbolic link stays, and the file it points to is replaced", "[core][atomic_file]") {
  const Folder folder;
  fs::create_directory(folder / "far");
  write_plainly(folder / "far/file", "old");
  fs::create_symlink("far/file", folder / "link");
  write_file_atomically(folder / "link", "new");
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(content(folder / "far/file") == "new");
  CHECK(files_in(folder / "far") == 1);
  CHECK(files_in(folder.path()) == 2);
}

TEST_CASE("A path that cannot be a file is refused by name and nothing is left behind",
          "[core][atomic_file]") {
  const Folder folder;
  fs::create_directory(folder / "directory");
  write_plainly(folder / "file", "old");
  fs::create_symlink("nowhere", folder / "broken");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  const std::string long_name(300, 'n');
  struct Case {
    std::string name;
    std::string reason;
  };
  for (const Case& c :
       {Case{"directory", "Is a directory"}, Case{"directory/", "Is a directory"},
        Case{"none/file", "No such file or directory"}, Case{"file/below", "Not a directory"},
        Case{"broken", "No such file or directory"}, Case{"pipe", "Invalid argument"},
        Case{long_name, "File name too long"}}) {
    const fs::path path = folder / c.name;
    const std::string error =
        error_of<std::runtime_error>([&] { write_file_atomically(path, "new"); });
    INFO(error);
    CHECK(mentions(error, "write_file_atomically"));
    CHECK(mentions(error, path.string()));
    CHECK(mentions(error, c.reason));
    CHECK(files_in(folder.path()) == 4);
  }
  CHECK(files_in(folder / "directory") == 0);
  CHECK(content(folder / "file") == "old");
  CHECK(error_of<std::runtime_error>([] { write_file_atomically("", "new"); }) != "no error");
}

TEST_CASE("A folder that may not be written to is an error and its file stays",
          "[core][atomic_file]") {
  const Folder folder;
  write_plainly(folder / "file", "old");
  fs::permissions(folder.path(), fs::perms::owner_read | fs::perms::owner_exec);
  if (::access(folder.path().c_str(), W_OK) == 0) {
    WARN("not tested: this user may write to any folder");
  } else {
    const std::string error =
        error_of<std::runtime_error>([&] { write_file_atomically(folder / "file", "new"); });
    CHECK(mentions(error, "Permission denied"));
  }
  fs::permissions(folder.path(), fs::perms::owner_all);
  CHECK(content(folder / "file") == "old");
}

TEST_CASE("A write that fails in the middle leaves the old file and nothing else",
          "[core][atomic_file]") {
  const Folder folder;
  const fs::path path = folder / "file";
  write_plainly(path, "old");
  std::error_code code;
  std::string error;
  {
    const FileSizeLimit limit(65536);
    try {
      write_file_atomically(path, std::string(200'000, 'x'));
    } catch (const std::system_error& caught) {
      code = caught.code();
      error = caught.what();
    }
  }
  INFO(error);
  CHECK(code == std::errc::file_too_large);
  CHECK(mentions(error, path.string()));
  CHECK(mentions(error, "File too large"));
  CHECK(content(path) == "old");
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("A full disk leaves the old file and nothing else", "[core][atomic_file]") {
  const Folder folder;
  const SmallDisk disk(folder.path());
  if (!disk.mounted()) {
    WARN("not tested: this user may not mount a small disk");
    return;
  }
  const fs::path path = folder / "file";
  write_file_atomically(path, "old");

  const std::string error =
      error_of<std::runtime_error>([&] { write_file_atomically(path, std::string(200'000, 'x')); });
  INFO(error);
  CHECK(mentions(error, path.string()));
  CHECK(mentions(error, "No space left on device"));
  CHECK(content(path) == "old");
  CHECK(files_in(folder.path()) == 1);

  TensorFile file;
  file.tensors["x"] = Tensor(DType::F64, {100, 100});
  CHECK(mentions(error_of<std::runtime_error>([&] { write_safetensors(path, file); }),
                 "No space left on device"));
  CHECK(content(path) == "old");
  CHECK(files_in(folder.path()) == 1);

  write_file_atomically(path, std::string(40'000, 'y'));
  CHECK(content(path).size() == 40'000);
}

TEST_CASE("A device that is full reports its reason", "[core][atomic_file]") {
  std::FILE* full = std::fopen("/dev/full", "wb");
  if (full == nullptr) {
    WARN("not tested: there is no /dev/full");
    return;
  }
  CHECK(plastic::detail::write_all(full, "bytes") == ENOSPC);
  std::fclose(full);
}

TEST_CASE("What cannot wait for a disk is written all the same", "[core][atomic_file]") {
  std::FILE* device = std::fopen("/dev/null", "wb");
  REQUIRE(device != nullptr);
  REQUIRE(::fsync(::fileno(device)) != 0);
  CHECK(plastic::detail::wait_for_disk(device) == 0);
  CHECK(plastic::detail::write_all(device, "bytes") == 0);
  CHECK(plastic::detail::write_all(device, "") == 0);
  std::fclose(device);
}

TEST_CASE("Threads that write the same file leave one of their contents", "[core][atomic_file]") {
  const Folder folder;
  const fs::path path = folder / "file";
  std::atomic<int> failures = 0;
  std::vector<std::thread> threads;
  for (const char letter : {'a', 'b', 'c', 'd'}) {
    threads.emplace_back([&, letter] {
      for (int i = 0; i < 10; ++i) {
        try {
          write_file_atomically(path, std::string(10'000, letter));
        } catch (const std::exception&) {
          ++failures;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failures == 0);
  const std::string bytes = content(path);
  CHECK(bytes.size() == 10'000);
  CHECK(bytes.find_first_not_of(bytes.front()) == std::string::npos);
  CHECK(files_in(folder.path()) == 1);
}
