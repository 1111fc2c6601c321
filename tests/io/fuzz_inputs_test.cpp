// Inputs that fuzzing has found (./dev fuzz), and those with which it begins. A wrong exception, a
// crash or a size that memory does not have shows here; what only a sanitizer sees, in ./dev asan.

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

#include "fuzz/readers.hpp"

namespace {

namespace fs = std::filesystem;
using namespace plastic::fuzz;

const Reader* const readers[] = {&checkpoint,  &cifar100,    &csv,          &experiment,
                                 &image_file,  &image_model, &image_splits, &model,
                                 &safetensors, &settings,    &state,        &state_dict};

}  // namespace

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
