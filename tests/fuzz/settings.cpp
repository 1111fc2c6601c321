#include "plastic/core/settings.hpp"

#include <sstream>

#include "experiments/settings.hpp"
#include "plastic/cells/options.hpp"
#include "readers.hpp"

namespace plastic::fuzz {
namespace {

// Lines "NAME TEXT".
void read(Bytes bytes) {
  Settings settings;
  std::istringstream lines{std::string(text_of(bytes))};
  for (std::string line; std::getline(lines, line);) {
    const std::size_t space = line.find(' ');
    if (space != std::string::npos) settings[line.substr(0, space)] = line.substr(space + 1);
  }
  if (const auto task = settings.find("task"); task != settings.end()) {
    experiments::make_task({.task = task->second});
    return;
  }
  const Settings written = to_settings(from_settings(settings));
  expect(to_settings(from_settings(written)) == written, "settings come back");
}

std::vector<std::string> seeds() {
  std::string text;
  for (const auto& [name, value] : to_settings(CellOptions())) text += name + " " + value + "\n";
  return {text, "task cue_reward + 2 sequence_reproduction\n",
          "task linear_regression + 0.5 mlp_regression\n"};
}

}  // namespace

const Reader settings{"settings", read, seeds};

}  // namespace plastic::fuzz
