#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plastic/cells/cell.hpp"
#include "plastic/io/safetensors.hpp"
#include "plastic/tasks/episodes.hpp"

namespace plastic {
namespace detail {

/// Shape of a block in a file: a weight is [inputs, outputs], row-major as in memory; a column is
/// [size].
inline std::vector<Index> file_shape(const ParameterBlock& block) {
  if (block.vector) return {block.rows};
  if (block.cols == 1 && !block.name.starts_with("rule.") &&
      !block.name.ends_with(".weight_alpha") &&
      (!block.name.ends_with(".weight") || block.name.ends_with("norm.weight"))) {
    return {block.rows};
  }
  return {block.cols, block.rows};
}

}  // namespace detail

/// Adds a vector of the parameters' layout (values, a gradient) to a file, a tensor per block,
/// named PREFIX.BLOCK.
template <class Scalar>
void add_tensors(TensorFile& file, const std::string& prefix, const Parameters<Scalar>& parameters,
                 const Vector<Scalar>& values) {
  for (const ParameterBlock& block : parameters.blocks()) {
    file.tensors[prefix + "." + block.name] =
        Tensor::from<Scalar>(detail::file_shape(block), values.data() + block.offset);
  }
}

/// The inverse: a vector of the parameters' layout from the tensors PREFIX.BLOCK. Throws
/// std::invalid_argument naming a tensor that is missing, or of another type or shape.
template <class Scalar>
Vector<Scalar> read_tensors(const TensorFile& file, const std::string& prefix,
                            const Parameters<Scalar>& parameters) {
  Vector<Scalar> result = Vector<Scalar>::Zero(parameters.size());
  for (const ParameterBlock& block : parameters.blocks()) {
    const auto values = file.values<Scalar>(prefix + "." + block.name, detail::file_shape(block));
    std::copy(values.begin(), values.end(), result.data() + block.offset);
  }
  return result;
}

namespace detail {

/// Adds zeros for the biases that the file of a published network lacks.
template <class Scalar>
void add_absent_biases(TensorFile& file, const Parameters<Scalar>& parameters) {
  for (const ParameterBlock& block : parameters.blocks()) {
    const std::string name = "param." + block.name;
    if (!block.name.ends_with(".bias") || file.tensors.contains(name)) continue;
    const Vector<Scalar> zeros = Vector<Scalar>::Zero(block.size());
    file.tensors[name] = Tensor::from<Scalar>(file_shape(block), zeros.data());
  }
}

}  // namespace detail

/// A cell's settings and parameters (param.LAYER.weight and so on), as files hold them.
template <class Dynamics, class Rule, class Scalar>
TensorFile to_tensors(const PlasticCell<Dynamics, Rule, Scalar>& cell) {
  TensorFile file;
  file.metadata = settings_of(cell);
  add_tensors(file, "param", cell.parameters(), cell.parameters().values());
  return file;
}

/// The cell that a file describes. Throws std::invalid_argument if the file is of another cell,
/// rule or number type, or if a tensor param.* is missing, unknown or of another shape than the
/// settings say. Other tensors in the file are ignored. A CellModel's file may lack biases, which
/// are then zero.
template <class Cell>
Cell from_tensors(const TensorFile& file) {
  using Scalar = typename Cell::ScalarType;
  if (file.tensors.contains("state.0") && file.metadata.contains("samples")) {
    detail::reject("from_tensors", "the file", "that of a network (save)",
                   "that of a state (load_state reads it)");
  }
  const auto expect = [&](const std::string& name, std::string_view expected) {
    const std::string& got = setting(file.metadata, name);
    if (got != expected) {
      detail::reject("from_tensors", "\"" + name + "\" of the file", expected,
                     got + ": with_cell_type makes the cell that a file names");
    }
  };
  expect("cell", Cell::cell_name);
  expect("rule", Cell::rule_name);
  const auto options = detail::options_from<typename Cell::Options>(file.metadata);
  // Checked before the cell allocates memory for the sizes that the settings claim.
  for (const LayerShape& layer : Cell::layer_shapes(options)) {
    const std::string name = "param." + std::string(layer.name) + ".weight";
    file.tensor(name).expect_shape(name, {layer.inputs, layer.outputs});
  }
  Cell cell(options);
  Parameters<Scalar>& parameters = cell.parameters();
  if constexpr (Cell::is_model) {
    TensorFile whole = file;
    detail::add_absent_biases<Scalar>(whole, parameters);
    parameters.values() = read_tensors(whole, "param", parameters);
  } else {
    parameters.values() = read_tensors(file, "param", parameters);
  }
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with("param.") && !parameters.contains(name.substr(6))) {
      detail::reject("from_tensors", "every param.* tensor", "a parameter of the cell", name);
    }
  }
  return cell;
}

/// Writes a cell to a file, whole or not at all; `load` reads it. Throws as write_safetensors does.
///
///     save("net.safetensors", net);
///     auto same = load<PlasticRNN<Hebbian, float>>("net.safetensors");
template <class Dynamics, class Rule, class Scalar>
void save(const std::filesystem::path& path, const PlasticCell<Dynamics, Rule, Scalar>& cell) {
  write_safetensors(path, to_tensors(cell));
}

/// The cell that a file holds, bit for bit. Throws std::runtime_error if the file cannot be read,
/// and std::invalid_argument as from_tensors does.
template <class Cell>
Cell load(const std::filesystem::path& path) {
  return from_tensors<Cell>(read_safetensors(path));
}

/// The bytes that `save` writes, in memory.
template <class Dynamics, class Rule, class Scalar>
std::string to_bytes(const PlasticCell<Dynamics, Rule, Scalar>& cell) {
  return safetensors_bytes(to_tensors(cell));
}

/// The cell in the bytes of a file, which may lie at any address: a program can have its weights
/// compiled in. Throws std::runtime_error if the bytes are not a safetensors file, and
/// std::invalid_argument as from_tensors does.
///
///     // xxd -i net.safetensors > net.inc     (unsigned char net_safetensors[] = {0x98, ...};)
///     #include "net.inc"
///     auto net = from_bytes<PlasticRNN<Hebbian,
///     float>>(std::as_bytes(std::span(net_safetensors)));
template <class Cell>
Cell from_bytes(std::span<const std::byte> bytes) {
  return from_tensors<Cell>(parse_safetensors(bytes));
}

/// Converts sequences [samples, steps, features] of a file to a matrix features x (steps *
/// samples), column t * samples + s. values: samples * steps * features numbers, row-major.
template <class Scalar>
Matrix<Scalar> sequences_from(std::span<const Scalar> values, Index samples, Index steps,
                              Index features) {
  Matrix<Scalar> matrix(features, steps * samples);
  for (Index s = 0; s < samples; ++s) {
    for (Index t = 0; t < steps; ++t) {
      matrix.col(t * samples + s) =
          ConstMatrixMap<Scalar>(values.data() + (s * steps + t) * features, features, 1);
    }
  }
  return matrix;
}

/// The inverse. `squeeze` omits the last dimension if there is one feature.
template <class Scalar>
Tensor sequences_to(const Matrix<Scalar>& matrix, Index samples, bool squeeze = false) {
  const Index features = matrix.rows();
  const Index steps = matrix.cols() / samples;
  std::vector<Index> shape{samples, steps, features};
  if (squeeze) shape.pop_back();
  Tensor tensor(dtype_of<Scalar>(), shape);
  const auto values = tensor.values<Scalar>();
  for (Index s = 0; s < samples; ++s) {
    for (Index t = 0; t < steps; ++t) {
      MatrixMap<Scalar>(values.data() + (s * steps + t) * features, features, 1) =
          matrix.col(t * samples + s);
    }
  }
  return tensor;
}

/// Adds episodes to a model's file as the tensors `input` and `target` [samples, steps, features],
/// with the settings `batch` and `steps`, so that the program `replay` can run it.
template <class Scalar>
void add_episodes(TensorFile& file, const Episodes<Scalar>& episodes, Index samples) {
  using detail::number_text;
  file.metadata["batch"] = number_text(samples);
  file.metadata["steps"] = number_text(episodes.inputs.cols() / samples);
  file.tensors["input"] = sequences_to(episodes.inputs, samples);
  file.tensors["target"] = sequences_to(episodes.targets, samples);
}

/// `save` with the first `samples` episodes of the task's test set, so that the program `replay`
/// can run the file, where the cell is an RNN or an LSTM with a rule of the library. Also throws
/// std::invalid_argument if task and cell disagree on the number of inputs or outputs.
template <class Dynamics, class Rule, class Scalar, class TaskType>
void save(const std::filesystem::path& path, const PlasticCell<Dynamics, Rule, Scalar>& cell,
          const TaskType& task, Index samples = 8) {
  detail::check_positive("save", "samples", samples);
  Episodes<Scalar> episodes;
  task.generate({0, Random::Purpose::test}, 0, 0, samples, episodes);
  const auto check = [&](std::string_view what, const auto& matrix, Index rows) {
    detail::check_shape("save", what, matrix, rows, episodes.inputs.cols());
  };
  check("the task's inputs", episodes.inputs, cell.options().inputs);
  check("the task's targets", episodes.targets, cell.options().outputs);
  TensorFile file = to_tensors(cell);
  add_episodes(file, episodes, samples);
  write_safetensors(path, file);
}

}  // namespace plastic
