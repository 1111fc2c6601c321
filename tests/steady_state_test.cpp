#include <catch2/catch.hpp>

#include "allocation_counter.hpp"
#include "plastic/cells/lstm.hpp"
#include "plastic/cells/rnn.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/rules/gradient.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/rules/none.hpp"
#include "plastic/tasks/cue_reward.hpp"
#include "plastic/train/trainer.hpp"

using namespace plastic;
using plastic::testing::AllocationCounter;

using SteadyCells =
    std::tuple<PlasticRNN<Hebbian, float>, PlasticRNN<Gradient, float>, PlasticRNN<None, float>,
               PlasticLSTM<Hebbian, float>, PlasticLSTM<Gradient, float>, PlasticLSTM<None, float>,
               PlasticRNN<Gradient, double>>;

// One thread: the counter sees its own thread only.
TEMPLATE_LIST_TEST_CASE("after the first batch a training step allocates nothing", "[steady]",
                        SteadyCells) {
  using Cell = TestType;
  using Scalar = typename Cell::ScalarType;
  for (const Index hidden : {9, 130}) {
    for (const bool layer_norm : {false, true}) {
      Cell cell({.inputs = 16, .hidden = hidden, .layer_norm = layer_norm});
      AdamW<Scalar> optimizer(cell.parameters());
      Trainer trainer(cell, CueReward(), optimizer, {.batch = 9, .threads = 1});
      trainer.step(0);
      trainer.evaluate({0, Random::Purpose::validation}, 1);
      const AllocationCounter counter;
      trainer.step(1);
      trainer.step(2);
      trainer.evaluate({0, Random::Purpose::validation}, 1);
      const std::size_t allocations = counter.count();
      INFO("hidden " << hidden << ", layer norm " << layer_norm);
      REQUIRE(allocations == 0);
    }
  }
}

TEMPLATE_LIST_TEST_CASE("stepping one agent allocates nothing after the first step", "[steady]",
                        SteadyCells) {
  using Cell = TestType;
  using Scalar = typename Cell::ScalarType;
  const Cell cell({.inputs = 16, .hidden = 33});
  CellState<Scalar> state = cell.initial_state(1);
  const Matrix<Scalar> x = Matrix<Scalar>::Random(16, 1);
  cell.step(state, x);
  const AllocationCounter counter;
  Scalar sum = 0;
  for (int t = 0; t < 100; ++t) sum += cell.step(state, x).output(0, 0);
  cell.reset(state, 1);
  sum += cell.step(state, x).output(0, 0);
  REQUIRE(counter.count() == 0);
  REQUIRE(std::isfinite(sum));
}

TEMPLATE_LIST_TEST_CASE("a longer episode does not keep its fast weights of every step", "[steady]",
                        SteadyCells) {
  using Cell = TestType;
  using Scalar = typename Cell::ScalarType;
  if constexpr (Cell::plastic) {
    const Cell cell({.inputs = 4, .hidden = 128});
    const auto memory = [&](Index steps) {
      Tape<Scalar> tape;
      Vector<Scalar> gradients = cell.zero_gradients();
      Episode<Scalar> episode = cell.begin(tape, 1, &gradients);
      const Matrix<Scalar> inputs = Matrix<Scalar>::Random(4, steps);
      tape.backward(sum(square(cell.run(episode, inputs, false).output)));
      return static_cast<double>(tape.memory());
    };
    double fast = 0;
    for (const ParameterBlock& block : cell.parameters().blocks()) {
      if (block.name.ends_with("_alpha")) fast += static_cast<double>(block.size());
    }
    // What a step does keep are activities, their adjoints and the factors.
    REQUIRE((memory(800) - memory(400)) / 400 < fast * sizeof(Scalar) / 3);
  }
}
