#pragma once

#include <algorithm>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "plastic/cells/cell.hpp"
#include "plastic/io/safetensors.hpp"

namespace plastic {
namespace detail {

/// Access to the parts of a state that a file needs and the public interface lacks.
struct CellStateAccess {
  /// A copy that refers to the cell's parameters where they are now.
  template <class Cell, class Scalar>
  static CellState<Scalar> copy(std::string_view function, const Cell& cell,
                                const CellState<Scalar>& state) {
    cell.check_owner(function, state.episode_);
    CellState<Scalar> result = state;
    cell.refresh_parameters(result.episode_);
    return result;
  }

  /// All values of a state, sample by sample.
  template <class Scalar>
  struct Numbers {
    std::vector<Matrix<Scalar>> states;                 // hidden x samples
    std::vector<std::vector<FastSample<Scalar>>> fast;  // by layer and sample
    std::vector<std::vector<Matrix<Scalar>>> matrices;  // of a CellModel, likewise
    Index updates = 0;  // updates of the fast weights since the state was zero
  };

  template <class Cell, class Scalar>
  static Numbers<Scalar> numbers(const Cell&, const CellState<Scalar>& state) {
    Numbers<Scalar> all;
    for (std::size_t k = 0; k < Cell::states; ++k) all.states.push_back(state.state(k));
    for (std::size_t k = 0; k < state.matrices_; ++k) {
      auto& samples = all.matrices.emplace_back();
      for (Index s = 0; s < state.samples(); ++s) samples.push_back(state.matrix(k, s));
    }
    if constexpr (Cell::has_fast_layers) {
      all.updates = state.synapse(0).version();
      for (std::size_t l = 0; l < state.layers_; ++l) {
        auto& layer = all.fast.emplace_back();
        for (Index s = 0; s < state.samples(); ++s) {
          layer.push_back(state.synapse(l).fast_sample(s));
        }
      }
    }
    return all;
  }

  template <class Scalar>
  static void set(CellState<Scalar>& state, const Numbers<Scalar>& all) {
    for (std::size_t k = 0; k < all.states.size(); ++k) state.state(k) = all.states[k];
    for (std::size_t k = 0; k < all.matrices.size(); ++k) {
      for (Index s = 0; s < state.samples(); ++s) {
        state.set_matrix(k, s, all.matrices[k][static_cast<std::size_t>(s)]);
      }
    }
    for (std::size_t l = 0; l < all.fast.size(); ++l) {
      for (Index s = 0; s < state.samples(); ++s) {
        state.synapse(l).set_fast_sample(s, all.fast[l][static_cast<std::size_t>(s)]);
      }
      state.synapse(l).resume(all.updates);
    }
  }
};

/// Calls f(name, shape, part) for every tensor of a state; part(numbers, s) is a view of sample s's
/// part of it.
template <class Cell, class F>
void for_state_tensors(const Cell& cell, Index samples, F&& f) {
  using Shape = std::vector<Index>;
  const Index hidden = cell.options().hidden;
  for (std::size_t k = 0; k < Cell::states; ++k) {
    f("state." + std::to_string(k), Shape{samples, hidden},
      [k](auto& all, Index s) { return all.states[k].col(s); });
  }
  const std::vector<MatrixShape> matrices = Cell::matrix_shapes(cell.options());
  for (std::size_t k = 0; k < matrices.size(); ++k) {
    f(
        "fast." + matrices[k].layer + "." + matrices[k].name,
        Shape{samples, matrices[k].inputs, matrices[k].outputs}, [k](auto& all, Index s) -> auto& {
          return all.matrices[k][static_cast<std::size_t>(s)];
        });
  }
  if constexpr (Cell::has_fast_layers) {
    const std::vector<LayerShape> layers = Cell::layer_shapes(cell.options());
    for (std::size_t l = 0; l < layers.size(); ++l) {
      const std::string name = "fast." + std::string(layers[l].name);
      const auto sample = [l](auto& all, Index s) -> auto& {
        return all.fast[l][static_cast<std::size_t>(s)];
      };
      f(
          name + ".weight", Shape{samples, layers[l].inputs, layers[l].outputs},
          [sample](auto& all, Index s) -> auto& { return sample(all, s).weight; });
      f(
          name + ".bias", Shape{samples, layers[l].outputs}, [sample](auto& all, Index s) -> auto& {
            return sample(all, s).bias;
          });
      f(name + ".scale", Shape{samples, 1}, [sample](auto& all, Index s) {
        return Eigen::Map<Vector<double>>(&sample(all, s).scale, 1);
      });
    }
  }
}

/// One sample of a tensor [samples, size] or [samples, inputs, outputs] in memory.
template <class Map, class Values>
Map sample_in(const Values& values, const std::vector<Index>& shape, Index sample) {
  const Index rows = shape.back();
  const Index cols = shape.size() == 3 ? shape[1] : 1;
  return {values.data() + sample * rows * cols, rows, cols};
}

/// Scalar type of the view that `part` returns.
template <class Part, class Numbers>
using PartScalar =
    typename std::remove_cvref_t<std::invoke_result_t<const Part&, Numbers&, Index>>::Scalar;

}  // namespace detail

/// A live state as files hold it: the settings of its cell, the metadata `samples` and `updates`
/// (number of updates of the fast weights so far, which determines the order of summation), and the
/// tensors state.K [samples, hidden], fast.LAYER.weight [samples, inputs, outputs], fast.LAYER.bias
/// [samples, outputs] and fast.LAYER.scale [samples, 1], in double: the fast weights are scale *
/// weight and scale * bias, as FastSample keeps them. A CellModel's file has fast.LAYER.NAME for
/// each fast matrix instead, and no `updates`. A pending update is applied in the file, not
/// in `state`. Throws std::invalid_argument unless it is a state of `net`.
template <class Dynamics, class Rule, class Scalar>
TensorFile to_tensors(const PlasticCell<Dynamics, Rule, Scalar>& net,
                      const CellState<Scalar>& state) {
  CellState<Scalar> now = detail::CellStateAccess::copy("to_tensors", net, state);
  const Index samples = now.samples();
  TensorFile file;
  file.metadata = settings_of(net);
  file.metadata["samples"] = detail::number_text(samples);
  auto numbers = detail::CellStateAccess::numbers(net, now);
  if constexpr (PlasticCell<Dynamics, Rule, Scalar>::has_fast_layers)
    file.metadata["updates"] = detail::number_text(numbers.updates);
  detail::for_state_tensors(
      net, samples,
      [&]<class Part>(const std::string& name, const std::vector<Index>& shape, const Part& part) {
        using Number = detail::PartScalar<Part, decltype(numbers)>;
        Tensor& tensor = file.tensors[name] = Tensor(dtype_of<Number>(), shape);
        const auto values = tensor.values<Number>();
        for (Index s = 0; s < samples; ++s) {
          detail::sample_in<MatrixMap<Number>>(values, shape, s) = part(numbers, s);
        }
      });
  return file;
}

/// The state of `net` that a file describes: with the parameters that `net` had then, every further
/// step gives the same bits as from the saved state. Throws std::invalid_argument naming a setting
/// of the file that is missing or not that of `net` (cell, rule, and all options), and a tensor
/// that is missing, unknown, or of another type or shape. Other tensors than state.* and fast.* are
/// ignored.
template <class Dynamics, class Rule, class Scalar>
CellState<Scalar> state_from_tensors(const PlasticCell<Dynamics, Rule, Scalar>& net,
                                     const TensorFile& file) {
  constexpr std::string_view here = "state_from_tensors";
  if (!file.metadata.contains("samples") && !file.tensors.contains("state.0")) {
    const bool network = std::any_of(file.tensors.begin(), file.tensors.end(), [](const auto& one) {
      return one.first.starts_with("param.");
    });
    detail::reject(here, "the file", "that of a state (save_state)",
                   network ? "that of a network (load reads it)" : "another one");
  }
  for (const auto& [name, expected] : settings_of(net)) {
    const std::string& got = setting(file.metadata, name);
    if (got != expected) {
      detail::reject(here, "\"" + name + "\" of the file", expected + ", as in the cell", got);
    }
  }
  const auto samples = detail::number_setting<Index>(file.metadata, "samples");
  detail::check_positive(here, "\"samples\" of the file", samples);
  // Everything is checked before the state allocates memory for the samples that the file claims.
  std::vector<std::string> known;
  using Numbers = detail::CellStateAccess::Numbers<Scalar>;
  detail::for_state_tensors(
      net, samples,
      [&]<class Part>(const std::string& name, const std::vector<Index>& shape, const Part&) {
        file.values<detail::PartScalar<Part, Numbers>>(name, shape);
        known.push_back(name);
      });
  for (const auto& [name, tensor] : file.tensors) {
    if ((name.starts_with("state.") || name.starts_with("fast.")) &&
        std::find(known.begin(), known.end(), name) == known.end()) {
      detail::reject(here, "every state.* and fast.* tensor", "one of the cell's", name);
    }
  }
  Index updates = 0;
  if constexpr (PlasticCell<Dynamics, Rule, Scalar>::has_fast_layers) {
    updates = detail::number_setting<Index>(file.metadata, "updates");
    constexpr int bits = std::numeric_limits<Index>::digits - 1;
    if (updates < 0 || updates > Index{1} << bits) {
      detail::reject(here, "\"updates\" of the file", "in 0 .. 2^" + std::to_string(bits), updates);
    }
  }
  CellState<Scalar> state = net.initial_state(samples);
  Numbers numbers = detail::CellStateAccess::numbers(net, state);
  numbers.updates = updates;
  detail::for_state_tensors(
      net, samples,
      [&]<class Part>(const std::string& name, const std::vector<Index>& shape, const Part& part) {
        using Number = detail::PartScalar<Part, Numbers>;
        const auto values = file.values<Number>(name, shape);
        for (Index s = 0; s < samples; ++s) {
          part(numbers, s) = detail::sample_in<ConstMatrixMap<Number>>(values, shape, s);
        }
      });
  detail::CellStateAccess::set(state, numbers);
  return state;
}

/// Writes a live state to a file, whole or not at all, so that another process can continue from
/// it. The parameters are not in it. Throws as to_tensors and write_safetensors do.
///
///     save_state("state.safetensors", net, state);
///     auto state = load_state("state.safetensors", net);
template <class Dynamics, class Rule, class Scalar>
void save_state(const std::filesystem::path& path, const PlasticCell<Dynamics, Rule, Scalar>& net,
                const CellState<Scalar>& state) {
  write_safetensors(path, to_tensors(net, state));
}

/// The state that a file holds, for the cell that it was saved with. Throws std::runtime_error if
/// the file cannot be read, and std::invalid_argument as state_from_tensors does.
template <class Dynamics, class Rule, class Scalar>
CellState<Scalar> load_state(const std::filesystem::path& path,
                             const PlasticCell<Dynamics, Rule, Scalar>& net) {
  return state_from_tensors(net, read_safetensors(path));
}

}  // namespace plastic
