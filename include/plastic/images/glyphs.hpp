#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "plastic/core/parallel.hpp"
#include "plastic/core/random.hpp"
#include "plastic/images/image_set.hpp"

namespace plastic {

/// Settings of make_glyphs.
struct GlyphOptions {
  Index classes = 200;          ///< characters, at most 2^20
  Index images_per_class = 20;  ///< at most 2^20
  Index size = 28;              ///< rows and columns, in 8 .. 4096
  std::uint64_t seed = 0;       ///< seed of classes and images
  Index first_class = 0;  ///< number of the first class: sets with different numbers share no class
  double stroke_noise = 0.03;  ///< standard deviation of a stroke's points, in image sizes
  double rotation = 15;        ///< largest rotation and shear in degrees, up to 90
  double scaling = 0.15;       ///< largest relative change of size along either axis
  double shift = 0.08;         ///< largest shift, relative to the image's size
  int threads = 1;             ///< threads to use; the result does not depend on it
};

namespace detail {

using Point = std::array<double, 2>;

/// A stroke: the three control points of a quadratic curve.
using Stroke = std::array<Point, 3>;

/// Two to four strokes, each often starting where the previous one ended, as if drawn by hand.
inline std::vector<Stroke> draw_character(Random& random) {
  std::vector<Stroke> strokes(2 + random.below(3));
  const auto point = [&] { return Point{random.uniform(0.12, 0.88), random.uniform(0.12, 0.88)}; };
  for (std::size_t k = 0; k < strokes.size(); ++k) {
    const bool goes_on = k > 0 && random.below(2) == 0;
    strokes[k] = {goes_on ? strokes[k - 1][2] : point(), point(), point()};
    // A short stroke would be a dot.
    while (std::hypot(strokes[k][2][0] - strokes[k][0][0], strokes[k][2][1] - strokes[k][0][1]) <
           0.3) {
      strokes[k][2] = point();
    }
  }
  return strokes;
}

/// A handwritten variant: the strokes' points are moved, then the whole is rotated, sheared, scaled
/// and shifted about the centre.
inline void vary(std::vector<Stroke>& strokes, const GlyphOptions& o, Random& random) {
  const double radians = o.rotation * 3.14159265358979323846 / 180;
  const double angle = random.uniform(-radians, radians);
  const double shear = random.uniform(-radians, radians);
  const double x_scale = random.uniform(1 - o.scaling, 1 + o.scaling);
  const double y_scale = random.uniform(1 - o.scaling, 1 + o.scaling);
  const Point shift{random.uniform(-o.shift, o.shift), random.uniform(-o.shift, o.shift)};
  const double c = std::cos(angle), s = std::sin(angle);
  for (Stroke& stroke : strokes) {
    for (Point& p : stroke) {
      const double x = x_scale * (p[0] + o.stroke_noise * random.normal() - 0.5);
      const double y = y_scale * (p[1] + o.stroke_noise * random.normal() - 0.5);
      const double sheared = x + shear * y;
      p = {0.5 + shift[0] + c * sheared - s * y, 0.5 + shift[1] + s * sheared + c * y};
    }
  }
}

/// Draws white on black, with stroke edges one pixel wide.
inline void rasterize(const std::vector<Stroke>& strokes, double width, Index size,
                      std::uint8_t* pixels) {
  constexpr int pieces = 8;  // line segments per curve
  std::vector<std::pair<Point, Point>> segments;
  for (const Stroke& stroke : strokes) {
    const auto at = [&](double t) {
      const double a = (1 - t) * (1 - t), b = 2 * t * (1 - t), c = t * t;
      return Point{a * stroke[0][0] + b * stroke[1][0] + c * stroke[2][0],
                   a * stroke[0][1] + b * stroke[1][1] + c * stroke[2][1]};
    };
    for (int k = 0; k < pieces; ++k) {
      segments.emplace_back(at(static_cast<double>(k) / pieces), at((k + 1.0) / pieces));
    }
  }
  const double n = static_cast<double>(size);
  for (Index i = 0; i < size; ++i) {
    for (Index j = 0; j < size; ++j) {
      const double x = (static_cast<double>(j) + 0.5) / n, y = (static_cast<double>(i) + 0.5) / n;
      double nearest = 1e9;
      for (const auto& [a, b] : segments) {
        const double dx = b[0] - a[0], dy = b[1] - a[1];
        const double length = dx * dx + dy * dy;
        const double along = ((x - a[0]) * dx + (y - a[1]) * dy) / std::max(length, 1e-12);
        const double t = std::clamp(along, 0.0, 1.0);
        const double ex = x - a[0] - t * dx, ey = y - a[1] - t * dy;
        nearest = std::min(nearest, ex * ex + ey * ey);
      }
      const double ink = std::clamp(0.5 + (width / 2 - std::sqrt(nearest)) * n, 0.0, 1.0);
      pixels[i * size + j] = static_cast<std::uint8_t>(std::lround(255 * ink));
    }
  }
}

}  // namespace detail

/// A set of drawn characters: a class is two to four random curved strokes; each of its images is
/// drawn anew, with moved strokes, an affine transformation and its own stroke width. One channel,
/// white on black. A pure function of the options: class k of one seed is the same in every set.
/// Throws std::invalid_argument on options out of range.
inline ImageSet make_glyphs(const GlyphOptions& options) {
  constexpr std::string_view here = "make_glyphs";
  detail::check_between(here, "classes", options.classes, 1, 1 << 20);
  detail::check_between(here, "images_per_class", options.images_per_class, 1, 1 << 20);
  detail::check_between(here, "size", options.size, 8, 1 << 12);
  constexpr int bits = sizeof(Index) > 4 ? 40 : 30;
  detail::check_between(here, "first_class", options.first_class, 0, Index{1} << bits);
  detail::check_range(here, "stroke_noise", options.stroke_noise, 0, 1);
  detail::check_range(here, "rotation", options.rotation, 0, 90);
  detail::check_range(here, "scaling", options.scaling, 0, 0.9);
  detail::check_range(here, "shift", options.shift, 0, 1);
  detail::check_positive(here, "threads", options.threads);

  ImageSet set;
  set.shape = {1, options.size, options.size};
  set.pixels.resize(
      static_cast<std::size_t>(options.classes * options.images_per_class * set.shape.size()));
  for (Index k = 0; k < options.classes; ++k) {
    set.classes.push_back({"glyph" + std::to_string(options.first_class + k),
                           k * options.images_per_class, options.images_per_class});
  }
  constexpr auto purpose = static_cast<Random::Purpose>(64);
  parallel_for(options.classes, options.threads, [&](Index k, int) {
    const auto number = static_cast<std::uint64_t>(options.first_class + k);
    const Random::Stream stream{options.seed, purpose};
    Random of_class(stream, number, 0);
    const std::vector<detail::Stroke> character = detail::draw_character(of_class);
    for (Index i = 0; i < options.images_per_class; ++i) {
      Random random(stream, number, static_cast<std::uint64_t>(i + 1));
      std::vector<detail::Stroke> strokes = character;
      detail::vary(strokes, options, random);
      const Index image = k * options.images_per_class + i;
      detail::rasterize(strokes, random.uniform(0.05, 0.09), options.size,
                        set.pixels.data() + image * set.shape.size());
    }
  });
  // Measured over many classes; the same for every set, so that training and test agree.
  set.normalisation = {.mean = {0.12}, .deviation = {0.29}};
  return set;
}

}  // namespace plastic
