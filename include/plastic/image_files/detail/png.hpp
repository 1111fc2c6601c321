#pragma once

#include <png.h>

#include <array>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <new>
#include <string>
#include <vector>

#include "plastic/image_files/detail/bytes.hpp"

namespace plastic::detail {

inline bool is_png(const std::vector<std::uint8_t>& bytes) {
  constexpr std::array<std::uint8_t, 8> signature{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  return bytes.size() >= signature.size() &&
         std::memcmp(bytes.data(), signature.data(), signature.size()) == 0;
}

/// One PNG file, whose header has been read. Any error or warning of libpng means damage.
class PngReader {
 public:
  PngReader(const std::filesystem::path& path, const std::vector<std::uint8_t>& bytes)
      : path_(path), bytes_(bytes) {
    state_.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, fail, warn);
    if (state_.png != nullptr) state_.info = png_create_info_struct(state_.png);
    if (state_.info == nullptr) throw std::bad_alloc();
    attempt([this] { read_header(); });
    shape_ = {(color_ & PNG_COLOR_MASK_COLOR) == 0 ? 1 : 3,
              png_get_image_height(state_.png, state_.info),
              png_get_image_width(state_.png, state_.info)};
    // Deflate makes at most 258 bytes of two bits.
    check_image_size(path, shape_, bytes.size(), Index{8256} / pixel_bits_);
  }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  const ImageShape& shape() const { return shape_; }

  /// Decodes into interleaved channels. To be called once.
  std::vector<std::uint8_t> pixels() {
    const auto width = static_cast<std::size_t>(shape_.width);
    const auto height = static_cast<std::size_t>(shape_.height);
    const bool palette = color_ == PNG_COLOR_TYPE_PALETTE;
    const std::size_t row = width * (palette || shape_.channels == 1 ? 1 : 3);
    attempt([this] { png_read_update_info(state_.png, state_.info); });
    if (png_get_rowbytes(state_.png, state_.info) != row) {
      refuse_file(path_, "it cannot be decoded: libpng reports rows of a different length");
    }
    std::vector<std::uint8_t> values(row * height);
    std::vector<png_bytep> rows(height);
    for (std::size_t y = 0; y < height; ++y) rows[y] = values.data() + y * row;
    attempt([this, to = rows.data()] {
      png_read_image(state_.png, to);
      png_read_end(state_.png, state_.info);
    });
    if (at_ != bytes_.size()) {
      refuse_file(path_, "it is damaged: there are " + std::to_string(bytes_.size() - at_) +
                             " bytes past its end");
    }
    return palette ? colours_of(values) : values;
  }

 private:
  struct State {
    png_structp png = nullptr;
    png_infop info = nullptr;

    State() = default;
    ~State() { png_destroy_read_struct(&png, &info, nullptr); }
    State(const State&) = delete;
    State& operator=(const State&) = delete;
  };

  static PngReader& reader(png_const_structrp png) {
    return *static_cast<PngReader*>(png_get_error_ptr(png));
  }
  // Keeps the first message.
  static void warn(png_structp png, png_const_charp message) {
    auto& kept = reader(png).message_;
    if (kept[0] == '\0') std::snprintf(kept.data(), kept.size(), "%s", message);
  }
  [[noreturn]] static void fail(png_structp png, png_const_charp message) {
    warn(png, message);
    png_longjmp(png, 1);
  }
  static void read(png_structp png, png_bytep to, std::size_t count) {
    PngReader& from = reader(png);
    if (count > from.bytes_.size() - from.at_) png_error(png, "it ends too early");
    std::memcpy(to, from.bytes_.data() + from.at_, count);
    from.at_ += count;
  }

  // A call that libpng may leave by longjmp: it and what it calls own nothing.
  template <class Call>
  bool returns(const Call& call) {
    if (setjmp(png_jmpbuf(state_.png)) != 0) return false;
    call();
    return true;
  }
  template <class Call>
  void attempt(const Call& call) {
    if (!returns(call) || message_[0] != '\0') {
      refuse_file(path_, "it is damaged: " + std::string(message_.data()));
    }
  }

  void read_header() {
    png_structp png = state_.png;
    png_set_read_fn(png, this, read);
    png_set_benign_errors(png, 0);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    // Only the checksum of ancillary chunks matters: no pixel depends on them.
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_read_info(png, state_.info);
    color_ = png_get_color_type(png, state_.info);
    pixel_bits_ = Index{png_get_bit_depth(png, state_.info)} * png_get_channels(png, state_.info);
    if (color_ == PNG_COLOR_TYPE_PALETTE) {
      // Palette indices: libpng reports those beyond the palette only if it does not look them up.
      png_set_packing(png);
    } else if (png_get_bit_depth(png, state_.info) < 8) {
      png_set_expand_gray_1_2_4_to_8(png);
    }
    png_set_strip_16(png);
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
  }

  std::vector<std::uint8_t> colours_of(const std::vector<std::uint8_t>& indices) {
    png_colorp entries = nullptr;
    int count = 0;
    png_get_PLTE(state_.png, state_.info, &entries, &count);
    std::vector<std::uint8_t> colours;
    colours.reserve(3 * indices.size());
    for (const std::uint8_t index : indices) {
      if (index >= count) {
        refuse_file(path_, "it is damaged: a pixel has an index beyond the palette");
      }
      const png_color& c = entries[index];
      for (const std::uint8_t value : {c.red, c.green, c.blue}) colours.push_back(value);
    }
    return colours;
  }

  const std::filesystem::path& path_;
  const std::vector<std::uint8_t>& bytes_;
  std::size_t at_ = 0;
  std::array<char, 200> message_{};
  int color_ = 0;
  Index pixel_bits_ = 1;
  ImageShape shape_;
  State state_;
};

}  // namespace plastic::detail
