#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plastic/nn/image.hpp"

namespace plastic {

/// The images of one class: a run of numbers in the set.
struct ImageClass {
  std::string name;
  Index first = 0;
  Index count = 0;
};

/// Decoded images of one size in memory, class after class, a byte per value (NCHW). Mean and
/// standard deviation of each channel, in units of 1 for the byte 255, are those by which a network
/// sees them.
struct ImageSet {
  ImageShape shape;
  std::vector<std::uint8_t> pixels;
  std::vector<ImageClass> classes;
  std::vector<double> mean;
  std::vector<double> deviation;

  Index images() const { return static_cast<Index>(pixels.size()) / shape.size(); }
  const std::uint8_t* image(Index number) const { return pixels.data() + number * shape.size(); }
};

}  // namespace plastic
