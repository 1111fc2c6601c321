#include <array>

#include "input_files.hpp"
#include "plastic/image_files/image_data.hpp"
#include "readers.hpp"

namespace plastic::fuzz {
namespace {

// A PNG file of 2 x 2 grey pixels.
constexpr std::array<unsigned char, 71> png{
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44,
    0x52, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x02, 0x08, 0x00, 0x00, 0x00, 0x00, 0x57,
    0xdd, 0x52, 0xf8, 0x00, 0x00, 0x00, 0x0e, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x10,
    0x68, 0x60, 0xf8, 0xaf, 0x00, 0x00, 0x04, 0x74, 0x01, 0xb0, 0x24, 0x2d, 0x52, 0xf9, 0x00,
    0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82};

// train.txt or train.csv, as the first byte says, beside the classes a, b, c and d/e.
void read(Bytes bytes) {
  static const Workplace folder;
  static const bool written = [] {
    const std::string image(reinterpret_cast<const char*>(png.data()), png.size());
    for (const char* name : {"a/1.png", "a/2.png", "b/1.png", "c/1.png", "d/e/1.png"}) {
      folder.write(std::string("data/") + name, image);
    }
    for (const char* splits : {"text/", "csv/"}) {
      folder.write(std::string(splits) + "val.txt", "b\n");
      folder.write(std::string(splits) + "test.csv", "filename,label\n1.png,c\n");
    }
    return true;
  }();
  if (!written || bytes.empty()) return;
  const bool is_text = bytes[0] == std::byte{'t'};
  folder.write(is_text ? "text/train.txt" : "csv/train.csv", text_of(bytes.subspan(1)));
  const ImageSplits splits =
      read_image_splits(folder.path() / "data", folder.path() / (is_text ? "text" : "csv"));
  expect(splits.train.images() > 0, "there are images for training");
}

std::vector<std::string> seeds() {
  return {"ta\n", "ta\r\nd/e\n", "cfilename,label\n1.png,a\n2.png,a\nd/e/1.png,d\n"};
}

}  // namespace

const Reader image_splits{"image_splits", read, seeds};

}  // namespace plastic::fuzz
