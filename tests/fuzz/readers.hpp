#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

/// What fuzzing feeds: each reader of files, with bytes that may be anything.
namespace plastic::fuzz {

using Bytes = std::span<const std::byte>;

/// A source file each, which includes no more than its reader needs.
struct Reader {
  const char* name;  ///< name of the source, of the program fuzz_NAME, and of the folders of inputs
  /// Reads, and looks at what came. Anything but a return, std::runtime_error and
  /// std::invalid_argument is a mistake of the library.
  void (*read)(Bytes bytes);
  /// Inputs to begin with, all of which are read without an error.
  std::vector<std::string> (*seeds)();
};

extern const Reader checkpoint, cifar100, csv, experiment, image_file, image_model, image_splits,
    model, safetensors, settings, state, state_dict;

/// Whether the reader takes the bytes; what it may not throw goes on to the caller.
inline bool accepts(const Reader& reader, Bytes bytes) {
  try {
    reader.read(bytes);
    return true;
  } catch (const std::runtime_error&) {
    return false;
  } catch (const std::invalid_argument&) {
    return false;
  }
}

inline Bytes bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

inline std::string_view text_of(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline std::string file_content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A property of what has been read; where it does not hold, that is a mistake of the library too.
inline void expect(bool holds, const char* property) {
  if (!holds) throw std::logic_error(property);
}

}  // namespace plastic::fuzz
