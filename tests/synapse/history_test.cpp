#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "plastic/synapse/clipped_rate.hpp"
#include "plastic/synapse/synapse.hpp"
#include "plastic/tape/functions.hpp"
#include "support/allocation_counter.hpp"
#include "support/errors.hpp"
#include "support/gradcheck.hpp"
#include "support/synapse_programs.hpp"

using namespace plastic;
using namespace plastic::testing;

TEMPLATE_TEST_CASE("Every version of the fast weights can be replayed", "[synapse][history]", float,
                   double) {
  constexpr int updates = 150;  // the history thins out its snapshots at 33, 65 and 129
  for (const double clip : {0.0, 0.3}) {
    const Program p{.name = "",
                    .steps = repeated("w", updates),
                    .samples = 3,
                    .clip = clip,
                    .initial_state = true};
    const auto values = inputs_of<TestType>(p);
    const Naive naive(p, widened(values));
    Tape<TestType> tape;
    const auto in = variables(tape, values);
    Synapse<TestType> synapse = open<TestType>(p, in);
    const auto check_all = [&](Index newest) {
      CHECK(synapse.version() == newest);
      double worst = 0;
      for (Index v = newest; v >= 0; --v) {
        for (Index s = 0; s < p.samples; ++s) {
          const Matrix<double>& expected =
              naive.weights[static_cast<std::size_t>(v)][static_cast<std::size_t>(s)];
          worst = std::max(worst, error_ratio<TestType>(synapse.fast_weight_at(v, s), expected));
        }
      }
      CHECK(worst <= 1);
    };
    check_all(0);
    for (Index t = 0; t < updates; ++t) {
      synapse.write({rows(in[pre], t * p.inputs, p.inputs),
                     rows(in[post], t * p.outputs, p.outputs), p.bias_pre},
                    rows(in[rate], t, 1), rows(in[decay], t, 1));
      if (t % 7 != 0) continue;  // else several updates wait
      INFO("after update " << t);
      check_all(t + 1);
    }
    const std::size_t memory = tape.memory();
    for (int turn = 0; turn < 20; ++turn) check_all(updates);
    CHECK(tape.memory() == memory);
  }
}

TEMPLATE_TEST_CASE("A synapse without history needs no tape behind it", "[synapse][history]", float,
                   double) {
  for (const double clip : {0.0, 0.3}) {
    const Program p{.name = "", .steps = repeated("rw", 30), .samples = 3, .clip = clip};
    auto values = inputs_of<TestType>(p);
    Tape<TestType> whole;
    const auto in = variables(whole, values);
    Synapse<TestType> expected = open<TestType>(p, in);
    Tape<TestType> tape;
    std::vector<Var<TestType>> slow;
    for (std::size_t k = 0; k < pre; ++k) slow.push_back(tape.constant(values[k]));
    Synapse<TestType> synapse = open<TestType>(p, slow, false);
    const auto begin = tape.position();
    std::size_t memory = 0;
    bool same = true;
    for (Index t = 0; t < 30; ++t) {
      const auto part = [&](Tape<TestType>& on, Input input, Index rows) {
        return on.constant(values[input].middleRows(t * rows, rows));
      };
      const auto step = [&](Tape<TestType>& on, Synapse<TestType>& by) {
        const auto y = by.read(part(on, x, p.inputs));
        by.write({part(on, pre, p.inputs), part(on, post, p.outputs), 1}, part(on, rate, 1),
                 part(on, decay, 1));
        return Matrix<TestType>(y.value());
      };
      tape.rewind(begin);
      same = same && step(tape, synapse) == step(whole, expected);
      if (t == 0) memory = tape.memory();
    }
    CHECK(same);
    CHECK(tape.memory() == memory);
    CHECK(synapse.version() == 30);
    CHECK(synapse.fast_weight(2) == expected.fast_weight(2));
    CHECK(
        rejection([&] { synapse.fast_weight_at(3, 0); }) ==
        "Synapse::fast_weight_at: the synapse must be one that keeps its history, got one that is "
        "not differentiable");
  }
}

TEMPLATE_TEST_CASE("A look at old weights between two parts of a sweep changes no adjoint",
                   "[synapse][history]", float, double) {
  constexpr Index steps = 140;  // so many that the sweep replays what it has no copies of
  const auto gradient = [](bool looks) {
    Tape<TestType> tape;
    const auto alpha = tape.variable(random_matrix<TestType>(4, 3, 1));
    const auto pre = tape.variable(random_matrix<TestType>(3, 2, 2));
    const auto rate = tape.variable(Matrix<TestType>::Constant(1, 2, TestType(0.3)));
    const auto decay = tape.variable(Matrix<TestType>::Constant(1, 2, TestType(0.6)));
    Synapse<TestType> synapse(tape,
                              {tape.variable(random_matrix<TestType>(4, 3, 3)),
                               tape.variable(random_matrix<TestType>(4, 1, 4)), alpha,
                               tape.variable(random_matrix<TestType>(4, 1, 5))},
                              {.samples = 2});
    std::vector<typename Tape<TestType>::Position> positions;
    Var<TestType> y = synapse.read(pre);
    for (Index t = 0; t < steps; ++t) {
      positions.push_back(tape.position());
      synapse.write({pre, tanh(y), 1}, rate, decay);
      y = synapse.read(pre);
    }
    tape.backward(sum(square(y)), positions.back());
    for (std::size_t t = positions.size() - 1; t-- > 0;) {
      if (looks) CHECK(synapse.fast_weight_at(static_cast<Index>(t * 7) % steps, 1).allFinite());
      tape.sweep(positions[t + 1], positions[t]);
    }
    tape.sweep(positions.front(), {});
    Vector<TestType> all(alpha.value().size() + pre.value().size() + 4);
    all << alpha.adjoint().reshaped(), pre.adjoint().reshaped(), rate.adjoint().reshaped(),
        decay.adjoint().reshaped();
    return all;
  };
  CHECK(gradient(true) == gradient(false));
}

TEMPLATE_TEST_CASE("A long differentiable history keeps few copies of the weights",
                   "[synapse][history]", float, double) {
  constexpr Index outputs = 200;
  constexpr int steps = 2000;
  const auto memory = [](Index inputs, double forgetting) {
    const auto matrix = [](Index rows, Index cols, std::uint64_t seed) {
      return random_matrix<TestType>(rows, cols, seed);
    };
    const auto number = [](double v) { return Matrix<TestType>::Constant(1, 1, TestType(v)); };
    Tape<TestType> tape;
    const auto slow = tape.variable(matrix(outputs, inputs, 1));
    const auto slow_bias = tape.variable(matrix(outputs, 1, 2));
    const auto before = tape.variable(matrix(inputs, 1, 3));
    const auto after = tape.variable(matrix(outputs, 1, 4));
    const auto rate_of_all = tape.variable(number(0.01));
    const auto decay_of_all = tape.variable(number(forgetting));
    Synapse<TestType> synapse(tape, {slow, slow_bias, slow, slow_bias}, {});
    Var<TestType> y;
    for (int t = 0; t < steps; ++t) {
      synapse.write({before, after, 1}, rate_of_all, decay_of_all);
      y = tanh(synapse.read(before));
    }
    tape.backward(y);
    CHECK(slow.adjoint().allFinite());
    return static_cast<double>(tape.memory());
  };
  constexpr Index inputs = 200;
  const double copy = static_cast<double>(sizeof(TestType)) * outputs * inputs;
  const double chunk = 0x1p21;
  for (const double forgetting : {0.01, 0.3}) {  // updates that can be undone, and others
    INFO("decay " << forgetting);
    // With one input the copies take hardly any memory, and what remains is the vectors of the
    // steps.
    const double copies = memory(inputs, forgetting) - memory(1, forgetting);
    CHECK(copies < 2.4 * std::sqrt(steps) * copy + chunk);
  }
}

TEST_CASE("A long history in float has the gradient of double", "[synapse][history]") {
  const Program p{.name = "", .steps = repeated("wr", 600), .samples = 2};
  for (const float forgetting : {0.01F, 0.25F, 0.3F}) {
    INFO("decay " << forgetting);
    auto values = inputs_of<float>(p);
    values[decay].setConstant(forgetting);
    const auto gradient = [&]<class Scalar>(Scalar) {
      Tape<Scalar> tape;
      std::vector<Var<Scalar>> in;
      for (const auto& value : values) in.push_back(tape.variable(value.template cast<Scalar>()));
      Synapse<Scalar> synapse = open<Scalar>(p, in);
      const auto results = run<Scalar>(p, in, synapse);
      Var<Scalar> loss = results[0] * results[0];
      for (const auto& y : results) loss = loss + sin(y);
      tape.backward(loss);
      std::vector<Matrix<double>> all;
      for (const auto& v : in) {
        if (v.node().adjoint != nullptr) all.push_back(v.adjoint().template cast<double>());
      }
      return all;
    };
    const auto in_float = gradient(0.0F);
    const auto in_double = gradient(0.0);
    REQUIRE(in_float.size() == in_double.size());
    for (std::size_t k = 0; k < in_float.size(); ++k) {
      INFO("gradient " << k);
      const double largest = in_double[k].cwiseAbs().maxCoeff();
      CHECK((in_float[k] - in_double[k]).cwiseAbs().maxCoeff() <= rounding<float>(100, largest));
    }
  }
}

TEMPLATE_TEST_CASE("A history goes on after a sweep over its end", "[synapse][history]", float,
                   double) {
  const Program p{.name = "", .steps = repeated("w", 300)};
  auto values = inputs_of<TestType>(p);
  values[decay].setConstant(TestType(0.1));
  const Naive naive(p, widened(values));
  for (int back = 1; back <= 17; ++back) {
    INFO(back << " updates swept");
    Tape<TestType> tape;
    const auto in = variables(tape, values);
    Synapse<TestType> synapse = open<TestType>(p, in);
    Var<TestType> y;
    typename Tape<TestType>::Position position;
    for (Index t = 0; t < 300; ++t) {
      if (t == 40 - back) position = tape.position();
      synapse.write({rows(in[pre], t * p.inputs, p.inputs),
                     rows(in[post], t * p.outputs, p.outputs), p.bias_pre},
                    rows(in[rate], t, 1), rows(in[decay], t, 1));
      y = synapse.read(rows(in[x], 0, p.inputs));
      if (t == 39) tape.backward(y, position);
    }
    double worst = 0;
    for (Index v = 300; v >= 0; --v) {
      worst = std::max(worst, error_ratio<TestType>(synapse.fast_weight_at(v, 0),
                                                    naive.weights[static_cast<std::size_t>(v)][0]));
    }
    CHECK(worst <= 1);
    tape.backward(y);
    const Matrix<TestType> first = in[decay].adjoint();
    tape.backward(y);
    CHECK(in[decay].adjoint() == first);
  }
}

TEMPLATE_TEST_CASE("A cleared tape repeats an episode of a synapse without allocating",
                   "[synapse][history]", float, double) {
  const Program p{.name = "", .steps = repeated("rtwr", 30), .samples = 3, .clip = 0.4};
  const auto values = inputs_of<TestType>(p);
  for (const bool differentiable : {true, false}) {
    Tape<TestType> tape;
    std::array<Var<TestType>, input_count> in;
    const auto round = [&] {
      tape.clear();
      for (std::size_t k = 0; k < input_count; ++k) in[k] = tape.variable(values[k]);
      SlowWeights<TestType> slow{in[weight], in[bias], in[alpha], in[bias_alpha]};
      Synapse<TestType> synapse(
          tape, slow, {.samples = 3, .differentiable = differentiable, .weight_clip = 0.4});
      Var<TestType> loss = sum(in[weight]);
      for (Index t = 0; t < 30; ++t) {
        const auto y = synapse.read(rows(in[x], t * p.inputs, p.inputs));
        const auto u = synapse.read_transposed(y);
        const RankOne<TestType> change{u, y, 1};
        const auto limited = clipped_rate<TestType>(rows(in[rate], t, 1), {&change, 1}, 1);
        synapse.write(change, limited, rows(in[decay], t, 1));
        loss = loss + sum(y);
      }
      if (differentiable) tape.backward(loss);
    };
    round();
    const std::size_t memory = tape.memory();
    std::size_t allocations = 0;
    {
      const AllocationCounter counter;
      for (int turn = 0; turn < 3; ++turn) round();
      allocations = counter.count();
    }
    CHECK(allocations == 0);
    CHECK(tape.memory() == memory);
  }
}
