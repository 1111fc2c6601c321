#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <vector>

#include "plastic/cells/dispatch.hpp"
#include "plastic/io/model_file.hpp"
#include "plastic/io/state_file.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/tasks/cue_reward.hpp"
#include "plastic/train/trainer.hpp"
#include "support/allocation_counter.hpp"
#include "support/errors.hpp"
#include "support/gradcheck.hpp"
#include "support/model_cells.hpp"

// Networks whose fast weights are fast matrices: the rules of the literature.

namespace {

using namespace plastic;
using namespace plastic::testing;

template <class Cell, class Scalar>
Scalar loss_of(const Cell& cell, const Matrix<Scalar>& inputs, Index samples,
               std::type_identity_t<Vector<Scalar>*> gradients) {
  Tape<Scalar> tape;
  Episode<Scalar> episode = cell.begin(tape, samples, gradients);
  const auto result = cell.run(episode, inputs, false);
  const Matrix<Scalar> weights =
      random_matrix<Scalar>(result.output.rows(), result.output.cols(), 5, 0.5, 1.5);
  const Var<Scalar> loss = sum(square(result.output + 0.3) * tape.constant(weights));
  if (gradients != nullptr) tape.backward(loss);
  return loss.value()(0, 0);
}

template <class Scalar>
bool same(const Matrix<Scalar>& a, const Matrix<Scalar>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() && (a.array() == b.array()).all();
}

/// Columns of the samples first .. first + count - 1 of sequences of `samples`.
template <class Scalar>
Matrix<Scalar> part_of(const Matrix<Scalar>& all, Index samples, Index first, Index count) {
  const Index steps = all.cols() / samples;
  Matrix<Scalar> part(all.rows(), steps * count);
  for (Index t = 0; t < steps; ++t) {
    part.middleCols(t * count, count) = all.middleCols(t * samples + first, count);
  }
  return part;
}

template <class Cell>
void check_states_equal(const Cell& cell, const CellState<typename Cell::ScalarType>& a, Index at,
                        const CellState<typename Cell::ScalarType>& b, Index other) {
  for (std::size_t k = 0; k < Cell::states; ++k) {
    CHECK((a.state(k).col(at).array() == b.state(k).col(other).array()).all());
  }
  for (std::size_t k = 0; k < Cell::matrix_shapes(cell.options()).size(); ++k) {
    CHECK(same(a.matrix(k, at), b.matrix(k, other)));
  }
}

}  // namespace

TEST_CASE("Gradients of every rule in every setting are central differences", "[cells][models]") {
  const Matrix<double> inputs = random_matrix(3, 2 * 6, 3);
  for_each_model<double>(4, [&](auto& cell, const std::string& name) {
    INFO(name);
    Vector<double> gradients = cell.zero_gradients();
    loss_of(cell, inputs, 2, &gradients);
    Vector<double>& values = cell.parameters().values();
    double worst = 0;
    for (const ParameterBlock& block : cell.parameters().blocks()) {
      for (Index k = block.offset; k < block.offset + block.size(); ++k) {
        const double kept = values[k], step = 1e-5;
        const auto at = [&](double value) {
          values[k] = value;
          return loss_of(cell, inputs, 2, nullptr);
        };
        const double slope = (at(kept + step) - at(kept - step)) / (2 * step);
        values[k] = kept;
        const double error = std::abs(slope - gradients[k]) / (1 + std::abs(slope));
        if (error > worst) worst = error;
        if (!(error < 1e-6)) {
          FAIL_CHECK(block.name << " " << k - block.offset << ": " << gradients[k] << ", not "
                                << slope);
        }
      }
    }
    CHECK(worst < 1e-6);
    CHECK(gradients.norm() > 0.01);
  });
}

TEST_CASE("Copies that a sweep replays change no bit of a gradient", "[cells][models]") {
  const Matrix<double> inputs = random_matrix(3, 90, 4);
  for_each_model<double>(4, [&](auto& cell, const std::string& name) {
    INFO(name);
    using Cell = std::decay_t<decltype(cell)>;
    Vector<double> expected = cell.zero_gradients();
    auto options = cell.options();
    options.snapshot_interval = 1;
    Cell every(options);
    every.parameters().values() = cell.parameters().values();
    loss_of(every, inputs, 1, &expected);
    for (const Index interval : {0, 7, 200}) {
      options.snapshot_interval = interval;
      Cell other(options);
      other.parameters().values() = cell.parameters().values();
      Vector<double> got = other.zero_gradients();
      loss_of(other, inputs, 1, &got);
      INFO("interval " << interval);
      // Values may overflow in so long an episode of a rule without a bound; then as well.
      CHECK(((got.array() == expected.array()) || (got.array().isNaN() && expected.array().isNaN()))
                .all());
    }
  });
}

TEMPLATE_TEST_CASE("A batch of any rule is its samples alone, and ended ones stay as they are",
                   "[cells][models]", double, float) {
  using Scalar = TestType;
  const Index samples = 3;
  const Matrix<Scalar> inputs = random_matrix<Scalar>(3, samples * 7, 5);
  const std::vector<Index> lengths{7, 0, 4};
  for_each_model<Scalar>(32, [&](auto& cell, const std::string& name) {
    INFO(name);
    Tape<Scalar> tape, ragged_tape;
    Episode<Scalar> episode = cell.begin(tape, samples);
    const Matrix<Scalar> output = cell.run(episode, inputs).output.value();
    const CellState<Scalar> state = cell.state_of(episode);
    Episode<Scalar> ragged = cell.begin(ragged_tape, samples);
    const Matrix<Scalar> ragged_output = cell.run(ragged, inputs, lengths).output.value();
    const CellState<Scalar> ragged_state = cell.state_of(ragged);
    for (Index s = 0; s < samples; ++s) {
      const Matrix<Scalar> own = part_of(inputs, samples, s, 1);
      Tape<Scalar> own_tape;
      Episode<Scalar> alone = cell.begin(own_tape, 1);
      const Matrix<Scalar> own_output = cell.run(alone, own).output.value();
      CHECK(same(own_output, part_of(output, samples, s, 1)));
      check_states_equal(cell, cell.state_of(alone), 0, state, s);

      const Index length = lengths[static_cast<std::size_t>(s)];
      CellState<Scalar> ended = cell.initial_state(1);
      Matrix<Scalar> first(2, 0);
      if (length > 0) cell.run(ended, own.leftCols(length).eval(), first);
      const Matrix<Scalar> got = part_of(ragged_output, samples, s, 1);
      CHECK(same<Scalar>(first, got.leftCols(length)));
      CHECK(got.rightCols(7 - length).isZero(0));
      check_states_equal(cell, ended, 0, ragged_state, s);
    }
  });
}

TEMPLATE_TEST_CASE("The gradient of ended samples is that of their shorter episodes",
                   "[cells][models]", double, float) {
  using Scalar = TestType;
  const Matrix<Scalar> inputs = random_matrix<Scalar>(3, 2 * 6, 6);
  const std::vector<Index> lengths{6, 2};
  for_each_model<Scalar>(32, [&](auto& cell, const std::string& name) {
    INFO(name);
    const auto gradient_of = [&](const Matrix<Scalar>& x, Index samples,
                                 std::span<const Index> of) {
      Tape<Scalar> tape;
      Vector<Scalar> gradients = cell.zero_gradients();
      Episode<Scalar> episode = cell.begin(tape, samples, &gradients);
      tape.backward(sum(square(cell.run(episode, x, of).output)));
      return gradients;
    };
    const Vector<Scalar> together = gradient_of(inputs, 2, lengths);
    const Vector<Scalar> apart = gradient_of(part_of(inputs, 2, 0, 1), 1, {}) +
                                 gradient_of(part_of(inputs, 2, 1, 1).leftCols(2), 1, {});
    const Scalar tolerance = std::is_same_v<Scalar, double> ? Scalar(1e-12) : Scalar(1e-4);
    CHECK((together - apart).norm() <= tolerance * (1 + apart.norm()));
  });
}

TEMPLATE_TEST_CASE("An episode in two parts, from a state or a file, is the whole one",
                   "[cells][models]", double, float) {
  using Scalar = TestType;
  const Matrix<Scalar> inputs = random_matrix<Scalar>(3, 2 * 8, 7);
  for_each_model<Scalar>(32, [&](auto& cell, const std::string& name) {
    INFO(name);
    using Cell = std::decay_t<decltype(cell)>;
    Tape<Scalar> tape, rest_tape;
    Episode<Scalar> whole = cell.begin(tape, 2);
    const Matrix<Scalar> output = cell.run(whole, inputs).output.value();
    CellState<Scalar> state = cell.initial_state(2);
    Matrix<Scalar> first, second;
    cell.run(state, inputs.leftCols(6).eval(), first);
    CHECK(same<Scalar>(first, output.leftCols(6)));

    const Cell copy = from_tensors<Cell>(to_tensors(cell));
    CellState<Scalar> loaded = state_from_tensors(copy, to_tensors(cell, state));
    CellState<Scalar> branch = state;
    Episode<Scalar> rest = cell.begin(rest_tape, state);
    CHECK(same<Scalar>(cell.run(rest, inputs.rightCols(10).eval()).output.value(),
                       output.rightCols(10)));
    for (auto* next : {&loaded, &state, &branch}) {
      const Cell& net = next == &loaded ? copy : cell;
      net.run(*next, inputs.rightCols(10).eval(), second);
      CHECK(same<Scalar>(second, output.rightCols(10)));
    }
    check_states_equal(cell, cell.state_of(whole), 0, branch, 0);
    cell.reset_sample(branch, 1);
    CHECK(branch.hidden().col(1).isZero(0));
    CHECK(branch.matrix(0, 1).isZero(0));
    CHECK(same(branch.matrix(0, 0), state.matrix(0, 0)));
  });
}

TEST_CASE("Training by any rule has the same bits on any number of threads", "[cells][models]") {
  const CueReward task;
  const auto check = [&]<class Cell>(std::type_identity<Cell>) {
    INFO(Cell::cell_name << " " << Cell::rule_name);
    Vector<float> first;
    for (const int threads : {1, 2, 3}) {
      typename Cell::Options options;
      options.inputs = task.inputs();
      options.hidden = 24;
      options.outputs = 1;
      Cell net(options);
      AdamW<float> optimizer(net.parameters());
      Trainer trainer(net, task, optimizer, {.batch = 12, .batches = 3, .threads = threads});
      trainer.run();
      const Vector<float>& values = net.parameters().values();
      CHECK(values.allFinite());
      if (threads == 1) first = values;
      CHECK((values.array() == first.array()).all());
    }
  };
  for (const auto& [rule, cell] :
       std::vector<std::pair<std::string, std::string>>{{"trace", "rnn"},
                                                        {"modulated", "lstm"},
                                                        {"retroactive", "rnn"},
                                                        {"fast_weights", "rnn"},
                                                        {"delta", "delta_rnn"},
                                                        {"stpn", "rnn"},
                                                        {"abcd", "rnn"}}) {
    with_cell_type<float>(cell, rule, [&]<class Cell>(std::type_identity<Cell> type) {
      if constexpr (Cell::is_model) check(type);
    });
  }
}

TEST_CASE("Stepping and training by any rule allocate nothing in the steady state",
          "[cells][models]") {
  const Matrix<float> x = random_matrix<float>(3, 2, 8);
  for_each_model<float>(4, [&](auto& cell, const std::string& name) {
    INFO(name);
    CellState<float> state = cell.initial_state(2), other = state;
    Tape<float> tape;
    Vector<float> gradients = cell.zero_gradients();
    const Matrix<float> inputs = random_matrix<float>(3, 2 * 5, 9);
    const auto train = [&] {
      tape.clear();
      Episode<float> episode = cell.begin(tape, 2, &gradients);
      tape.backward(sum(square(cell.run(episode, inputs, false).output)));
    };
    const auto once = [&] {
      cell.step(state, x);
      other = state;
      train();
    };
    for (int k = 0; k < 3; ++k) once();
    std::size_t count = 0;
    {
      const AllocationCounter counter;
      once();
      count = counter.count();
    }
    CHECK(count == 0);
  });
}

TEST_CASE("Settings that no published network has are refused by name", "[cells][models]") {
  CHECK_THROWS_WITH(TraceRNN<float>({.clip = 0}),
                    Catch::Contains("TraceOptions: clip must be a finite number in"));
  CHECK_THROWS_WITH(TraceClampRNN<float>({.inputs = 5, .hidden = 4}),
                    Catch::Contains("inputs of the cell \"clamp\" must be in 1 .. 4, got 5"));
  CHECK_THROWS_WITH(
      ModulatedRNN<float>({.form = TraceForm::oja}),
      Catch::Contains("ModulatedOptions: form must be decay, clip, soft or additive"));
  CHECK_THROWS_WITH(RetroactiveRNN<float>({.form = TraceForm::decay}),
                    Catch::Contains("RetroactiveOptions: form must be clip, soft or additive"));
  CHECK_THROWS_WITH(DeltaNet<float>({.hidden = 10, .heads = 3}),
                    Catch::Contains("DeltaOptions: hidden must be a multiple of heads, 3, got 10"));
  CHECK_THROWS_WITH(FastWeightsRNN<float>({.loops = 0}),
                    Catch::Contains("FastWeightsOptions: loops must be in 1 .. 1000, got 0"));
  CHECK_THROWS_WITH(StpnRNN<float>({.clip = -1}), Catch::Contains("StpnOptions: clip"));
  Settings settings = to_settings(AbcdOptions{});
  settings["form"] = "ABCDE";
  CHECK_THROWS_WITH(detail::options_from<AbcdOptions>(settings),
                    Catch::Contains("\"form\" must be one of A AD AD_lr"));
  settings.erase("form");
  CHECK_THROWS_WITH(detail::options_from<AbcdOptions>(settings),
                    Catch::Contains("\"form\" is missing"));
}

TEST_CASE("The file of a network without biases is read as one whose biases are zero",
          "[cells][models]") {
  const DeltaNet<float> net({.inputs = 3, .hidden = 4});
  TensorFile file = to_tensors(net);
  file.tensors.erase("param.i_fc.bias");
  file.tensors.erase("param.out_fc.bias");
  const auto read = from_tensors<DeltaNet<float>>(file);
  CHECK(read.parameters().matrix("i_fc.bias").isZero(0));
  CHECK(read.parameters().matrix("out_fc.bias").isZero(0));
  CHECK(read.parameters().matrix("i_fc.weight") == net.parameters().matrix("i_fc.weight"));
  file.tensors.erase("param.i_fc.weight");
  CHECK(rejection([&] { from_tensors<DeltaNet<float>>(file); }) ==
        "TensorFile: tensor \"param.i_fc.weight\" must be in the file, got no tensor of that name");
}
