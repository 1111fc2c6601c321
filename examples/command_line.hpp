#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstddef>
#include <string>
#include <system_error>
#include <vector>

/// Options of programs whose help and messages are plain words.
namespace examples {

/// Makes an option take whole numbers from `low` to `high`.
inline CLI::Option* takes_number(CLI::Option* option, long long low, long long high) {
  const std::string range = std::to_string(low) + " to " + std::to_string(high);
  option->type_name("NUMBER (" + range + ")");
  return option->check(
      [range, low, high](const std::string& text) {
        long long number = 0;
        const char* const end = text.data() + text.size();
        const auto [read, error] = std::from_chars(text.data(), end, number);
        const bool inside = error == std::errc() && read == end && number >= low && number <= high;
        return inside ? "" : "must be a whole number from " + range + ", got " + text;
      },
      "");
}

/// Makes an option take one of some words.
inline CLI::Option* takes_word(CLI::Option* option, const std::vector<std::string>& words) {
  std::string all;
  for (std::size_t k = 0; k < words.size(); ++k) {
    all += (k == 0 ? "" : k + 1 < words.size() ? ", " : " or ") + words[k];
  }
  option->type_name("WORD (" + all + ")");
  return option->check(
      [all, inside = CLI::IsMember(words)](const std::string& text) {
        return inside(text).empty() ? "" : "must be " + all + ", got " + text;
      },
      "");
}

/// Makes the program say in one line what is wrong with its arguments.
inline void say_in_one_line(CLI::App& app, const std::string& name) {
  app.name(name);
  app.failure_message([name](const CLI::App*, const CLI::Error& error) {
    return name + ": " + error.what() + "; --help explains the options\n";
  });
}

}  // namespace examples
