#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "plastic/core/random.hpp"
#include "plastic/core/settings.hpp"
#include "plastic/images/image_set.hpp"

namespace plastic {

/// Changes to a training image before the network sees it, in the order of the members; all off by
/// default.
struct Augmentation {
  Index padding = 0;  ///< random crop of the image's size from the image with this border of zeros
  double resized_crop = 0;   ///< instead, a random part of at least this share of the area, resized
  bool flip = false;         ///< mirrors the image, half of the time
  double brightness = 0;     ///< largest relative change, in [0, 1]
  double contrast = 0;       ///< likewise
  double saturation = 0;     ///< likewise, of three channels
  double hue = 0;            ///< largest rotation of the hue, in [0, 0.5] turns
  double jitter_chance = 1;  ///< probability of the four changes of colour above
  double grey_chance = 0;    ///< probability of grey instead of colours
  double blur_chance = 0;    ///< probability of a Gaussian blur, of 0.1 to 2 pixels at size 224

  /// The paper's settings for images of this size: padding 4 up to 32 pixels, else 8; jitter 0.4;
  /// flip.
  static Augmentation paper(const ImageShape& shape) {
    return {.padding = shape.width <= 32 ? 4 : 8,
            .flip = true,
            .brightness = 0.4,
            .contrast = 0.4,
            .saturation = 0.4};
  }

  /// Settings for contrastive training. Source: Chen et al., "A simple framework for contrastive
  /// learning of visual representations", ICML 2020, appendix A.
  static Augmentation for_contrast() {
    return {.resized_crop = 0.08,
            .flip = true,
            .brightness = 0.8,
            .contrast = 0.8,
            .saturation = 0.8,
            .hue = 0.2,
            .jitter_chance = 0.8,
            .grey_chance = 0.2,
            .blur_chance = 0.5};
  }

  /// Whether it changes colours.
  bool jitters() const { return brightness > 0 || contrast > 0 || saturation > 0 || hue > 0; }
  /// Whether it changes anything.
  bool any() const {
    return padding > 0 || resized_crop > 0 || flip || jitters() || grey_chance > 0 ||
           blur_chance > 0;
  }
  /// The settings as strings, for a checkpoint.
  Settings settings() const {
    using detail::number_text;
    return {{"augmentation.padding", number_text(padding)},
            {"augmentation.resized_crop", number_text(resized_crop)},
            {"augmentation.flip", detail::bool_text(flip)},
            {"augmentation.brightness", number_text(brightness)},
            {"augmentation.contrast", number_text(contrast)},
            {"augmentation.saturation", number_text(saturation)},
            {"augmentation.hue", number_text(hue)},
            {"augmentation.jitter_chance", number_text(jitter_chance)},
            {"augmentation.grey_chance", number_text(grey_chance)},
            {"augmentation.blur_chance", number_text(blur_chance)}};
  }
  /// Throws std::invalid_argument on the first setting out of its range.
  void validate() const {
    constexpr std::string_view here = "Augmentation";
    detail::check_between(here, "padding", padding, 0, 4096);
    if (padding > 0 && resized_crop > 0) {
      detail::reject(here, "resized_crop", "0 if padding is not 0", resized_crop);
    }
    detail::check_range(here, "resized_crop", resized_crop, 0, 1);
    detail::check_range(here, "brightness", brightness, 0, 1);
    detail::check_range(here, "contrast", contrast, 0, 1);
    detail::check_range(here, "saturation", saturation, 0, 1);
    detail::check_range(here, "hue", hue, 0, 0.5);
    detail::check_range(here, "jitter_chance", jitter_chance, 0, 1);
    detail::check_range(here, "grey_chance", grey_chance, 0, 1);
    detail::check_range(here, "blur_chance", blur_chance, 0, 1);
  }
};

namespace detail {

/// Perceived brightness of a pixel with one or three channels (ITU-R BT.601).
inline double luma(const ImageShape& s, const double* x, Index pixel) {
  if (s.channels != 3) return x[pixel];
  return 0.299 * x[pixel] + 0.587 * x[pixel + s.pixels()] + 0.114 * x[pixel + 2 * s.pixels()];
}

/// Rotates the hue of a colour in [0, 1]^3 by `turn` turns; value and saturation, as in the HSV
/// hexagon, stay.
inline void turn_hue(double& r, double& g, double& b, double turn) {
  const double value = std::max({r, g, b}), chroma = value - std::min({r, g, b});
  if (chroma == 0) return;
  double hue = value == r   ? (g - b) / chroma
               : value == g ? 2 + (b - r) / chroma
                            : 4 + (r - g) / chroma;
  hue += 6 * turn;
  const auto channel = [&](double offset) {
    const double k = std::fmod(offset + hue + 12, 6.0);
    return value - chroma * std::clamp(std::min(k, 4 - k), 0.0, 1.0);
  };
  r = channel(5);
  g = channel(3);
  b = channel(1);
}

/// Brightness, contrast, saturation and hue by random amounts, in random order.
inline void jitter(const ImageShape& s, const Augmentation& a, Random& random, double* x) {
  enum Change { brightness, contrast, saturation, hue };
  std::array<Change, 4> order{brightness, contrast, saturation, hue};
  for (std::uint32_t k = 4; k > 1; --k) std::swap(order[k - 1], order[random.below(k)]);
  const std::array<double, 4> spreads{a.brightness, a.contrast, a.saturation, a.hue};
  const Index n = s.pixels();
  for (const Change what : order) {
    const double spread = spreads[what];
    if (spread == 0 || (what >= saturation && s.channels != 3)) continue;
    if (what == hue) {
      const double turn = random.uniform(-spread, spread);
      for (Index p = 0; p < n; ++p) turn_hue(x[p], x[p + n], x[p + 2 * n], turn);
      continue;
    }
    const double factor = random.uniform(1 - spread, 1 + spread);
    double mean = 0;
    if (what == contrast) {
      for (Index p = 0; p < n; ++p) mean += luma(s, x, p);
      mean /= static_cast<double>(n);
    }
    for (Index p = 0; p < n; ++p) {
      const double other = what == brightness ? 0 : what == contrast ? mean : luma(s, x, p);
      for (Index c = 0; c < s.channels; ++c) {
        double& value = x[c * n + p];
        value = std::clamp(factor * value + (1 - factor) * other, 0.0, 1.0);
      }
    }
  }
}

/// The part of `from` that has the image's size and whose first corner is at (top, left), which may
/// be outside; black outside the image.
inline void crop(const ImageShape& s, const std::uint8_t* from, Index top, Index left, bool flipped,
                 double* x) {
  for (Index c = 0; c < s.channels; ++c) {
    for (Index i = 0; i < s.height; ++i) {
      for (Index j = 0; j < s.width; ++j) {
        const Index row = i + top, column = (flipped ? s.width - 1 - j : j) + left;
        const bool inside = row >= 0 && row < s.height && column >= 0 && column < s.width;
        x[(c * s.height + i) * s.width + j] =
            inside ? from[(c * s.height + row) * s.width + column] / 255.0 : 0.0;
      }
    }
  }
}

/// A random part with at least `least` of the area and an aspect ratio of 3/4 to 4/3, resized to
/// the image's size with linear interpolation.
inline void resized_crop(const ImageShape& s, const std::uint8_t* from, double least, bool flipped,
                         Random& random, double* x) {
  const auto rows = static_cast<double>(s.height), columns = static_cast<double>(s.width);
  double height = rows, width = columns;
  for (int trial = 0; trial < 10; ++trial) {
    const double area = random.uniform(least, 1) * rows * columns;
    const double ratio = std::exp(random.uniform(std::log(0.75), -std::log(0.75)));
    const double h = std::sqrt(area / ratio), w = std::sqrt(area * ratio);
    if (h > rows || w > columns) continue;
    height = h;
    width = w;
    break;
  }
  const double top = random.uniform(0, rows - height), left = random.uniform(0, columns - width);
  const auto along = [](double start, double length, Index i, Index n) {
    const double at = start + (static_cast<double>(i) + 0.5) * length / static_cast<double>(n);
    return std::clamp(at - 0.5, 0.0, static_cast<double>(n - 1));
  };
  for (Index c = 0; c < s.channels; ++c) {
    const std::uint8_t* plane = from + c * s.pixels();
    for (Index i = 0; i < s.height; ++i) {
      const double y = along(top, height, i, s.height);
      const auto y0 = static_cast<Index>(y);
      const Index y1 = std::min(y0 + 1, s.height - 1);
      const double dy = y - static_cast<double>(y0);
      for (Index j = 0; j < s.width; ++j) {
        const double z = along(left, width, flipped ? s.width - 1 - j : j, s.width);
        const auto z0 = static_cast<Index>(z);
        const Index z1 = std::min(z0 + 1, s.width - 1);
        const double dz = z - static_cast<double>(z0);
        const double above = (1 - dz) * plane[y0 * s.width + z0] + dz * plane[y0 * s.width + z1];
        const double below = (1 - dz) * plane[y1 * s.width + z0] + dz * plane[y1 * s.width + z1];
        x[(c * s.height + i) * s.width + j] = ((1 - dy) * above + dy * below) / 255;
      }
    }
  }
}

/// Number of values of workspace that `augment` needs: the image, and a line and the weights of the
/// widest blur.
inline std::size_t augmentation_memory(const ImageShape& s) {
  return static_cast<std::size_t>(s.size() + 2 * std::max(s.height, s.width) + 3);
}

/// Gaussian blur with a standard deviation of `sigma` pixels; edge pixels repeat outside. x: the
/// image, followed by workspace.
inline void blur(const ImageShape& s, double sigma, double* x) {
  const auto reach = static_cast<Index>(std::ceil(3 * sigma));
  double* const line = x + s.size();
  double* const weights = line + std::max(s.height, s.width);
  double sum = 0;
  for (Index k = -reach; k <= reach; ++k) {
    const double z = static_cast<double>(k) / sigma;
    sum += weights[k + reach] = std::exp(-z * z / 2);
  }
  const auto blur_line = [&](double* start, Index count, Index stride) {
    for (Index i = 0; i < count; ++i) line[i] = start[i * stride];
    for (Index i = 0; i < count; ++i) {
      double mean = 0;
      for (Index k = -reach; k <= reach; ++k) {
        mean += weights[k + reach] / sum * line[std::clamp<Index>(i + k, 0, count - 1)];
      }
      start[i * stride] = mean;
    }
  };
  for (Index c = 0; c < s.channels; ++c) {
    double* plane = x + c * s.pixels();
    for (Index i = 0; i < s.height; ++i) blur_line(plane + i * s.width, s.width, 1);
    for (Index j = 0; j < s.width; ++j) blur_line(plane + j, s.height, s.width);
  }
}

/// x: the image in [0, 1] after all changes, followed by workspace, `augmentation_memory` in all.
inline void augment(const ImageShape& s, const std::uint8_t* from, const Augmentation& a,
                    Random& random, double* x) {
  const auto happens = [&](double chance) {
    return chance > 0 && (chance >= 1 || random.uniform() < chance);
  };
  const auto offset = [&] {
    return static_cast<Index>(random.below(static_cast<std::uint32_t>(2 * a.padding + 1))) -
           a.padding;
  };
  const bool flipped = a.flip && random.below(2) == 1;
  if (a.resized_crop > 0) {
    resized_crop(s, from, a.resized_crop, flipped, random, x);
  } else {
    const Index top = offset(), left = offset();
    crop(s, from, top, left, flipped, x);
  }
  if (a.jitters() && happens(a.jitter_chance)) jitter(s, a, random, x);
  if (happens(a.grey_chance) && s.channels == 3) {
    for (Index p = 0; p < s.pixels(); ++p) {
      const double grey = luma(s, x, p);
      for (Index c = 0; c < 3; ++c) x[c * s.pixels() + p] = grey;
    }
  }
  if (happens(a.blur_chance)) {
    const double scale = static_cast<double>(std::max(s.height, s.width)) / 224;
    blur(s, random.uniform(0.1, 2) * scale, x);
  }
}

}  // namespace detail

/// Image `number` of the set as the network sees it, (x - mean) / deviation of each channel with x
/// in [0, 1], after the augmentation's changes; it draws random numbers only for these. to:
/// shape.size() values. Zeros around a crop are black. Allocates nothing if `memory`, a workspace,
/// was used for an image of this shape before.
template <class Scalar>
void load_image(const ImageSet& set, Index number, const Augmentation& augmentation, Random& random,
                Scalar* to, std::vector<double>& memory) {
  const ImageShape& s = set.shape;
  const auto normalised = [&](double x, Index c) {
    const auto channel = static_cast<std::size_t>(c);
    return static_cast<Scalar>((x - set.normalisation.mean[channel]) /
                               set.normalisation.deviation[channel]);
  };
  const auto load = [&](auto&& value) {
    for (Index c = 0; c < s.channels; ++c) {
      for (Index p = c * s.pixels(); p < (c + 1) * s.pixels(); ++p) to[p] = normalised(value(p), c);
    }
  };
  const std::uint8_t* from = set.image(number);
  if (!augmentation.any()) return load([&](Index p) { return from[p] / 255.0; });
  memory.resize(detail::augmentation_memory(s));
  detail::augment(s, from, augmentation, random, memory.data());
  load([&](Index p) { return memory[static_cast<std::size_t>(p)]; });
}
/// The same with its own workspace.
template <class Scalar>
void load_image(const ImageSet& set, Index number, const Augmentation& augmentation, Random& random,
                Scalar* to) {
  std::vector<double> memory;
  load_image(set, number, augmentation, random, to, memory);
}

}  // namespace plastic
