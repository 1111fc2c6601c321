#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "plastic/image_files/image_file.hpp"

#ifndef _WIN32
#include <sys/stat.h>
#endif

namespace plastic::detail {

/// One line of a text file, without surrounding white space.
struct TextLine {
  std::size_t number = 0;  ///< line number, from 1
  std::string text;
};

// ASCII's alone: other bytes belong to names, in whatever encoding these are.
inline std::string trimmed(std::string_view text) {
  constexpr std::string_view space = " \t\v\f\r\n";
  const std::size_t first = text.find_first_not_of(space);
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(space) - first + 1));
}

/// The lines of a text file that are not empty. They end with LF, CR LF or CR; a byte order mark of
/// UTF-8 is no part of the first.
inline std::vector<TextLine> read_lines(const std::filesystem::path& path) {
  const std::vector<std::uint8_t> bytes = read_file(path);
  std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.find('\0') != std::string_view::npos) {
    refuse_file(path, "it must be text in UTF-8 or another byte encoding, got a zero byte");
  }
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::vector<TextLine> lines;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find_first_of("\r\n"), text.size());
    std::string line = trimmed(text.substr(0, end));
    if (!line.empty()) lines.push_back({number, std::move(line)});
    text.remove_prefix(end);
    text.remove_prefix(text.starts_with("\r\n") ? 2 : text.empty() ? 0 : 1);
  }
  return lines;
}

/// Source of an entry: a line of a split file, or the folder if there is no such file.
struct Source {
  std::filesystem::path path;
  std::size_t line = 0;  ///< 0: no line

  std::string text() const {
    return line == 0 ? path.string() : path.string() + ", line " + std::to_string(line);
  }
  /// Describes the other source, in a message that begins with this one.
  std::string describe(const Source& other) const {
    if (other.path != path) return "in " + other.text();
    return other.line == line ? "here" : "in line " + std::to_string(other.line);
  }
  [[noreturn]] void refuse(const std::string& why) const {
    throw std::runtime_error(text() + ": " + why);
  }
};

/// Files or folders by identity: independent of links and of the spelling of names.
class Seen {
 public:
  explicit Seen(std::string kind) : kind_(std::move(kind)) {}

  /// Adds a file or folder, and refuses one that has been added before. `name` is its name in the
  /// source.
  void add(const std::filesystem::path& path, const Source& source, const std::string& name) {
    const auto [at, is_new] = seen_.emplace(identity(path), std::pair(source, name));
    if (is_new) return;
    const auto& [other, other_name] = at->second;
    source.refuse("the " + kind_ + " " + name + " is already " + source.describe(other) +
                  (other_name == name ? "" : ", as " + other_name));
  }

 private:
#ifdef _WIN32
  using Identity = std::filesystem::path;
  static Identity identity(const std::filesystem::path& path) {
    return std::filesystem::canonical(path);
  }
#else
  using Identity = std::pair<::dev_t, ::ino_t>;
  static Identity identity(const std::filesystem::path& path) {
    struct ::stat status = {};
    if (::stat(path.c_str(), &status) != 0) refuse_file(path, "it cannot be read");
    return {status.st_dev, status.st_ino};
  }
#endif

  std::string kind_;
  std::map<Identity, std::pair<Source, std::string>> seen_;
};

/// Images to read: files of classes, in the order that they will have.
using ClassFiles = std::vector<std::pair<std::string, std::vector<std::filesystem::path>>>;

/// Lists the images in the folder of a class, in the order of their names.
inline std::vector<std::filesystem::path> list_class(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with(".")) continue;
    if (!is_image_name(entry.path())) {
      refuse_file(entry.path(), "a class folder may hold only .png, .jpg and .jpeg files");
    }
    files.push_back(entry.path());
  }
  if (files.empty()) refuse_file(folder, "there are no images in it");
  std::sort(files.begin(), files.end());
  return files;
}

/// Lists images for one or several sets, and refuses what is listed twice.
class ImageLists {
 public:
  explicit ImageLists(std::filesystem::path root) : root_(std::move(root)) {}

  /// Lists the images in the folders of classes, in the order of their names.
  ClassFiles of_classes(const std::vector<std::string>& classes) {
    ClassFiles files;
    for (const std::string& name : classes) add_class({root_}, name, files);
    return files;
  }

  /// The same for a text file with one class per line.
  ClassFiles of_text(const std::filesystem::path& text) {
    ClassFiles files;
    for (const TextLine& line : read_lines(text)) add_class({text, line.number}, line.text, files);
    return files;
  }

  /// Lists images by lines FILENAME,LABEL below such a header.
  ClassFiles of_csv(const std::filesystem::path& csv) {
    namespace fs = std::filesystem;
    const std::vector<TextLine> lines = read_lines(csv);
    if (lines.empty() ||
        fields(lines.front()) != std::pair<std::string, std::string>("filename", "label")) {
      refuse_file(csv, "its first line must be filename,label");
    }
    std::map<std::string, std::vector<fs::path>> classes;
    for (std::size_t k = 1; k < lines.size(); ++k) {
      const Source source{csv, lines[k].number};
      const auto [name, label] = fields(lines[k]);
      if (name.empty() || label.empty()) {
        source.refuse("it must be FILENAME,LABEL, got " + lines[k].text);
      }
      std::error_code ignored;
      const fs::path in_class = root_ / label / name, in_root = root_ / name;
      const bool is_in_class = fs::exists(in_class, ignored);
      if (!is_in_class && !fs::exists(in_root, ignored)) {
        source.refuse("neither " + in_root.string() + " nor " + in_class.string() + " exists");
      }
      add_class_name(source, label);
      classes[label].push_back(is_in_class ? in_class : in_root);
      images_.add(classes[label].back(), source, name);
    }
    return {classes.begin(), classes.end()};
  }

 private:
  static std::pair<std::string, std::string> fields(const TextLine& line) {
    const std::size_t comma = std::min(line.text.find(','), line.text.size());
    const std::string_view text = line.text;
    return {trimmed(text.substr(0, comma)), trimmed(text.substr(std::min(comma + 1, text.size())))};
  }

  // A class belongs to one split, which may name it several times.
  void add_class_name(const Source& source, const std::string& name) {
    const Source& first = classes_.emplace(name, source).first->second;
    if (first.path != source.path) {
      source.refuse("the class " + name + " is already " + source.describe(first));
    }
  }

  void add_class(const Source& source, const std::string& name, ClassFiles& files) {
    namespace fs = std::filesystem;
    const fs::path folder = root_ / name;
    if (!fs::is_directory(folder)) {
      if (source.line == 0) refuse_file(folder, "there is no such class folder");
      source.refuse("there is no such class folder: " + folder.string());
    }
    folders_.add(folder, source, name);
    add_class_name(source, name);
    auto& of_class = files.emplace_back(name, list_class(folder)).second;
    for (const fs::path& file : of_class) images_.add(file, source, file.string());
  }

  std::filesystem::path root_;
  Seen folders_{"class"}, images_{"image"};
  std::map<std::string, Source> classes_;
};

}  // namespace plastic::detail
