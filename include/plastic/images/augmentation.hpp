#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "plastic/images/image_set.hpp"
#include "plastic/random/random.hpp"
#include "plastic/tape/check.hpp"

namespace plastic {

/// What happens to a training image before the network sees it; all off by default.
struct Augmentation {
  Index padding = 0;      ///< a crop of the image's size out of it and so many zeros around it
  double brightness = 0;  ///< largest relative change, in [0, 1]
  double contrast = 0;    ///< likewise
  double saturation = 0;  ///< likewise, of three channels
  bool flip = false;      ///< left and right, half of the time

  /// The paper's for images of this size: padding 4 up to 32 pixels, else 8; jitter 0.4; flip.
  static Augmentation paper(const ImageShape& shape) {
    return {.padding = shape.width <= 32 ? 4 : 8,
            .brightness = 0.4,
            .contrast = 0.4,
            .saturation = 0.4,
            .flip = true};
  }
  bool any() const {
    return padding > 0 || brightness > 0 || contrast > 0 || saturation > 0 || flip;
  }
  void validate() const {
    constexpr std::string_view here = "Augmentation";
    if (padding < 0 || padding > 4096) detail::reject(here, "padding", "in 0 .. 4096", padding);
    detail::check_range(here, "brightness", brightness, 0, 1);
    detail::check_range(here, "contrast", contrast, 0, 1);
    detail::check_range(here, "saturation", saturation, 0, 1);
  }
};

namespace detail {

/// The light that an eye would see in a pixel, of one or three channels (ITU-R BT.601).
inline double luma(const ImageShape& s, const double* x, Index pixel) {
  if (s.channels != 3) return x[pixel];
  return 0.299 * x[pixel] + 0.587 * x[pixel + s.pixels()] + 0.114 * x[pixel + 2 * s.pixels()];
}

/// factor * x + (1 - factor) * other, kept in [0, 1].
inline double blend(double x, double other, double factor) {
  return std::clamp(factor * x + (1 - factor) * other, 0.0, 1.0);
}

/// Brightness, contrast and saturation by random factors, in random order.
inline void jitter(const ImageShape& s, const Augmentation& a, Random& random, double* x) {
  std::array<int, 3> order{0, 1, 2};
  for (std::uint32_t k = 3; k > 1; --k) std::swap(order[k - 1], order[random.below(k)]);
  for (const int what : order) {
    const double spread = what == 0 ? a.brightness : what == 1 ? a.contrast : a.saturation;
    if (spread == 0 || (what == 2 && s.channels != 3)) continue;
    const double factor = random.uniform(1 - spread, 1 + spread);
    double mean = 0;
    if (what == 1) {
      for (Index p = 0; p < s.pixels(); ++p) mean += luma(s, x, p);
      mean /= static_cast<double>(s.pixels());
    }
    for (Index p = 0; p < s.pixels(); ++p) {
      const double other = what == 0 ? 0 : what == 1 ? mean : luma(s, x, p);
      for (Index c = 0; c < s.channels; ++c) {
        double& value = x[c * s.pixels() + p];
        value = blend(value, other, factor);
      }
    }
  }
}

}  // namespace detail

/// Image `number` of the set as the network sees it, (x - mean) / deviation of each channel with x
/// in [0, 1], after the augmentation's changes. to: shape.size() values. Zeros around a crop are
/// black.
template <class Scalar>
void load_image(const ImageSet& set, Index number, const Augmentation& augmentation, Random& random,
                Scalar* to) {
  const ImageShape& s = set.shape;
  const std::uint8_t* from = set.image(number);
  const auto normalised = [&](double x, Index c) {
    const auto channel = static_cast<std::size_t>(c);
    return static_cast<Scalar>((x - set.mean[channel]) / set.deviation[channel]);
  };
  if (!augmentation.any()) {
    for (Index c = 0; c < s.channels; ++c) {
      for (Index p = 0; p < s.pixels(); ++p, ++from, ++to) *to = normalised(*from / 255.0, c);
    }
    return;
  }
  const auto offset = [&] {
    const Index pad = augmentation.padding;
    return static_cast<Index>(random.below(static_cast<std::uint32_t>(2 * pad + 1))) - pad;
  };
  const Index down = offset(), right = offset();
  const bool flipped = augmentation.flip && random.below(2) == 1;
  thread_local std::vector<double> x;
  x.resize(static_cast<std::size_t>(s.size()));
  for (Index c = 0; c < s.channels; ++c) {
    for (Index i = 0; i < s.height; ++i) {
      for (Index j = 0; j < s.width; ++j) {
        const Index row = i + down, column = (flipped ? s.width - 1 - j : j) + right;
        const bool inside = row >= 0 && row < s.height && column >= 0 && column < s.width;
        x[static_cast<std::size_t>((c * s.height + i) * s.width + j)] =
            inside ? from[(c * s.height + row) * s.width + column] / 255.0 : 0.0;
      }
    }
  }
  detail::jitter(s, augmentation, random, x.data());
  for (Index c = 0; c < s.channels; ++c) {
    for (Index p = 0; p < s.pixels(); ++p) {
      to[c * s.pixels() + p] = normalised(x[static_cast<std::size_t>(c * s.pixels() + p)], c);
    }
  }
}

}  // namespace plastic
