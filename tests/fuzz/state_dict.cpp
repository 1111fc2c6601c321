#include "plastic/io/state_dict.hpp"

#include "plastic/cells/dispatch.hpp"
#include "readers.hpp"

namespace plastic::fuzz {
namespace {

void read(Bytes bytes) {
  const TensorFile file = parse_safetensors(bytes);
  with_layered_cell_type<float>(
      setting(file.metadata, "cell"), setting(file.metadata, "rule"),
      [&]<class Cell>(std::type_identity<Cell>) {
        const CellOptions options = from_settings(file.metadata);
        const TensorFile written = to_state_dict(from_state_dict<Cell>(file, options));
        const TensorFile again = to_state_dict(from_state_dict<Cell>(written, options));
        expect(safetensors_bytes(written) == safetensors_bytes(again), "a network comes back");
      });
}

std::vector<std::string> seeds() {
  CellOptions options{.inputs = 2, .hidden = 3, .outputs = 1, .extra = 1};
  std::vector<std::string> all;
  const auto add = [&](const auto& cell) { all.push_back(safetensors_bytes(to_state_dict(cell))); };
  add(PlasticRNN<Hebbian, float>(options));
  options.layer_norm = true;
  options.alpha_mode = AlphaMode::none;
  add(PlasticLSTM<Gradient, float>(options));
  options.modulation = false;
  add(PlasticRNN<None, float>(options));
  return all;
}

}  // namespace

const Reader state_dict{"state_dict", read, seeds};

}  // namespace plastic::fuzz
