#include "episode_picture.hpp"

#include <png.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <sstream>
#include <stdexcept>

#include "plastic/core/atomic_file.hpp"

namespace experiments {
namespace {

using namespace plastic;

std::string base64(const std::vector<std::uint8_t>& bytes) {
  constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t left = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t word = 0;
    for (std::size_t k = 0; k < 3; ++k) word = word << 8 | (k < left ? bytes[i + k] : 0u);
    for (std::size_t k = 0; k < 4; ++k) {
      text += k <= left ? digits[word >> (18 - 6 * k) & 63] : '=';
    }
  }
  return text;
}

std::vector<std::uint8_t> png(const ImageSet& set, Index number) {
  const ImageShape& s = set.shape;
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(s.size()));
  for (Index p = 0; p < s.pixels(); ++p) {
    for (Index c = 0; c < s.channels; ++c) {
      pixels[static_cast<std::size_t>(p * s.channels + c)] = set.image(number)[c * s.pixels() + p];
    }
  }
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(s.width);
  header.height = static_cast<png_uint_32>(s.height);
  header.format = s.channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(header);
  std::vector<std::uint8_t> file(size);
  if (png_image_write_to_memory(&header, file.data(), &size, 0, pixels.data(), 0, nullptr) == 0) {
    throw std::runtime_error("an image could not be encoded: " + std::string(header.message));
  }
  file.resize(size);
  return file;
}

// Colours of labels that the colour-blind can tell apart.
std::string colour(Index label) {
  constexpr std::array colours{"#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"};
  return colours[static_cast<std::size_t>(label) % colours.size()];
}

}  // namespace

void write_picture(const std::filesystem::path& path, const ImageSet& set,
                   const std::vector<PicturedEpisode>& episodes) {
  constexpr double side = 64, pitch = 80, row = 112, left = 16, top = 44;
  const std::size_t steps = episodes.front().shown.size(), support = episodes.front().support;
  const double gap = 36, width = 2 * left + pitch * static_cast<double>(steps) + gap;
  const double height = top + row * static_cast<double>(episodes.size());
  std::ostringstream svg;
  svg << "<svg xmlns='http://www.w3.org/2000/svg' width='" << width << "' height='" << height
      << "' font-family='sans-serif' text-anchor='middle'>\n"
      << "<rect width='100%' height='100%' fill='white'/>\n";
  const auto text = [&](double x, double y, int size, const std::string& fill,
                        const std::string& what) {
    svg << "<text x='" << x << "' y='" << y << "' font-size='" << size << "' fill='" << fill << "'>"
        << what << "</text>\n";
  };
  const auto middle = [&](double first, double last) { return left + pitch * (first + last) / 2; };
  const auto n = static_cast<double>(support), all = static_cast<double>(steps);
  text(middle(0, n), 24, 15, "#333333", "shown with labels");
  text(middle(n, all) + gap, 24, 15, "#333333",
       "queries: the network's answer and its probability");
  for (std::size_t e = 0; e < episodes.size(); ++e) {
    const PicturedEpisode& episode = episodes[e];
    for (std::size_t t = 0; t < steps; ++t) {
      const ShownImage& shown = episode.shown[t];
      const bool is_query = t >= support;
      const double x = left + pitch * static_cast<double>(t) + (is_query ? gap : 0);
      const double y = top + row * static_cast<double>(e);
      Index label = shown.label;
      std::string what = std::to_string(label + 1);
      bool right = true;
      if (is_query) {
        const std::vector<double>& p = episode.answers[t - support];
        label = std::max_element(p.begin(), p.end()) - p.begin();
        right = label == shown.label;
        what = std::to_string(label + 1) + "  " +
               std::to_string(std::lround(100 * p[static_cast<std::size_t>(label)])) + "%";
        if (!right) what += ", is " + std::to_string(shown.label + 1);
      }
      svg << "<image x='" << x << "' y='" << y << "' width='" << side << "' height='" << side
          << "' style='image-rendering:pixelated' href='data:image/png;base64,"
          << base64(png(set, shown.image)) << "'/>\n<rect x='" << x - 3 << "' y='" << y - 3
          << "' width='" << side + 6 << "' height='" << side + 6
          << "' fill='none' stroke-width='4' " << (right ? "" : "stroke-dasharray='6 4' ")
          << "stroke='" << (right ? colour(label) : "#D00000") << "'/>\n";
      text(x + side / 2, y + side + 22, right ? 15 : 12, right ? "#111111" : "#D00000", what);
    }
  }
  svg << "</svg>\n";
  write_file_atomically(path, svg.str());
}

}  // namespace experiments
