#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <stdexcept>
#include <string>
#include <vector>

#include "plastic/nn/image.hpp"

namespace plastic::detail {

[[noreturn]] inline void refuse_file(const std::filesystem::path& path, const std::string& why) {
  throw std::runtime_error(path.string() + ": " + why);
}

inline std::vector<std::uint8_t> read_file(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) refuse_file(path, "there is no such file");
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file ? static_cast<std::streamoff>(file.tellg()) : -1;
  if (size < 0) refuse_file(path, "it cannot be read");
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  if (!file) refuse_file(path, "it cannot be read");
  return bytes;
}

/// Largest number of pixels that an image may have.
inline constexpr Index most_image_pixels = Index{1} << 28;

/// Checks a header before memory is allocated. Refuses more pixels than any image may have, or than
/// the file's bytes can hold at `most_per_byte` pixels each.
inline void check_image_size(const std::filesystem::path& path, const ImageShape& shape,
                             std::size_t bytes, Index most_per_byte) {
  const std::string sides = std::to_string(shape.height) + " x " + std::to_string(shape.width);
  if (shape.pixels() > most_image_pixels) {
    refuse_file(path, "it must have at most 2^28 pixels, got " + sides);
  }
  if (shape.pixels() / most_per_byte > static_cast<Index>(bytes)) {
    refuse_file(path, "it is damaged: " + std::to_string(bytes) + " bytes cannot hold " + sides +
                          " pixels");
  }
}

}  // namespace plastic::detail
