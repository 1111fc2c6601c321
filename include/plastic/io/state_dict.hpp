#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "plastic/cells/compiled.hpp"
#include "plastic/io/model_file.hpp"

namespace plastic {
namespace detail {

/// Location of a parameter in a state dictionary.
struct StateDictEntry {
  std::string name;
  Index block;
  std::vector<Index> shape;
  bool outputs_first;  ///< whether the matrix is [outputs, inputs], transposed relative to memory
};

/// Prefix of the names of a layer's parameters. In the published code in_fc and out_fc are a
/// sequence of layer and activation, except with the Hebbian rule.
inline std::string state_dict_prefix(std::string_view layer, std::string_view rule) {
  const std::string name(layer);
  if (name == "h_fc" || name == "i_fc") return "rnn." + name;
  return rule == Hebbian::name ? name : name + ".0";
}

template <class Cell>
std::vector<StateDictEntry> state_dict_entries(const Cell& cell) {
  constexpr std::string_view rule = Cell::rule_name, kind = Cell::cell_name;
  static_assert(
      (rule == Gradient::name || rule == Hebbian::name || rule == NoPlasticity::name) &&
          (kind == Rnn::name || kind == Lstm::name || kind == FeatureRnn::name ||
           kind == FeatureLstm::name),
      "the published code has a state dictionary for the RNN and the LSTM with the rules Gradient, "
      "Hebbian and None, and for no other cell");
  const Parameters<typename Cell::ScalarType>& parameters = cell.parameters();
  std::vector<StateDictEntry> entries;
  const auto add = [&](std::string name, std::string_view block, bool outputs_first = false) {
    if (!parameters.contains(block)) return;  // A if it is fixed, layer norm if it is off
    const Index number = parameters.find(block);
    std::vector<Index> shape = file_shape(parameters.block(number));
    if (outputs_first) std::reverse(shape.begin(), shape.end());
    entries.push_back({std::move(name), number, std::move(shape), outputs_first});
  };
  for (const std::string& layer : cell.layer_names()) {
    const bool recurrent = layer == "h_fc" || layer == "i_fc";
    const std::string prefix = state_dict_prefix(layer, rule);
    if constexpr (Cell::plastic) {
      add(prefix + ".w.param", layer + ".weight");
      add(prefix + ".w.lr", layer + ".weight_alpha");
      add(prefix + ".b.param", layer + ".bias");
      add(prefix + ".b.lr", layer + ".bias_alpha");
    } else if (recurrent) {
      const std::string end = layer == "h_fc" ? "_hh" : "_ih";
      add("rnn.weight" + end, layer + ".weight", true);
      add("rnn.bias" + end, layer + ".bias");
    } else {
      add(prefix + ".weight", layer + ".weight", true);
      add(prefix + ".bias", layer + ".bias");
    }
  }
  add("out_weight", "out_scale");
  add("layernorm.weight", "layer_norm.weight");
  add("layernorm.bias", "layer_norm.bias");
  return entries;
}

}  // namespace detail

/// A cell's parameters under the names and in the shapes of the published PyTorch code, for its
/// `load_state_dict`; the settings go into the file's metadata.
///
/// `in_fc.0.w.param` [inputs, outputs] is W, `in_fc.0.w.lr` is A, `in_fc.0.b.param` [outputs] is b,
/// `in_fc.0.b.lr` is a, likewise `out_fc.0` and, without the 0, `rnn.h_fc` and `rnn.i_fc`; with the
/// Hebbian rule `in_fc` and `out_fc` are without the 0 too. `out_weight` is out_scale,
/// `layernorm.weight` the gain. Rule None: `in_fc.0.weight` [outputs, inputs], `in_fc.0.bias`,
/// `rnn.weight_ih`, `rnn.bias_hh` and so on, those of torch.nn.RNNCell and LSTMCell.
///
/// Cost: a copy of the parameters. Cells and rules that the published code lacks do not compile.
/// Source: Duan et al., ICLR 2023, github.com/yuvenduan/PlasticRNNs.
template <class Cell>
TensorFile to_state_dict(const Cell& cell) {
  using Scalar = typename Cell::ScalarType;
  TensorFile file;
  file.metadata = settings_of(cell);
  for (const detail::StateDictEntry& entry : detail::state_dict_entries(cell)) {
    Matrix<Scalar> value = cell.parameters().matrix(entry.block);
    if (entry.outputs_first) value.transposeInPlace();
    file.tensors[entry.name] = Tensor::from<Scalar>(entry.shape, value.data());
  }
  return file;
}

/// The cell whose parameters are in a state dictionary of the published PyTorch code, saved as
/// safetensors; names and shapes as in to_state_dict.
///
/// A state dictionary holds no settings: `options` are those that the network was made with. Note
/// that the published code averages the inner loss over the batch, so that `inner_scale` is 1 over
/// its batch size. A feature cell is what follows the convolutional network of `CNNtoRNN`: the
/// tensors `cnn.*` and `proj.*` are then ignored.
///
/// Throws std::invalid_argument on a setting out of its range, and naming a tensor that is missing,
/// unknown, or of another type or shape than cell and settings say.
template <class Cell>
Cell from_state_dict(const TensorFile& file, const CellOptions& options) {
  using Scalar = typename Cell::ScalarType;
  constexpr bool behind_encoder =
      Cell::cell_name == FeatureRnn::name || Cell::cell_name == FeatureLstm::name;
  // Checked before the cell allocates memory for the sizes that the settings claim.
  for (const LayerShape& layer : Cell::layer_shapes(options)) {
    const std::string prefix = detail::state_dict_prefix(layer.name, Cell::rule_name);
    const bool of_torch = !Cell::plastic;
    const std::string name = !of_torch              ? prefix + ".w.param"
                             : prefix == "rnn.h_fc" ? "rnn.weight_hh"
                             : prefix == "rnn.i_fc" ? "rnn.weight_ih"
                                                    : prefix + ".weight";
    std::vector<Index> shape{layer.inputs, layer.outputs};
    if (of_torch) std::reverse(shape.begin(), shape.end());
    file.tensor(name).expect_shape(name, shape);
  }
  Cell cell(options);
  const std::vector<detail::StateDictEntry> entries = detail::state_dict_entries(cell);
  for (const detail::StateDictEntry& entry : entries) {
    const Scalar* values = file.values<Scalar>(entry.name, entry.shape).data();
    MatrixMap<Scalar> to = cell.parameters().matrix(entry.block);
    if (entry.outputs_first) {
      to = ConstMatrixMap<Scalar>(values, to.cols(), to.rows()).transpose();
    } else {
      to = ConstMatrixMap<Scalar>(values, to.rows(), to.cols());
    }
  }
  const auto expect_known = [&](const std::string& name) {
    const bool known =
        std::any_of(entries.begin(), entries.end(),
                    [&name = name](const auto& entry) { return entry.name == name; });
    const bool encoder = name.starts_with("cnn.") || name.starts_with("proj.");
    if (!known && !(behind_encoder && encoder)) {
      detail::reject("from_state_dict", "every tensor",
                     "a parameter of the cell that its settings describe", name);
    }
  };
  for (const auto& [name, tensor] : file.tensors) expect_known(name);
  for (const auto& [name, other] : file.others) expect_known(name);
  return cell;
}

}  // namespace plastic
