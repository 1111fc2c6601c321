#include "plastic/cells/compiled.hpp"
#include "plastic/cells/dispatch.hpp"
#include "plastic/cells/linear.hpp"
#include "plastic/io/model_file.hpp"
#include "readers.hpp"

namespace plastic::fuzz {
namespace {

void read(Bytes bytes) {
  const TensorFile file = parse_safetensors(bytes);
  const auto as = [&]<class Cell>(std::type_identity<Cell>) {
    const Cell cell = from_tensors<Cell>(file);
    const std::string written = to_bytes(cell);
    expect(to_bytes(from_bytes<Cell>(bytes_of(written))) == written, "a network comes back");
  };
  const std::string &cell = setting(file.metadata, "cell"), &rule = setting(file.metadata, "rule");
  if (cell == Linear::name) return as(std::type_identity<PlasticLinear<Hebbian, float>>());
  with_cell_type<float>(cell, rule, as);
}

std::vector<std::string> seeds() {
  CellOptions options{.inputs = 2, .hidden = 3, .outputs = 1, .extra = 1};
  std::vector<std::string> all;
  all.push_back(to_bytes(PlasticRNN<Hebbian, float>(options)));
  all.push_back(to_bytes(PlasticLinear<Hebbian, float>(options)));
  options.layer_norm = true;
  options.alpha_mode = AlphaMode::none;
  all.push_back(to_bytes(PlasticLSTM<Gradient, float>(options)));
  options.random_network = true;
  options.modulation = false;
  all.push_back(to_bytes(PlasticRNN<None, float>(options)));
  return all;
}

}  // namespace

const Reader model{"model", read, seeds};

}  // namespace plastic::fuzz
