#include "plastic/synapse/synapse.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <string>

#include "plastic/tape/functions.hpp"
#include "support/errors.hpp"
#include "support/gradcheck.hpp"
#include "support/synapse_programs.hpp"

using namespace plastic;
using namespace plastic::testing;

TEMPLATE_TEST_CASE("A synapse computes what whole matrices compute", "[synapse]", float, double) {
  for (const Program& p : all_programs()) {
    INFO(p.name);
    const auto values = inputs_of<TestType>(p);
    const Naive naive(p, widened(values));
    for (const bool differentiable : {true, false}) {
      Tape<TestType> tape;
      const auto in = variables(tape, values);
      Synapse<TestType> synapse = open<TestType>(p, in, differentiable);
      const auto results = run<TestType>(p, in, synapse);
      REQUIRE(results.size() == naive.results.size());
      double worst = 0;
      for (std::size_t k = 0; k < results.size(); ++k) {
        worst = std::max(worst, error_ratio<TestType>(results[k].value(), naive.results[k]));
      }
      CHECK(worst <= 1);
      CHECK(synapse.version() == p.count('w'));
      for (Index s = 0; s < p.samples; ++s) {
        const auto sample = static_cast<std::size_t>(s);
        CHECK(error_ratio<TestType>(synapse.fast_weight(s), naive.weights.back()[sample]) <= 1);
        CHECK(error_ratio<TestType>(synapse.fast_bias(s), naive.biases.back()[sample]) <= 1);
      }
    }
  }
}

TEMPLATE_TEST_CASE("The fast weights start at zero and the caller may set them", "[synapse]", float,
                   double) {
  const Program p{.name = "", .steps = "r", .samples = 3};
  Tape<TestType> tape;
  const auto in = variables(tape, inputs_of<TestType>(p));
  Synapse<TestType> synapse = open<TestType>(p, in);
  for (Index s = 0; s < 3; ++s) {
    CHECK(synapse.fast_weight(s) == Matrix<TestType>::Zero(p.outputs, p.inputs));
    CHECK(synapse.fast_bias(s) == Matrix<TestType>::Zero(p.outputs, 1));
  }
  synapse.set_fast_weight(1, initial_weight<TestType>(p, 1));
  CHECK(synapse.fast_weight(0).isZero(0));
  CHECK(synapse.fast_weight(1) == initial_weight<TestType>(p, 1));
  CHECK(synapse.fast_weight(2).isZero(0));
  CHECK(synapse.fast_bias(1).isZero(0));
  CHECK(synapse.fast_weight_at(0, 1) == initial_weight<TestType>(p, 1));
  CHECK(synapse.inputs() == 3);
  CHECK(synapse.outputs() == 5);
  CHECK(synapse.samples() == 3);
  CHECK_FALSE(synapse.empty());
  CHECK(Synapse<TestType>().empty());
}

TEST_CASE("A layer without fast weights is a linear layer", "[synapse]") {
  const auto network = [](auto w, auto b, auto x, auto d) {
    Synapse<double> synapse(w.tape(), {w, b, {}, {}}, {.samples = 3, .plastic = false});
    const auto y = synapse.read(x);
    const auto u = synapse.read_transposed(d + tanh(y));
    return sum(square(synapse.read(u))) + sum(sin(y));
  };
  check_gradient(network, random_matrix(5, 4, 1), random_matrix(5, 1, 2), random_matrix(4, 3, 3),
                 random_matrix(5, 3, 4));
  Tape<double> tape;
  const auto w = tape.variable(random_matrix(5, 4, 1));
  const auto b = tape.variable(random_matrix(5, 1, 2));
  const auto x = tape.variable(random_matrix(4, 3, 3));
  Synapse<double> synapse(tape, {w, b, {}, {}}, {.samples = 3, .plastic = false});
  const auto y = synapse.read(x);
  CHECK(y.value().isApprox((matmul(w, x) + b).value()));
  CHECK(synapse.read_transposed(y).value().isApprox(matmul(transpose(w), y).value()));
  CHECK(rejection([&] { synapse.fast_weight(0); }) ==
        "Synapse::fast_weight: the synapse must be plastic, got one without fast weights");
  CHECK(rejection([&] { synapse.fast_bias(0); }).starts_with("Synapse::fast_bias: the synapse"));
  CHECK(rejection([&] {
          synapse.write({x, y, 0}, rows(y, 0, 1), rows(y, 0, 1));
        }) == "Synapse::write: the synapse must be plastic, got one without fast weights");
}

TEST_CASE("A synapse whose tape was rewound into its episode refuses to go on", "[synapse]") {
  Tape<double> tape;
  const auto w = tape.variable(random_matrix(5, 3, 1));
  Synapse<double> synapse(tape, {w, tape.variable(random_matrix(5, 1, 2)), {}, {}}, {});
  const auto x = tape.constant(random_matrix(3, 1, 3));
  const auto one = tape.constant(Matrix<double>::Constant(1, 1, 0.5));
  synapse.read(x);
  const auto inside = tape.position();
  const auto y = synapse.read(x);
  synapse.write({x, y, 1}, one, one);
  synapse.read(x);
  tape.rewind(inside);
  const std::string why =
      " the tape must be at least as long as after the synapse's last read or write, got one that "
      "was rewound past it";
  CHECK(rejection([&] { synapse.read(x); }) == "Synapse::read:" + why);
  CHECK(rejection([&] { synapse.read_transposed(y); }) == "Synapse::read_transposed:" + why);
  CHECK(rejection([&] { synapse.write({x, x, 1}, one, one); }).starts_with("Synapse::write"));
}

TEST_CASE("An empty synapse says that it is one", "[synapse]") {
  Synapse<double> synapse;
  Tape<double> tape;
  const auto x = tape.constant(random_matrix(2, 1, 1));
  CHECK(synapse.empty());
  const std::string empty = "the synapse must be on a tape, got an empty one";
  CHECK(rejection([&] { synapse.read(x); }) == "Synapse::read: " + empty);
  CHECK(rejection([&] { synapse.read_transposed(x); }) == "Synapse::read_transposed: " + empty);
  CHECK(rejection([&] { synapse.write({}, {}, {}); }) == "Synapse::write: " + empty);
  CHECK(rejection([&] { synapse.version(); }) == "Synapse: " + empty);
  CHECK(rejection([&] { synapse.slow_weights(); }) == "Synapse: " + empty);
  CHECK(rejection([&] { synapse.refresh_slow_weights(); }) ==
        "Synapse::refresh_slow_weights: " + empty);
  CHECK(rejection([&] { synapse.fast_weight(0); }) == "Synapse::fast_weight: " + empty);
}

TEST_CASE("A synapse that does not fit throws and says why", "[synapse]") {
  Tape<double> tape;
  Tape<double> other;
  const auto var = [&](Index rows, Index cols) {
    return tape.variable(random_matrix(rows, cols, 1));
  };
  const auto foreign = other.variable(random_matrix(5, 3, 1));
  const auto w = var(5, 3);
  const auto b = var(5, 1);
  const auto make = [&](SlowWeights<double> slow, SynapseOptions options) {
    return rejection([&] { Synapse<double>(tape, slow, options); });
  };
  CHECK(make({foreign, b, {}, {}}, {}) ==
        "Synapse: the variable must be on this tape, got one on another tape: record a whole "
        "computation on one tape");
  CHECK(make({{}, b, {}, {}}, {}) ==
        "Synapse: the variable must be on this tape, got an empty one");
  CHECK(make({w, {}, {}, {}}, {}) ==
        "Synapse: the variable must be on this tape, got an empty one");
  CHECK(make({w, b, foreign, {}}, {}) ==
        "Synapse: the variable must be on this tape, got one on another tape: record a whole "
        "computation on one tape");
  CHECK(make({w, b, {}, other.variable(random_matrix(5, 1, 1))}, {}) ==
        "Synapse: the variable must be on this tape, got one on another tape: record a whole "
        "computation on one tape");
  CHECK(make({w, var(3, 1), {}, {}}, {}) == "Synapse: bias must be 5 x 1, got 3 x 1");
  CHECK(make({w, b, var(3, 5), {}}, {}) == "Synapse: alpha must be 5 x 3, got 3 x 5");
  CHECK(make({w, b, {}, var(5, 2)}, {}) == "Synapse: bias_alpha must be 5 x 1, got 5 x 2");
  CHECK(make({w, b, {}, {}}, {.samples = 0}) == "Synapse: samples must be at least 1, got 0");
  CHECK(make({w, b, {}, {}}, {.weight_clip = -1}) ==
        "Synapse: weight_clip must be a finite number in [0, 1e+30], got -1");
  CHECK(make({w, b, {}, {}}, {.weight_clip = std::nan("")}).starts_with("Synapse: weight_clip"));

  Synapse<double> synapse(tape, {w, b, {}, {}}, {.samples = 2});
  CHECK(rejection([&] { synapse.read(var(3, 1)); }) == "Synapse::read: x must be 3 x 2, got 3 x 1");
  CHECK(rejection([&] { synapse.read(foreign); }) ==
        "Synapse::read: the variable must be on this tape, got one on another tape: record a whole "
        "computation on one tape");
  CHECK(rejection([&] { synapse.read({}); }) ==
        "Synapse::read: the variable must be on this tape, got an empty one");
  CHECK(rejection([&] { synapse.read_transposed(var(3, 2)); }) ==
        "Synapse::read_transposed: d must be 5 x 2, got 3 x 2");
  CHECK(rejection([&] {
          synapse.read_transposed(foreign);
        }).starts_with("Synapse::read_transposed: the variable must be on this tape"));
  const auto write = [&](Var<double> pre, Var<double> post, Var<double> rate, Var<double> decay) {
    return rejection([&] { synapse.write({pre, post, 0}, rate, decay); });
  };
  const auto p = var(3, 2), q = var(5, 2), r = var(1, 2);
  CHECK(write(q, q, r, r) == "Synapse::write: change.pre must be 3 x 2, got 5 x 2");
  CHECK(write(p, p, r, r) == "Synapse::write: change.post must be 5 x 2, got 3 x 2");
  CHECK(write(p, q, p, r) == "Synapse::write: rate must be 1 x 2, got 3 x 2");
  CHECK(write(p, q, r, p) == "Synapse::write: decay must be 1 x 2, got 3 x 2");
  CHECK(write(foreign, q, r, r) ==
        "Synapse::write: the variable must be on this tape, got one on another tape: record a "
        "whole computation on one tape");
  for (int empty = 0; empty < 4; ++empty) {
    const auto unless = [&](int k, const Var<double>& v) { return k == empty ? Var<double>{} : v; };
    CHECK(write(unless(0, p), unless(1, q), unless(2, r), unless(3, r)) ==
          "Synapse::write: the variable must be on this tape, got an empty one");
  }
  CHECK(synapse.version() == 0);
  CHECK(rejection([&] { synapse.fast_weight(2); }) ==
        "Synapse::fast_weight: sample must be in 0 .. 1, got 2");
  CHECK(rejection([&] { synapse.fast_bias(-1); }) ==
        "Synapse::fast_bias: sample must be in 0 .. 1, got -1");
  CHECK(rejection([&] { synapse.fast_weight_at(1, 0); }) ==
        "Synapse::fast_weight_at: version must be in 0 .. 0, got 1");
  CHECK(rejection([&] {
          synapse.fast_weight_at(-1, 0);
        }).starts_with("Synapse::fast_weight_at: version must be in 0 .. 0"));
}
