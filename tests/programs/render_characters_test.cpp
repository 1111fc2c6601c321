#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "plastic/image_files/image_data.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"
#include "support/process.hpp"

using namespace plastic::testing;

namespace {

const std::string program = "render_characters";

// It is built where FreeType is.
bool is_built() {
  const bool built = fs::exists(fs::path(PLASTIC_PROGRAMS) / program);
  if (!built) WARN("render_characters is not built: FreeType is not here");
  return built;
}

// Names of the typefaces for a use, "training" or "second test", whose fonts are installed.
Arguments installed(const std::string& use) {
  Arguments names;
  std::istringstream lines(run_well(program, {"--list"}).out);
  for (std::string line; std::getline(lines, line);) {
    if (!mentions(line, use) || mentions(line, "not installed")) continue;
    names.push_back(line.substr(0, line.find(' ')));
  }
  return names;
}

// The middle of an image's ink in a direction: pixels from one of its ends to the other.
double middle(const std::uint8_t* image, bool of_rows) {
  int first = 32, last = -1;
  for (int p = 0; p < 32 * 32; ++p) {
    if (image[p] < 32) continue;
    const int at = of_rows ? p / 32 : p % 32;
    first = std::min(first, at);
    last = std::max(last, at);
  }
  return (first + last) / 2.0;
}

}  // namespace

TEST_CASE("Render_characters refuses what cannot be, by name, and leaves nothing behind",
          "[programs]") {
  if (!is_built()) return;
  const Folder folder;
  const std::string out = folder / "out", fonts = folder / "fonts";
  check_refusal(program, {"--fast"}, {program, "--fast", "--help"});
  check_refusal(program, {"kanji"}, {program, "kanji", "--help"});
  check_refusal(program, {"--typefaces", "comic", "--out", out}, {program, "comic", "--list"});
  check_refusal(program, {"--fonts", fonts, "--out", out}, {fonts, "no such folder"});
  fs::create_directories(fonts);
  check_refusal(program, {"--fonts", fonts, "--out", out},
                {fonts, "ipag.ttf", "install fonts-ipafont-gothic"});
  write_plainly(fonts + "/ipag.ttf", "text");
  check_refusal(program, {"--fonts", fonts, "--out", out}, {"ipag.ttf", "no font"});
  check_refusal(program, {"--out", folder.path().string()}, {"is there already"});
  CHECK(names_in(folder.path()) == std::vector<std::string>{"fonts"});
}

TEST_CASE("Render_characters says what it has and where that comes from", "[programs]") {
  if (!is_built()) return;
  const std::string help = run_well(program, {"--help"}).out;
  for (const std::string word : {"Usage: ", "--out", "--fonts", "--typefaces", "--list",
                                 "--packages", "2,965", "data/kanji", "--test-data"}) {
    INFO(word);
    CHECK(mentions(help, word));
  }
  const std::string packages = run_well(program, {"--packages"}).out;
  CHECK(mentions(packages, "fonts-ipafont-mincho\n"));
  const std::string list = run_well(program, {"--list"}).out;
  CHECK(std::count(list.begin(), list.end(), '\n') >= 12);
}

TEST_CASE("Render_characters draws each character of JIS level 1 once in each typeface",
          "[programs]") {
  if (!is_built()) return;
  const Arguments known = installed("training"), fresh = installed("second test");
  if (known.size() < 2) {
    WARN("fewer than two of its typefaces are installed: ./dev data kanji installs them");
    return;
  }
  const Folder folder;
  std::string names = known[0] + "," + known[1];
  const bool has_fresh = fresh.size() >= 2;
  if (has_fresh) names += "," + fresh[0] + "," + fresh[1];
  const std::string out = run_well(program, {"--typefaces", names, "--out", folder / "kanji"}).out;
  INFO(out);
  CHECK(names_in(folder.path()) == std::vector<std::string>{"kanji"});
  CHECK(mentions(out, known[0]));
  CHECK(mentions(out, content(folder / "kanji" / "typefaces.txt")));

  plastic::ImageSplits splits = plastic::load_image_data((folder / "kanji").string());
  const std::vector<plastic::ImageSet*> all = splits.all();
  const std::vector<std::size_t> most{2000, 400, 565};
  std::set<std::string> classes;
  for (std::size_t s = 0; s < 3; ++s) {
    const plastic::ImageSet& set = *all[s];
    CHECK(set.shape == plastic::ImageShape{1, 32, 32});
    CHECK(set.classes.size() <= most[s]);
    CHECK(set.classes.size() >= most[s] * 9 / 10);
    for (const plastic::ImageClass& c : set.classes) {
      classes.insert(c.name);
      REQUIRE(c.count == 2);
      for (plastic::Index k = c.first; k < c.first + 2; ++k) {
        REQUIRE(std::abs(middle(set.image(k), true) - 15.5) <= 2);
        REQUIRE(std::abs(middle(set.image(k), false) - 15.5) <= 2);
      }
    }
  }
  CHECK(classes.size() == splits.train.classes.size() + splits.validation.classes.size() +
                              splits.test.classes.size());
  CHECK(classes.contains("U+4E9C"));        // the first of JIS level 1
  CHECK(classes.contains("U+8155"));        // the last
  CHECK_FALSE(classes.contains("U+5F0C"));  // the first of level 2

  CHECK(fs::exists(folder / "kanji" / "new_typefaces") == has_fresh);
  if (has_fresh) {
    const plastic::ImageSplits others =
        plastic::load_image_data((folder / "kanji" / "new_typefaces").string());
    CHECK(plastic::fingerprint(others.test) != plastic::fingerprint(splits.test));
  }
  check_refusal(program, {"--out", folder / "kanji"}, {"is there already"});
}

TEST_CASE("Render_characters draws the same bytes every time, and a design only once",
          "[programs]") {
  if (!is_built()) return;
  const Arguments known = installed("training");
  if (known.size() < 2) return;
  const Folder folder;
  const std::string names = known[0] + "," + known[1];
  run_well(program, {"--typefaces", names, "--out", folder / "once"});
  const std::string out =
      run_well(program, {"--typefaces", names + "," + known[0], "--out", folder / "twice"}).out;
  INFO(out);
  CHECK(mentions(out, "Left out as designs that are there already: " + known[0]));
  CHECK(mentions(out, "in 2 typefaces"));
  int files = 0;
  for (const char* part : {"images", "splits"}) {
    for (const auto& entry : fs::recursive_directory_iterator(folder / "once" / part)) {
      if (!entry.is_regular_file()) continue;
      ++files;
      const fs::path other = folder / "twice" / fs::relative(entry.path(), folder / "once");
      REQUIRE(content(entry.path()) == content(other));
    }
  }
  CHECK(files > 2 * 2900);
}
