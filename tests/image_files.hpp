#pragma once

#include <stb/stb_image_write.h>

#include <cstdint>
#include <string>
#include <vector>

#include "files.hpp"
#include "plastic/image_files/image_data.hpp"

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

inline void write_png(const fs::path& path, const std::vector<std::uint8_t>& pixels, int width,
                      int height, int channels) {
  fs::create_directories(path.parent_path());
  REQUIRE(stbi_write_png(path.c_str(), width, height, channels, pixels.data(), 0) != 0);
}

inline void write_jpeg(const fs::path& path, const std::vector<std::uint8_t>& pixels, int width,
                       int height, int channels) {
  fs::create_directories(path.parent_path());
  REQUIRE(stbi_write_jpg(path.c_str(), width, height, channels, pixels.data(), 95) != 0);
}

// root/data/classN/K.png or .jpg, 16 x 16 in colours, with split files in root/splits: `classes`
// classes for training and as many again for each of the others. Images of a class are alike.
inline void write_data_set(const fs::path& root, int classes, int images) {
  constexpr int side = 16;
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
