#pragma once

#include <stb/stb_image.h>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "plastic/nn/image.hpp"

/// @file
/// PNG and JPEG files, decoded with stb_image.
namespace plastic {
namespace detail {

[[noreturn]] inline void refuse_file(const std::filesystem::path& path, const std::string& why) {
  throw std::runtime_error(path.string() + ": " + why);
}

inline std::vector<std::uint8_t> read_file(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) refuse_file(path, "there is no such file");
  std::ifstream file(path, std::ios::binary);
  std::vector<std::uint8_t> bytes((std::istreambuf_iterator<char>(file)), {});
  if (!file) refuse_file(path, "it cannot be read");
  return bytes;
}

inline bool is_image_name(const std::filesystem::path& path) {
  std::string end = path.extension().string();
  std::transform(end.begin(), end.end(), end.begin(), [](char c) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  });
  return end == ".png" || end == ".jpg" || end == ".jpeg";
}

/// Whether a JPEG file goes on to its end: the decoder itself takes zeros for bytes that are
/// missing.
inline bool is_whole_jpeg(const std::vector<std::uint8_t>& b) {
  constexpr std::uint8_t start = 0xD8, end = 0xD9, scan = 0xDA;
  const auto is_restart = [](std::uint8_t m) { return m >= 0xD0 && m <= 0xD7; };
  std::size_t i = 2;
  bool in_scan = false;
  while (i + 1 < b.size()) {
    if (in_scan && (b[i] != 0xFF || b[i + 1] == 0 || is_restart(b[i + 1]))) {
      ++i;
      continue;
    }
    if (b[i] != 0xFF) return false;
    const std::uint8_t marker = b[i + 1];
    if (marker == end) return true;
    if (marker == 0xFF) {  // padding
      ++i;
      continue;
    }
    in_scan = marker == scan;
    if (marker == start || marker == 1 || is_restart(marker)) {
      i += 2;
      continue;
    }
    if (i + 3 >= b.size()) return false;
    i += 2 + (static_cast<std::size_t>(b[i + 2]) << 8 | b[i + 3]);
  }
  return false;
}

/// Whether a PNG file goes on to the end of its last chunk.
inline bool is_whole_png(const std::vector<std::uint8_t>& b) {
  constexpr std::size_t signature = 8, around = 12;  // length, name and checksum
  for (std::size_t i = signature; i + around <= b.size();) {
    const std::size_t length = static_cast<std::size_t>(b[i]) << 24 |
                               static_cast<std::size_t>(b[i + 1]) << 16 |
                               static_cast<std::size_t>(b[i + 2]) << 8 | b[i + 3];
    const bool is_last = std::memcmp(&b[i + 4], "IEND", 4) == 0;
    i += length + around;
    if (is_last) return i <= b.size();
  }
  return false;
}

/// One image file in memory, with what its header says.
struct ImageFile {
  std::vector<std::uint8_t> bytes;
  ImageShape shape;  ///< one channel, or three where there are colours

  explicit ImageFile(const std::filesystem::path& path) : bytes(read_file(path)) {
    int width = 0, height = 0, channels = 0;
    if (stbi_info_from_memory(bytes.data(), size(), &width, &height, &channels) == 0) {
      refuse_file(path, "it is no image that can be read: " + std::string(stbi_failure_reason()));
    }
    constexpr std::uint8_t jpeg = 0xFF, png = 0x89;  // first bytes
    if ((bytes[0] == jpeg && !is_whole_jpeg(bytes)) || (bytes[0] == png && !is_whole_png(bytes))) {
      refuse_file(path, "it has been cut short");
    }
    shape = {channels <= 2 ? 1 : 3, height, width};
  }

  int size() const { return static_cast<int>(bytes.size()); }

  /// Writes the image, channel after channel.
  void decode(const std::filesystem::path& path, Index channels, std::uint8_t* to) const {
    int width = 0, height = 0, found = 0;
    const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
        stbi_load_from_memory(bytes.data(), size(), &width, &height, &found,
                              static_cast<int>(channels)),
        stbi_image_free);
    if (pixels == nullptr) {
      refuse_file(path, "it cannot be decoded: " + std::string(stbi_failure_reason()));
    }
    for (Index p = 0; p < shape.pixels(); ++p) {
      for (Index c = 0; c < channels; ++c) {
        to[c * shape.pixels() + p] = pixels.get()[p * channels + c];
      }
    }
  }
};

}  // namespace detail
}  // namespace plastic
