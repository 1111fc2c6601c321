#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

#include "plastic/cells/dispatch.hpp"
#include "plastic/io/model_file.hpp"
#include "plastic/tape/functions.hpp"

// The cases in tests/data were made with automatic differentiation, independently of this library.

namespace {

namespace fs = std::filesystem;
using namespace plastic;

// Tolerance, as a part of 1 + the largest magnitude of a tensor.
template <class Scalar>
constexpr double tolerance = std::is_same_v<Scalar, double> ? 1e-10 : 1e-4;

const fs::path rules_folder = fs::path(PLASTIC_TEST_DATA) / "rules";

enum class Path { tape, without_derivatives };

using Results = std::map<std::string, std::vector<double>>;

// The cases of the paper's rules, or, in the folder "rules", those of other published rules.
std::vector<fs::path> case_files(const fs::path& folder = PLASTIC_TEST_DATA) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

template <class Scalar>
TensorFile converted(const TensorFile& in) {
  TensorFile out;
  out.metadata = in.metadata;
  for (const auto& [name, tensor] : in.tensors) {
    const auto values = tensor.template values<double>();
    std::vector<Scalar> copy(values.size());
    std::transform(values.begin(), values.end(), copy.begin(),
                   [](double value) { return static_cast<Scalar>(value); });
    out.tensors[name] = Tensor::from<Scalar>(tensor.shape(), copy.data());
  }
  return out;
}

// Appends in the order of memory, which for a weight is that of the file.
template <class Derived>
void append(std::vector<double>& to, const Eigen::MatrixBase<Derived>& values) {
  for (Index c = 0; c < values.cols(); ++c) {
    for (Index r = 0; r < values.rows(); ++r) to.push_back(static_cast<double>(values(r, c)));
  }
}

// Everything that the cell of a file computes from the file's input, `samples` samples at a time.
template <class Cell>
class Computation {
  using Scalar = typename Cell::ScalarType;

 public:
  Computation(const TensorFile& in, Path path, Index samples)
      : cell_(from_tensors<Cell>(in)), path_(path), gradients_(cell_.zero_gradients()) {
    for (Index n = 0; n < static_cast<Index>(cell_.parameters().blocks().size()); ++n) {
      cell_.parameters().unfreeze(n);
    }
    const Index batch = in.tensor("input").shape()[0];
    const auto& o = cell_.options();
    steps_ = in.tensor("input").shape()[1];
    loss_weight_ = Scalar(1) / static_cast<Scalar>(batch * steps_ * o.outputs);
    const auto input = in.values<Scalar>("input", {batch, steps_, o.inputs});
    const auto target = in.values<Scalar>("target", {batch, steps_, o.outputs});
    const auto part = [&](std::span<const Scalar> all, Index first, Index features) {
      return sequences_from(all.subspan(static_cast<std::size_t>(first * steps_ * features)),
                            samples, steps_, features);
    };
    for (Index first = 0; first < batch; first += samples) {
      run(part(input, first, o.inputs), part(target, first, o.outputs), samples);
    }
    if (path == Path::without_derivatives) return;
    results_["loss"] = {loss_};
    for (Index n = 0; n < static_cast<Index>(cell_.parameters().blocks().size()); ++n) {
      append(results_["grad." + cell_.parameters().block(n).name],
             cell_.parameters().view(gradients_, n));
    }
  }

  Results results() { return std::move(results_); }

 private:
  void run(const Matrix<Scalar>& input, const Matrix<Scalar>& target, Index samples) {
    if (path_ == Path::without_derivatives) {
      CellState<Scalar> state = cell_.initial_state(samples);
      Matrix<Scalar> output, eta;
      cell_.run(state, input, output, &eta);
      collect(output, eta, state);
      return;
    }
    Tape<Scalar> tape;
    Episode<Scalar> episode = cell_.begin(tape, samples, &gradients_);
    const auto result = cell_.run(episode, input);
    const Var<Scalar> loss = sum(square(result.output - tape.constant(target))) * loss_weight_;
    tape.backward(loss);
    loss_ += static_cast<double>(loss.value()(0, 0));
    CellState<Scalar> state = cell_.state_of(episode);
    collect(result.output.value(), result.eta.value(), state);
  }

  void collect(const Matrix<Scalar>& output, const Matrix<Scalar>& eta, CellState<Scalar>& state) {
    const Index samples = state.samples();
    for (Index s = 0; s < samples; ++s) {
      append(results_["output"], output(Eigen::all, Eigen::seqN(s, steps_, samples)));
      if constexpr (!Cell::is_model) {
        append(results_["eta"], eta(Eigen::all, Eigen::seqN(s, steps_, samples)));
      }
      append(results_["hidden"], state.hidden().col(s));
      if constexpr (Cell::states > 1) append(results_["cell_state"], state.state(1).col(s));
      const std::vector<MatrixShape> matrices = Cell::matrix_shapes(cell_.options());
      for (std::size_t k = 0; k < matrices.size(); ++k) {
        const std::string &layer = matrices[k].layer, &name = matrices[k].name;
        if (name != "weight") {
          append(results_["trace." + layer + "." + name], state.matrix(k, s));
        }
        if (name != "eligibility") {
          append(results_["fast." + layer + ".weight"], cell_.added_weight(state, k, s));
        }
      }
      if constexpr (Cell::has_fast_layers) {
        for (std::size_t l = 0; l < cell_.layer_names().size(); ++l) {
          const std::string name = "fast." + cell_.layer_names()[l];
          append(results_[name + ".weight"], state.fast_weight(l, s));
          append(results_[name + ".bias"], state.fast_bias(l, s));
        }
      }
    }
  }

  Cell cell_;
  Path path_;
  Index steps_ = 0;
  Scalar loss_weight_ = 0;
  double loss_ = 0;
  Vector<Scalar> gradients_;
  Results results_;
};

template <class Scalar>
Results compute(const TensorFile& in, Path path, Index samples) {
  return with_cell_type<Scalar>(in.metadata.at("cell"), in.metadata.at("rule"),
                                [&]<class Cell>(std::type_identity<Cell>) {
                                  return Computation<Cell>(in, path, samples).results();
                                });
}

// What a path must give: all results of the file, or those that are not derivatives.
Results expected_results(const TensorFile& file, Path path) {
  Results results;
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with("param.") || name == "input" || name == "target") continue;
    if (path == Path::without_derivatives && (name.starts_with("grad.") || name == "loss")) {
      continue;
    }
    const auto values = tensor.values<double>();
    results[name].assign(values.begin(), values.end());
  }
  return results;
}

std::vector<std::string> names(const Results& results) {
  std::vector<std::string> all;
  for (const auto& [name, values] : results) all.push_back(name);
  return all;
}

// Largest difference as a part of 1 + the largest magnitude expected; a NaN differs infinitely.
double difference(const std::vector<double>& got, const std::vector<double>& expected) {
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double here = std::abs(got[i] - expected[i]);
    if (!std::isfinite(here)) return std::numeric_limits<double>::infinity();
    difference = std::max(difference, here);
    largest = std::max(largest, std::abs(expected[i]));
  }
  return difference / (1 + largest);
}

template <class Scalar>
void check_case(const fs::path& path_of_case, Path path) {
  const TensorFile in = read_safetensors(path_of_case);
  const TensorFile given = converted<Scalar>(in);
  const Results expected = expected_results(in, path);
  const Index batch = in.tensor("input").shape()[0];
  for (const Index samples : {batch, Index{1}}) {
    INFO(path_of_case.filename().string() << ", " << samples << " samples at a time");
    const Results got = compute<Scalar>(given, path, samples);
    REQUIRE(names(got) == names(expected));
    for (const auto& [name, values] : expected) {
      INFO(name);
      REQUIRE(got.at(name).size() == values.size());
      CHECK(difference(got.at(name), values) <= tolerance<Scalar>);
    }
  }
}

}  // namespace

TEST_CASE("The parity cases cover every cell, rule and option", "[cells][parity]") {
  CHECK(case_files().size() == 17);
  std::map<std::string, int> count;
  for (const fs::path& path : case_files()) {
    const TensorFile file = read_safetensors(path);
    const CellOptions o = from_settings(file.metadata);
    ++count[file.metadata.at("cell") + " " + file.metadata.at("rule")];
    count["layer norm"] += o.layer_norm;
    count["no modulation"] += !o.modulation;
    count["weight clip"] += o.weight_clip > 0;
    count["norm clip"] += o.max_norm < 1;
    count["no alpha"] += o.alpha_mode == AlphaMode::none;
    CHECK(file.tensor("input").shape()[0] > 1);
  }
  for (const std::string which :
       {"rnn gradient", "rnn hebbian", "rnn none", "lstm gradient", "lstm hebbian", "lstm none",
        "layer norm", "no modulation", "weight clip", "norm clip", "no alpha"}) {
    INFO(which);
    CHECK(count[which] > 0);
  }
}

TEST_CASE("The parity cases of other rules cover every one of them", "[cells][parity]") {
  std::map<std::string, int> count;
  for (const fs::path& path : case_files(rules_folder)) {
    const TensorFile file = read_safetensors(path);
    ++count[file.metadata.at("cell") + " " + file.metadata.at("rule")];
  }
  CHECK(count == std::map<std::string, int>{{"clamp trace", 1},
                                            {"delta_net delta", 2},
                                            {"delta_rnn delta", 2},
                                            {"lstm modulated", 2},
                                            {"mlp abcd", 2},
                                            {"recurrent_delta_net delta", 1},
                                            {"rnn abcd", 1},
                                            {"rnn fast_weights", 4},
                                            {"rnn modulated", 3},
                                            {"rnn retroactive", 3},
                                            {"rnn stpn", 3},
                                            {"rnn trace", 3}});
}

TEMPLATE_TEST_CASE("The tape computes every parity case with all gradients", "[cells][parity]",
                   double, float) {
  for (const fs::path& path : case_files()) check_case<TestType>(path, Path::tape);
  for (const fs::path& path : case_files(rules_folder)) check_case<TestType>(path, Path::tape);
}

TEMPLATE_TEST_CASE("A state without derivatives computes every parity case", "[cells][parity]",
                   double, float) {
  for (const fs::path& path : case_files()) {
    check_case<TestType>(path, Path::without_derivatives);
  }
  for (const fs::path& path : case_files(rules_folder)) {
    check_case<TestType>(path, Path::without_derivatives);
  }
}
