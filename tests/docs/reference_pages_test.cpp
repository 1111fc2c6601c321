#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "support/errors.hpp"
#include "support/files.hpp"

// The reference pages against the headers.

namespace {

using namespace plastic::testing;

const fs::path& root() {
  static const fs::path path = fs::path(PLASTIC_TEST_DATA).parent_path().parent_path();
  return path;
}

using Texts = std::vector<std::string>;

using Row = Texts;  // cells

// The cells of the tables' rows below each heading of a page, by the heading's text. Heads and
// rules of tables are left out.
std::map<std::string, std::vector<Row>> tables_of(const std::string& page) {
  std::map<std::string, std::vector<Row>> tables;
  std::istringstream lines(page);
  std::string heading;
  bool in_body = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("##")) heading = line.substr(line.find(' ') + 1);
    if (line.starts_with("|---")) {
      in_body = true;
      continue;
    }
    in_body = in_body && line.starts_with("| ");
    if (!in_body) continue;
    Row row;
    std::size_t at = 2;
    for (std::size_t end = line.find(" |", at); end != std::string::npos;
         end = line.find(" |", at)) {
      row.push_back(line.substr(at, end - at));
      at = std::min(end + 3, line.size());
    }
    tables[heading].push_back(row);
  }
  return tables;
}

// What stands between backticks.
Texts quoted(const std::string& cell) {
  Texts all;
  const std::regex quotes("`([^`]*)`");
  for (std::sregex_iterator at(cell.begin(), cell.end(), quotes), end; at != end; ++at) {
    all.push_back((*at)[1]);
  }
  return all;
}

std::map<fs::path, std::string> public_headers() {
  std::map<fs::path, std::string> all;
  const fs::path include = root() / "include/plastic";
  for (const auto& entry : fs::recursive_directory_iterator(include)) {
    const fs::path name = fs::relative(entry.path(), include);
    if (entry.path().extension() != ".hpp" || mentions(name.string(), "detail")) continue;
    std::string text = content(entry.path());
    const std::string begin = "\nnamespace detail {", end = "}  // namespace detail\n";
    for (std::size_t at = text.find(begin); at != std::string::npos; at = text.find(begin)) {
      const std::size_t to = text.find(end, at);
      REQUIRE(to != std::string::npos);
      text.erase(at, to + end.size() - at);
    }
    text = std::regex_replace(text, std::regex("//[^\n]*"), "");
    all.emplace(name, text);
  }
  return all;
}

// "type name default" of each field, in the order of declaration.
Texts fields_of(const std::string& body, const std::string& indent) {
  Texts fields;
  const std::regex field(R"((\w[\w:<>,.* ]*?) (\w+)(?: = (.*))?; *)");
  std::istringstream lines(body);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(indent) || line.starts_with(indent + " ")) continue;
    const std::string text = line.substr(indent.size());
    std::smatch parts;
    if (text.starts_with("static ") || text.starts_with("using ")) continue;
    if (!std::regex_match(text, parts, field)) continue;
    fields.push_back(parts[1].str() + " " + parts[2].str() + " " +
                     (parts[3].matched ? parts[3].str() : "none"));
  }
  return fields;
}

// The fields of every struct by its name, of those inside classes too.
std::map<std::string, Texts> structs_of_headers() {
  std::map<std::string, Texts> all;
  const std::regex begin(R"(\n( *)struct (\w+)[^;{]* \{\n)");
  for (const auto& [name, text] : public_headers()) {
    for (std::sregex_iterator at(text.begin(), text.end(), begin), end; at != end; ++at) {
      const std::string indent = (*at)[1];
      const auto from = static_cast<std::size_t>(at->position() + at->length());
      const std::size_t to = text.find("\n" + indent + "};", from - 1);
      REQUIRE(to != std::string::npos);
      all[(*at)[2]] = fields_of(text.substr(from, to - from), indent + "  ");
    }
  }
  return all;
}

std::string trimmed(const std::string& text) {
  const std::size_t from = text.find_first_not_of(" \n");
  return from == std::string::npos ? ""
                                   : text.substr(from, text.find_last_not_of(" \n") + 1 - from);
}

// "x" of "const Var<Scalar>& x", "smoothing = 0" of "double smoothing = 0".
Texts parameter_names(const std::string& list) {
  Texts names;
  int depth = 0;
  std::string parameter;
  const auto add = [&] {
    parameter = trimmed(parameter);
    const std::size_t name_end = parameter.find(" = ");
    const std::string declared = parameter.substr(0, name_end);
    names.push_back(parameter.substr(declared.find_last_of(" &*") + 1));
    parameter.clear();
  };
  for (const char c : list) {
    depth += c == '<' || c == '(' ? 1 : c == '>' || c == ')' ? -1 : 0;
    if (c == ',' && depth == 0) {
      add();
    } else {
      parameter += c;
    }
  }
  add();
  return names;
}

// How a call is written: "a + b", "-x", "rows(x, first, count)".
std::string call_of(const std::string& name, const Texts& parameters) {
  if (name.starts_with("operator")) {
    const std::string sign = name.substr(8);
    return parameters.size() == 1 ? sign + parameters[0]
                                  : parameters[0] + " " + sign + " " + parameters[1];
  }
  std::string call = name + "(";
  for (const std::string& parameter : parameters) {
    call += (call.back() == '(' ? "" : ", ") + parameter;
  }
  return call + ")";
}

// The calls of the free functions of a header that take or return a variable.
Texts operations_of(const std::string& text) {
  Texts calls;
  const std::regex function(
      R"(\n((?:inline )?(?:auto|void|[A-Z]\w*<[\w<>:]*>|\w+)) (operator[^ (\w]+|\w+)\(((?:[^{};]|\{\})*)\) \{)");
  for (std::sregex_iterator at(text.begin(), text.end(), function), end; at != end; ++at) {
    const std::string list = (*at)[3];
    if (!mentions((*at)[1].str() + list, "Var<") && !mentions(list, "Variable auto")) continue;
    calls.push_back(call_of((*at)[2], parameter_names(list)));
  }
  return calls;
}

}  // namespace

TEST_CASE("The page of options has every field of every options struct, in order",
          "[docs][reference_pages]") {
  const auto structs = structs_of_headers();
  const auto tables = tables_of(content(root() / "docs/options.md"));
  std::map<std::string, std::string> heading_of;
  for (const auto& [heading, rows] : tables) {
    heading_of[heading.substr(heading.rfind(':') + 1)] = heading;
  }
  int checked = 0;
  for (const auto& [name, fields] : structs) {
    INFO(name);
    if (name.ends_with("Options")) REQUIRE(heading_of.contains(name));
  }
  for (const auto& [name, heading] : heading_of) {
    INFO(name);
    REQUIRE(structs.contains(name));
    Texts written;
    for (const Row& row : tables.at(heading)) {
      REQUIRE(row.size() == 5);
      const Texts value = quoted(row[2]);
      written.push_back(quoted(row[1]).at(0) + " " + quoted(row[0]).at(0) + " " +
                        (value.empty() ? row[2] : value[0]));
      for (const std::string& cell : row) CHECK_FALSE(cell.empty());
      ++checked;
    }
    CHECK(written == structs.at(name));
  }
  CHECK(checked > 100);
}

TEST_CASE("The page of a rule with options of its own has every one of them with its default",
          "[docs][reference_pages]") {
  const auto structs = structs_of_headers();
  int pages = 0;
  for (const auto& entry : fs::directory_iterator(root() / "docs/rules")) {
    INFO(entry.path());
    const std::string page = content(entry.path()), mark = "**Options** (`";
    const std::size_t at = page.find(mark);
    if (at == std::string::npos) continue;
    const std::size_t from = at + mark.size();
    const std::string name = page.substr(from, page.find('`', from) - from);
    if (name == "CellOptions") continue;  // which its cells explain
    REQUIRE(structs.contains(name));
    ++pages;
    Texts written, declared;
    const auto rows = tables_of("## x\n" + page.substr(from, page.find("\n**", from) - from));
    for (const Row& row : rows.at("x")) {
      if (row.size() < 3) continue;  // of another table
      for (const std::string& field : quoted(row[0])) written.push_back(field + " " + row[1]);
    }
    for (const std::string& field : structs.at(name)) {  // type, name, default
      const std::size_t first = field.find(' '), second = field.find(' ', first + 1);
      std::string value = field.substr(second + 1);
      value = value.substr(value.find("::") == std::string::npos ? 0 : value.find("::") + 2);
      declared.push_back(field.substr(first + 1, second - first) + value);
    }
    std::sort(written.begin(), written.end());
    std::sort(declared.begin(), declared.end());
    CHECK(written == declared);
  }
  CHECK(pages == 7);
}

TEST_CASE("The page of operations has every function of a variable, and no other",
          "[docs][reference_pages]") {
  const auto headers = public_headers();
  const auto tables = tables_of(content(root() / "docs/operations.md"));
  int checked = 0;
  for (const auto& [name, text] : headers) {
    const std::string folder = name.parent_path();
    const bool complete = folder == "tape" || folder == "nn" || folder == "synapse";
    if (!complete && !tables.contains(name.string())) continue;
    Texts declared = operations_of(text), written;
    INFO(name);
    if (tables.contains(name.string())) {
      for (const Row& row : tables.at(name.string())) {
        REQUIRE(row.size() == 5);
        for (const std::string& call : quoted(row[0])) written.push_back(call);
      }
    }
    std::sort(declared.begin(), declared.end());
    std::sort(written.begin(), written.end());
    CHECK(written == declared);
    checked += static_cast<int>(declared.size());
  }
  CHECK(checked > 50);
  for (const auto& [heading, rows] : tables) {
    INFO(heading);
    CHECK((heading == "Members" || headers.contains(heading)));
  }

  for (const Row& row : tables.at("Members")) {
    const std::string call = quoted(row[0]).at(0);
    INFO(call);
    const std::size_t colons = call.find("::");
    const std::string owner = call.substr(0, colons);
    const std::string member = call.substr(colons + 2, call.find_last_of('(') - colons - 2);
    CHECK(std::any_of(headers.begin(), headers.end(), [&](const auto& header) {
      const std::regex declares("(class|struct) " + owner + " ");
      return std::regex_search(header.second, declares) && mentions(header.second, member + "(");
    }));
  }
}
