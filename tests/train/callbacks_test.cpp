#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "plastic/train/csv_log.hpp"
#include "plastic/train/progress_bar.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"

namespace {

using namespace plastic::testing;
using plastic::CsvLog;
using plastic::Progress;
using plastic::ProgressBar;

const std::string header = "batch,train_loss,validation_loss,seconds\n";

Progress at(plastic::Index batch, double seconds, double train_loss,
            double validation_loss = std::numeric_limits<double>::quiet_NaN()) {
  return {.batch = batch,
          .batches = 200,
          .train_loss = train_loss,
          .validation_loss = validation_loss,
          .seconds = seconds};
}

}  // namespace

TEST_CASE("The CSV log has a header and one row per validation, complete after each",
          "[train][callbacks]") {
  const Folder folder;
  CsvLog log(folder / "log.csv");
  CHECK(files_in(folder.path()) == 0);
  log.on_batch(at(1, 0.1, 3));
  CHECK(files_in(folder.path()) == 0);
  log.on_validation(at(100, 1.5, 0.25, 0.125));
  CHECK(content(folder / "log.csv") == header + "100,0.25,0.125,1.5\n");
  log.on_batch(at(101, 1.6, 3));
  log.on_validation(at(200, 12.25, 1e-7));
  log.on_end(at(200, 12.5, 1));
  CHECK(content(folder / "log.csv") == header + "100,0.25,0.125,1.5\n200,1e-07,nan,12.25\n");
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("In the CSV log what is not a number has no sign", "[train][callbacks]") {
  const Folder folder;
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<plastic::Measure> measures{
      {.name = "none", .sum = 0, .count = 0},
      {.name = "negative", .sum = -nan, .count = 2},
      {.name = "half", .sum = 1, .count = 2},
  };
  Progress progress = at(100, 1.5, -nan, std::copysign(nan, -1.0));
  progress.measures = measures;
  CsvLog log(folder / "log.csv");
  log.on_validation(progress);
  CHECK(content(folder / "log.csv") ==
        "batch,train_loss,validation_loss,seconds,none,negative,half\n"
        "100,nan,nan,1.5,nan,nan,0.5\n");
}

TEST_CASE("The CSV log replaces an existing file with its first row and not before",
          "[train][callbacks]") {
  const Folder folder;
  const fs::path path = folder / "log.csv";
  write_plainly(path, "the run before\n");
  CsvLog log(path);
  CHECK(content(path) == "the run before\n");
  log.on_batch(at(1, 0.1, 3));
  CHECK(content(path) == "the run before\n");
  log.on_validation(at(10, 1, 2, 3));
  log.on_end(at(10, 1, 2, 3));
  CHECK(content(path) == header + "10,2,3,1\n");

  log.on_batch(at(1, 0.1, 3));
  CHECK(content(path) == header + "10,2,3,1\n");
  log.on_end(at(1, 0.1, 3));
  CHECK(content(path) == header);
  log.on_end(at(0, 0, 3));
  CHECK(content(path) == header);
}

#ifndef _WIN32
TEST_CASE("The CSV log writes through a symbolic link", "[train][callbacks]") {
  const Folder folder;
  std::ofstream(folder / "real.csv") << "old\n";
  fs::create_symlink(folder / "real.csv", folder / "link.csv");
  CsvLog log(folder / "link.csv");
  log.on_validation(at(10, 1, 2, 3));
  CHECK(fs::is_symlink(folder / "link.csv"));
  CHECK(content(folder / "real.csv") == header + "10,2,3,1\n");
}

TEST_CASE(
    "A file that cannot be written ends the run with an error and leaves the last complete one",
    "[train][callbacks][limits]") {
  const Folder folder;
  const fs::path path = folder / "log.csv";
  CsvLog log(path);
  log.on_validation(at(10, 1, 2, 3));
  std::string message;
  {
    const FileSizeLimit limit(header.size());
    try {
      log.on_validation(at(20, 2, 2, 3));
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
  }
  CHECK_THAT(message, naming(fs::canonical(path).string()));
  CHECK_THAT(message, naming("File too large"));
  CHECK(content(path) == header + "10,2,3,1\n");
  CHECK(files_in(folder.path()) == 1);
}
#endif

TEST_CASE("A folder that is missing is reported with the first row", "[train][callbacks]") {
  const Folder folder;
  CsvLog log(folder / "missing/log.csv");
  CHECK_THROWS_WITH(log.on_validation(at(10, 1, 2, 3)),
                    naming("log.csv") && naming("No such file"));
}

TEST_CASE("Two logs of one name do not get into each other's way", "[train][callbacks]") {
  const Folder folder;
  CsvLog first(folder / "log.csv"), second(folder / "log.csv");
  first.on_validation(at(10, 1, 2, 3));
  second.on_validation(at(20, 2, 2, 3));
  first.on_validation(at(30, 3, 2, 3));
  CHECK(content(folder / "log.csv") == header + "10,2,3,1\n30,2,3,3\n");
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("The CSV log takes no folder, no device and no empty name", "[train][callbacks]") {
  const Folder folder;
  CHECK_THROWS_AS(CsvLog(folder / ""), std::invalid_argument);
#ifndef _WIN32
  CHECK_THROWS_AS(CsvLog("/dev/null"), std::invalid_argument);
#endif
  CHECK_THROWS_AS(CsvLog(""), std::invalid_argument);
}

TEST_CASE("On a terminal the bar is one line with all figures", "[train][callbacks]") {
  std::ostringstream stream;
  ProgressBar bar(stream, "cue-reward", true);
  bar.on_batch(at(1, 0.5, 0.5));
  CHECK(stream.str() == "\rcue-reward   0% [................]  train 0.5  val -  -/s  -");
  stream.str("");
  bar.on_validation(at(51, 1.5, 0.3, 0.25));
  CHECK(stream.str() ==
        "\rcue-reward  25% [####............]  train 0.5  val 0.25  50.0/s  0:00:03");
  stream.str("");
  bar.on_batch(at(101, 2.5, 1.0, 0.25));
  CHECK(stream.str() ==
        "\rcue-reward  50% [########........]  train 0.51  val 0.25  50.0/s  0:00:02");
  stream.str("");
  bar.on_end(at(200, 4.48, 1.0, 0.25));
  CHECK(stream.str() ==
        "\rcue-reward 100% [################]  train 0.51  val 0.25  50.0/s  0:00:00\n");
}

TEST_CASE("The bar is drawn at most ten times a second", "[train][callbacks]") {
  std::ostringstream stream;
  ProgressBar bar(stream, "run", true);
  for (int i = 1; i <= 200; ++i) bar.on_batch(at(i, 0.01 * i, 0.5));
  const std::string text = stream.str();
  const auto drawn = std::count(text.begin(), text.end(), '\r');
  CHECK(drawn >= 15);
  CHECK(drawn <= 20);
}

TEST_CASE("A shorter line wipes the longer one before it", "[train][callbacks]") {
  std::ostringstream stream;
  ProgressBar bar(stream, "14 characters.", true);
  bar.on_batch(at(1, 0.5, 1.2345e-5));
  bar.on_validation(at(100, 500000, 0.1, 1.2345e-8));
  const std::size_t longest = stream.str().substr(stream.str().rfind('\r') + 1).size();
  CHECK(longest <= 79);
  stream.str("");
  bar.on_end(at(200, 500001, 0, 1));
  CHECK(stream.str().size() == 1 + longest + 1);
}

TEST_CASE("Elsewhere there is a plain line at each validation and nothing else",
          "[train][callbacks]") {
  std::ostringstream stream;
  ProgressBar bar(stream, "cue-reward", false);
  for (int i = 1; i <= 101; ++i) bar.on_batch(at(i, 1.0 + i, 0.5));
  CHECK(stream.str().empty());
  bar.on_validation(at(101, 102, 0.0625, 0.03125));
  bar.on_end(at(101, 102, 0.5, 0.03125));
  CHECK(stream.str() ==
        "cue-reward  batch 101/200  train loss 0.0625  validation loss 0.03125  1.0 batches/s  "
        "0:01:39 left\n");
}

TEST_CASE("A resumed run counts its rate from where it resumed", "[train][callbacks]") {
  std::ostringstream stream;
  ProgressBar bar(stream, "", false);
  bar.on_batch(at(150, 1, 0.5));
  bar.on_validation(at(160, 2, 0.5, 0.25));
  CHECK_THAT(stream.str(), Catch::Matchers::EndsWith("  10.0 batches/s  0:00:04 left\n"));
}

TEST_CASE("A run behind its last batch has no time left to show", "[train][callbacks]") {
  // Such a run continues from the checkpoint of a longer run.
  std::ostringstream plain, line;
  ProgressBar bar(plain, "", false), terminal(line, "", true);
  for (ProgressBar* one : {&bar, &terminal}) {
    one->on_batch(at(210, 1, 0.5));
    one->on_validation(at(300, 10, 0.5, 0.25));
  }
  CHECK_THAT(plain.str(), Catch::Matchers::EndsWith("  10.0 batches/s  - left\n"));
  CHECK_THAT(line.str(), Catch::Matchers::EndsWith("  10.0/s  -"));
}

TEST_CASE("A bar serves a second run as it did the first", "[train][callbacks]") {
  std::ostringstream first, second;
  ProgressBar used(first, "run", true);
  for (int i = 0; i < 2; ++i) {
    first.str("");
    used.on_batch(at(1, 0.5, 0.5 + i));
    used.on_end(at(9, 1.5, 0.5, 0.25));
  }
  ProgressBar fresh(second, "run", true);
  fresh.on_batch(at(1, 0.5, 1.5));
  fresh.on_end(at(9, 1.5, 0.5, 0.25));
  CHECK(first.str() == second.str());
}
