// Changes of safetensors files that leave them whole: libFuzzer alone hardly ever gets header,
// sizes and values to agree.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <random>
#include <string>

#include "plastic/io/safetensors.hpp"
#include "readers.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace plastic::fuzz {
namespace {

constexpr std::size_t longest_text = 64;

// The texts of settings that are more likely to matter than others of their length.
constexpr std::array<const char*, 24> texts{"0",
                                            "1",
                                            "-1",
                                            "2",
                                            "3",
                                            "16777216",
                                            "16777217",
                                            "4096",
                                            "1e15",
                                            "1e-300",
                                            "inf",
                                            "nan",
                                            "true",
                                            "false",
                                            "rnn",
                                            "lstm",
                                            "linear",
                                            "hebbian",
                                            "gradient",
                                            "none",
                                            "random",
                                            "conv4",
                                            "9223372036854775807",
                                            "-9223372036854775808"};

std::string mutated(std::string text, std::mt19937& random) {
  if (random() % 3 == 0) return texts[random() % texts.size()];
  const std::size_t size = std::min(text.size(), longest_text);
  text.resize(longest_text);
  text.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(text.data()), size, longest_text));
  return text;
}

template <class Map>
auto any_of(Map& map, std::mt19937& random) {
  return std::next(map.begin(), static_cast<std::ptrdiff_t>(random() % map.size()));
}

Tensor with_size(const Tensor& tensor, std::mt19937& random) {
  std::vector<Index> shape = tensor.shape();
  const Index size = static_cast<Index>(random() % 9);
  switch (random() % 4) {
    case 0:
      shape.push_back(size);
      break;
    case 1:
      if (!shape.empty()) shape.pop_back();
      break;
    default:
      if (!shape.empty()) shape[random() % shape.size()] = size;
  }
  Index count = 1;
  for (const Index side : shape) count *= side;
  if (count > 4096) return tensor;
  const DType other = tensor.dtype() == DType::F32 ? DType::F64 : DType::F32;
  Tensor result(random() % 8 == 0 ? other : tensor.dtype(), shape);
  const std::size_t bytes = std::min(result.bytes().size(), tensor.bytes().size());
  std::copy_n(tensor.bytes().begin(), bytes, result.bytes().begin());
  return result;
}

void mutate(TensorFile& file, std::mt19937& random) {
  const unsigned kind = random() % 8;
  if (kind < 4 && !file.metadata.empty()) {
    const auto text = any_of(file.metadata, random);
    if (kind > 0) {
      text->second = mutated(text->second, random);
    } else if (random() % 2 == 0) {
      file.metadata.erase(text);
    } else {
      file.metadata[mutated(text->first, random)] = text->second;
    }
  } else if (!file.tensors.empty()) {
    const auto tensor = any_of(file.tensors, random);
    if (kind < 6) {
      tensor->second = with_size(tensor->second, random);
    } else if (kind == 6) {
      const std::span<std::byte> bytes = tensor->second.bytes();
      auto* const data = reinterpret_cast<std::uint8_t*>(bytes.data());
      if (!bytes.empty()) LLVMFuzzerMutate(data, bytes.size(), bytes.size());
    } else if (random() % 2 == 0) {
      file.tensors.erase(tensor);
    } else {
      file.tensors[mutated(tensor->first, random)] = tensor->second;
    }
  }
}

std::size_t mutated_plainly(std::uint8_t* data, std::size_t size, std::size_t most,
                            std::mt19937& random) {
  size = LLVMFuzzerMutate(data, size, most);
  std::uint64_t length = 0;
  if (size < sizeof(length) || random() % 2 == 0) return size;
  // A header that goes on to its last brace.
  const auto* const end = std::find(std::make_reverse_iterator(data + size),
                                    std::make_reverse_iterator(data + sizeof(length)), '}')
                              .base();
  length = static_cast<std::uint64_t>(end - data) - sizeof(length);
  std::memcpy(data, &length, sizeof(length));
  return size;
}

}  // namespace
}  // namespace plastic::fuzz

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned seed) {
  using namespace plastic;
  std::mt19937 random(seed);
  if (random() % 4 > 0) {
    try {
      TensorFile file = parse_safetensors({reinterpret_cast<const std::byte*>(data), size});
      for (unsigned changes = 1 + random() % 3; changes > 0; --changes) fuzz::mutate(file, random);
      const std::string bytes = safetensors_bytes(file);
      if (bytes.size() <= most) {
        std::copy(bytes.begin(), bytes.end(), data);
        return bytes.size();
      }
    } catch (const std::exception&) {  // no whole file, or a text that is no longer UTF-8
    }
  }
  return fuzz::mutated_plainly(data, size, most, random);
}
