#include "plastic/image_files/image_file.hpp"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/errors.hpp"
#include "support/image_files.hpp"

using namespace plastic;
using namespace plastic::testing;

namespace {

using Bytes = std::vector<std::uint8_t>;

// An image with the channels of a pixel beside each other.
struct Image {
  ImageShape shape;
  Bytes pixels;
  bool operator==(const Image&) const = default;
};

// What the library reads; from memory, as it does from files.
Image read(const std::string& bytes) {
  const detail::ImageFile file("picture", Bytes(bytes.begin(), bytes.end()));
  const std::size_t channels = static_cast<std::size_t>(file.shape.channels);
  const std::size_t count = static_cast<std::size_t>(file.shape.pixels());
  Bytes planes(channels * count), pixels;
  file.decode("picture", file.shape.channels, planes.data());
  for (std::size_t p = 0; p < count; ++p) {
    for (std::size_t c = 0; c < channels; ++c) pixels.push_back(planes[c * count + p]);
  }
  return {file.shape, pixels};
}

std::string refusal(const std::string& bytes) {
  return error_of<std::runtime_error>([&] { read(bytes); });
}

// What libpng and libjpeg read by their plain interfaces, which continue after a warning but read
// nothing after an error. They leave a call by longjmp, so the functions that it crosses own
// nothing.

struct PngSource {
  const std::string& bytes;
  std::size_t at = 0;
};

bool read_png_plainly(png_structp png, png_infop info) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_read_png(png, info, PNG_TRANSFORM_EXPAND | PNG_TRANSFORM_STRIP_16 | PNG_TRANSFORM_STRIP_ALPHA,
               nullptr);
  return true;
}

std::optional<Image> read_png_plainly(const std::string& bytes, int& warnings) {
  PngSource source{bytes};
  png_structp png = png_create_read_struct(
      PNG_LIBPNG_VER_STRING, &warnings, [](png_structp of, png_const_charp) { png_longjmp(of, 1); },
      [](png_structp of, png_const_charp) { ++*static_cast<int*>(png_get_error_ptr(of)); });
  png_infop info = png_create_info_struct(png);
  png_set_read_fn(png, &source, [](png_structp of, png_bytep to, std::size_t count) {
    PngSource& from = *static_cast<PngSource*>(png_get_io_ptr(of));
    if (count > from.bytes.size() - from.at) png_error(of, "the end");
    std::memcpy(to, from.bytes.data() + from.at, count);
    from.at += count;
  });
  std::optional<Image> image;
  if (read_png_plainly(png, info)) {
    image.emplace();
    image->shape = {png_get_channels(png, info), png_get_image_height(png, info),
                    png_get_image_width(png, info)};
    for (Index y = 0; y < image->shape.height; ++y) {
      const png_bytep row = png_get_rows(png, info)[y];
      image->pixels.insert(image->pixels.end(), row, row + png_get_rowbytes(png, info));
    }
  }
  png_destroy_read_struct(&png, &info, nullptr);
  return image;
}

struct JpegErrors {
  jpeg_error_mgr manager;
  std::jmp_buf jump;
};

bool read_jpeg_header_plainly(jpeg_decompress_struct& info, JpegErrors& errors,
                              const std::string& bytes) {
  if (setjmp(errors.jump) != 0) return false;
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(bytes.data()),
               static_cast<unsigned long>(bytes.size()));
  jpeg_read_header(&info, TRUE);
  jpeg_calc_output_dimensions(&info);
  return true;
}

bool read_jpeg_plainly(jpeg_decompress_struct& info, JpegErrors& errors, std::uint8_t* to) {
  if (setjmp(errors.jump) != 0) return false;
  jpeg_start_decompress(&info);
  const auto row = static_cast<std::size_t>(info.output_width) *
                   static_cast<std::size_t>(info.output_components);
  while (info.output_scanline < info.output_height) {
    JSAMPROW line = to + row * info.output_scanline;
    jpeg_read_scanlines(&info, &line, 1);
  }
  jpeg_finish_decompress(&info);
  return true;
}

std::optional<Image> read_jpeg_plainly(const std::string& bytes, int& warnings) {
  jpeg_decompress_struct info{};
  JpegErrors errors{};
  info.err = jpeg_std_error(&errors.manager);
  info.client_data = &errors;
  errors.manager.error_exit = [](j_common_ptr of) {
    std::longjmp(static_cast<JpegErrors*>(of->client_data)->jump, 1);
  };
  errors.manager.output_message = [](j_common_ptr) {};
  std::optional<Image> image;
  if (read_jpeg_header_plainly(info, errors, bytes)) {
    image.emplace();
    image->shape = {info.output_components, info.output_height, info.output_width};
    image->pixels.resize(static_cast<std::size_t>(image->shape.size()));
    if (!read_jpeg_plainly(info, errors, image->pixels.data())) image.reset();
  }
  warnings += static_cast<int>(errors.manager.num_warnings);
  jpeg_destroy_decompress(&info);
  return image;
}

std::optional<Image> read_plainly(const std::string& bytes, int& warnings) {
  if (bytes.starts_with("\x89PNG\r\n\x1A\n")) return read_png_plainly(bytes, warnings);
  if (bytes.starts_with("\xFF\xD8\xFF")) return read_jpeg_plainly(bytes, warnings);
  return std::nullopt;
}

std::string number(std::size_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xFF);
  return bytes;
}

// A chunk with the checksum that belongs to it.
std::string chunk(const std::string& name, const std::string& content) {
  const std::string named = name + content;
  const auto sum =
      ::crc32(0, reinterpret_cast<const Bytef*>(named.data()), static_cast<uInt>(named.size()));
  return number(content.size()) + named + number(sum);
}

// The chunks of a PNG file: name and content.
using Chunks = std::vector<std::pair<std::string, std::string>>;

Chunks chunks_of(const std::string& png) {
  Chunks chunks;
  for (std::size_t at = 8; at < png.size();) {
    std::size_t length = 0;
    for (std::size_t k = 0; k < 4; ++k)
      length = length << 8 | static_cast<std::uint8_t>(png[at + k]);
    chunks.emplace_back(png.substr(at + 4, 4), png.substr(at + 8, length));
    at += length + 12;
  }
  return chunks;
}

std::string png_of(const Chunks& chunks) {
  std::string png = "\x89PNG\r\n\x1A\n";
  for (const auto& [name, content] : chunks) png += chunk(name, content);
  return png;
}

std::string& content_of(Chunks& chunks, const std::string& name) {
  for (auto& [of, content] : chunks) {
    if (of == name) return content;
  }
  throw std::logic_error("no such chunk");
}

std::string zlib_bytes(const std::string& content) {
  uLongf size = ::compressBound(static_cast<uLong>(content.size()));
  std::string bytes(size, '\0');
  ::compress2(reinterpret_cast<Bytef*>(bytes.data()), &size,
              reinterpret_cast<const Bytef*>(content.data()), static_cast<uLong>(content.size()),
              9);
  bytes.resize(size);
  return bytes;
}

// How a PNG file is written.
struct PngKind {
  int color = PNG_COLOR_TYPE_RGB;
  int depth = 8;
  bool interlaced = false;
  bool transparent = false;  // a colour that is transparent, or entries of a palette
  int colours = 0;           // size of the palette; 0: as many as its bits can count
};

png_color colour(int index) {
  return {static_cast<png_byte>(index * 11 + 1), static_cast<png_byte>(255 - index * 5),
          static_cast<png_byte>(index * index)};
}

// Samples as they are to be written, each in a word.
std::vector<int> samples(int channels, int depth, int width, int height) {
  std::vector<int> values;
  unsigned word = 12345;
  for (int k = 0; k < width * height * channels; ++k) {
    word = word * 1664525u + 1013904223u;
    values.push_back(static_cast<int>(word >> 8 & ((1u << depth) - 1)));
  }
  return values;
}

int channels_of(int color) {
  return color == PNG_COLOR_TYPE_RGB          ? 3
         : color == PNG_COLOR_TYPE_RGB_ALPHA  ? 4
         : color == PNG_COLOR_TYPE_GRAY_ALPHA ? 2
                                              : 1;
}

std::string png_bytes(const PngKind& kind, int width, int height, const std::vector<int>& values) {
  std::string bytes;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &bytes,
      [](png_structp of, png_bytep from, std::size_t count) {
        static_cast<std::string*>(png_get_io_ptr(of))
            ->append(reinterpret_cast<const char*>(from), count);
      },
      nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height),
               kind.depth, kind.color, kind.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (kind.color == PNG_COLOR_TYPE_PALETTE) {
    std::vector<png_color> palette;
    const int count = kind.colours == 0 ? 1 << kind.depth : kind.colours;
    for (int k = 0; k < count; ++k) palette.push_back(colour(k));
    png_set_PLTE(png, info, palette.data(), count);
  }
  if (kind.transparent) {
    png_byte opacity[] = {0, 100};
    png_color_16 colour_value{0, 1, 1, 1, 1};
    png_set_tRNS(png, info, opacity, 2, &colour_value);
  }
  png_write_info(png, info);
  const auto channels = static_cast<std::size_t>(channels_of(kind.color));
  const std::size_t row = static_cast<std::size_t>(width) * channels;
  if (kind.depth < 8) png_set_packing(png);
  const int passes = png_set_interlace_handling(png);
  for (int pass = 0; pass < passes; ++pass) {
    for (std::size_t y = 0; y < static_cast<std::size_t>(height); ++y) {
      Bytes line;
      for (std::size_t k = y * row; k < (y + 1) * row; ++k) {
        if (kind.depth == 16) line.push_back(static_cast<std::uint8_t>(values[k] >> 8));
        line.push_back(static_cast<std::uint8_t>(values[k] & 0xFF));
      }
      png_write_row(png, line.data());
    }
  }
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  return bytes;
}

std::string png_bytes(const PngKind& kind, int width, int height) {
  return png_bytes(kind, width, height,
                   samples(channels_of(kind.color), kind.depth, width, height));
}

// What a picture of these samples should be read as, by PNG's own definitions.
Image expected_image(const PngKind& kind, int width, int height) {
  const int channels = channels_of(kind.color), own = channels <= 2 ? 1 : 3;
  const std::vector<int> values = samples(channels, kind.depth, width, height);
  const bool palette = kind.color == PNG_COLOR_TYPE_PALETTE;
  Image image{{palette ? 3 : own, height, width}, {}};
  for (std::size_t p = 0; p < values.size(); p += static_cast<std::size_t>(channels)) {
    if (palette) {
      const png_color c = colour(values[p]);
      image.pixels.insert(image.pixels.end(), {c.red, c.green, c.blue});
      continue;
    }
    for (int c = 0; c < own; ++c) {
      const int value = values[p + static_cast<std::size_t>(c)];
      image.pixels.push_back(static_cast<std::uint8_t>(
          kind.depth == 16 ? value >> 8 : value * 255 / ((1 << kind.depth) - 1)));
    }
  }
  return image;
}

// Smooth, as photographs are, with some noise.
Bytes scene(int channels, int width, int height) {
  Bytes pixels;
  unsigned word = 1;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < channels; ++c) {
        word = word * 1664525u + 1013904223u;
        pixels.push_back(static_cast<std::uint8_t>(40 + (x * (5 + c) + y * (9 - 3 * c)) % 170 +
                                                   static_cast<int>(word >> 28)));
      }
    }
  }
  return pixels;
}

std::string jpeg_scene(const JpegKind& kind, int width, int height) {
  return jpeg_bytes(scene(kind.channels, width, height), width, height, kind);
}

std::vector<PngKind> png_kinds() {
  std::vector<PngKind> kinds;
  const std::map<int, std::vector<int>> depths{{PNG_COLOR_TYPE_GRAY, {1, 2, 4, 8, 16}},
                                               {PNG_COLOR_TYPE_GRAY_ALPHA, {8, 16}},
                                               {PNG_COLOR_TYPE_PALETTE, {1, 2, 4, 8}},
                                               {PNG_COLOR_TYPE_RGB, {8, 16}},
                                               {PNG_COLOR_TYPE_RGB_ALPHA, {8, 16}}};
  for (const auto& [color, of_color] : depths) {
    for (const int depth : of_color) {
      for (const bool interlaced : {false, true}) {
        kinds.push_back({color, depth, interlaced, false});
        if ((color & PNG_COLOR_MASK_ALPHA) == 0) kinds.push_back({color, depth, interlaced, true});
      }
    }
  }
  return kinds;
}

// Every bit is turned over, one at a time: the file is refused, or read as the decoder itself reads
// it without a warning.
struct FlipCount {
  std::size_t tried = 0, refused = 0, read = 0, refused_alone = 0;
};

FlipCount flip_bits(std::string bytes) {
  FlipCount count;
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    char& byte = bytes[bit / 8];
    const auto mask = static_cast<char>(1u << bit % 8);
    byte = static_cast<char>(byte ^ mask);
    ++count.tried;
    std::optional<Image> got;
    std::string error;
    try {
      got = read(bytes);
    } catch (const std::runtime_error& refused) {
      error = refused.what();
    }
    int warnings = 0;
    const std::optional<Image> plain = read_plainly(bytes, warnings);
    if (got) {
      ++count.read;
      if (!plain || warnings != 0 || !(*got == *plain)) {
        FAIL("bit " << bit << " of " << bytes.size() << " bytes is read, against the decoder");
      }
    } else {
      ++count.refused;
      if (plain && warnings == 0) {
        ++count.refused_alone;
        if (!mentions(error, "CRC error") && !mentions(error, "cannot hold") &&
            !mentions(error, "channels is missing") && !mentions(error, "one channel or three")) {
          FAIL("bit " << bit << " of " << bytes.size() << " bytes is refused: " << error);
        }
      }
    }
    byte = static_cast<char>(byte ^ mask);
  }
  return count;
}

}  // namespace

TEST_CASE("Every kind of PNG file is read with the pixels of libpng", "[image_files][image_file]") {
  for (const PngKind& kind : png_kinds()) {
    for (const auto& [width, height] : {std::pair(1, 1), {9, 5}, {3, 12}, {16, 17}}) {
      INFO("colour type " << kind.color << " of " << kind.depth << " bits, " << width << " x "
                          << height << (kind.interlaced ? ", interlaced" : "")
                          << (kind.transparent ? ", transparent" : ""));
      const std::string bytes = png_bytes(kind, width, height);
      const Image got = read(bytes);
      CHECK(got == expected_image(kind, width, height));
      int warnings = 0;
      CHECK(got == read_plainly(bytes, warnings));
      CHECK(warnings == 0);
    }
  }
}

TEST_CASE("Every kind of JPEG file is read with the pixels of libjpeg",
          "[image_files][image_file]") {
  for (const int channels : {1, 3}) {
    for (const bool progressive : {false, true}) {
      for (const bool arithmetic : {false, true}) {
        for (const unsigned restart : {0u, 2u}) {
          for (const int sampling : {1, 2}) {
            for (const auto& [width, height] : {std::pair(1, 1), {17, 9}, {40, 33}}) {
              const std::string bytes = jpeg_scene(
                  {channels, progressive, arithmetic, restart, sampling, 90}, width, height);
              int warnings = 0;
              CHECK(read(bytes) == read_plainly(bytes, warnings));
              CHECK(warnings == 0);
            }
          }
        }
      }
    }
  }
  const std::string separate = jpeg_scene({.separate = true}, 20, 20);
  int warnings = 0;
  CHECK(read(separate) == read_plainly(separate, warnings));
  CHECK(warnings == 0);
  const std::string cmyk = jpeg_scene({.channels = 4}, 16, 16);
  CHECK(refusal(cmyk) ==
        "picture: it must have one channel or three, got 4 (CMYK): convert it to RGB");
}

TEST_CASE("The content says which format a file has, not its name", "[image_files][image_file]") {
  const Folder folder;
  const Bytes pixels = scene(3, 16, 8);
  write_jpeg(folder / "c" / "1.png", pixels, 16, 8, 3);
  write_png(folder / "c" / "2.jpg", pixels, 16, 8, 3);
  CHECK(read_image_folder(folder.path(), {"c"}).images() == 2);
  const fs::path path = folder.path() / "c" / "1.png";
  const std::string padding(60, '\x7F');
  const std::vector<std::string> others{
      "",
      "\x89",
      "\x89PNG",
      "\xFF\xD8",
      "no image at all",
      "P6 6 4 255\n" + padding,
      "P6 6 4 255\n",
      "P5 6 4 255\n" + padding,
      "BM" + padding,
      "GIF89a" + padding,
      "RIFF" + number(60) + "WEBPVP8 " + padding,
      "II*" + std::string(1, '\0') + padding,
      "8BPS" + padding,
      "#?RADIANCE\n" + padding,
      "\x8AMNG\r\n\x1A\n" + padding,
      std::string("\0\0\2\0\0\0\0\0\0\0\0\0\6\0\4\0\x18\0", 18) + padding,  // TGA
      std::string("\0\0\0\x0C", 4) + "jP  \r\n\x87\n" + padding};           // JPEG 2000
  for (const std::string& other : others) {
    write_plainly(path, other);
    CHECK(error_of<std::runtime_error>([&] { read_image_folder(folder.path(), {"c"}); }) ==
          path.string() + ": it is neither PNG nor JPEG");
  }
}

TEST_CASE("A PNG file is refused where the checksum of any chunk is wrong",
          "[image_files][image_file]") {
  Chunks chunks =
      chunks_of(png_bytes({.color = PNG_COLOR_TYPE_PALETTE, .transparent = true}, 9, 5));
  const std::string data = content_of(chunks, "IDAT");
  const std::size_t half = data.size() / 2;
  // Chunks that may be left out, some with content that is nonsense: no pixel depends on it.
  const Chunks more{{"gAMA", number(45455)},
                    {"cHRM", "short"},
                    {"sRGB", std::string(1, '\7')},
                    {"iCCP", "no profile at all"},
                    {"sBIT", "12345"},
                    {"tEXt", std::string("Title\0a picture", 15)},
                    {"pHYs", std::string(9, '\1')},
                    {"prVt", "someone's own"}};
  Chunks all{chunks[0]};
  all.insert(all.end(), more.begin(), more.end());
  for (const auto& [name, content] : chunks) {
    if (name == "PLTE" || name == "tRNS") all.emplace_back(name, content);
  }
  all.emplace_back("IDAT", data.substr(0, half));
  all.emplace_back("IDAT", "");
  all.emplace_back("IDAT", data.substr(half));
  all.emplace_back("tIME", std::string("\x7\xE8\1\1\1\1\1", 7));
  all.emplace_back("zTXt", "nonsense");
  all.emplace_back("IEND", "");
  const std::string whole = png_of(all);
  CHECK(read(whole) == read(png_of(chunks)));
  std::size_t at = 8;
  for (const auto& [name, content] : all) {
    INFO(name);
    at += 8 + content.size();
    for (std::size_t k = 0; k < 4; ++k) {
      std::string bad = whole;
      bad[at + k] = static_cast<char>(bad[at + k] ^ 0x10);
      CHECK(mentions(refusal(bad), "picture: it is damaged: "));
      CHECK(mentions(refusal(bad), "CRC error"));
    }
    at += 4;
  }
  // A chunk that pixels depend on, in a place where it must not be.
  Chunks late = chunks_of(png_bytes({.color = PNG_COLOR_TYPE_GRAY}, 9, 5));
  late.insert(late.end() - 1, {"tRNS", std::string("\0\1", 2)});
  CHECK(mentions(refusal(png_of(late)), "it is damaged: tRNS: out of place"));
  // A critical chunk that the decoder does not know.
  all.insert(all.begin() + 1, {"NeWc", "content"});
  CHECK(mentions(refusal(png_of(all)), "it is damaged: NeWc: unhandled critical chunk"));
}

TEST_CASE("A PNG file is refused where its data are damaged under right checksums",
          "[image_files][image_file]") {
  // The pixels are stored without compression, as in a file that was once read with a wrong pixel.
  Chunks plain{{"IHDR", number(6) + number(4) + std::string("\x8\0\0\0\0", 5)},
               {"IDAT", std::string("\x78\x01\x01\x1C\x00\xE3\xFF", 7)},
               {"IEND", ""}};
  std::string rows;
  for (int y = 0; y < 4; ++y) {
    rows += '\0';
    for (int x = 0; x < 6; ++x) rows += static_cast<char>(10 * y + x);
  }
  const auto sum =
      ::adler32(1, reinterpret_cast<const Bytef*>(rows.data()), static_cast<uInt>(rows.size()));
  plain[1].second += rows + number(sum);
  CHECK(read(png_of(plain)).pixels[2] == 2);
  plain[1].second[10] = 87;
  CHECK(refusal(png_of(plain)) == "picture: it is damaged: IDAT: incorrect data check");

  for (const PngKind& kind : {PngKind{PNG_COLOR_TYPE_RGB, 8}, PngKind{PNG_COLOR_TYPE_PALETTE, 4},
                              PngKind{PNG_COLOR_TYPE_GRAY, 8, true}}) {
    Chunks chunks = chunks_of(png_bytes(kind, 7, 6));
    const Image whole = read(png_of(chunks));
    std::string& data = content_of(chunks, "IDAT");
    const std::string good = data;
    std::size_t read_anyway = 0;
    for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
      data[bit / 8] = static_cast<char>(data[bit / 8] ^ static_cast<char>(1u << bit % 8));
      // The bits that pad the last byte of the stream have no meaning.
      if (!mentions(refusal(png_of(chunks)), "it is damaged: ")) {
        ++read_anyway;
        CHECK(read(png_of(chunks)) == whole);
      }
      data = good;
    }
    CHECK(read_anyway < 8);
    for (std::size_t size = 0; size < good.size(); ++size) {
      data = good.substr(0, size);
      CHECK(mentions(refusal(png_of(chunks)), "it is damaged: "));
    }
    data = good + "more";
    CHECK(mentions(refusal(png_of(chunks)), "it is damaged: "));
    // A stream that is right, of too few rows and of too many.
    const std::size_t raw = 40;
    data = zlib_bytes(std::string(raw, '\0'));
    CHECK(mentions(refusal(png_of(chunks)), "it is damaged: "));
    data = zlib_bytes(std::string(400, '\0'));
    CHECK(mentions(refusal(png_of(chunks)), "it is damaged: "));
    data = zlib_bytes(std::string(400, '\7'));  // there is no such filter
    CHECK(mentions(refusal(png_of(chunks)), "it is damaged: "));
  }
}

TEST_CASE("An index beyond the palette of a PNG file is refused", "[image_files][image_file]") {
  for (const int depth : {2, 4, 8}) {
    for (const bool interlaced : {false, true}) {
      const PngKind kind{PNG_COLOR_TYPE_PALETTE, depth, interlaced, false, 3};
      std::vector<int> values(35, 2);
      CHECK(refusal(png_bytes(kind, 7, 5, values)) == "no error");
      values.back() = 3;
      Chunks chunks =
          chunks_of(png_bytes({PNG_COLOR_TYPE_PALETTE, depth, interlaced}, 7, 5, values));
      std::string& palette = content_of(chunks, "PLTE");
      CHECK(refusal(png_of(chunks)) == "no error");
      palette.resize(9);
      CHECK(mentions(refusal(png_of(chunks)), "it is damaged: "));
    }
  }
}

TEST_CASE("An image file cut at any length is refused", "[image_files][image_file]") {
  const std::vector<std::string> files{png_bytes({}, 7, 5),
                                       png_bytes({PNG_COLOR_TYPE_PALETTE, 4, true}, 9, 9),
                                       png_bytes({PNG_COLOR_TYPE_GRAY_ALPHA, 16}, 3, 4),
                                       jpeg_scene({}, 20, 20),
                                       jpeg_scene({.channels = 1}, 9, 9),
                                       jpeg_scene({.progressive = true}, 20, 20),
                                       jpeg_scene({.channels = 1, .restart = 1}, 20, 20),
                                       jpeg_scene({.arithmetic = true}, 20, 20),
                                       jpeg_scene({.separate = true}, 20, 20)};
  for (const std::string& whole : files) {
    CHECK(refusal(whole) == "no error");
    for (std::size_t size = 0; size < whole.size(); ++size) {
      INFO(size << " of " << whole.size() << " bytes");
      const std::string error = refusal(whole.substr(0, size));
      CHECK((mentions(error, "picture: it is damaged: ") ||
             error == "picture: it is neither PNG nor JPEG"));
    }
  }
}

TEST_CASE("A JPEG file without one of its channels is refused", "[image_files][image_file]") {
  const std::string end = "\xFF\xD9", scan = "\xFF\xDA";
  const std::string whole = jpeg_scene({.separate = true}, 20, 20);
  const std::size_t first = whole.find(scan), second = whole.find(scan, first + 1);
  const std::size_t third = whole.find(scan, second + 1);
  REQUIRE(third != std::string::npos);
  CHECK(refusal(whole.substr(0, first) + end).starts_with("picture: it is damaged: "));
  for (const std::size_t size : {second, third}) {
    int warnings = 0;
    CHECK(read_plainly(whole.substr(0, size) + end, warnings));  // libjpeg has grey for it
    CHECK(refusal(whole.substr(0, size) + end) ==
          "picture: it is damaged: one of its channels is missing");
  }
}

TEST_CASE("What follows the end of an image is refused behind a PNG and left alone behind a JPEG",
          "[image_files][image_file]") {
  const std::string png = png_bytes({}, 7, 5), jpeg = jpeg_scene({}, 20, 20);
  for (const std::string& more : {std::string(1, '\0'), std::string("more"), png, jpeg}) {
    CHECK(refusal(png + more) == "picture: it is damaged: there are " +
                                     std::to_string(more.size()) + " bytes past its end");
    CHECK(read(jpeg + more) == read(jpeg));
  }
  // Bytes before the end of a JPEG are damage.
  std::string bad = jpeg;
  bad.insert(bad.size() - 2, std::string(40, '\1'));
  CHECK(mentions(refusal(bad), "it is damaged: Corrupt JPEG data: "));
}

TEST_CASE("An image whose header asks for more than there can be is refused before memory is taken",
          "[image_files][image_file]") {
  Chunks chunks = chunks_of(png_bytes({PNG_COLOR_TYPE_RGB, 16}, 7, 5));
  std::string& header = content_of(chunks, "IHDR");
  const auto with = [&](std::size_t width, std::size_t height) {
    header.replace(0, 8, number(width) + number(height));
    return refusal(png_of(chunks));
  };
  CHECK(with(16385, 16384) == "picture: it must have at most 2^28 pixels, got 16384 x 16385");
  CHECK(mentions(with(0x7FFFFFFF, 0x7FFFFFFF), "at most 2^28 pixels"));
  CHECK(mentions(with(16384, 16384), "bytes cannot hold 16384 x 16384 pixels"));
  CHECK(mentions(with(0, 16384), "it is damaged: "));
  CHECK(mentions(with(0x80000000, 1), "it is damaged: "));

  for (const bool progressive : {false, true}) {
    std::string jpeg = jpeg_scene({.progressive = progressive}, 20, 20);
    const std::size_t frame = jpeg.find(progressive ? "\xFF\xC2" : "\xFF\xC0");
    REQUIRE(frame != std::string::npos);
    jpeg.replace(frame + 5, 4, "\xFF\xDC\xFF\xDC");
    CHECK(refusal(jpeg) == "picture: it must have at most 2^28 pixels, got 65500 x 65500");
    jpeg.replace(frame + 5, 4, std::string("\x40\0\x40\0", 4));
    CHECK(mentions(refusal(jpeg), "bytes cannot hold 16384 x 16384 pixels"));
  }
}

TEST_CASE("A file of many pixels in few bytes is read", "[image_files][image_file]") {
  for (const auto& [color, depth] : {std::pair(PNG_COLOR_TYPE_GRAY, 1),
                                     {PNG_COLOR_TYPE_GRAY, 8},
                                     {PNG_COLOR_TYPE_PALETTE, 2},
                                     {PNG_COLOR_TYPE_RGB_ALPHA, 16}}) {
    const std::size_t values = static_cast<std::size_t>(600 * 500 * channels_of(color));
    Chunks chunks = chunks_of(png_bytes({color, depth}, 600, 500, std::vector<int>(values)));
    const auto row = static_cast<std::size_t>((600 * depth * channels_of(color) + 7) / 8 + 1);
    content_of(chunks, "IDAT") = zlib_bytes(std::string(500 * row, '\0'));
    CHECK(read(png_of(chunks)).shape.pixels() == 300000);
  }
  for (const int channels : {1, 3}) {
    for (const bool progressive : {false, true}) {
      for (const bool arithmetic : {false, true}) {
        const Bytes grey(static_cast<std::size_t>(channels) * 600 * 500, 128);
        const JpegKind kind{channels, progressive, arithmetic};
        CHECK(read(jpeg_bytes(grey, 600, 500, kind)).pixels == grey);
      }
    }
  }
}

TEST_CASE("A file with any one bit turned over is refused or read as its decoder reads it",
          "[image_files][image_file]") {
  const std::vector<std::string> pngs{png_bytes({}, 5, 4),
                                      png_bytes({PNG_COLOR_TYPE_GRAY, 8}, 5, 4),
                                      png_bytes({PNG_COLOR_TYPE_PALETTE, 2, false, true}, 5, 4),
                                      png_bytes({PNG_COLOR_TYPE_RGB_ALPHA, 8, true}, 5, 4)};
  for (const std::string& png : pngs) {
    const FlipCount count = flip_bits(png);
    CHECK(count.read == 0);
  }
  for (const std::string& jpeg :
       {jpeg_scene({}, 12, 12), jpeg_scene({.channels = 1}, 12, 12),
        jpeg_scene({.separate = true}, 12, 12), jpeg_scene({.progressive = true}, 12, 12),
        jpeg_scene({.channels = 1, .progressive = true, .restart = 1}, 12, 12)}) {
    const FlipCount count = flip_bits(jpeg);
    CHECK(count.refused > count.tried / 10);
  }
}

// This test runs only if it is named on the command line.
TEST_CASE("Ten files of each format with any one bit turned over", "[image_files][image_file][.]") {
  std::vector<std::string> pngs, jpegs;
  for (const PngKind& kind :
       {PngKind{PNG_COLOR_TYPE_RGB, 8}, PngKind{PNG_COLOR_TYPE_RGB, 8, true},
        PngKind{PNG_COLOR_TYPE_RGB, 16}, PngKind{PNG_COLOR_TYPE_GRAY, 1},
        PngKind{PNG_COLOR_TYPE_GRAY, 8}, PngKind{PNG_COLOR_TYPE_GRAY, 16, true},
        PngKind{PNG_COLOR_TYPE_PALETTE, 4}, PngKind{PNG_COLOR_TYPE_PALETTE, 8, true, true},
        PngKind{PNG_COLOR_TYPE_GRAY_ALPHA, 8}, PngKind{PNG_COLOR_TYPE_RGB_ALPHA, 8, true}}) {
    pngs.push_back(png_bytes(kind, 24, 24));
  }
  for (const bool progressive : {false, true}) {
    jpegs.push_back(jpeg_scene({.channels = 1, .progressive = progressive}, 32, 32));
    jpegs.push_back(jpeg_scene({.progressive = progressive}, 32, 32));
    jpegs.push_back(
        jpeg_scene({.progressive = progressive, .sampling = 1, .separate = !progressive}, 32, 32));
    jpegs.push_back(jpeg_scene({.progressive = progressive, .restart = 1}, 32, 32));
    jpegs.push_back(jpeg_scene({.progressive = progressive, .arithmetic = true}, 32, 32));
  }
  for (const auto* files : {&pngs, &jpegs}) {
    FlipCount all;
    for (const std::string& file : *files) {
      const FlipCount count = flip_bits(file);
      WARN(file.size() << " bytes: " << count.tried << " bits, " << count.refused << " refused ("
                       << count.refused_alone << " where the decoder has no warning), "
                       << count.read << " read");
      all.tried += count.tried;
      all.refused += count.refused;
      all.refused_alone += count.refused_alone;
      all.read += count.read;
    }
    WARN((files == &pngs ? "PNG: " : "JPEG: ")
         << all.tried << " bits, " << all.refused << " refused (" << all.refused_alone
         << " where the decoder has no warning), " << all.read << " read");
  }
}
