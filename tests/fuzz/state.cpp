#include "plastic/cells/compiled.hpp"
#include "plastic/cells/linear.hpp"
#include "plastic/io/state_file.hpp"
#include "readers.hpp"

namespace plastic::fuzz {
namespace {

const CellOptions options{.inputs = 2, .hidden = 3, .outputs = 1, .extra = 1};

template <class Cell>
void read_as(const TensorFile& file) {
  static const Cell cell(options);
  CellState<float> state = state_from_tensors(cell, file);
  const std::string written = safetensors_bytes(to_tensors(cell, state));
  CellState<float> again = state_from_tensors(cell, parse_safetensors(bytes_of(written)));
  expect(safetensors_bytes(to_tensors(cell, again)) == written, "a state comes back");
  // One kind of cell is enough to see that a run can continue from any state.
  if constexpr (std::is_same_v<Cell, PlasticRNN<Hebbian, float>>) {
    const Matrix<float> x = Matrix<float>::Constant(options.inputs, state.samples(), 0.5f);
    for (int t = 0; t < 3; ++t) cell.step(state, x);
    cell.reset_sample(state, 0);
    to_tensors(cell, state);
  }
}

void read(Bytes bytes) {
  const TensorFile file = parse_safetensors(bytes);
  const std::string &cell = setting(file.metadata, "cell"), &rule = setting(file.metadata, "rule");
  if (cell == Lstm::name) return read_as<PlasticLSTM<Gradient, float>>(file);
  if (cell == Linear::name && rule == None::name) return read_as<PlasticLinear<None, float>>(file);
  if (cell == Linear::name) return read_as<PlasticLinear<Hebbian, float>>(file);
  read_as<PlasticRNN<Hebbian, float>>(file);
}

template <class Cell>
std::string seed(int steps, Index samples) {
  const Cell cell(options);
  CellState<float> state = cell.initial_state(samples);
  if constexpr (std::is_same_v<Cell, PlasticRNN<Hebbian, float>>) {
    for (int t = 0; t < steps; ++t) {
      cell.step(state, Matrix<float>::Constant(options.inputs, samples, 0.25f));
    }
  }
  return safetensors_bytes(to_tensors(cell, state));
}

std::vector<std::string> seeds() {
  return {seed<PlasticRNN<Hebbian, float>>(0, 1), seed<PlasticRNN<Hebbian, float>>(5, 2),
          seed<PlasticLSTM<Gradient, float>>(0, 2), seed<PlasticLinear<None, float>>(0, 1),
          seed<PlasticLinear<Hebbian, float>>(0, 1)};
}

}  // namespace

const Reader state{"state", read, seeds};

}  // namespace plastic::fuzz
