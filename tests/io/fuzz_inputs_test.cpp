// Inputs that fuzzing has found (./dev fuzz), those with which it begins, and five seconds of
// random changes of them. A wrong exception, a crash or a size that memory does not have shows
// here; what only a sanitizer sees, in ./dev asan.

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "fuzz/readers.hpp"
#include "plastic/core/random.hpp"

namespace {

namespace fs = std::filesystem;
using namespace plastic::fuzz;

const Reader* const readers[] = {&checkpoint,  &cifar100,    &csv,          &experiment,
                                 &image_file,  &image_model, &image_splits, &model,
                                 &safetensors, &settings,    &state,        &state_dict};

// One to eight changes: a bit, a byte, a run of bytes that is removed, repeated or taken from
// another input.
std::string changed(std::string input, const std::string& other, plastic::Random& random) {
  const auto place = [&](const std::string& text) {
    return std::size_t{random.below(static_cast<std::uint32_t>(text.size()))};
  };
  for (std::uint32_t k = 1 + random.below(8); k > 0 && !input.empty(); --k) {
    const std::size_t at = place(input);
    const std::size_t length = 1 + std::size_t{random.below(32)};
    switch (random.below(5)) {
      case 0:
        input[at] = static_cast<char>(input[at] ^ (1 << random.below(8)));
        break;
      case 1:
        input[at] = static_cast<char>(random.below(256));
        break;
      case 2:
        input.erase(at, length);
        break;
      case 3:
        input.insert(at, input.substr(place(input), length));
        break;
      default:
        if (!other.empty()) input.replace(at, length, other.substr(place(other), length));
    }
  }
  return input;
}

}  // namespace

TEMPLATE_TEST_CASE_SIG("Five seconds of changed inputs are read or refused by the reader",
                       "[io][fuzz_inputs]", ((std::size_t N), N), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
                       11) {
  const Reader& reader = *readers[N];
  INFO(reader.name);
  std::vector<std::string> inputs = reader.seeds();
  const fs::path kept = fs::path(PLASTIC_TEST_DATA) / "fuzz" / reader.name;
  if (fs::exists(kept)) {
    for (const auto& file : fs::directory_iterator(kept)) inputs.push_back(file_content(file));
  }
  plastic::Random random({7, plastic::Random::Purpose::test}, 0, N);
  const auto choose = [&]() -> const std::string& {
    return inputs[random.below(static_cast<std::uint32_t>(inputs.size()))];
  };
  const fs::path finding = fs::temp_directory_path() / ("finding_of_" + std::string(reader.name));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  int accepted = 0, refused = 0;
  while (std::chrono::steady_clock::now() < end) {
    const std::string input = changed(choose(), choose(), random);
    try {
      const bool good = accepts(reader, bytes_of(input));
      ++(good ? accepted : refused);
      if (good && inputs.size() < 500) inputs.push_back(input);
    } catch (...) {
      std::ofstream(finding, std::ios::binary) << input;
      INFO("the input is in " << finding);
      throw;
    }
  }
  CHECK(accepted + refused > 10);
  CHECK(refused > 0);
}

TEST_CASE("What fuzzing has found is read or refused, and nothing worse", "[io][fuzz_inputs]") {
  int inputs = 0;
  for (const auto& folder : fs::directory_iterator(fs::path(PLASTIC_TEST_DATA) / "fuzz")) {
    const Reader* of_folder = nullptr;
    for (const Reader* reader : readers) {
      if (folder.path().filename() == reader->name) of_folder = reader;
    }
    INFO(folder.path());
    REQUIRE(of_folder != nullptr);
    for (const auto& input : fs::directory_iterator(folder)) {
      INFO(input.path());
      CHECK_NOTHROW(accepts(*of_folder, bytes_of(file_content(input.path()))));
      ++inputs;
    }
  }
  CHECK(inputs > 10);
}

TEST_CASE("What fuzzing begins with is read", "[io][fuzz_inputs]") {
  for (const Reader* reader : readers) {
    INFO(reader->name);
    int number = 0;
    for (const std::string& seed : reader->seeds()) {
      INFO("seed " << number++);
      CHECK_NOTHROW(reader->read(bytes_of(seed)));
    }
  }
}

TEST_CASE("A list of runs with values deep inside values is refused", "[io][fuzz_inputs]") {
  // More levels than a stack can take; as an input file it would be too large.
  const std::string begin = R"({"name": "", "title": "", "runs": [{"folder": "", "settings": )";
  const std::string open(200000, '['), close(200000, ']');
  for (const std::string& run : {R"({"batches": 1, "x": )" + open + close + "}}",
                                 R"({"batches": 1}, "x": )" + open + close + "}"}) {
    CHECK_THROWS_AS(experiment.read(bytes_of(begin + run + "]}")), std::runtime_error);
  }
}
