#pragma once

#include <cmath>
#include <filesystem>
#include <functional>
#include <iomanip>
#include <limits>
#include <locale>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "plastic/core/atomic_file.hpp"
#include "plastic/train/callback.hpp"

namespace plastic {

/// Writes a file with the header `batch,train_loss,validation_loss,seconds` and the names of the
/// validation's measures, and one row per validation; missing values are `nan`.
///
/// The file is complete after every row, also if the process is killed: write_file_atomically
/// replaces it. An existing file is replaced by the first row of a run, not before, or at its end
/// if it has none. A run that a Checkpoint resumes has the rows up to there, whatever the file
/// holds. Any failure throws std::runtime_error naming the path and the reason, and leaves the last
/// complete file. After `on_end` the object serves another run. A row costs a rewrite of all rows.
class CsvLog : public TrainingCallback {
 public:
  /// Does not touch the file. Throws std::invalid_argument if `path` is empty or exists and is not
  /// a regular file (after symbolic links).
  explicit CsvLog(const std::filesystem::path& path) {
    namespace fs = std::filesystem;
    std::error_code error;
    path_ = fs::weakly_canonical(fs::absolute(path, error), error);
    const fs::file_type type =
        path.empty() || error ? fs::file_type::none : fs::status(path_, error).type();
    if (type != fs::file_type::regular && type != fs::file_type::not_found) {
      detail::reject("CsvLog", "path", "a regular file or the name of a new one", path.string());
    }
  }

  void on_validation(const Progress& progress) override {
    std::ostringstream row;
    row.imbue(std::locale::classic());
    row << std::setprecision(9) << progress.batch << ',' << number(progress.train_loss) << ','
        << number(progress.validation_loss) << ',' << progress.seconds;
    for (const Measure& measure : progress.measures) row << ',' << number(measure.mean());
    begin_anew();
    if (text_.empty()) text_ = header(progress.measures);
    text_ += row.str() + '\n';
    write();
  }

  /// The rows stay until another run begins: a checkpoint may ask for them.
  void on_end(const Progress& progress) override {
    begin_anew();
    if (text_.empty()) text_ = header(progress.measures);
    if (!written_) write();
    ended_ = true;
  }

  void on_begin(ResumableRun&) override {
    ended_ = true;
    begin_anew();
  }

  std::string_view name() const override { return "csv_log"; }
  void save(TensorFile& file, const std::string& prefix) const override {
    file.metadata[prefix + "text"] = text_;
  }
  std::function<void()> restore(const TensorFile& file, const std::string& prefix) override {
    const std::string text = setting(file.metadata, prefix + "text");
    return [this, text] {
      text_ = text;
      written_ = false;  // whatever the file may contain
    };
  }

 private:
  static std::string header(std::span<const Measure> measures) {
    std::string text = "batch,train_loss,validation_loss,seconds";
    for (const Measure& measure : measures) text.append(1, ',').append(measure.name);
    return text.append(1, '\n');
  }

  static double number(double x) {
    return std::isnan(x) ? std::numeric_limits<double>::quiet_NaN() : x;  // without a sign
  }

  void begin_anew() {
    if (!std::exchange(ended_, false)) return;
    text_.clear();
    written_ = false;
  }

  void write() {
    write_file_atomically(path_, text_);
    written_ = true;
  }

  std::filesystem::path path_;
  std::string text_;
  bool written_ = false;  // whether the text is in the file
  bool ended_ = false;    // whether the run of the text has ended
};

}  // namespace plastic
