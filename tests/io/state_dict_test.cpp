#include "plastic/io/state_dict.hpp"

#include <catch2/catch.hpp>
#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "plastic/cells/dispatch.hpp"
#include "support/errors.hpp"

namespace {

using namespace plastic;
using plastic::testing::rejection;

using Shape = std::vector<Index>;

std::map<std::string, Shape> shapes_of(const TensorFile& file) {
  std::map<std::string, Shape> shapes;
  for (const auto& [name, tensor] : file.tensors) shapes[name] = tensor.shape();
  return shapes;
}

// The smallest cell whose sizes all differ: 2 inputs, 3 hidden, 4 + 1 + 1 outputs.
constexpr CellOptions small{.inputs = 2, .hidden = 3, .outputs = 4, .extra = 1};

}  // namespace

TEST_CASE("A state dictionary has the names and shapes of the published code", "[io][state_dict]") {
  CHECK(shapes_of(to_state_dict(PlasticRNN<Gradient, float>(small))) ==
        std::map<std::string, Shape>{
            {"in_fc.0.w.param", {2, 3}},
            {"in_fc.0.w.lr", {2, 3}},
            {"in_fc.0.b.param", {3}},
            {"in_fc.0.b.lr", {3}},
            {"rnn.h_fc.w.param", {3, 3}},
            {"rnn.h_fc.w.lr", {3, 3}},
            {"rnn.h_fc.b.param", {3}},
            {"rnn.h_fc.b.lr", {3}},
            {"rnn.i_fc.w.param", {3, 3}},
            {"rnn.i_fc.w.lr", {3, 3}},
            {"rnn.i_fc.b.param", {3}},
            {"rnn.i_fc.b.lr", {3}},
            {"out_fc.0.w.param", {3, 6}},
            {"out_fc.0.w.lr", {3, 6}},
            {"out_fc.0.b.param", {6}},
            {"out_fc.0.b.lr", {6}},
            {"out_weight", {6}},
        });

  CellOptions options = small;
  options.alpha_mode = AlphaMode::none;
  options.layer_norm = true;
  CHECK(shapes_of(to_state_dict(PlasticLSTM<Hebbian, double>(options))) ==
        std::map<std::string, Shape>{
            {"in_fc.w.param", {2, 3}},
            {"in_fc.b.param", {3}},
            {"rnn.h_fc.w.param", {3, 12}},
            {"rnn.h_fc.b.param", {12}},
            {"rnn.i_fc.w.param", {3, 12}},
            {"rnn.i_fc.b.param", {12}},
            {"out_fc.w.param", {3, 6}},
            {"out_fc.b.param", {6}},
            {"out_weight", {6}},
            {"layernorm.weight", {3}},
            {"layernorm.bias", {3}},
        });

  CHECK(shapes_of(to_state_dict(PlasticLSTM<None, float>(small))) ==
        std::map<std::string, Shape>{
            {"in_fc.0.weight", {3, 2}},
            {"in_fc.0.bias", {3}},
            {"rnn.weight_ih", {12, 3}},
            {"rnn.weight_hh", {12, 3}},
            {"rnn.bias_ih", {12}},
            {"rnn.bias_hh", {12}},
            {"out_fc.0.weight", {6, 3}},
            {"out_fc.0.bias", {6}},
            {"out_weight", {6}},
        });
}

TEST_CASE("What follows the published convolutional network has no in_fc", "[io][state_dict]") {
  TensorFile file = to_state_dict(PlasticFeatureRNN<Gradient, float>(small));
  CHECK_FALSE(file.tensors.contains("in_fc.0.w.param"));
  CHECK(file.tensors.at("rnn.i_fc.w.param").shape() == Shape{2, 3});
  file.tensors["cnn.layer1.0.weight"] = Tensor(DType::F32, {1});
  file.tensors["proj.0.bias"] = Tensor(DType::F32, {1});
  CHECK_NOTHROW(from_state_dict<PlasticFeatureRNN<Gradient, float>>(file, small));
}

TEMPLATE_TEST_CASE("Values are where the published code has them", "[io][state_dict]", float,
                   double) {
  PlasticRNN<Hebbian, TestType> plastic_cell(small);
  plastic_cell.parameters().matrix("in_fc.weight")(2, 1) = 7;  // output 2, input 1
  plastic_cell.parameters().matrix("h_fc.bias_alpha")(1, 0) = 8;
  const TensorFile file = to_state_dict(plastic_cell);
  CHECK(file.values<TestType>("in_fc.w.param", {2, 3})[1 * 3 + 2] == 7);
  CHECK(file.values<TestType>("rnn.h_fc.b.lr", {3})[1] == 8);

  PlasticRNN<None, TestType> plain(small);
  plain.parameters().matrix("in_fc.weight")(2, 1) = 7;
  plain.parameters().matrix("h_fc.weight")(2, 0) = 8;
  plain.parameters().matrix("i_fc.bias")(1, 0) = 9;
  const TensorFile transposed = to_state_dict(plain);
  CHECK(transposed.values<TestType>("in_fc.0.weight", {3, 2})[2 * 2 + 1] == 7);
  CHECK(transposed.values<TestType>("rnn.weight_hh", {3, 3})[2 * 3 + 0] == 8);
  CHECK(transposed.values<TestType>("rnn.bias_ih", {3})[1] == 9);
}

TEMPLATE_TEST_CASE("A state dictionary brings back every cell, bit for bit", "[io][state_dict]",
                   float, double) {
  for (const char* cell_name : {"rnn", "lstm"}) {
    for (const char* rule : {"gradient", "hebbian", "none"}) {
      for (const AlphaMode mode : {AlphaMode::random, AlphaMode::none}) {
        CAPTURE(cell_name, rule, static_cast<int>(mode));
        CellOptions options = small;
        options.alpha_mode = mode;
        options.layer_norm = mode == AlphaMode::none;
        options.seed = 3;
        with_layered_cell_type<TestType>(
            cell_name, rule, [&]<class Cell>(std::type_identity<Cell>) {
              const Cell cell(options);
              options.seed = 4;  // other numbers than those of the file
              const TensorFile file = to_state_dict(cell);
              const Cell read = from_state_dict<Cell>(file, options);
              CHECK(read.parameters().values() == cell.parameters().values());
              CHECK(to_state_dict(read).tensors.size() == file.tensors.size());
            });
        // The settings are in the file too.
        with_layered_cell_type<TestType>(
            cell_name, rule, [&]<class Cell>(std::type_identity<Cell>) {
              const Cell cell(options);
              const TensorFile file = to_state_dict(cell);
              CHECK(setting(file.metadata, "rule") == rule);
              CHECK(to_settings(from_settings(file.metadata)) == to_settings(options));
            });
      }
    }
  }
}

TEST_CASE("A state dictionary that does not fit is refused by the tensor's name",
          "[io][state_dict]") {
  using Cell = PlasticRNN<Gradient, float>;
  const TensorFile good = to_state_dict(Cell(small));
  const auto refused = [](const TensorFile& file, const CellOptions& options = small) {
    return rejection([&] { from_state_dict<Cell>(file, options); });
  };
  CHECK(refused(good) == "no error");

  TensorFile file = good;
  file.tensors.erase("rnn.i_fc.b.lr");
  CHECK_THAT(refused(file), Catch::Contains("\"rnn.i_fc.b.lr\""));

  file = good;
  file.tensors["rnn.h_fc.w.param"] = Tensor(DType::F32, {3, 4});
  CHECK_THAT(refused(file), Catch::Contains("\"rnn.h_fc.w.param\" must be [3, 3], got [3, 4]"));

  file = good;
  file.tensors["out_weight"] = Tensor(DType::F64, {6});
  CHECK_THAT(refused(file), Catch::Contains("\"out_weight\" must be F32 (float)"));

  file = good;
  file.tensors["layernorm.weight"] = Tensor(DType::F32, {3});
  CHECK_THAT(refused(file), Catch::Contains("layernorm.weight"));

  // An encoder has no place where the input comes as it is.
  file = good;
  file.tensors["cnn.layer1.0.weight"] = Tensor(DType::F32, {1});
  CHECK_THAT(refused(file), Catch::Contains("cnn.layer1.0.weight"));

  CellOptions other = small;
  other.outputs = 5;
  CHECK_THAT(refused(good, other), Catch::Contains("\"out_fc.0.w.param\" must be [3, 7]"));

  // Names of another rule.
  CHECK_THAT(refused(to_state_dict(PlasticRNN<Hebbian, float>(small))),
             Catch::Contains("\"in_fc.0.w.param\""));
}

TEST_CASE("The parity cases go through state dictionaries unchanged", "[io][state_dict]") {
  int cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(PLASTIC_TEST_DATA)) {
    if (entry.path().extension() != ".safetensors") continue;
    CAPTURE(entry.path().string());
    const TensorFile file = read_safetensors(entry.path());
    with_layered_cell_type<double>(
        setting(file.metadata, "cell"), setting(file.metadata, "rule"),
        [&]<class Cell>(std::type_identity<Cell>) {
          const Cell cell = from_tensors<Cell>(file);
          const Cell read = from_state_dict<Cell>(to_state_dict(cell), cell.options());
          CHECK(read.parameters().values() == cell.parameters().values());
        });
    ++cases;
  }
  CHECK(cases == 17);
}

TEST_CASE("Tensors that nobody asks for may be of any type behind an encoder, and nowhere else",
          "[io][state_dict]") {
  using Net = PlasticFeatureRNN<Gradient, float>;
  const Net net(small);
  TensorFile file = to_state_dict(net);
  file.tensors["cnn.1.running_mean"] = Tensor(DType::F32, {3});
  file.others["cnn.1.num_batches_tracked"] = {"I64", {}, std::vector<std::byte>(8)};
  file.others["proj.mask"] = {"BOOL", {2}, std::vector<std::byte>(2)};
  CHECK(from_state_dict<Net>(file, small).parameters().values() == net.parameters().values());
  const std::string bytes = safetensors_bytes(file);
  const TensorFile back = parse_safetensors(std::as_bytes(std::span(bytes)));
  CHECK(from_state_dict<Net>(back, small).parameters().values() == net.parameters().values());
  file.others["counter"] = {"I64", {}, std::vector<std::byte>(8)};
  CHECK(rejection([&] { from_state_dict<Net>(file, small); }) ==
        "from_state_dict: every tensor must be a parameter of the cell that its settings describe, "
        "got "
        "counter");
  file.others.erase("counter");
  file.tensors.erase("out_weight");
  file.others["out_weight"] = {"BF16", {6}, std::vector<std::byte>(12)};
  CHECK(rejection([&] { from_state_dict<Net>(file, small); }) ==
        "TensorFile: the type of tensor \"out_weight\" must be F32 or F64, got BF16");
}

TEMPLATE_TEST_CASE("Sizes that the settings claim are checked before memory is taken for them",
                   "[io][state_dict]", (PlasticRNN<Gradient, float>), (PlasticRNN<None, double>),
                   (PlasticLSTM<Hebbian, float>), (PlasticLSTM<None, float>),
                   (PlasticFeatureRNN<Gradient, float>)) {
  const TestType net(small);
  CellOptions huge = small;
  huge.hidden = 1 << 24;  // 1 PB of weights
  CHECK_THROWS_AS(from_state_dict<TestType>(to_state_dict(net), huge), std::invalid_argument);
  huge = small;
  huge.outputs = 1 << 24;
  CHECK_THROWS_AS(from_state_dict<TestType>(to_state_dict(net), huge), std::invalid_argument);
  TensorFile file = to_tensors(net);
  file.metadata["hidden"] = "16777216";
  CHECK_THROWS_AS(from_tensors<TestType>(file), std::invalid_argument);
  CHECK_THROWS_AS(net.initial_state(Index{1} << 58), std::invalid_argument);
}
