#include "plastic/io/model_file.hpp"

#include <catch2/catch.hpp>
#include <stdexcept>
#include <string>

#include "plastic/tasks/cue_reward.hpp"
#include "support/cells.hpp"
#include "support/files.hpp"

using namespace plastic;
using plastic::testing::AllCells;
using plastic::testing::content;
using plastic::testing::Folder;

namespace {

CellOptions options() {
  return {.inputs = 16, .hidden = 5, .outputs = 1, .eta0 = 0.3, .layer_norm = true, .seed = 7};
}

std::span<const std::byte> as_bytes(const std::string& bytes) {
  return std::as_bytes(std::span(bytes));
}

}  // namespace

// Bytes as `xxd -i` writes them; the smallest file there is.
constexpr unsigned char empty_safetensors[] = {0x02, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d};

TEMPLATE_LIST_TEST_CASE("A cell comes back from file and memory with all its bits",
                        "[io][model_file]", AllCells) {
  using Cell = TestType;
  const Folder folder;
  const auto path = folder / "net.safetensors";
  const Cell net(options());
  save(path, net);
  const std::string bytes = to_bytes(net);
  CHECK(content(path) == bytes);
  for (const Cell& same : {load<Cell>(path), from_bytes<Cell>(as_bytes(bytes))}) {
    CHECK(same.parameters().values() == net.parameters().values());
    CHECK(to_settings(same.options()) == to_settings(net.options()));
    CHECK(to_bytes(same) == bytes);
  }
}

TEST_CASE("A file of another cell, rule or number type is refused", "[io][model_file]") {
  const Folder folder;
  const auto path = folder / "net.safetensors";
  save(path, PlasticRNN<Hebbian, float>(options()));
  CHECK_THROWS_WITH((load<PlasticLSTM<Hebbian, float>>(path)),
                    Catch::Contains("from_tensors: \"cell\" of the file must be lstm, got rnn"));
  CHECK_THROWS_WITH((load<PlasticRNN<Gradient, float>>(path)),
                    Catch::Contains("\"rule\" of the file must be gradient, got hebbian"));
  CHECK_THROWS_WITH((load<PlasticRNN<Hebbian, double>>(path)),
                    Catch::Contains("must be F64 (double), got F32 (float)"));
  CHECK_THROWS_WITH((load<PlasticRNN<Hebbian, float>>(folder / "none")),
                    Catch::Contains("read_safetensors: cannot read ") &&
                        Catch::Contains("there is no such file"));
}

TEST_CASE("Bytes that are no model are refused", "[io][model_file]") {
  using Net = PlasticRNN<Hebbian, float>;
  const std::string bytes = to_bytes(Net(options()));
  CHECK_THROWS_AS(from_bytes<Net>(as_bytes(bytes.substr(0, bytes.size() - 1))), std::runtime_error);
  CHECK_THROWS_WITH(from_bytes<Net>({}), Catch::Contains("parse_safetensors: the file must be"));
  CHECK_THROWS_WITH(from_bytes<Net>(std::as_bytes(std::span(empty_safetensors))),
                    Catch::Contains("\"cell\" is missing from the metadata"));
}

TEMPLATE_TEST_CASE("A file for replay has episodes of the task beside the cell", "[io][model_file]",
                   float, double) {
  using Net = PlasticRNN<Hebbian, TestType>;
  const Folder folder;
  const auto path = folder / "net.safetensors";
  const Net net(options());
  const CueReward task;
  save(path, net, task);
  CHECK(load<Net>(path).parameters().values() == net.parameters().values());
  CHECK(read_safetensors(path).tensor("input").shape() == std::vector<Index>{8, 20, 16});
  save(path, net, task, 3);
  const TensorFile file = read_safetensors(path);
  CHECK(setting(file.metadata, "batch") == "3");
  CHECK(setting(file.metadata, "steps") == "20");
  Episodes<TestType> episodes;
  task.generate({0, Random::Purpose::test}, 0, 0, 3, episodes);
  CHECK(sequences_from(file.values<TestType>("input", {3, 20, 16}), 3, 20, 16) == episodes.inputs);
  CHECK(sequences_from(file.values<TestType>("target", {3, 20, 1}), 3, 20, 1) == episodes.targets);

  CellOptions other = options();
  other.inputs = 3;
  CHECK_THROWS_WITH(save(path, Net(other), task),
                    "save: the task's inputs must be 3 x 160, got 16 x 160");
  CHECK_THROWS_WITH(save(path, net, task, 0), "save: samples must be at least 1, got 0");
  CHECK(content(path) == safetensors_bytes(file));
}
