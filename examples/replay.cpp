// Runs a model file on the input it holds: outputs, fast weights and, with a target, gradients.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <exception>
#include <iostream>
#include <string>

#include "command_line.hpp"
#include "plastic/cells/dispatch.hpp"
#include "plastic/io/model_file.hpp"

namespace {

using namespace plastic;

// Names beside param.* that a file may hold: what replay reads, and what it writes.
bool is_known(const std::string& name) {
  constexpr std::array<std::string_view, 7> whole = {"input",  "target", "output",    "eta",
                                                     "hidden", "loss",   "cell_state"};
  return std::find(whole.begin(), whole.end(), name) != whole.end() || name.starts_with("param.") ||
         name.starts_with("grad.") || name.starts_with("fast.") || name.starts_with("trace.");
}

template <class Cell>
class Replay {
  using Scalar = typename Cell::ScalarType;

 public:
  explicit Replay(const TensorFile& in) : cell_(from_tensors<Cell>(in)) {
    const Tensor& input = in.tensor("input");
    input.expect_type<Scalar>("input");
    if (input.shape().size() != 3 || input.shape()[0] < 1 || input.shape()[1] < 1) {
      detail::reject("replay", "the shape of \"input\"", "[batch, steps, inputs], none of them 0",
                     detail::shape_text(input.shape()));
    }
    batch_ = input.shape()[0];
    steps_ = input.shape()[1];
    check_count(in, "batch", batch_);
    check_count(in, "steps", steps_);
    const auto& o = cell_.options();
    input_ = in.values<Scalar>("input", {batch_, steps_, o.inputs});
    if (in.tensors.contains("target")) {
      target_ = in.values<Scalar>("target", {batch_, steps_, o.outputs});
    }

    // The gradient of every parameter, even of those that training would not change.
    const auto blocks = static_cast<Index>(cell_.parameters().blocks().size());
    for (Index number = 0; number < blocks; ++number) cell_.parameters().unfreeze(number);

    out_ = to_tensors(cell_);
    out_.metadata["batch"] = std::to_string(batch_);
    out_.metadata["steps"] = std::to_string(steps_);
    for (const char* given : {"input", "target"}) {
      if (in.tensors.contains(given)) out_.tensors.emplace(given, in.tensor(given));
    }
    place("output", {batch_, steps_, o.outputs});
    place("eta", {batch_, steps_});
    for (std::size_t k = 0; k < Cell::states; ++k) place(state_names[k], {batch_, o.hidden});
    for (const MatrixShape& matrix : Cell::matrix_shapes(o)) {
      for (const std::string& name : names_of(matrix)) {
        place(name, {batch_, matrix.inputs, matrix.outputs});
      }
    }
    if constexpr (Cell::has_fast_layers) {
      for (const LayerShape& layer : Cell::layer_shapes(o)) {
        const std::string name = "fast." + std::string(layer.name);
        place(name + ".weight", {batch_, layer.inputs, layer.outputs});
        place(name + ".bias", {batch_, layer.outputs});
      }
    }
  }

  TensorFile run() {
    constexpr Index shard = 8;  // samples at a time: a whole batch could outgrow memory
    for (Index first = 0; first < batch_; first += shard) {
      run_shard(first, std::min(shard, batch_ - first));
    }
    if (!target_.empty()) {
      add_tensors(out_, "grad", cell_.parameters(), gradients_);
      out_.tensors["loss"] = Tensor::from<Scalar>({1}, &loss_);
    }
    return std::move(out_);
  }

 private:
  static constexpr std::array<const char*, 2> state_names = {"hidden", "cell_state"};

  // Names in the file: of H itself, if it is not what is added to W, and of what is added to W.
  static std::vector<std::string> names_of(const MatrixShape& matrix) {
    std::vector<std::string> names;
    if (matrix.name != "weight") names.push_back("trace." + matrix.layer + "." + matrix.name);
    if (matrix.name != "eligibility") names.push_back("fast." + matrix.layer + ".weight");
    return names;
  }

  static void check_count(const TensorFile& in, const std::string& name, Index got) {
    if (!in.metadata.contains(name)) return;
    const auto expected = detail::number_setting<Index>(in.metadata, name);
    if (expected != got)
      detail::reject("replay", "input's " + name, detail::number_text(expected), got);
  }

  void place(const std::string& name, std::vector<Index> shape) {
    out_.tensors.emplace(name, Tensor(dtype_of<Scalar>(), std::move(shape)));
  }

  // Copies `values` to where sample `sample` lies in the tensor.
  template <class Derived>
  void put(const std::string& name, Index sample, const Eigen::MatrixBase<Derived>& values) {
    Scalar* data = out_.tensors.at(name).template values<Scalar>().data();
    MatrixMap<Scalar>(data + sample * values.size(), values.rows(), values.cols()) = values;
  }

  void run_shard(Index first, Index count) {
    const auto& o = cell_.options();
    const auto part = [&](std::span<const Scalar> all, Index features) {
      const auto each = static_cast<std::size_t>(steps_ * features);
      return sequences_from<Scalar>(all.subspan(static_cast<std::size_t>(first) * each,
                                                static_cast<std::size_t>(count) * each),
                                    count, steps_, features);
    };
    const Matrix<Scalar> input = part(input_, o.inputs);
    CellState<Scalar> state = cell_.initial_state(count);
    Matrix<Scalar> output, eta;
    if (target_.empty()) {
      cell_.run(state, input, output, &eta);
    } else {
      if (gradients_.size() == 0) gradients_ = cell_.zero_gradients();
      Tape<Scalar> tape;
      Episode<Scalar> episode = cell_.begin(tape, count, &gradients_);
      const auto result = cell_.run(episode, input);
      const Var<Scalar> error = result.output - tape.constant(part(target_, o.outputs));
      const Var<Scalar> loss =
          sum(square(error)) / static_cast<Scalar>(batch_ * steps_ * o.outputs);
      tape.backward(loss);
      loss_ += loss.value()(0, 0);
      output = result.output.value();
      eta = result.eta.value();
      state = cell_.state_of(episode);
    }
    for (Index s = 0; s < count; ++s) put_sample(first + s, s, count, output, eta, state);
  }

  void put_sample(Index to, Index s, Index count, const Matrix<Scalar>& output,
                  const Matrix<Scalar>& eta, CellState<Scalar>& state) {
    const auto columns = Eigen::seqN(s, steps_, count);
    put("output", to, output(Eigen::all, columns));
    put("eta", to, eta(Eigen::all, columns));
    for (std::size_t k = 0; k < Cell::states; ++k) put(state_names[k], to, state.state(k).col(s));
    const std::vector<MatrixShape> matrices = Cell::matrix_shapes(cell_.options());
    for (std::size_t k = 0; k < matrices.size(); ++k) {
      for (const std::string& name : names_of(matrices[k])) {
        put(name, to,
            name.starts_with("trace.") ? state.matrix(k, s) : cell_.added_weight(state, k, s));
      }
    }
    if constexpr (Cell::has_fast_layers) {
      for (std::size_t l = 0; l < cell_.layer_names().size(); ++l) {
        put("fast." + cell_.layer_names()[l] + ".weight", to, state.fast_weight(l, s));
        put("fast." + cell_.layer_names()[l] + ".bias", to, state.fast_bias(l, s));
      }
    }
  }

  Cell cell_;
  Index batch_ = 0;
  Index steps_ = 0;
  std::span<const Scalar> input_;
  std::span<const Scalar> target_;
  TensorFile out_;
  Vector<Scalar> gradients_;
  Scalar loss_ = 0;
};

template <class Scalar>
TensorFile replay(const TensorFile& in) {
  return with_cell_type<Scalar>(
      setting(in.metadata, "cell"), setting(in.metadata, "rule"),
      [&]<class Cell>(std::type_identity<Cell>) { return Replay<Cell>(in).run(); });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Runs a plastic network on the input that its model file holds.\n\n"
      "IN is a safetensors file: settings in __metadata__, parameters param.*, input [batch, "
      "steps,\n"
      "inputs] and, for a loss and gradients, target [batch, steps, outputs]. cue_reward writes "
      "such\n"
      "files. F64 files are computed in double, F32 files in float.\n\n"
      "OUT gets all of this and the results: output and eta (the learning rate of the fast\n"
      "weights before the norm clip) of every step, and hidden, cell_state (LSTM), fast.* and\n"
      "trace.* after the last step. If there is a target, it also gets loss (the mean squared "
      "error over\n"
      "all steps) and grad.* (of all parameters, even of those that training would not change).");
  std::string in_path, out_path;
  app.add_option("IN", in_path, "model file to read")->required()->type_name("FILE");
  app.add_option("OUT", out_path, "file to write; replaced only when all is done")
      ->required()
      ->type_name("FILE");
  examples::say_in_one_line(app, "replay");
  CLI11_PARSE(app, argc, argv);
  try {
    const TensorFile in = read_safetensors(in_path);
    for (const auto& [name, tensor] : in.tensors) {
      if (!is_known(name)) {
        detail::reject("replay", "every tensor", "input, target, param.* or a result of replay",
                       "\"" + name + "\"");
      }
    }
    const bool in_double = in.tensor("input").dtype() == DType::F64;
    write_safetensors(out_path, in_double ? replay<double>(in) : replay<float>(in));
  } catch (const std::bad_alloc&) {
    std::cerr << "replay: " << in_path << ": not enough memory\n";
    return 1;
  } catch (const std::exception& error) {
    std::cerr << "replay: " << in_path << " -> " << out_path << ": " << error.what() << "\n";
    return 1;
  }
}
