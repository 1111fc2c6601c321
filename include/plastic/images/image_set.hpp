#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "plastic/nn/image.hpp"

namespace plastic {

/// The images of one class: a contiguous range in the set.
struct ImageClass {
  std::string name;  ///< name in the files it came from
  Index first = 0;   ///< number of its first image
  Index count = 0;   ///< number of its images
};

/// Mean and standard deviation of each channel, by which images are normalised; byte 255 is 1.
struct Normalisation {
  std::vector<double> mean;       ///< mean of each channel
  std::vector<double> deviation;  ///< standard deviation of each channel, positive

  /// Values of CIFAR-FS. Source: Lee et al., "Meta-learning with differentiable convex
  /// optimization", CVPR 2019.
  static Normalisation cifar_fs() {
    return {{129.37731888 / 255, 124.10583864 / 255, 112.47758569 / 255},
            {68.20947949 / 255, 65.43124043 / 255, 70.45866994 / 255}};
  }

  /// Values of miniImageNet; same source.
  static Normalisation mini_imagenet() {
    return {{120.39586422 / 255, 115.59361427 / 255, 104.54012653 / 255},
            {70.68188272 / 255, 68.27635443 / 255, 72.54505529 / 255}};
  }
};

/// Decoded images of one size in memory, class after class, a byte per value (NCHW).
struct ImageSet {
  ImageShape shape;                  ///< shape of every image
  std::vector<std::uint8_t> pixels;  ///< shape.size() for each image
  std::vector<ImageClass> classes;   ///< in the order of their images
  Normalisation normalisation;       ///< normalisation of the images for networks

  /// Number of images.
  Index images() const { return static_cast<Index>(pixels.size()) / shape.size(); }
  /// The shape.size() bytes of an image.
  const std::uint8_t* image(Index number) const { return pixels.data() + number * shape.size(); }
};

namespace detail {

inline void check_images(std::string_view function, const ImageSet& set, const ImageShape& shape) {
  if (set.shape == shape) return;
  reject(function, "the images of the set", shape_text(shape), shape_text(set.shape));
}

}  // namespace detail

/// Identifies a set: a 64-bit fingerprint of its shape, classes, normalisation and pixels (FNV-1a
/// over words of eight bytes), as a string. One pass over the pixels.
inline std::string fingerprint(const ImageSet& set) {
  std::uint64_t hash = 14695981039346656037u;
  const auto add = [&hash](std::uint64_t word) { hash = (hash ^ word) * 1099511628211u; };
  add(static_cast<std::uint64_t>(set.shape.channels));
  add(static_cast<std::uint64_t>(set.shape.height));
  add(static_cast<std::uint64_t>(set.shape.width));
  for (const ImageClass& c : set.classes) add(static_cast<std::uint64_t>(c.count));
  for (const double mean : set.normalisation.mean)
    add(Eigen::numext::bit_cast<std::uint64_t>(mean));
  for (const double d : set.normalisation.deviation) add(Eigen::numext::bit_cast<std::uint64_t>(d));
  std::size_t i = 0;
  for (; i + 8 <= set.pixels.size(); i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, set.pixels.data() + i, 8);
    add(word);
  }
  for (; i < set.pixels.size(); ++i) add(set.pixels[i]);
  return std::to_string(hash);
}

/// Three sets without a common class.
struct ImageSplits {
  ImageSet train;       ///< to learn from
  ImageSet validation;  ///< to select by
  ImageSet test;        ///< to report on

  /// The three in this order.
  std::vector<ImageSet*> all() { return {&train, &validation, &test}; }
};

/// Mean and deviation of a set's own images; a constant channel gets the deviation 1.
inline Normalisation measure_normalisation(const ImageSet& set) {
  const auto channels = static_cast<std::size_t>(set.shape.channels);
  Normalisation result{std::vector<double>(channels, 0), std::vector<double>(channels, 1)};
  const double count = static_cast<double>(set.images() * set.shape.pixels()) * 255;
  for (std::size_t c = 0; c < channels; ++c) {
    double sum = 0, square = 0;
    for (Index n = 0; n < set.images(); ++n) {
      const std::uint8_t* from = set.image(n) + static_cast<Index>(c) * set.shape.pixels();
      for (Index p = 0; p < set.shape.pixels(); ++p) {
        sum += from[p];
        square += from[p] * from[p] / 255.0;
      }
    }
    const double mean = sum / count, variance = square / count - mean * mean;
    result.mean[c] = mean;
    if (variance > 0) result.deviation[c] = std::sqrt(variance);
  }
  return result;
}

}  // namespace plastic
