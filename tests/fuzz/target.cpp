// What libFuzzer calls, for the reader PLASTIC_FUZZ_READER. With the folder of the environment
// variable PLASTIC_FUZZ_SEEDS the program writes the reader's seeds there and ends.

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "readers.hpp"

namespace {

const plastic::fuzz::Reader& reader = plastic::fuzz::PLASTIC_FUZZ_READER;

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* const folder = std::getenv("PLASTIC_FUZZ_SEEDS");
  if (folder == nullptr) return 0;
  int number = 0;
  for (const std::string& seed : reader.seeds()) {
    std::ofstream file(std::filesystem::path(folder) / ("seed" + std::to_string(number++)),
                       std::ios::binary);
    file << seed << std::flush;
    if (!file) std::exit(1);
  }
  std::exit(0);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  plastic::fuzz::accepts(reader, {reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
