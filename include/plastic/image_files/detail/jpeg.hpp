#pragma once

// jpeglib.h needs the other two before it.
// clang-format off
#include <cstddef>
#include <cstdio>
#include <jpeglib.h>
// clang-format on

#include <array>
#include <csetjmp>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "plastic/image_files/detail/bytes.hpp"

namespace plastic::detail {

inline bool is_jpeg(const std::vector<std::uint8_t>& bytes) {
  return bytes.size() >= 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF;
}

/// One JPEG file, whose header has been read. Any error or warning of libjpeg means damage; it
/// warns of missing or extra bytes before the end of the image.
class JpegReader {
 public:
  JpegReader(const std::filesystem::path& path, const std::vector<std::uint8_t>& bytes)
      : path_(path) {
    jpeg_decompress_struct& info = state_.info;
    info.err = jpeg_std_error(&errors_);
    errors_.error_exit = fail;
    errors_.emit_message = [](j_common_ptr of, int level) {
      if (level < 0) fail(of);  // other levels report progress
    };
    info.client_data = this;
    progress_.progress_monitor = [](j_common_ptr of) { reader(of).note_scan(); };
    attempt([this, &info, &bytes] {
      jpeg_create_decompress(&info);
      info.progress = &progress_;
      jpeg_mem_src(&info, bytes.data(), static_cast<unsigned long>(bytes.size()));
      jpeg_read_header(&info, TRUE);
      note_scan();
    });
    if (info.num_components != 1 && info.num_components != 3) {
      refuse_file(path, "it must have one channel or three, got " +
                            std::to_string(info.num_components) +
                            (info.num_components == 4 ? " (CMYK): convert it to RGB" : ""));
    }
    shape_ = {info.num_components, info.image_height, info.image_width};
    // A block of 8 x 8 takes a bit at least, unless its code is arithmetic; and no three channels
    // have fewer blocks than one for 128 pixels.
    check_image_size(path, shape_, bytes.size(), info.arith_code ? most_image_pixels : Index{1024});
  }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  const ImageShape& shape() const { return shape_; }

  /// Decodes into interleaved channels. To be called once.
  std::vector<std::uint8_t> pixels() {
    jpeg_decompress_struct& info = state_.info;
    info.out_color_space = shape_.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    const auto row = static_cast<std::size_t>(shape_.width * shape_.channels);
    std::vector<std::uint8_t> values(row * static_cast<std::size_t>(shape_.height));
    attempt([&info, row, to = values.data()] {
      jpeg_start_decompress(&info);
      while (info.output_scanline < info.output_height) {
        JSAMPROW line = to + row * info.output_scanline;
        jpeg_read_scanlines(&info, &line, 1);
      }
      jpeg_finish_decompress(&info);
    });
    for (Index c = 0; c < shape_.channels; ++c) {
      if (!seen_[static_cast<std::size_t>(c)]) {
        refuse_file(path_, "it is damaged: one of its channels is missing");
      }
    }
    return values;
  }

 private:
  struct State {
    jpeg_decompress_struct info{};

    State() = default;
    ~State() { jpeg_destroy_decompress(&info); }
    State(const State&) = delete;
    State& operator=(const State&) = delete;
  };

  static JpegReader& reader(j_common_ptr info) {
    return *static_cast<JpegReader*>(info->client_data);
  }
  [[noreturn]] static void fail(j_common_ptr info) {
    info->err->format_message(info, reader(info).message_.data());
    std::longjmp(reader(info).jump_, 1);
  }
  // The channels of the current scan: libjpeg does not notice a missing one.
  void note_scan() {
    const jpeg_decompress_struct& info = state_.info;
    for (int k = 0; k < info.comps_in_scan; ++k) {
      seen_[static_cast<std::size_t>(info.cur_comp_info[k]->component_index)] = true;
    }
  }

  // A call that libjpeg may leave by longjmp: it and what it calls own nothing.
  template <class Call>
  bool returns(const Call& call) {
    if (setjmp(jump_) != 0) return false;
    call();
    return true;
  }
  template <class Call>
  void attempt(const Call& call) {
    if (!returns(call)) refuse_file(path_, "it is damaged: " + std::string(message_.data()));
  }

  const std::filesystem::path& path_;
  std::jmp_buf jump_{};
  std::array<char, JMSG_LENGTH_MAX> message_{};
  std::array<bool, MAX_COMPONENTS> seen_{};
  jpeg_error_mgr errors_{};
  jpeg_progress_mgr progress_{};
  ImageShape shape_;
  State state_;
};

}  // namespace plastic::detail
