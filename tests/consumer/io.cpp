#include <filesystem>

#include "plastic/io/checkpoint.hpp"
#include "plastic/io/model_file.hpp"
#include "plastic/plastic.hpp"

int main() {
  using Net = plastic::PlasticRNN<plastic::Hebbian, float>;
  const Net net({.inputs = 3, .hidden = 5});
  const std::filesystem::path path = "net.safetensors";
  plastic::save(path, net);
  const Net read = plastic::load<Net>(path);
  return read.parameters().values() == net.parameters().values() ? 0 : 1;
}
