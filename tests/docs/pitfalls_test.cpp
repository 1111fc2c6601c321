// The likeliest mistakes of a user: each message names the mistake and the cure. docs/pitfalls.md
// quotes the messages.

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>

#include "plastic/io/checkpoint.hpp"
#include "plastic/io/model_file.hpp"
#include "plastic/io/state_file.hpp"
#include "plastic/plastic.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"

namespace {

using namespace plastic;
using Net = PlasticRNN<Hebbian, double>;

std::string pitfalls() {
  const auto root = std::filesystem::path(PLASTIC_TEST_DATA).parent_path().parent_path();
  std::ifstream file(root / "docs" / "pitfalls.md");
  return {std::istreambuf_iterator<char>(file), {}};
}

// The call must throw exactly this, and the page on pitfalls must quote it.
template <class Call>
void check_message(const std::string& expected, const Call& call) {
  CHECK(plastic::testing::rejection(call) == expected);
  INFO(expected);
  CHECK(pitfalls().find("\n    " + expected + "\n") != std::string::npos);
}

constexpr CellOptions small{.inputs = 3, .hidden = 4, .outputs = 2};

Matrix<double> input(Index samples = 1) { return Matrix<double>::Ones(3, samples); }

}  // namespace

TEST_CASE("An input of the wrong shape is told from the right one", "[docs][pitfalls]") {
  const Net net(small);
  auto state = net.initial_state(1);
  check_message("PlasticCell::step: x (inputs x samples) must be 3 x 1, got 1 x 3",
                [&] { net.step(state, input().transpose()); });
  check_message("PlasticCell::run: inputs must be 3 x (steps * 2), got 3 x 5", [&] {
    auto two = net.initial_state(2);
    Matrix<double> output;
    net.run(two, input(5), output);
  });
}

TEST_CASE("A state of another cell is no state of this one", "[docs][pitfalls]") {
  const Net net(small), other(small);
  auto state = other.initial_state(1);
  check_message(
      "PlasticCell::step: the state or episode must be one that this cell began (initial_state or "
      "begin), got one of another cell",
      [&] { net.step(state, input()); });
  check_message(
      "PlasticCell::step: the state or episode must be one that this cell began (initial_state or "
      "begin), got an empty one",
      [&] {
        CellState<double> empty;
        net.step(empty, input());
      });
}

TEST_CASE("A sample that a state does not have cannot be reset", "[docs][pitfalls]") {
  const Net net(small);
  auto state = net.initial_state(2);
  check_message("PlasticCell::reset_sample: sample must be in 0 .. 1, got 2",
                [&] { net.reset_sample(state, 2); });
}

TEST_CASE("A state is read into a cell like the one that it was saved with", "[docs][pitfalls]") {
  const Net net(small);
  const TensorFile file = to_tensors(net, net.initial_state(1));
  CellOptions options = small;
  options.hidden = 5;
  const Net other(options);
  check_message("state_from_tensors: \"hidden\" of the file must be 5, as in the cell, got 4",
                [&] { state_from_tensors(other, file); });
}

TEST_CASE("A tape that is not cleared between two episodes is noticed", "[docs][pitfalls]") {
  const Net net(small);
  Vector<double> gradients = net.zero_gradients();
  Tape<double> tape;
  const auto train = [&] {
    auto episode = net.begin(tape, 1, &gradients);
    tape.backward(sum(square(net.run(episode, input(4)).output)));
  };
  train();
  const std::string nodes = std::to_string(tape.size());
  CHECK(plastic::testing::rejection(train) ==
        "PlasticCell::begin: the tape must be cleared after its sweep (Tape::clear), or it would "
        "grow with every episode, got one with " +
            nodes + " nodes from before its sweep");
  CHECK(pitfalls().find("\n    PlasticCell::begin: the tape must be cleared after its sweep "
                        "(Tape::clear), or it would grow with every episode, got one with ") !=
        std::string::npos);
  tape.clear();
  CHECK_NOTHROW(train());
}

TEST_CASE("What a cleared tape has forgotten cannot be used", "[docs][pitfalls]") {
  const Net net(small);
  Tape<double> tape;
  auto episode = net.begin(tape, 1);
  tape.clear();
  const std::string cleared =
      "PlasticCell::step: the episode must be on its tape, got one whose tape has been cleared: "
      "begin a new one";
  check_message(cleared, [&] { net.step(episode, tape.constant(input())); });
  // The same where the tape has grown again, to the same nodes at the same places.
  auto again = net.begin(tape, 1);
  check_message(cleared, [&] { net.step(episode, tape.constant(input())); });
  CHECK_NOTHROW(net.step(again, tape.constant(input())));

  const Var<double> x = tape.variable(input());
  const auto position = tape.position();
  const Var<double> y = square(x);
  tape.rewind(position);
  const std::string forgotten =
      "Var: the variable must be on a tape, got one that its tape has forgotten: record it again "
      "after Tape::clear or rewind";
  check_message(forgotten, [&] { y.value(); });
  const Var<double> in_its_place = square(x);
  check_message(forgotten, [&] { sum(y); });
  check_message(forgotten, [&] { tape.backward(y); });
  CHECK(x.usable());
  CHECK(in_its_place.usable());
  CHECK_FALSE(y.usable());
  CHECK_FALSE(Var<double>().usable());
}

TEST_CASE("A gradient cannot be read before there is one", "[docs][pitfalls]") {
  Tape<double> tape;
  const Var<double> x = tape.variable(input()), fixed = tape.constant(input());
  const Var<double> loss = sum(x * fixed);
  check_message(
      "Var::adjoint: the variable must be reached by Tape::backward (run it first), got one that "
      "no sweep has reached",
      [&] { x.adjoint(); });
  tape.backward(loss);
  CHECK(x.adjoint() == input());
  check_message(
      "Var::adjoint: the variable must be reached by Tape::backward (run it first), got a constant "
      "(Tape::variable makes one with an adjoint)",
      [&] { fixed.adjoint(); });
}

TEST_CASE("Variables of two tapes do not mix", "[docs][pitfalls]") {
  Tape<double> one, two;
  const Var<double> x = one.variable(input()), y = two.variable(input());
  const std::string expected =
      "operator+: the variable must be on this tape, got one on another tape: record a whole "
      "computation on one tape";
  check_message(expected, [&] { x + y; });
}

TEST_CASE("A file is read into the type and the cell that it has", "[docs][pitfalls]") {
  const TensorFile file = to_tensors(PlasticRNN<Hebbian, float>(small));
  check_message(
      "Tensor: the type of tensor \"param.in_fc.weight\" must be F64 (double), got F32 (float): "
      "read it as that type",
      [&] { from_tensors<PlasticRNN<Hebbian, double>>(file); });
  check_message(
      "from_tensors: \"rule\" of the file must be gradient, got hebbian: with_cell_type makes the "
      "cell that a file names",
      [&] { from_tensors<PlasticRNN<Gradient, float>>(file); });
}

TEST_CASE("Gradients have the length of the parameters", "[docs][pitfalls]") {
  const Net net(small);
  Tape<double> tape;
  Vector<double> gradients;
  check_message(
      "PlasticCell::begin: gradients must be a vector of length 232 (see zero_gradients()), got 0",
      [&] { net.begin(tape, 1, &gradients); });
}

TEST_CASE("An optimizer belongs to the parameters it was made for", "[docs][pitfalls]") {
  CellOptions options = small;
  Net net(options);
  options.hidden = 8;
  const Net other(options);
  AdamW<double> optimizer(other.parameters());
  const Vector<double> gradients = net.zero_gradients();
  check_message(
      "AdamW: parameters must be of length 488, that of the optimizer's parameters, got 232",
      [&] { optimizer.step(net.parameters(), gradients); });
}

TEST_CASE("Task and cell agree on the number of inputs and outputs", "[docs][pitfalls]") {
  Net net(small);
  AdamW<double> optimizer(net.parameters());
  check_message(
      "Trainer: the number of the cell's inputs must be 16, as many as the task has, got 3",
      [&] { Trainer trainer(net, CueReward(), optimizer, {}); });
}

TEST_CASE("A setting out of its range is named", "[docs][pitfalls]") {
  check_message("CellOptions: hidden must be in 1 .. 16777216, got 0",
                [] { Net({.inputs = 3, .hidden = 0, .outputs = 2}); });
}

TEST_CASE("A run goes on only with the settings that it began with", "[docs][pitfalls]") {
  const testing::Folder folder;
  const std::string path = (folder / "checkpoint.safetensors").string();
  const auto train = [&](double eta0) {
    Net net({.inputs = 16, .hidden = 4, .eta0 = eta0});
    AdamW<double> optimizer(net.parameters());
    Trainer trainer(net, CueReward(), optimizer,
                    {.batch = 2, .batches = 1, .validation_batches = 1, .threads = 1});
    Checkpoint checkpoint(path);
    trainer.run(checkpoint);
  };
  train(0.1);
  check_message(
      "Checkpoint: \"eta0\" in run/checkpoint.safetensors must be 0.2, as in this run, unless "
      "CheckpointOptions::allow names it, got 0.1",
      [&] {
        try {
          train(0.2);
        } catch (const std::invalid_argument& error) {
          std::string message = error.what();
          const std::size_t at = message.find(path);
          REQUIRE(at != std::string::npos);
          throw std::invalid_argument(
              message.replace(at, path.size(), "run/checkpoint.safetensors"));
        }
      });
}
