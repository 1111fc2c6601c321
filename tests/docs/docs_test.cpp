// What the documents say of the sources.

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "support/errors.hpp"
#include "support/files.hpp"

using namespace plastic::testing;

TEST_CASE("Each folder of the library includes only folders that stand above it in the table",
          "[docs]") {
  const fs::path root = fs::path(PLASTIC_TEST_DATA).parent_path().parent_path();
  std::istringstream page(content(root / "docs" / "architecture.md"));
  std::vector<std::string> rooms;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("| `")) rooms.push_back(line.substr(3, line.find("/`") - 3));
  }
  REQUIRE(rooms.size() == 15);
  const auto floor_of = [&](const std::string& room) {
    INFO(room);
    const auto found = std::find(rooms.begin(), rooms.end(), room);
    REQUIRE(found != rooms.end());
    return found - rooms.begin();
  };
  const fs::path include = root / "include/plastic";
  for (const auto& entry : fs::recursive_directory_iterator(include)) {
    if (!entry.is_regular_file() || entry.path().parent_path() == include) continue;
    const std::string room = *fs::relative(entry.path(), include).begin();
    const std::string text = content(entry.path()), mark = "#include \"plastic/";
    CHECK(std::count(text.begin(), text.end(), '\n') <= 400);
    for (std::size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + 1)) {
      const std::string header =
          text.substr(at + mark.size(), text.find('"', at + mark.size()) - at - mark.size());
      INFO(entry.path() << ": " << header);
      const std::string other = header.substr(0, header.find('/'));
      CHECK(floor_of(other) <= floor_of(room));
      if (header.find("/detail/") != std::string::npos) CHECK(other == room);
    }
  }
}

TEST_CASE("No header needs what the older of clang's standard libraries lack", "[docs]") {
  const fs::path root = fs::path(PLASTIC_TEST_DATA).parent_path().parent_path();
  for (const auto& entry : fs::recursive_directory_iterator(root / "include/plastic")) {
    if (!entry.is_regular_file()) continue;
    INFO(entry.path());
    const std::string text = content(entry.path());
    CHECK_FALSE(mentions(text, "std::ranges::"));
    CHECK_FALSE(mentions(text, "std::bit_cast"));
  }
}

// Code in the documents is code that compiles or runs: every block names the file that it is part
// of.
TEST_CASE("Every block of code in the documents is part of a file that is tested", "[docs]") {
  const fs::path root = fs::path(PLASTIC_TEST_DATA).parent_path().parent_path();
  std::vector<fs::path> documents{root / "README.md"};
  for (const auto& entry : fs::recursive_directory_iterator(root / "docs")) {
    if (entry.path().extension() == ".md") documents.push_back(entry.path());
  }
  int blocks = 0;
  for (const fs::path& document : documents) {
    const std::string text = content(document);
    for (const std::string fence : {"```cpp\n", "```python\n"}) {
      for (std::size_t at = text.find(fence); at != std::string::npos;
           at = text.find(fence, at + 1)) {
        ++blocks;
        const std::size_t begin = at + fence.size();
        const std::string block = text.substr(begin, text.find("```", begin) - begin);
        const std::size_t mark = text.rfind("<!-- ", at);
        INFO(document << ": " << block);
        REQUIRE(mark != std::string::npos);
        const std::string name = text.substr(mark + 5, text.find(" -->", mark) - mark - 5);
        REQUIRE(text.substr(mark + 5 + name.size() + 5, at - mark - 10 - name.size()).empty());
        CHECK(mentions(content(root / name), block));
      }
    }
  }
  CHECK(blocks >= 10);
}

TEST_CASE("Every link between the documents leads somewhere", "[docs]") {
  const fs::path root = fs::path(PLASTIC_TEST_DATA).parent_path().parent_path();
  std::vector<fs::path> documents{root / "README.md", root / "CONTRIBUTING.md"};
  for (const auto& entry : fs::recursive_directory_iterator(root / "docs")) {
    if (entry.path().extension() == ".md") documents.push_back(entry.path());
  }
  int links = 0;
  for (const fs::path& document : documents) {
    std::string text = content(document);
    const std::string fence = "\n```";  // what it encloses is code
    for (std::size_t at = text.find(fence); at != std::string::npos; at = text.find(fence)) {
      text.erase(at, text.find(fence, at + 1) + fence.size() - at);
    }
    for (std::size_t at = text.find("]("); at != std::string::npos; at = text.find("](", at + 1)) {
      std::string target = text.substr(at + 2, text.find(')', at) - at - 2);
      const bool is_code = target.find(' ') != std::string::npos;
      if (is_code || target.starts_with("http") || target.starts_with("#")) continue;
      target = target.substr(0, target.find('#'));
      INFO(document << ": " << target);
      CHECK(fs::exists(document.parent_path() / target));
      ++links;
    }
  }
  CHECK(links >= 20);
}

TEST_CASE("What \"I need X, use Y\" names is in the header that it names", "[docs]") {
  const fs::path root = fs::path(PLASTIC_TEST_DATA).parent_path().parent_path();
  std::istringstream page(content(root / "docs" / "i_need.md"));
  int rows = 0;
  for (std::string line; std::getline(page, line);) {
    const std::size_t last = line.rfind(" | "), end = line.rfind(".hpp |");
    if (last == std::string::npos || end == std::string::npos) continue;
    ++rows;
    INFO(line);
    const fs::path header = root / "include/plastic" / line.substr(last + 3, end + 1 - last);
    REQUIRE(fs::exists(header));
    // An alias may be in what the header includes.
    const std::string own = content(header), mark = "\"plastic/";
    std::string declared = own;
    for (std::size_t at = own.find(mark); at != std::string::npos; at = own.find(mark, at + 1)) {
      declared += content(root / "include" / own.substr(at + 1, own.find('"', at + 1) - at - 1));
    }
    const std::size_t use = line.find(" | ", 1), tick = line.find('`', use);
    if (tick > last) continue;
    const std::size_t after = line.find_first_of("`<:, ", tick + 1);
    CHECK(mentions(declared, line.substr(tick + 1, after - tick - 1)));
  }
  CHECK(rows > 50);
}
