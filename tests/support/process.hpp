#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "plastic/core/types.hpp"
#include "plastic/io/safetensors.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"

/// The example programs as processes, the way their users run them.
namespace plastic::testing {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

inline std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

struct Ended {
  int code = -1;   // exit code; -1 if a signal ended it
  int signal = 0;  // the signal that ended it
  std::string out;
  std::string err;
};

using Arguments = std::vector<std::string>;

// A running program, in a folder of its own so that nothing lands where the tests run.
class Process {
 public:
  Process(const std::string& program, const Arguments& arguments) {
    const fs::path path = fs::path(PLASTIC_PROGRAMS) / program;
    std::vector<std::string> all{path.string()};
    all.insert(all.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& argument : all) argv.push_back(argument.data());
    argv.push_back(nullptr);

    ::posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    const std::string out = folder_ / "out", err = folder_ / "err";
    ::posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(&files, 1, out.c_str(), O_WRONLY | O_CREAT, 0600);
    ::posix_spawn_file_actions_addopen(&files, 2, err.c_str(), O_WRONLY | O_CREAT, 0600);
    ::posix_spawn_file_actions_addchdir_np(&files, folder_.path().c_str());
    // A test that runs in the background of a shell ignores SIGINT; the program must not inherit
    // it.
    ::posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    ::sigset_t defaults;
    ::sigemptyset(&defaults);
    ::sigaddset(&defaults, SIGINT);
    ::posix_spawnattr_setsigdefault(&attributes, &defaults);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    const int error =
        ::posix_spawn(&id_, path.c_str(), &files, &attributes, argv.data(), ::environ);
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&files);
    if (error != 0) {
      id_ = -1;
      FAIL("cannot run " << path << ", an example program: " << std::strerror(error));
    }
  }

  ~Process() {
    if (id_ > 0) {
      ::kill(id_, SIGKILL);
      ::waitpid(id_, nullptr, 0);
    }
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void send(int signal) const { REQUIRE(::kill(id_, signal) == 0); }

  bool running() {
    if (id_ > 0 && ::waitpid(id_, &status_, WNOHANG) == id_) id_ = 0;
    return id_ > 0;
  }

  // Waits until `condition` holds; the program must still run then.
  void wait_for(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + 120s;
    while (!condition()) {
      INFO(content(folder_ / "err"));
      REQUIRE(running());
      REQUIRE(std::chrono::steady_clock::now() < deadline);
      std::this_thread::sleep_for(200us);
    }
  }

  Ended wait(std::chrono::seconds longest = 300s) {
    const auto deadline = std::chrono::steady_clock::now() + longest;
    while (running()) {
      if (std::chrono::steady_clock::now() > deadline) FAIL("the program does not end");
      std::this_thread::sleep_for(500us);
    }
    Ended ended{.out = content(folder_ / "out"), .err = content(folder_ / "err")};
    if (WIFEXITED(status_)) ended.code = WEXITSTATUS(status_);
    if (WIFSIGNALED(status_)) ended.signal = WTERMSIG(status_);
    return ended;
  }

 private:
  Folder folder_;
  ::pid_t id_ = 0;
  int status_ = 0;
};

inline Ended run(const std::string& program, const Arguments& arguments) {
  return Process(program, arguments).wait();
}

// Runs a program that must succeed and print no error.
inline Ended run_well(const std::string& program, const Arguments& arguments) {
  Ended ended = run(program, arguments);
  INFO(ended.out << ended.err);
  REQUIRE(ended.code == 0);
  CHECK(ended.err.empty());
  return ended;
}

// Runs a program that must fail with a message that contains all of `parts`.
inline void check_refusal(const std::string& program, const Arguments& arguments,
                          const std::vector<std::string>& parts) {
  std::string line = program;
  for (const std::string& argument : arguments) line += " '" + argument + "'";
  INFO(line);
  const Ended ended = Process(program, arguments).wait(60s);
  INFO("said: " << ended.err);
  CHECK(ended.code > 0);
  CHECK(ended.signal == 0);
  CHECK(ended.out.empty());
  CHECK(ended.err.size() < 1000);
  for (const std::string& part : parts) {
    INFO(part);
    CHECK(mentions(ended.err, part));
  }
}

inline const std::string csv_header = "batch,train_loss,validation_loss,seconds";

struct Row {
  Index batch = 0;
  double train_loss = 0;
  double validation_loss = 0;
  double seconds = 0;
};

// Throws unless the text is a whole progress.csv: the header, perhaps with measures, and rows of as
// many finite numbers.
inline std::vector<Row> rows_of(const std::string& csv) {
  const auto expect = [&](bool right) {
    if (!right) throw std::runtime_error("not a whole progress.csv: " + csv);
  };
  expect(csv.starts_with(csv_header) && csv.ends_with("\n"));
  std::istringstream lines(csv);
  std::string line;
  std::getline(lines, line);
  const auto commas = std::ranges::count(line, ',');
  std::vector<Row> rows;
  while (std::getline(lines, line)) {
    Row row;
    char a = 0, b = 0, c = 0;
    std::istringstream fields(line);
    fields >> row.batch >> a >> row.train_loss >> b >> row.validation_loss >> c >> row.seconds;
    expect(fields && a == ',' && b == ',' && c == ',' && std::ranges::count(line, ',') == commas);
    for (double measure = 0; fields.peek() == ',';) {
      fields >> a >> measure;
      expect(fields && std::isfinite(measure));
    }
    expect(fields.peek() == std::char_traits<char>::eof());
    expect(std::isfinite(row.train_loss) && std::isfinite(row.validation_loss) && row.seconds >= 0);
    expect(rows.empty() || row.batch > rows.back().batch);
    rows.push_back(row);
  }
  return rows;
}

// A progress.csv without the column of the seconds, which differ from run to run.
inline std::string losses(const fs::path& csv) {
  std::string result;
  std::istringstream lines(content(csv));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream cells(line);
    int column = 0;
    for (std::string cell; std::getline(cells, cell, ','); ++column) {
      if (column != 3) result += cell + ",";
    }
    result += "\n";
  }
  return result;
}

inline std::vector<double> values_of(const Tensor& tensor) {
  std::vector<double> values;
  if (tensor.dtype() == DType::F64) {
    const auto all = tensor.values<double>();
    values.assign(all.begin(), all.end());
  } else {
    for (const float value : tensor.values<float>()) values.push_back(value);
  }
  return values;
}

// Whether two checkpoints hold the same bits but for the seconds.
inline bool same_checkpoints(const fs::path& a, const fs::path& b) {
  const auto timeless = [](const fs::path& path) {
    TensorFile file = read_safetensors(path);
    file.metadata.erase("state.seconds");
    file.metadata.erase("state.csv_log.text");
    return safetensors_bytes(file);
  };
  return timeless(a) == timeless(b);
}

}  // namespace plastic::testing
