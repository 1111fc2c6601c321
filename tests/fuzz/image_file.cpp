#include "plastic/image_files/image_file.hpp"

#include "readers.hpp"

namespace plastic::fuzz {
namespace {

void read(Bytes bytes) {
  const auto* const first = reinterpret_cast<const std::uint8_t*>(bytes.data());
  const detail::ImageFile file("image", {first, first + bytes.size()});
  const ImageShape& shape = file.shape;
  expect((shape.channels == 1 || shape.channels == 3) && shape.height > 0 && shape.width > 0,
         "an image has pixels");
  // A large image may take as much time and memory as it needs.
  if (shape.pixels() > Index{1} << 20) return;
  for (const Index channels : {shape.channels, Index{3}}) {
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(channels * shape.pixels()));
    file.decode("image", channels, pixels.data());
  }
}

// The seeds are files, in tests/data/fuzz.
std::vector<std::string> seeds() { return {}; }

}  // namespace

const Reader image_file{"image_file", read, seeds};

}  // namespace plastic::fuzz
