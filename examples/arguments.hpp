#pragma once

#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

/// The command line of a small program: at most one argument, the number of its batches.
namespace examples {

/// Ends the program where --help asks what it does, and where there are arguments that it does not
/// take. `batches`, if given, are those of a program that takes their number.
inline int read_arguments(int argc, char** argv, std::string_view about,
                          std::optional<int> batches = {}) {
  constexpr int most = 1'000'000'000;
  const std::string name = std::filesystem::path(argc > 0 ? argv[0] : "").filename().string();
  const auto refuse = [&](const std::string& why) {
    std::cerr << name << ": " << why << "; --help explains the options\n";
    std::exit(1);
  };
  for (int i = 1; i < argc; ++i) {
    const std::string_view text = argv[i];
    if (text != "--help" && text != "-h") continue;
    std::cout << "Usage: " << name << (batches ? " [BATCHES]" : "") << "\n\n" << about << "\n";
    if (batches) {
      std::cout << "\n  BATCHES  number of training batches, 1 to " << most << "; " << *batches
                << " by default\n";
    }
    std::exit(0);
  }
  const int taken = batches ? 2 : 1;
  if (argc > taken) refuse("the argument \"" + std::string(argv[taken]) + "\" is not expected");
  int number = batches.value_or(0);
  if (argc > 1) {
    const std::string_view text = argv[1];
    const char* const end = text.data() + text.size();
    const auto [read, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc() || read != end || number < 1 || number > most) {
      refuse("BATCHES must be a whole number from 1 to " + std::to_string(most) + ", got \"" +
             std::string(text) + "\"");
    }
  }
  return number;
}

}  // namespace examples
