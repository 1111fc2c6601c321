#include <array>
#include <catch2/catch.hpp>
#include <span>
#include <string>
#include <vector>

#include "plastic/synapse/synapse.hpp"
#include "plastic/tape/functions.hpp"
#include "support/errors.hpp"
#include "support/gradcheck.hpp"
#include "support/synapse_programs.hpp"

using namespace plastic;
using namespace plastic::testing;

TEST_CASE("A synapse's gradient equals differences in every history", "[synapse][gradient]") {
  for (const Program& p : programs()) {
    INFO(p.name);
    check_gradient(
        [&](std::span<const Var<double>> in) {
          Synapse<double> synapse = open<double>(p, in);
          const auto results = run<double>(p, in, synapse);
          return loss_of(results, 0, results.size());
        },
        inputs_of<double>(p));
  }
}

TEMPLATE_TEST_CASE("The gradient of several samples is that of each alone", "[synapse][gradient]",
                   float, double) {
  for (const Program& p : all_programs()) {
    if (p.samples == 1 || p.initial_state) continue;
    INFO(p.name);
    const auto values = inputs_of<TestType>(p);
    const auto gradient = [&](Index first, Index count) {
      Program part = p;
      part.samples = count;
      Tape<TestType> tape;
      std::vector<Var<TestType>> in;
      for (std::size_t k = 0; k < input_count; ++k) {
        in.push_back(tape.variable(k < pre ? values[k]
                                           : Matrix<TestType>(values[k].middleCols(first, count))));
      }
      Synapse<TestType> synapse = open<TestType>(part, in);
      Var<TestType> loss = sum(in[weight]);
      for (const auto& y : run<TestType>(part, in, synapse)) loss = loss + sum(sin(y));
      tape.backward(loss);
      std::vector<Matrix<TestType>> all;
      for (const auto& v : in) {
        all.emplace_back(v.node().adjoint == nullptr
                             ? Matrix<TestType>(Matrix<TestType>::Zero(v.rows(), v.cols()))
                             : Matrix<TestType>(v.adjoint()));
      }
      all[weight].array() -= 1;
      return all;
    };
    const auto together = gradient(0, p.samples);
    std::vector<Matrix<double>> alone = widened(together);
    for (auto& m : alone) m.setZero();
    for (Index s = 0; s < p.samples; ++s) {
      const auto one = gradient(s, 1);
      for (std::size_t k = 0; k < input_count; ++k) {
        if (k < pre) {
          alone[k] += one[k].template cast<double>();
        } else {
          alone[k].col(s) = one[k].template cast<double>();
        }
      }
    }
    for (std::size_t k = 0; k < input_count; ++k) {
      INFO("input " << k);
      CHECK(error_ratio<TestType>(together[k], alone[k]) <= 1);
    }
  }
}

TEST_CASE("A loss may see only some of the reads", "[synapse][gradient]") {
  for (const std::string steps : {"rwrwrwrwr", "rtwrtwtrwtt", "rrwwrrwrrw"}) {
    const Program p{.name = steps, .steps = steps, .samples = 3, .clip = 0.4};
    const auto reads = static_cast<std::size_t>(p.count('r') + p.count('t'));
    for (std::size_t k = 0; k < reads; ++k) {
      INFO(steps << ", read " << k);
      check_gradient(
          [&](std::span<const Var<double>> in) {
            Synapse<double> synapse = open<double>(p, in);
            return loss_of(run<double>(p, in, synapse), k, 1);
          },
          inputs_of<double>(p));
    }
  }
}

TEMPLATE_TEST_CASE("A second sweep gives the same gradient", "[synapse][gradient]", float, double) {
  for (const Program& p : all_programs()) {
    INFO(p.name);
    Tape<TestType> tape;
    const auto in = variables(tape, inputs_of<TestType>(p));
    const auto middle_of_inputs = tape.position();
    Synapse<TestType> synapse = open<TestType>(p, in);
    const auto results = run<TestType>(p, in, synapse);
    const auto early = loss_of(results, 0, results.size() / 2 + 1);
    const auto loss = loss_of(results, 0, results.size());
    const auto gradient = [&] {
      std::vector<Matrix<TestType>> all;
      for (const auto& v : in) {
        all.emplace_back(v.node().adjoint == nullptr
                             ? Matrix<TestType>(Matrix<TestType>::Zero(v.rows(), v.cols()))
                             : Matrix<TestType>(v.adjoint()));
      }
      return all;
    };
    tape.backward(loss);
    const auto first = gradient();
    tape.backward(early);
    const auto between = gradient();
    tape.backward(loss);
    CHECK(gradient() == first);
    tape.backward(early);
    CHECK(gradient() == between);

    // A sweep that is broken off, and one that pauses in the midst of the history.
    typename Tape<TestType>::Position position;
    for (const std::size_t nodes : {tape.size() / 3, tape.size() / 2, middle_of_inputs.nodes}) {
      position.nodes = nodes;
      tape.backward(loss, position);
      tape.backward(loss, position);
      tape.sweep(position, {});
      CHECK(gradient() == first);
    }
  }
}

TEST_CASE("Arguments that are constants leave the other gradients alone", "[synapse][gradient]") {
  const Program p{.name = "", .steps = repeated("rtw", 6) + "wrr", .samples = 3, .clip = 0.4};
  const auto values = inputs_of<double>(p);
  const auto gradient = [&](std::size_t constant) {
    Tape<double> tape;
    std::vector<Var<double>> in;
    for (std::size_t k = 0; k < input_count; ++k) {
      in.push_back(k == constant ? tape.constant(values[k]) : tape.variable(values[k]));
    }
    Synapse<double> synapse = open<double>(p, in);
    const auto results = run<double>(p, in, synapse);
    tape.backward(loss_of(results, 0, results.size()));
    std::vector<Matrix<double>> all;
    for (std::size_t k = 0; k < input_count; ++k) {
      all.push_back(k == constant ? Matrix<double>() : Matrix<double>(in[k].adjoint()));
    }
    return all;
  };
  const auto full = gradient(input_count);
  for (std::size_t constant = 0; constant < input_count; ++constant) {
    auto expected = full;
    expected[constant] = Matrix<double>();
    INFO("input " << constant);
    CHECK(gradient(constant) == expected);
  }
}

TEMPLATE_TEST_CASE("A weight on the bound passes its gradient and one beyond does not",
                   "[synapse][gradient]", float, double) {
  constexpr Index outputs = 19;  // packets and single numbers
  const auto column = [](double v) { return Matrix<TestType>::Constant(outputs, 1, TestType(v)); };
  const auto one = [](double v) { return Matrix<TestType>::Constant(1, 1, TestType(v)); };
  struct Case {
    double start, rate, end, passes;
  };
  for (const Case c : {Case{0.5, 0, 0.5, 1}, Case{-0.5, 0, -0.5, 1}, Case{0.25, 0.25, 0.5, 1},
                       Case{-0.25, -0.25, -0.5, 1}, Case{0.5, 0.25, 0.5, 0},
                       Case{-0.5, -0.25, -0.5, 0}, Case{0.5, -0.25, 0.25, 1}}) {
    INFO("from " << c.start << " at rate " << c.rate);
    Tape<TestType> tape;
    const auto weight_alpha = tape.variable(column(1));
    const auto bias_rate = tape.variable(column(1));
    const auto rate_of_step = tape.variable(one(c.rate));
    const auto decay_of_step = tape.variable(one(0));
    const auto pre_of_step = tape.variable(one(1));
    const auto post_of_step = tape.variable(column(1));
    Synapse<TestType> synapse(
        tape, {tape.constant(column(0)), tape.constant(column(0)), weight_alpha, bias_rate},
        {.weight_clip = 0.5});
    synapse.set_fast_weight(0, column(c.start));
    synapse.set_fast_bias(0, column(c.start));
    synapse.write({pre_of_step, post_of_step, 1}, rate_of_step, decay_of_step);
    tape.backward(synapse.read(tape.constant(one(2))));
    CHECK(synapse.fast_weight(0) == column(c.end));
    CHECK(synapse.fast_bias(0) == column(c.end));
    CHECK(rate_of_step.adjoint() == one(3 * outputs * c.passes));
    CHECK(decay_of_step.adjoint() == one(-3 * outputs * c.start * c.passes));
    CHECK(pre_of_step.adjoint() == one(2 * outputs * c.rate * c.passes));
    CHECK(post_of_step.adjoint() == column(3 * c.rate * c.passes));
    CHECK(weight_alpha.adjoint() == column(2 * c.rate * c.passes));
    CHECK(bias_rate.adjoint() == column(c.rate * c.passes));
  }
}

TEST_CASE("An inner gradient through a synapse is differentiated with its weights",
          "[synapse][gradient]") {
  // Two layers, whose inner gradient writes both: a second-order derivative in every weight.
  const auto two_layers = [](auto w1, auto w2, auto a1, auto a2, auto x, auto rate, auto decay,
                             double clip) {
    Tape<double>& tape = w1.tape();
    const auto zero = [&](Index n) { return tape.constant(Matrix<double>::Zero(n, 1)); };
    const SynapseOptions options{.samples = 2, .weight_clip = clip};
    Synapse<double> in(tape, {w1, zero(4), a1, {}}, options);
    Synapse<double> out(tape, {w2, zero(3), a2, {}}, options);
    Var<double> loss, o;
    for (int t = 0; t < 7; ++t) {
      const auto z = in.read(o.empty() ? x : x + tanh(o) * 0.25);
      const auto h = tanh(z);
      o = out.read(h);
      const std::array wrt{z, h, o};
      std::array<Var<double>, 3> g;
      tape.gradient(sum(square(o)) * 0.5 + sum(sin(h)), wrt, g);
      in.write({x, g[0], 1}, rate, decay);
      out.write({h, g[2], 1}, rate, decay);
      const auto now = sum(square(o) + sin(o)) + sum(square(g[1]) + square(g[0]));
      loss = loss.empty() ? now : loss + now;
    }
    return loss;
  };
  for (const double clip : {0.0, 0.1}) {
    INFO("clip " << clip);
    check_gradient([&](auto... v) { return two_layers(v..., clip); }, random_matrix(4, 3, 1),
                   random_matrix(3, 4, 2), random_matrix(4, 3, 3), random_matrix(3, 4, 4),
                   random_matrix(3, 2, 5), random_matrix(1, 2, 6, 0.05, 0.1),
                   random_matrix(1, 2, 7, 0, 0.2));
  }
}

TEST_CASE("The recorded gradient of a read is the transposed read", "[synapse][gradient]") {
  for (const bool differentiable : {true, false}) {
    const Program p{.name = "", .steps = repeated("wr", 5), .samples = 3};
    Tape<double> tape;
    const auto in = variables(tape, inputs_of<double>(p));
    Synapse<double> synapse = open<double>(p, in, differentiable);
    run<double>(p, in, synapse);
    const auto argument = tape.variable(random_matrix(p.inputs, p.samples, 1));
    const auto c = tape.constant(random_matrix(p.outputs, p.samples, 2));
    const auto g = tape.gradient(sum(synapse.read(argument) * c), argument);
    CHECK(g.value() == synapse.read_transposed(c).value());
    CHECK(rejection([&] { tape.gradient(sum(square(synapse.read_transposed(c))), c); }) ==
          "Tape::gradient: the path to the loss must be differentiated at most twice, got a third "
          "derivative of a plastic layer");
    CHECK(rejection([&] {
            const auto y = synapse.read(argument);
            tape.gradient(sum(square(tape.gradient(sum(square(y)), argument))), argument);
          }).starts_with("Tape::gradient: the path to the loss must be differentiated at most"));
  }
}

TEST_CASE("A recorded gradient takes a synapse's weights for constants or is refused",
          "[synapse][gradient]") {
  Tape<double> tape;
  const auto var = [&](Index rows, Index cols) {
    return tape.variable(random_matrix(rows, cols, 1));
  };
  const auto w = var(5, 3);
  const auto b = var(5, 1);
  const auto one = tape.constant(Matrix<double>::Constant(1, 1, 0.5));
  Synapse<double> synapse(tape, {w, b, {}, {}}, {});
  const auto x = var(3, 1);
  const auto y = synapse.read(x);
  const Matrix<double> expected = w.value().transpose() * Matrix<double>::Ones(5, 1);
  CHECK(tape.gradient(sum(y), x).value().isApprox(expected, 1e-14));
  CHECK(rejection([&] { tape.gradient(sum(y), w); }) ==
        "Tape::gradient: the path to the loss must be free of a synapse's weights and updates, got "
        "one through them");
  CHECK(rejection([&] { tape.gradient(sum(y), b); }).starts_with("Tape::gradient: the path"));

  const auto post = var(5, 1);
  synapse.write({x, post, 1}, one, one);
  CHECK(rejection([&] { tape.gradient(sum(y), x); }) ==
        "Tape::gradient: a synapse on the path to the loss must be unwritten since it was read, "
        "got one that has been written");
  const auto later = synapse.read(tape.constant(random_matrix(3, 1, 2)));
  CHECK(
      rejection([&] { tape.gradient(sum(later), post); }).starts_with("Tape::gradient: the path"));
  CHECK(rejection([&] { tape.gradient(sum(later), x); }).starts_with("Tape::gradient: the path"));
  const auto z = var(3, 1);
  CHECK(tape.gradient(sum(synapse.read(z)), z)
            .value()
            .isApprox((w.value() + synapse.fast_weight(0)).transpose() * Matrix<double>::Ones(5, 1),
                      1e-14));
}
