#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "plastic/image_files/detail/bytes.hpp"
#include "plastic/image_files/detail/jpeg.hpp"
#include "plastic/image_files/detail/png.hpp"
#include "plastic/nn/image.hpp"

/// @file
/// PNG and JPEG files, decoded with libpng and libjpeg.
namespace plastic::detail {

inline bool is_image_name(const std::filesystem::path& path) {
  std::string end = path.extension().string();
  std::transform(end.begin(), end.end(), end.begin(), [](char c) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  });
  return end == ".png" || end == ".jpg" || end == ".jpeg";
}

/// One image file in memory, with its header's contents.
struct ImageFile {
  std::vector<std::uint8_t> bytes;
  ImageShape shape;  ///< one channel, or three for colours

  explicit ImageFile(const std::filesystem::path& path) : ImageFile(path, read_file(path)) {}
  ImageFile(const std::filesystem::path& path, std::vector<std::uint8_t> content)
      : bytes(std::move(content)) {
    with_reader(path, [this](auto& reader) { shape = reader.shape(); });
  }

  /// Writes the image, channel after channel: its own channels, or a grey one `channels` times.
  void decode(const std::filesystem::path& path, Index channels, std::uint8_t* to) const {
    std::vector<std::uint8_t> pixels;
    with_reader(path, [&pixels](auto& reader) { pixels = reader.pixels(); });
    const Index own = shape.channels, count = shape.pixels();
    for (Index c = 0; c < channels; ++c) {
      const std::uint8_t* from = pixels.data() + std::min(c, own - 1);
      for (Index p = 0; p < count; ++p) to[c * count + p] = from[p * own];
    }
  }

 private:
  // By content, whatever the name says.
  template <class Call>
  void with_reader(const std::filesystem::path& path, const Call& call) const {
    if (is_png(bytes)) {
      PngReader reader(path, bytes);
      call(reader);
    } else if (is_jpeg(bytes)) {
      JpegReader reader(path, bytes);
      call(reader);
    } else {
      refuse_file(path, "it is neither PNG nor JPEG");
    }
  }
};

}  // namespace plastic::detail
