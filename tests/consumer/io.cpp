#include <filesystem>

#include "plastic/io/checkpoint.hpp"
#include "plastic/io/model_file.hpp"
#include "plastic/plastic.hpp"

int main() {
  using Net = plastic::PlasticRNN<plastic::Hebbian, float>;
  const Net net({.inputs = 3, .hidden = 5});
  const std::filesystem::path path = "net.safetensors";
  plastic::write_safetensors(path, plastic::to_file(net));
  const Net read = plastic::from_file<Net>(plastic::read_safetensors(path));
  return read.parameters().values() == net.parameters().values() ? 0 : 1;
}
