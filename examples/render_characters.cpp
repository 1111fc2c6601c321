// Draws the kanji of JIS level 1 in many typefaces, as a data set for one_shot_images.

#include <ft2build.h>
#include FT_FREETYPE_H
#include FT_BBOX_H
#include FT_OUTLINE_H
#include <iconv.h>
#include <png.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <map>
#include <numeric>
#include <set>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "command_line.hpp"
#include "folder_lock.hpp"
#include "plastic/core/random.hpp"

namespace {

namespace fs = std::filesystem;

constexpr std::size_t side = 32;             // pixels of an image
constexpr std::size_t pixels = side * side;  // bytes of an image
constexpr double ink = 28, most_ink = 30;    // side of a usual and of the largest character
constexpr std::size_t characters = 2965;     // of JIS level 1
constexpr std::array<std::size_t, 3> splits{2000, 400, 565};
constexpr std::array<const char*, 3> split_names{"train", "val", "test"};
constexpr double alike_correlation = 0.97;  // of two images that are one design
constexpr double most_alike = 1.0 / 3;      // share of such images that two designs may have

struct Typeface {
  std::string_view name, style, package, file;
  bool is_new = false;  // kept for the second test
};

// Debian's, of which no two are the same design; the last two show that this is measured.
constexpr std::array typefaces{
    Typeface{"ipa-gothic", "gothic", "fonts-ipafont-gothic", "ipag.ttf"},
    Typeface{"mplus", "gothic", "fonts-mplus", "Mplus1-Regular.otf"},
    Typeface{"noto-sans", "gothic", "fonts-noto-cjk", "NotoSansCJK-Regular.ttc"},
    Typeface{"sawarabi-gothic", "gothic", "fonts-sawarabi-gothic", "sawarabi-gothic-medium.ttf"},
    Typeface{"ume-gothic", "gothic", "fonts-horai-umefont", "ume-tgo4.ttf"},
    Typeface{"konatu", "gothic", "fonts-konatu", "Konatu.ttf"},
    Typeface{"wqy-zenhei", "gothic", "fonts-wqy-zenhei", "wqy-zenhei.ttc"},
    Typeface{"dotgothic", "pixels", "fonts-dotgothic16", "DotGothic16-Regular.ttf"},
    Typeface{"ipa-mincho", "mincho", "fonts-ipafont-mincho", "ipam.ttf"},
    Typeface{"noto-serif", "mincho", "fonts-noto-cjk", "NotoSerifCJK-Regular.ttc"},
    Typeface{"sawarabi-mincho", "mincho", "fonts-sawarabi-mincho", "sawarabi-mincho-medium.ttf"},
    Typeface{"ume-mincho", "mincho", "fonts-horai-umefont", "ume-tmo3.ttf"},
    Typeface{"hanazono", "mincho", "fonts-hanazono", "HanaMinA.ttf"},
    Typeface{"dejima", "mincho", "fonts-dejima-mincho", "dejima-mincho-r227.ttf"},
    Typeface{"uming", "ming", "fonts-arphic-uming", "uming.ttc"},
    Typeface{"ukai", "kai", "fonts-arphic-ukai", "ukai.ttc"},
    Typeface{"yozfont", "handwriting", "fonts-yozvox-yozfont", "YOzRN_.ttf"},
    Typeface{"kiloji", "handwriting", "fonts-kiloji", "kiloji.ttf"},
    Typeface{"kouzan", "brush", "fonts-kouzan-mouhitsu", "kouzan-mouhitsu.ttf"},
    Typeface{"kouzan-gyosho", "brush", "fonts-kouzan-mouhitsu", "kouzan-mouhitsu-gyosho.ttf"},
    Typeface{"kouzan-sosho", "brush", "fonts-kouzan-mouhitsu", "KouzanBrushFontSousyo.ttf"},
    Typeface{"aoyagi-kouzan", "brush", "fonts-aoyagi-kouzan-t", "AoyagiKouzanT.ttf"},
    Typeface{"motoya-maruberi", "gothic", "fonts-motoya-l-maruberi", "MTLmr3m.ttf", true},
    Typeface{"oradano", "mincho", "fonts-oradano-mincho-gsrr", "OradanoGSRR.ttf", true},
    Typeface{"setofont", "handwriting", "fonts-seto", "setofont.ttf", true},
    Typeface{"aoyagi-soseki", "pen", "fonts-aoyagi-soseki", "aoyagi-soseki.ttf", true},
    Typeface{"reggae", "display", "fonts-reggae", "ReggaeOne-Regular.ttf", true},
    Typeface{"vl-gothic", "gothic", "fonts-vlgothic", "VL-Gothic-Regular.ttf"},
    Typeface{"motoya-cedar", "gothic", "fonts-motoya-l-cedar", "MTLc3m.ttf"},
};

/// Code points of rows 16 to 47 of JIS X 0208, in its order.
std::vector<std::uint32_t> jis_level_1() {
  const iconv_t converter = ::iconv_open("UTF-32LE", "EUC-JP");
  // NOLINTNEXTLINE(performance-no-int-to-ptr): this is how iconv_open says that it failed
  if (converter == reinterpret_cast<iconv_t>(-1)) {
    throw std::runtime_error("this system's iconv does not know EUC-JP");
  }
  std::vector<std::uint32_t> codes;
  for (int row = 16; row <= 47; ++row) {
    for (int cell = 1; cell <= 94; ++cell) {
      std::array<char, 2> in{static_cast<char>(0xA0 + row), static_cast<char>(0xA0 + cell)};
      std::array<unsigned char, 4> out{};
      char *from = in.data(), *to = reinterpret_cast<char*>(out.data());
      std::size_t left = in.size(), room = out.size();
      ::iconv(converter, nullptr, nullptr, nullptr, nullptr);
      // The end of row 47 is not assigned.
      if (::iconv(converter, &from, &left, &to, &room) == static_cast<std::size_t>(-1)) continue;
      std::uint32_t code = 0;
      for (std::size_t k = 0; k < 4; ++k) code |= std::uint32_t{out[k]} << (8 * k);
      codes.push_back(code);
    }
  }
  ::iconv_close(converter);
  if (codes.size() != characters) {
    throw std::runtime_error("JIS level 1 must have 2965 characters; this system's iconv has " +
                             std::to_string(codes.size()));
  }
  return codes;
}

/// One typeface's images of all characters, white on black.
struct Drawing {
  const Typeface* typeface = nullptr;
  std::vector<bool> drawn = std::vector<bool>(characters);
  std::vector<std::uint8_t> values = std::vector<std::uint8_t>(characters * pixels);
  std::size_t missing = 0, blank = 0, fallback = 0;  // characters that the typeface lacks
  const Typeface* nearest = nullptr;                 // the one before that it is most like
  double alike = 0;                                  // share of their images that are one design

  std::span<const std::uint8_t> image(std::size_t c) const {
    return std::span(values).subspan(c * pixels, pixels);
  }
  std::size_t count() const {
    return static_cast<std::size_t>(std::count(drawn.begin(), drawn.end(), true));
  }
  bool is_copy() const { return alike > most_alike; }
};

/// The outlines of a font file.
class Font {
 public:
  explicit Font(const fs::path& path) : path_(path) {
    try {
      check(FT_Init_FreeType(&library_), "FreeType does not start");
      check(FT_New_Face(library_, path.c_str(), 0, &face_), "it is no font that FreeType reads");
      check(FT_Select_Charmap(face_, FT_ENCODING_UNICODE), "it has no table of Unicode");
      check(FT_Set_Pixel_Sizes(face_, 0, 1024), "it has no outlines");
      load(0);
      const FT_Outline& outline = face_->glyph->outline;
      if (has_outline()) fallback_.assign(outline.points, outline.points + outline.n_points);
    } catch (...) {
      close();
      throw;
    }
  }
  ~Font() { close(); }
  Font(const Font&) = delete;
  Font& operator=(const Font&) = delete;

  /// Draws all characters at one scale, which makes those that are larger than 95 of 100 `ink`
  /// pixels high or wide. Each is in the middle of its image.
  void draw(const std::vector<std::uint32_t>& codes, Drawing& to) {
    std::vector<double> sizes;
    for (std::size_t c = 0; c < codes.size(); ++c) {
      const FT_UInt glyph = FT_Get_Char_Index(face_, codes[c]);
      to.missing += glyph == 0;
      if (glyph == 0) continue;
      load(glyph);
      const bool blank = !has_outline() || size(box()) <= 0, fallback = !blank && is_fallback();
      to.blank += blank;
      to.fallback += fallback;
      to.drawn[c] = !blank && !fallback;
      if (to.drawn[c]) sizes.push_back(size(box()));
    }
    if (sizes.empty()) fail("it has none of the characters of JIS level 1");
    const auto usual = sizes.begin() + static_cast<std::ptrdiff_t>(sizes.size() * 95 / 100);
    std::nth_element(sizes.begin(), usual, sizes.end());
    for (std::size_t c = 0; c < codes.size(); ++c) {
      if (!to.drawn[c]) continue;
      load(FT_Get_Char_Index(face_, codes[c]));
      rasterize(*usual, to.values.data() + c * pixels);
    }
  }

 private:
  void close() {
    FT_Done_Face(face_);
    FT_Done_FreeType(library_);
  }
  [[noreturn]] void fail(const std::string& why) const {
    throw std::runtime_error(path_.string() + ": " + why);
  }
  void check(FT_Error error, const char* why) const {
    if (error != 0) fail(why);
  }
  void load(FT_UInt glyph) {
    check(FT_Load_Glyph(face_, glyph, FT_LOAD_NO_HINTING | FT_LOAD_NO_BITMAP), "it is damaged");
  }
  bool has_outline() const {
    return face_->glyph->format == FT_GLYPH_FORMAT_OUTLINE && face_->glyph->outline.n_points > 0;
  }
  // Some fonts have the picture of a missing character at the place of one.
  bool is_fallback() const {
    const FT_Outline& outline = face_->glyph->outline;
    return std::equal(
        outline.points, outline.points + outline.n_points, fallback_.begin(), fallback_.end(),
        [](const FT_Vector& a, const FT_Vector& b) { return a.x == b.x && a.y == b.y; });
  }
  FT_BBox box() {
    FT_BBox box;
    check(FT_Outline_Get_BBox(&face_->glyph->outline, &box), "it has a broken outline");
    return box;
  }
  static double size(const FT_BBox& box) {
    return static_cast<double>(std::max(box.xMax - box.xMin, box.yMax - box.yMin));
  }

  void rasterize(double usual, std::uint8_t* to) {
    FT_Outline& outline = face_->glyph->outline;
    const FT_BBox of_ink = box();
    const double scale = std::min(ink / usual, most_ink / size(of_ink)) * 64;
    const FT_Fixed factor = std::lround(scale * 65536);
    const FT_Matrix scaling{factor, 0, 0, factor};
    FT_Outline_Translate(&outline, -(of_ink.xMin + of_ink.xMax) / 2,
                         -(of_ink.yMin + of_ink.yMax) / 2);
    FT_Outline_Transform(&outline, &scaling);
    FT_Outline_Translate(&outline, side * 64 / 2, side * 64 / 2);
    FT_Bitmap bitmap{};
    bitmap.rows = bitmap.width = side;
    bitmap.pitch = side;
    bitmap.buffer = to;
    bitmap.num_grays = 256;
    bitmap.pixel_mode = FT_PIXEL_MODE_GRAY;
    check(FT_Outline_Get_Bitmap(library_, &outline, &bitmap), "it has a broken outline");
  }

  fs::path path_;
  FT_Library library_ = nullptr;
  FT_Face face_ = nullptr;
  std::vector<FT_Vector> fallback_;
};

bool are_alike(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) {
  std::uint32_t sum_a = 0, sum_b = 0, aa = 0, bb = 0, ab = 0;
  for (std::size_t p = 0; p < pixels; ++p) {
    sum_a += a[p];
    sum_b += b[p];
    aa += std::uint32_t{a[p]} * a[p];
    bb += std::uint32_t{b[p]} * b[p];
    ab += std::uint32_t{a[p]} * b[p];
  }
  const auto covariance = [](double product, double x, double y) {
    return product - x * y / static_cast<double>(pixels);
  };
  return covariance(ab, sum_a, sum_b) >=
         alike_correlation * std::sqrt(covariance(aa, sum_a, sum_a) * covariance(bb, sum_b, sum_b));
}

double share_alike(const Drawing& a, const Drawing& b) {
  std::size_t both = 0, alike = 0;
  for (std::size_t c = 0; c < characters; ++c) {
    if (!a.drawn[c] || !b.drawn[c]) continue;
    ++both;
    alike += are_alike(a.image(c), b.image(c));
  }
  return both == 0 ? 0 : static_cast<double>(alike) / static_cast<double>(both);
}

/// Finds, of those before it that count, the typeface that a drawing is most like.
void find_nearest(std::span<const Drawing> before, Drawing& drawing) {
  for (const Drawing& other : before) {
    const double alike = other.is_copy() ? 0 : share_alike(drawing, other);
    if (alike <= drawing.alike) continue;
    drawing.nearest = other.typeface;
    drawing.alike = alike;
  }
}

/// Where the fonts' files are, by their names.
std::map<std::string, fs::path> font_files(const fs::path& folder) {
  std::map<std::string, fs::path> files;
  if (!fs::is_directory(folder)) throw std::runtime_error(folder.string() + ": no such folder");
  for (const auto& entry :
       fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied)) {
    fs::path& known = files[entry.path().filename().string()];
    if (known.empty() || entry.path() < known) known = entry.path();
  }
  return files;
}

void write_png(const fs::path& path, std::span<const std::uint8_t> image) {
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  header.width = header.height = side;
  header.format = PNG_FORMAT_GRAY;
  if (png_image_write_to_file(&header, path.c_str(), 0, image.data(), 0, nullptr) == 0) {
    throw std::runtime_error(path.string() + ": " + header.message);
  }
}

void write_text(const fs::path& path, const std::string& text) {
  std::ofstream file(path);
  if (!(file << text).flush()) throw std::runtime_error(path.string() + ": it cannot be written");
}

std::string class_name(std::uint32_t code) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "U+%04X", static_cast<unsigned>(code));
  return text.data();
}

/// A random order of the characters, the same for everybody: neighbours in JIS share parts.
std::vector<std::size_t> shuffled() {
  std::vector<std::size_t> order(characters);
  std::iota(order.begin(), order.end(), std::size_t{0});
  plastic::Random random({}, 0, 0);
  for (std::size_t k = characters; k > 1; --k) {
    std::swap(order[k - 1], order[random.below(static_cast<std::uint32_t>(k))]);
  }
  return order;
}

struct Written {
  std::size_t images = 0;
  std::array<std::size_t, 3> classes{};
};

/// Writes images/CHARACTER/TYPEFACE.png and the lists of the three splits.
Written write_images(const fs::path& folder, const std::vector<std::uint32_t>& codes,
                     const std::vector<const Drawing*>& drawings) {
  Written written;
  std::vector<std::size_t> order = shuffled();
  fs::create_directories(folder / "splits");
  auto next = order.begin();
  for (std::size_t s = 0; s < splits.size(); ++s) {
    const auto end = next + static_cast<std::ptrdiff_t>(splits[s]);
    std::sort(next, end);
    std::string list;
    for (; next != end; ++next) {
      const std::size_t c = *next;
      const auto has = [c](const Drawing* drawing) { return drawing->drawn[c]; };
      // An episode shows one image of a class and asks for another.
      if (std::count_if(drawings.begin(), drawings.end(), has) < 2) continue;
      const std::string name = class_name(codes[c]);
      fs::create_directories(folder / "images" / name);
      for (const Drawing* drawing : drawings) {
        if (!has(drawing)) continue;
        const std::string file = std::string(drawing->typeface->name) + ".png";
        write_png(folder / "images" / name / file, drawing->image(c));
        ++written.images;
      }
      list += name + "\n";
      ++written.classes[s];
    }
    write_text(folder / "splits" / (std::string(split_names[s]) + ".txt"), list);
  }
  return written;
}

std::string percent(double share) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(1) << 100 * share << "%";
  return text.str();
}

/// The drawings as a table, a row for each typeface.
std::string table_of(const std::vector<Drawing>& drawings) {
  std::ostringstream table;
  const auto row = [&](const std::array<std::string, 9>& cells) {
    constexpr std::array<int, 9> widths{16, 12, 27, 6, 8, 6, 9, 16, 6};
    for (std::size_t k = 0; k < cells.size(); ++k) {
      const bool is_text = k < 3 || k == 7;
      table << (k > 0 ? "  " : "") << (is_text ? std::left : std::right) << std::setw(widths[k])
            << cells[k];
    }
    table << "\n";
  };
  row({"typeface", "style", "package", "drawn", "missing", "blank", "fallback", "most like",
       "alike"});
  for (const Drawing& d : drawings) {
    const Typeface& t = *d.typeface;
    row({std::string(t.name), std::string(t.style), std::string(t.package),
         std::to_string(d.count()), std::to_string(d.missing), std::to_string(d.blank),
         std::to_string(d.fallback), d.nearest == nullptr ? "-" : std::string(d.nearest->name),
         d.nearest == nullptr ? "-" : percent(d.alike)});
  }
  return table.str();
}

std::vector<const Drawing*> those_that(const std::vector<Drawing>& drawings, auto&& condition) {
  std::vector<const Drawing*> chosen;
  for (const Drawing& drawing : drawings) {
    if (condition(drawing)) chosen.push_back(&drawing);
  }
  return chosen;
}

std::string names_of(const std::vector<const Drawing*>& drawings) {
  std::string names;
  for (const Drawing* drawing : drawings) {
    if (!names.empty()) names += ", ";
    names += drawing->typeface->name;
  }
  return names;
}

void say_written(const fs::path& folder, const Written& written,
                 const std::vector<const Drawing*>& drawings) {
  std::cout << folder.string() << ": " << written.images << " images of " << written.classes[0]
            << " + " << written.classes[1] << " + " << written.classes[2]
            << " characters (train, val, test) in " << drawings.size() << " typefaces\n";
}

std::vector<Typeface> choose(const std::vector<std::string>& names) {
  if (names.empty()) return {typefaces.begin(), typefaces.end()};
  std::vector<Typeface> chosen;
  for (const std::string& name : names) {
    const auto found = std::find_if(typefaces.begin(), typefaces.end(),
                                    [&](const Typeface& t) { return t.name == name; });
    if (found == typefaces.end()) {
      throw std::runtime_error("there is no typeface " + name + "; --list names them");
    }
    chosen.push_back(*found);
  }
  return chosen;
}

/// Draws everything beside `out` and then gives it that name.
void render(const std::vector<Typeface>& chosen, const fs::path& fonts, const fs::path& out) {
  if (fs::exists(out) && !(fs::is_directory(out) && fs::is_empty(out))) {
    throw std::runtime_error(out.string() + ": it is there already; remove it or choose another");
  }
  const std::vector<std::uint32_t> codes = jis_level_1();
  const std::map<std::string, fs::path> files = font_files(fonts);
  std::vector<Drawing> drawings;
  for (const Typeface& typeface : chosen) {
    const auto file = files.find(std::string(typeface.file));
    if (file == files.end()) {
      throw std::runtime_error("there is no " + std::string(typeface.file) + " in " +
                               fonts.string() + ": install " + std::string(typeface.package));
    }
    Drawing& drawing = drawings.emplace_back();
    drawing.typeface = &typeface;
    Font(file->second).draw(codes, drawing);
    find_nearest(std::span(drawings).first(drawings.size() - 1), drawing);
  }
  const auto copies = those_that(drawings, [](const Drawing& d) { return d.is_copy(); });
  const auto known =
      those_that(drawings, [](const Drawing& d) { return !d.is_copy() && !d.typeface->is_new; });
  const auto fresh =
      those_that(drawings, [](const Drawing& d) { return !d.is_copy() && d.typeface->is_new; });
  if (known.size() < 2 || fresh.size() == 1) {
    throw std::runtime_error(
        "a character needs two images, and so a data set two typefaces; there are " +
        std::to_string(known.size()) + " to learn from and " + std::to_string(fresh.size()) +
        " for the second test");
  }

  fs::path unfinished = fs::absolute(out).lexically_normal();
  if (unfinished.filename().empty()) unfinished = unfinished.parent_path();
  const fs::path finished = unfinished;
  unfinished += ".unfinished";
  fs::create_directories(unfinished);
  Written of_known, of_fresh;
  {
    const FolderLock lock(unfinished);
    try {
      for (const char* part : {"images", "splits", "new_typefaces"}) {
        fs::remove_all(unfinished / part);  // an earlier program was killed
      }
      of_known = write_images(unfinished, codes, known);
      if (!fresh.empty()) of_fresh = write_images(unfinished / "new_typefaces", codes, fresh);
      write_text(unfinished / "typefaces.txt", table_of(drawings));
      fs::remove(unfinished / ".lock");
      fs::rename(unfinished, finished);
    } catch (...) {
      std::error_code ignored;
      fs::remove_all(unfinished, ignored);
      throw;
    }
  }

  std::cout
      << table_of(drawings)
      << "\nmissing: not in the font; blank: without an outline; fallback: drawn as a missing "
         "one; alike: the\nshare of characters that this typeface and the one before it that it "
         "is most like draw in\nthe same way\n\n";
  if (!copies.empty()) {
    std::cout << "Left out as designs that are there already: " << names_of(copies) << "\n";
  }
  say_written(out, of_known, known);
  if (!fresh.empty()) {
    say_written(out / "new_typefaces", of_fresh, fresh);
    std::cout << "The second folder is for tests on typefaces that training never showed: "
              << names_of(fresh) << "\n";
  }
  if (!std::cout.flush()) throw std::runtime_error("cannot write to standard output");
}

void list(const std::vector<Typeface>& chosen, const fs::path& fonts) {
  const std::map<std::string, fs::path> files = font_files(fonts);
  for (const Typeface& t : chosen) {
    const auto file = files.find(std::string(t.file));
    std::cout << std::left << std::setw(16) << t.name << "  " << std::setw(12) << t.style << "  "
              << (t.is_new ? "second test  " : "training     ")
              << (file == files.end() ? "not installed" : file->second.string()) << "\n";
  }
}

void list_packages(const std::vector<Typeface>& chosen) {
  std::set<std::string_view> packages;
  for (const Typeface& t : chosen) packages.insert(t.package);
  for (const std::string_view package : packages) std::cout << package << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> names;
  fs::path fonts = "/usr/share/fonts", out = "data/kanji";
  bool lists = false, lists_packages = false;
  CLI::App app(
      "Draws the 2,965 kanji of JIS level 1 in typefaces of Debian, 32 x 32 pixels, white on "
      "black,\n"
      "into a folder that one_shot_images --data takes. A class is a character, an image the\n"
      "character in one typeface. 2,000 characters are for training, 400 for validation and 565\n"
      "for the test. The folder in it, new_typefaces, has the same characters in typefaces that\n"
      "are in no other image, for one_shot_images --test-data.");
  app.add_option("--out", out, "folder to make; it must not be there yet")
      ->type_name("FOLDER")
      ->capture_default_str();
  app.add_option("--fonts", fonts, "where the font files are, in this folder or below it")
      ->type_name("FOLDER")
      ->capture_default_str();
  app.add_option("--typefaces", names, "only these, separated by commas (default: all)")
      ->type_name("NAMES")
      ->delimiter(',');
  app.add_flag("--list", lists, "list names, styles, uses and files of the typefaces, and end");
  app.add_flag("--packages", lists_packages, "list the packages of Debian that have them, and end");
  examples::say_in_one_line(app, "render_characters");
  CLI11_PARSE(app, argc, argv);
  try {
    const std::vector<Typeface> chosen = choose(names);
    if (lists) {
      list(chosen, fonts);
    } else if (lists_packages) {
      list_packages(chosen);
    } else {
      render(chosen, fonts, out);
    }
  } catch (const std::exception& error) {
    std::cerr << "render_characters: " << error.what() << "\n";
    return 1;
  }
}
