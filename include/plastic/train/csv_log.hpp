#pragma once

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <locale>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "plastic/core/check.hpp"
#include "plastic/train/callback.hpp"

namespace plastic {

/// Writes a file with the header `batch,train_loss,validation_loss,seconds` and one row per
/// validation; losses that do not exist are `nan`.
///
/// The file is complete after every row, also if the process is killed: all rows go into a new file
/// PATH.NUMBER.tmp that then takes the place of PATH. An existing file is replaced by the first row
/// of a run, not before, or at its end if it has none. Any failure throws std::runtime_error naming
/// the path and the reason, and leaves the last complete file. After `on_end` the object serves
/// another run, which replaces the file. A row costs a rewrite of all rows.
class CsvLog : public TrainingCallback {
 public:
  /// Touches no file. Throws std::invalid_argument if `path` is empty or exists and is not a
  /// regular file (after symbolic links).
  explicit CsvLog(const std::filesystem::path& path) {
    namespace fs = std::filesystem;
    std::error_code error;
    path_ = fs::weakly_canonical(path, error);
    const fs::file_type type =
        path.empty() || error ? fs::file_type::none : fs::status(path_, error).type();
    if (type != fs::file_type::regular && type != fs::file_type::not_found) {
      detail::reject("CsvLog", "path", "a regular file or the name of a new one", path.string());
    }
    // Of this object alone: another process may write a log of the same name.
    temporary_ = path_;
    temporary_ += "." + std::to_string(std::random_device()()) + ".tmp";
  }

  /// Goes on with a run that was cut off after `batch` batches: keeps the file's rows up to there
  /// and counts the seconds from the last of them. Touches no file. Throws std::runtime_error if
  /// the file cannot be read, is not such a log or has no row for `batch`.
  void resume(Index batch) {
    std::ifstream file(path_);
    if (!file) {
      throw std::runtime_error("CsvLog: cannot read " + path_.string() +
                               ", the log of the run to go on with");
    }
    std::string line;
    if (!std::getline(file, line) || line + "\n" != header) {
      throw std::runtime_error("CsvLog: " + path_.string() + " is not a log to go on with");
    }
    std::string kept(header);
    Index last = 0;
    double seconds = 0;
    while (last < batch && std::getline(file, line)) {
      std::istringstream row(line);
      row.imbue(std::locale::classic());
      row >> last;
      std::istringstream end(line.substr(line.rfind(',') + 1));
      end.imbue(std::locale::classic());
      if (!row || !(end >> seconds)) {
        throw std::runtime_error("CsvLog: " + path_.string() + " has a bad row: " + line);
      }
      kept += line + "\n";
    }
    if (last != batch) {
      throw std::runtime_error("CsvLog: " + path_.string() + " has no row for batch " +
                               std::to_string(batch));
    }
    text_ = kept;
    seconds_before_ = seconds;
  }

  void on_validation(const Progress& progress) override {
    std::ostringstream row;
    row.imbue(std::locale::classic());
    row << std::setprecision(9) << progress.batch << ',' << progress.train_loss << ','
        << progress.validation_loss << ',' << seconds_before_ + progress.seconds << '\n';
    if (text_.empty()) text_ = header;
    text_ += row.str();
    write();
  }

  void on_end(const Progress&) override {
    if (text_.empty()) {
      text_ = header;
      write();
    }
    text_.clear();
    seconds_before_ = 0;
  }

 private:
  static constexpr std::string_view header = "batch,train_loss,validation_loss,seconds\n";

  // Appending to the file could leave half a row on a full disk or at a kill; a rename cannot.
  void write() const {
    errno = 0;
    std::FILE* file = std::fopen(temporary_.string().c_str(), "wb");
    if (file == nullptr) fail(errno);
    const bool written =
        std::fwrite(text_.data(), 1, text_.size(), file) == text_.size() && std::fflush(file) == 0;
    const int reason = errno;
    const bool closed = std::fclose(file) == 0;
    std::error_code error;
    if (!written || !closed) {
      const int code = written ? errno : reason;
      std::filesystem::remove(temporary_, error);
      fail(code);
    }
    std::filesystem::rename(temporary_, path_, error);
    if (error) fail(error.value());
  }

  [[noreturn]] void fail(int reason) const {
    throw std::runtime_error("CsvLog: cannot write " + path_.string() + ": " +
                             std::generic_category().message(reason));
  }

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  std::string text_;
  double seconds_before_ = 0;  // of the run that this one goes on with
};

}  // namespace plastic
