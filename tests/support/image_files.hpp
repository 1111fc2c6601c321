#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "plastic/image_files/image_data.hpp"
#include "support/files.hpp"

/// Image data sets written for tests.
namespace plastic::testing {

// Pixel values that tell class, image, place and channel.
inline std::vector<std::uint8_t> pattern(int of_class, int image, int width, int height,
                                         int channels) {
  std::vector<std::uint8_t> pixels;
  for (int i = 0; i < height * width * channels; ++i) {
    pixels.push_back(static_cast<std::uint8_t>((of_class * 37 + image * 101 + i * 7) % 256));
  }
  return pixels;
}

// Interleaved channels of 8 bits: grey, grey with alpha, colours, colours with alpha.
inline void write_png(const fs::path& path, const std::vector<std::uint8_t>& pixels, int width,
                      int height, int channels) {
  constexpr png_uint_32 formats[] = {PNG_FORMAT_GRAY, PNG_FORMAT_GA, PNG_FORMAT_RGB,
                                     PNG_FORMAT_RGBA};
  fs::create_directories(path.parent_path());
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(width);
  header.height = static_cast<png_uint_32>(height);
  header.format = formats[channels - 1];
  REQUIRE(png_image_write_to_file(&header, path.c_str(), 0, pixels.data(), 0, nullptr) != 0);
}

// How a JPEG file is written.
struct JpegKind {
  int channels = 3;  // 1: grey, 3: colours, 4: CMYK
  bool progressive = false;
  bool arithmetic = false;
  unsigned restart = 0;  // blocks between two restart markers
  int sampling = 2;      // pixels of a side that share a colour
  int quality = 95;
  bool separate = false;  // each channel in a scan of its own
};

inline std::string jpeg_bytes(std::vector<std::uint8_t> pixels, int width, int height,
                              const JpegKind& kind = {}) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* memory = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &memory, &size);
  info.image_width = static_cast<JDIMENSION>(width);
  info.image_height = static_cast<JDIMENSION>(height);
  info.input_components = kind.channels;
  info.in_color_space = kind.channels == 1   ? JCS_GRAYSCALE
                        : kind.channels == 3 ? JCS_RGB
                                             : JCS_CMYK;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, kind.quality, TRUE);
  if (kind.channels == 3) {
    info.comp_info[0].h_samp_factor = info.comp_info[0].v_samp_factor = kind.sampling;
  }
  if (kind.progressive) jpeg_simple_progression(&info);
  const jpeg_scan_info scans[] = {
      {1, {0}, 0, 63, 0, 0}, {1, {1}, 0, 63, 0, 0}, {1, {2}, 0, 63, 0, 0}};
  if (kind.separate) {
    info.scan_info = scans;
    info.num_scans = 3;
  }
  info.arith_code = kind.arithmetic ? TRUE : FALSE;
  info.optimize_coding = kind.arithmetic ? FALSE : TRUE;
  info.restart_interval = kind.restart;
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    JSAMPROW row =
        pixels.data() + static_cast<std::size_t>(width * kind.channels) * info.next_scanline;
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  const std::string bytes(reinterpret_cast<const char*>(memory), size);
  std::free(memory);
  return bytes;
}

inline void write_jpeg(const fs::path& path, const std::vector<std::uint8_t>& pixels, int width,
                       int height, int channels) {
  fs::create_directories(path.parent_path());
  write_plainly(path, jpeg_bytes(pixels, width, height, {.channels = channels}));
}

// root/data/classN/K.png or .jpg, side x side in colours, with split files in root/splits:
// `classes` classes for training and as many again for each of the others. Images of a class are
// alike.
inline void write_data_set(const fs::path& root, int classes, int images, int side = 16) {
  const char* names[] = {"train", "val", "test"};
  fs::create_directories(root / "splits");
  for (int split = 0; split < 3; ++split) {
    std::string list;
    for (int k = split * classes; k < (split + 1) * classes; ++k) {
      const std::string name = "class" + std::to_string(k);
      list += name + "\n";
      for (int image = 0; image < images; ++image) {
        std::vector<std::uint8_t> pixels;
        for (int p = 0; p < side * side; ++p) {
          const int x = p % side, y = p / side;
          pixels.push_back(static_cast<std::uint8_t>(40 * (k % 6) + image));
          pixels.push_back(static_cast<std::uint8_t>((x * (k % 4)) % 16 * 15));
          pixels.push_back(static_cast<std::uint8_t>((y * (k % 3)) % 16 * 15));
        }
        const fs::path file = root / "data" / name / std::to_string(image);
        if (image % 2 == 0) {
          write_png(file.string() + ".png", pixels, side, side, 3);
        } else {
          write_jpeg(file.string() + ".jpg", pixels, side, side, 3);
        }
      }
    }
    write_plainly(root / "splits" / (std::string(names[split]) + ".txt"), list);
  }
}

// Records of a small CIFAR-100: `each` images of every class, in turn.
inline std::string cifar_records(int each, int first) {
  std::string bytes;
  for (int n = 0; n < each; ++n) {
    for (int label = 0; label < 100; ++label) {
      bytes += static_cast<char>(label / 5);
      bytes += static_cast<char>(label);
      for (int i = 0; i < 3072; ++i) {
        bytes += static_cast<char>((label * 3 + (first + n) * 50 + i) % 256);
      }
    }
  }
  return bytes;
}

// The classes of CIFAR-FS among a hundred; the names of the others do not matter.
inline std::vector<std::string> cifar_names() {
  std::vector<std::string> names(cifar_fs_test_classes.begin(), cifar_fs_test_classes.end());
  for (int k = 0; k < 64; ++k) names.push_back("other" + std::to_string(k));
  names.insert(names.end(), cifar_fs_validation_classes.begin(), cifar_fs_validation_classes.end());
  return names;
}

inline void write_cifar(const fs::path& folder) {
  fs::create_directories(folder);
  std::string names;
  for (const std::string& name : cifar_names()) names += name + "\n";
  write_plainly(folder / "fine_label_names.txt", names);
  write_plainly(folder / "train.bin", cifar_records(2, 0));
  write_plainly(folder / "test.bin", cifar_records(1, 2));
}

}  // namespace plastic::testing
