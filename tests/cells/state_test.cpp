// Live states: copies, constant access, resets of one sample, and files.

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "plastic/io/model_file.hpp"
#include "plastic/io/state_file.hpp"
#include "support/allocation_counter.hpp"
#include "support/cells.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"

using namespace plastic;
using plastic::testing::AllCells;
using plastic::testing::AllocationCounter;
using plastic::testing::Folder;
using plastic::testing::rejection;

namespace {

// Among the sizes, 5 has layers of one tile and 70 of several; from 21 on the output layer runs
// across.
std::vector<CellOptions> settings() {
  std::vector<CellOptions> all;
  for (const Index hidden : {5, 21, 70}) {
    all.push_back({.inputs = 3,
                   .hidden = hidden,
                   .outputs = 2,
                   .extra = 2,
                   .eta0 = 0.5,
                   .decay0 = 0.2,
                   .inner_scale = 1,
                   .seed = 3});
    all.push_back(all.back());
    all.back().weight_clip = 0.02;
    all.back().layer_norm = true;
    all.push_back(all.back());
    all.back().modulation = false;
    all.back().alpha_mode = AlphaMode::none;
  }
  return all;
}

template <class Scalar>
Matrix<Scalar> input(int step, Index samples) {
  Matrix<Scalar> x(3, samples);
  for (Index i = 0; i < x.size(); ++i) {
    x.data()[i] = static_cast<Scalar>(std::sin(1.0 + 3.7 * step + 0.9 * static_cast<double>(i)));
  }
  return x;
}

// The outputs of the steps first .. first + 4, side by side.
template <class Cell, class Scalar>
Matrix<Scalar> outputs(const Cell& cell, CellState<Scalar>& state, int first) {
  Matrix<Scalar> all(2, 5 * state.samples());
  for (int t = 0; t < 5; ++t) {
    all.middleCols(t * state.samples(), state.samples()) =
        cell.step(state, input<Scalar>(first + t, state.samples())).output;
  }
  return all;
}

template <class Scalar>
bool same_bits(const Matrix<Scalar>& a, const Matrix<Scalar>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() && (a.array() == b.array()).all();
}

template <class Cell, class F>
void for_each_setting(F&& f) {
  for (const CellOptions& options : settings()) {
    INFO(Cell::cell_name << " " << Cell::rule_name << ", hidden " << options.hidden << ", clip "
                         << options.weight_clip);
    for (const int steps : {0, 1, 4}) f(options, steps);
  }
}

template <class Cell>
auto state_after(const Cell& cell, int steps, Index samples = 2) {
  auto state = cell.initial_state(samples);
  for (int t = 0; t < steps; ++t) {
    cell.step(state, input<typename Cell::ScalarType>(t, samples));
  }
  return state;
}

template <class Cell>
void check_the_same(const Cell& cell, const CellState<typename Cell::ScalarType>& a,
                    const CellState<typename Cell::ScalarType>& b) {
  for (std::size_t k = 0; k < Cell::states; ++k) CHECK(a.state(k) == b.state(k));
  if constexpr (Cell::plastic) {
    for (std::size_t l = 0; l < cell.layer_names().size(); ++l) {
      for (Index s = 0; s < a.samples(); ++s) {
        CHECK(a.fast_weight(l, s) == b.fast_weight(l, s));
        CHECK(a.fast_bias(l, s) == b.fast_bias(l, s));
      }
    }
  }
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("Looking at the fast weights changes no bit of what follows",
                        "[cells][state]", AllCells) {
  using Cell = TestType;
  if constexpr (Cell::plastic) {
    for (const CellOptions& options : settings()) {
      const Cell cell(options);
      auto looked_at = cell.initial_state(2), untouched = cell.initial_state(2);
      for (int t = 0; t < 8; ++t) {
        const auto x = input<typename Cell::ScalarType>(t, 2);
        REQUIRE(cell.step(looked_at, x).output == cell.step(untouched, x).output);
        const std::size_t l = static_cast<std::size_t>(t) % cell.layer_names().size();
        REQUIRE(looked_at.fast_weight(l, 1).allFinite());
        REQUIRE(looked_at.fast_bias(0, 0).allFinite());
      }
    }
  }
}

TEMPLATE_LIST_TEST_CASE("A copy of a state goes on with the same bits, and by itself",
                        "[cells][state]", AllCells) {
  using Cell = TestType;
  using Scalar = typename Cell::ScalarType;
  for_each_setting<Cell>([](const CellOptions& options, int steps) {
    const Cell cell(options);
    auto original = state_after(cell, steps);
    CellState<Scalar> copy = original, other_way = cell.initial_state(2);
    const CellState<Scalar>& constant = original;
    CellState<Scalar> third(constant);
    cell.step(other_way, input<Scalar>(30, 2));
    other_way = original;
    CHECK(copy.samples() == 2);
    check_the_same(cell, copy, original);
    const Matrix<Scalar> expected = outputs(cell, original, steps);
    CHECK(same_bits(outputs(cell, copy, steps), expected));
    CHECK(same_bits(outputs(cell, other_way, steps), expected));
    check_the_same(cell, copy, original);
    // The third copy has not changed.
    CHECK(same_bits(outputs(cell, third, steps), expected));
  });
}

TEST_CASE("A copy takes the place of any state", "[cells][state]") {
  using Cell = PlasticLSTM<Gradient, float>;
  const Cell cell({.inputs = 3, .hidden = 5, .outputs = 2, .seed = 1});
  const Cell wider({.inputs = 3, .hidden = 9, .outputs = 2, .seed = 2});
  const PlasticRNN<None, float> plain({.inputs = 3, .hidden = 4, .outputs = 2});
  auto original = state_after(cell, 3);
  CellState<float> states[] = {CellState<float>(), state_after(cell, 2, 5), state_after(wider, 2),
                               state_after(plain, 1)};
  const CellState<float> start = original;
  const Matrix<float> expected = outputs(cell, original, 3);
  for (CellState<float>& state : states) {
    state = start;
    CHECK(same_bits(outputs(cell, state, 3), expected));
  }
  CellState<float>& itself = states[0];
  states[0] = itself;
  CHECK(states[0].samples() == 2);
  states[0] = CellState<float>();
  const CellState<float> empty, copy_of_empty = empty;
  states[1] = empty;
  CHECK(states[1].samples() == 0);
  CHECK(copy_of_empty.samples() == 0);
  CHECK(rejection([&] { cell.step(states[1], input<float>(0, 2)); }).ends_with("an empty one"));
}

TEMPLATE_LIST_TEST_CASE("A copy follows the parameters as its original does", "[cells][state]",
                        AllCells) {
  using Cell = TestType;
  using Scalar = typename Cell::ScalarType;
  for (const bool in_place : {true, false}) {
    for_each_setting<Cell>([&](CellOptions options, int steps) {
      Cell cell(options);
      auto original = state_after(cell, steps);
      CellState<Scalar> before = original;
      options.seed = 9;
      Vector<Scalar> other = Cell(options).parameters().values();
      if (in_place) {
        cell.parameters().values() = other;
      } else {
        cell.parameters().values() = std::move(other);
      }
      CellState<Scalar> after = original;
      const Matrix<Scalar> expected = outputs(cell, original, steps);
      CHECK(same_bits(outputs(cell, before, steps), expected));
      CHECK(same_bits(outputs(cell, after, steps), expected));
    });
  }
}

TEST_CASE("A state whose cell has become another one is not copied", "[cells][state]") {
  PlasticRNN<Hebbian, float> cell({.inputs = 3, .hidden = 5, .outputs = 2});
  const auto state = state_after(cell, 2);
  cell = PlasticRNN<Hebbian, float>({.inputs = 3, .hidden = 6, .outputs = 2});
  CHECK(rejection([&] { CellState<float> copy = state; }) ==
        "CellState: the cell's parameters must be those that the state or episode began with, got "
        "different ones: begin a new one");
}

TEMPLATE_LIST_TEST_CASE("Copying to a state of the same size allocates nothing", "[cells][state]",
                        AllCells) {
  using Cell = TestType;
  const Cell cell(settings().back());
  auto state = state_after(cell, 3);
  auto copy = state;
  const auto x = input<typename Cell::ScalarType>(3, 2);
  cell.step(copy, x);
  const AllocationCounter counter;
  for (int t = 0; t < 3; ++t) {
    copy = state;
    cell.step(copy, x);
    cell.reset_sample(copy, 1);
    state = copy;
    cell.step(state, x);
  }
  const std::size_t allocations = counter.count();
  CHECK(allocations == 0);
}

TEMPLATE_LIST_TEST_CASE("A constant state shows what the state has", "[cells][state]", AllCells) {
  using Cell = TestType;
  using Scalar = typename Cell::ScalarType;
  for_each_setting<Cell>([](CellOptions options, int steps) {
    Cell cell(options);
    auto state = state_after(cell, steps);
    auto untouched = state;
    const CellState<Scalar>& constant = state;
    const CellState<Scalar> copy = state;
    options.seed = 9;
    // A pending update is shown with the new A and stays pending.
    cell.parameters().values() = Cell(options).parameters().values();
    check_the_same(cell, constant, copy);
    options.seed = 10;
    cell.parameters().values() = Cell(options).parameters().values();
    check_the_same(cell, constant, copy);
    CHECK(same_bits(outputs(cell, state, steps), outputs(cell, untouched, steps)));

    if constexpr (Cell::states > 0) {
      CHECK(constant.hidden() == state.hidden());
      CHECK(constant.hidden().data() == state.hidden().data());
    }
    if constexpr (Cell::plastic) {
      for (std::size_t l = 0; l < cell.layer_names().size(); ++l) {
        const Matrix<Scalar> weight = constant.fast_weight(l, 1);
        const Vector<Scalar> bias = constant.fast_bias(l, 1);
        CHECK(weight == state.fast_weight(l, 1));
        CHECK(bias == state.fast_bias(l, 1));
        CHECK(constant.fast_weight(l, 1) == weight);
      }
    }
    const std::size_t layers = cell.layer_names().size();
    CHECK(rejection([&] { constant.fast_weight(layers, 0); }) != "no error");
    CHECK(rejection([&] { constant.fast_bias(0, 2); }) != "no error");
    CHECK(rejection([&] { constant.state(Cell::states); }) != "no error");
  });
}

TEMPLATE_TEST_CASE("A constant synapse shows updates that wait, and they still wait",
                   "[cells][state]", float, double) {
  using Scalar = TestType;
  for (const Index outputs : {2, 30}) {  // across, and down
    Tape<Scalar> tape;
    const auto random = [&](Index rows, Index cols) {
      return tape.variable(Matrix<Scalar>(Matrix<Scalar>::Random(rows, cols)));
    };
    const SlowWeights<Scalar> slow{random(outputs, 40), random(outputs, 1), random(outputs, 40),
                                   random(outputs, 1)};
    Synapse<Scalar> synapse(tape, slow, {.samples = 2});
    for (int t = 0; t < 3; ++t) {
      synapse.write({random(40, 2), random(outputs, 2), 1}, random(1, 2), random(1, 2));
    }
    const Synapse<Scalar>& constant = synapse;
    const Matrix<Scalar> weight = constant.fast_weight(1);
    const Vector<Scalar> bias = constant.fast_bias(1);
    CHECK(weight.norm() > 0);
    CHECK(constant.fast_weight(1) == weight);
    CHECK(synapse.fast_weight(1) == weight);
    CHECK(synapse.fast_bias(1) == bias);

    // It has a history, in which nothing can be changed.
    Synapse<Scalar> present(tape, slow, {.samples = 2, .differentiable = false});
    const std::string expected =
        " the synapse must be one that is not differentiable, got one that keeps its history";
    CHECK(rejection([&] { synapse.copy(present); }) == "Synapse::copy:" + expected);
    CHECK(rejection([&] { present.copy(synapse); }) == "Synapse::copy:" + expected);
    CHECK(rejection([&] { synapse.reset_sample(0); }) == "Synapse::reset_sample:" + expected);
    CHECK(rejection([&] { synapse.resume(1); }) == "Synapse::resume:" + expected);
    CHECK(rejection([&] { present.resume(-1); }) ==
          "Synapse::resume: version must be at least 0, got -1");
    CHECK(rejection([&] { present.reset_sample(2); }) ==
          "Synapse::reset_sample: sample must be in 0 .. 1, got 2");
    Synapse<Scalar> more(tape, slow, {.samples = 3, .differentiable = false});
    CHECK(rejection([&] { more.copy(present); }) ==
          "Synapse::copy: the other synapse's samples must be 3, got 2");
  }
}

TEST_CASE("Threads branch off one state", "[cells][state][threads]") {
  const PlasticLSTM<Hebbian, float> cell({.inputs = 3, .hidden = 21, .outputs = 2});
  auto state = state_after(cell, 4);
  const CellState<float>& constant = state;
  std::vector<Matrix<float>> results(4);
  std::vector<std::thread> threads;
  for (Matrix<float>& result : results) {
    threads.emplace_back([&] {
      CellState<float> branch = constant;
      const Matrix<float> weight = constant.fast_weight(1, 0);
      result = outputs(cell, branch, 4) * (weight.allFinite() ? 1 : 0);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const Matrix<float> expected = outputs(cell, state, 4);
  for (const Matrix<float>& result : results) CHECK(same_bits(result, expected));
}

TEMPLATE_LIST_TEST_CASE("One sample is reset and the others go on as if nothing were",
                        "[cells][state]", AllCells) {
  using Cell = TestType;
  using Scalar = typename Cell::ScalarType;
  for_each_setting<Cell>([](const CellOptions& options, int steps) {
    const Cell cell(options);
    auto state = state_after(cell, steps, 3);
    auto expected = state;
    for (const bool poisoned : {false, true}) {
      if (poisoned) {
        Matrix<Scalar> x = input<Scalar>(steps, 3);
        cell.step(expected, x);
        x.col(1).setConstant(std::numeric_limits<Scalar>::quiet_NaN());
        cell.step(state, x);
      }
      cell.reset_sample(state, 1);
      auto fresh = cell.initial_state(3);
      for (std::size_t k = 0; k < Cell::states; ++k) CHECK(state.state(k).col(1).isZero(0));
      for (int t = 0; t < 3; ++t) {
        const Matrix<Scalar> x = input<Scalar>(40 + t, 3);
        const auto got = cell.step(state, x).output;
        const auto others = cell.step(expected, x).output;
        CHECK(got.col(0) == others.col(0));
        CHECK(got.col(2) == others.col(2));
        CHECK((got.col(1) - cell.step(fresh, x).output.col(1)).norm() <=
              100 * std::numeric_limits<Scalar>::epsilon());
      }
    }
    cell.reset_sample(state, 1);
    if constexpr (Cell::plastic) {
      for (std::size_t l = 0; l < cell.layer_names().size(); ++l) {
        CHECK(state.fast_weight(l, 1).isZero(0));
        CHECK(state.fast_bias(l, 1).isZero(0));
        CHECK(state.fast_bias(l, 0) == expected.fast_bias(l, 0));
        CHECK(state.fast_weight(l, 2) == expected.fast_weight(l, 2));
      }
    }
    for (const Index none : {Index{-1}, Index{3}}) {
      CHECK(rejection([&] { cell.reset_sample(state, none); }) ==
            "PlasticCell::reset_sample: sample must be in 0 .. 2, got " + std::to_string(none));
    }
  });
}

TEMPLATE_LIST_TEST_CASE("A state comes back from a file and goes on with the same bits",
                        "[cells][state]", AllCells) {
  using Cell = TestType;
  using Scalar = typename Cell::ScalarType;
  const Folder folder;
  const auto path = folder / "state.safetensors";
  for_each_setting<Cell>([&](const CellOptions& options, int steps) {
    Cell cell(options);
    auto state = state_after(cell, steps);
    save_state(path, cell, state);
    CellState<Scalar> back = load_state(path, cell);
    CHECK(back.samples() == 2);
    check_the_same(cell, back, state);
    CHECK(safetensors_bytes(to_tensors(cell, back)) == testing::content(path));
    // In another process the cell lies elsewhere.
    const Cell elsewhere = cell;
    CellState<Scalar> there = load_state(path, elsewhere);
    const Matrix<Scalar> expected = outputs(cell, state, steps);
    CHECK(same_bits(outputs(cell, back, steps), expected));
    CHECK(same_bits(outputs(elsewhere, there, steps), expected));

    cell.parameters().values() = Vector<Scalar>(elsewhere.parameters().values());
    CHECK(safetensors_bytes(to_tensors(cell, state)) ==
          safetensors_bytes(to_tensors(elsewhere, there)));
  });
}

TEST_CASE("A file of another state is refused by name", "[cells][state]") {
  using Cell = PlasticRNN<Hebbian, float>;
  const CellOptions options{.inputs = 3, .hidden = 5, .outputs = 2};
  const Cell cell(options);
  const TensorFile good = to_tensors(cell, state_after(cell, 3));
  CHECK(good.tensor("state.0").shape() == std::vector<Index>{2, 5});
  CHECK(good.tensor("fast.h_fc.weight").shape() == std::vector<Index>{2, 5, 5});
  CHECK(good.tensor("fast.in_fc.bias").shape() == std::vector<Index>{2, 5});
  CHECK(good.tensor("fast.in_fc.scale").shape() == std::vector<Index>{2, 1});
  CHECK(good.tensor("fast.in_fc.scale").dtype() == DType::F64);
  CHECK(good.tensors.size() == 13);
  CHECK(good.metadata.at("updates") == "3");

  const auto refused = [](const auto& net, const TensorFile& file) {
    return rejection([&] { state_from_tensors(net, file); });
  };
  CHECK(refused(cell, good) == "no error");
  CHECK(refused(PlasticLSTM<Hebbian, float>(options), good) ==
        "state_from_tensors: \"cell\" of the file must be lstm, as in the cell, got rnn");
  CHECK(refused(PlasticRNN<Gradient, float>(options), good) ==
        "state_from_tensors: \"rule\" of the file must be gradient, as in the cell, got hebbian");
  CHECK(refused(PlasticRNN<Hebbian, double>(options), good) ==
        "Tensor: the type of tensor \"state.0\" must be F64 (double), got F32 (float): read it as "
        "that type");
  CellOptions other = options;
  other.hidden = 6;
  CHECK(refused(Cell(other), good) ==
        "state_from_tensors: \"hidden\" of the file must be 6, as in the cell, got 5");
  other = options;
  other.eta0 = 0.2;
  CHECK(refused(Cell(other), good) ==
        "state_from_tensors: \"eta0\" of the file must be 0.2, as in the cell, got 0.1");

  TensorFile bad = good;
  bad.metadata.erase("samples");
  CHECK(refused(cell, bad) == "settings: \"samples\" is missing from the metadata");
  CHECK(refused(cell, to_tensors(cell)) ==
        "state_from_tensors: the file must be that of a state (save_state), got that of a network "
        "(load reads it)");
  CHECK(rejection([&] { from_tensors<Cell>(good); }) ==
        "from_tensors: the file must be that of a network (save), got that of a state (load_state "
        "reads it)");
  for (const char* number : {"0", "-1"}) {
    bad.metadata["samples"] = number;
    CHECK(refused(cell, bad) ==
          std::string("state_from_tensors: \"samples\" of the file must be at least 1, got ") +
              number);
  }
  bad.metadata["samples"] = "1000000000";
  CHECK(refused(cell, bad) ==
        "Tensor: the shape of tensor \"state.0\" must be [1000000000, 5], got [2, 5]");
  bad = good;
  const std::string range = sizeof(Index) > 4 ? "0 .. 2^62" : "0 .. 2^30";
  for (const Index number : {Index{-1}, std::numeric_limits<Index>::max()}) {
    bad.metadata["updates"] = std::to_string(number);
    CHECK(refused(cell, bad) == "state_from_tensors: \"updates\" of the file must be in " + range +
                                    ", got " + std::to_string(number));
  }
  bad = good;
  bad.tensors.erase("fast.h_fc.bias");
  CHECK(refused(cell, bad) ==
        "TensorFile: tensor \"fast.h_fc.bias\" must be in the file, got no tensor of that name");
  for (const char* name : {"state.1", "fast.more"}) {
    bad = good;
    bad.tensors[name] = Tensor();
    CHECK(refused(cell, bad) ==
          std::string("state_from_tensors: every state.* and fast.* tensor must be one of the "
                      "cell's, got ") +
              name);
  }
  bad = good;
  bad.tensors["note"] = Tensor();
  CHECK(refused(cell, bad) == "no error");

  const Cell stranger(options);
  const auto state = stranger.initial_state(1);
  CHECK(rejection([&] { to_tensors(cell, state); }) ==
        "to_tensors: the state or episode must be one that this cell began (initial_state or "
        "begin), got one of another cell");
  CHECK(rejection([&] { to_tensors(cell, CellState<float>()); }).ends_with("an empty one"));
  const Folder folder;
  CHECK_THROWS_WITH(load_state(folder / "none", cell), Catch::Contains("there is no such file"));
}
