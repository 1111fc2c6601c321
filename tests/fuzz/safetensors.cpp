#include "plastic/io/safetensors.hpp"

#include <algorithm>

#include "readers.hpp"

namespace plastic::fuzz {
namespace {

void read(Bytes bytes) {
  const TensorFile file = parse_safetensors(bytes);
  const std::string written = safetensors_bytes(file);
  const TensorFile again = parse_safetensors(bytes_of(written));
  expect(again.metadata == file.metadata, "texts come back");
  expect(again.tensors.size() == file.tensors.size(), "all tensors come back");
  expect(again.others.size() == file.others.size(), "all tensors of other types come back");
  for (const auto& [name, tensor] : file.others) {
    const OtherTensor& other = again.others.at(name);
    expect(
        other.dtype == tensor.dtype && other.shape == tensor.shape && other.bytes == tensor.bytes,
        "bytes of other types come back");
  }
  for (const auto& [name, tensor] : file.tensors) {
    const Tensor& other = again.tensor(name);
    other.expect_shape(name, tensor.shape());
    expect(other.dtype() == tensor.dtype() && std::ranges::equal(other.bytes(), tensor.bytes()),
           "values come back");
  }
}

std::vector<std::string> seeds() {
  TensorFile file;
  std::vector<std::string> all{safetensors_bytes(file)};
  file.metadata = {{"cell", "rnn"}, {"\xC3\xA9\n\"", "\\"}};
  all.push_back(safetensors_bytes(file));
  file.tensors["a"] = Tensor(DType::F32, {2, 3});
  file.tensors["b"] = Tensor(DType::F64, {2});
  file.tensors["c"] = Tensor(DType::F32, {});
  file.tensors["d"] = Tensor(DType::F64, {4, 0, 9});
  all.push_back(safetensors_bytes(file));
  return all;
}

}  // namespace

const Reader safetensors{"safetensors", read, seeds};

}  // namespace plastic::fuzz
