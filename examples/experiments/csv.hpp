#pragma once

#include <filesystem>
#include <iomanip>
#include <locale>
#include <sstream>

#include "plastic/core/atomic_file.hpp"

namespace experiments {

/// Rows of numbers, written whole when it is done.
class Csv {
 public:
  Csv() {
    text_.imbue(std::locale::classic());
    text_ << std::setprecision(9);
  }
  template <class T>
  Csv& operator<<(const T& value) {
    if (!at_start_) text_ << ',';
    at_start_ = false;
    text_ << value;
    return *this;
  }
  void end_row() {
    text_ << '\n';
    at_start_ = true;
  }
  void write(const std::filesystem::path& path) const {
    plastic::write_file_atomically(path, text_.str());
  }

 private:
  std::ostringstream text_;
  bool at_start_ = true;
};

}  // namespace experiments
