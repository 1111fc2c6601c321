#include "plastic/synapse/synapse.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "plastic/synapse/clipped_rate.hpp"
#include "plastic/tape/functions.hpp"
#include "support/allocation_counter.hpp"
#include "support/errors.hpp"
#include "support/gradcheck.hpp"

using namespace plastic;
using namespace plastic::testing;

namespace {

// The synapse and its naive twin.

/// A history: r reads, t reads transposed, w writes.
struct Program {
  std::string name;
  std::string steps;
  Index samples = 1;
  double clip = 0;
  double bias_pre = 1;
  bool alpha = true;
  bool initial_state = false;
  Index inputs = 3;
  Index outputs = 5;

  Index count(char kind) const { return std::count(steps.begin(), steps.end(), kind); }
};

std::string repeated(const std::string& part, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += part;
  return all;
}

std::vector<Program> programs() {
  return {
      {.name = "no update", .steps = "rt"},
      {.name = "1 update", .steps = "rwr"},
      {.name = "2 updates", .steps = "r" + repeated("wr", 2), .samples = 3},
      {.name = "3 updates", .steps = "r" + repeated("wr", 3)},
      {.name = "5 updates", .steps = "r" + repeated("wr", 5), .samples = 3, .bias_pre = 0},
      {.name = "9 updates", .steps = "r" + repeated("wr", 9), .bias_pre = -0.5},
      {.name = "40 updates", .steps = "r" + repeated("wr", 40)},
      {.name = "140 updates", .steps = repeated("wr", 140), .inputs = 2, .outputs = 1},
      {.name = "700 updates", .steps = repeated("wr", 700), .inputs = 2, .outputs = 1},
      {.name = "clip, 140 updates",
       .steps = repeated("wr", 140),
       .samples = 3,
       .clip = 0.3,
       .inputs = 2,
       .outputs = 1},
      {.name = "40 updates of 3 samples", .steps = repeated("rw", 40) + "r", .samples = 3},
      {.name = "two reads a step", .steps = "rr" + repeated("wrr", 6), .samples = 3},
      {.name = "both reads", .steps = "rt" + repeated("wrt", 6), .samples = 3},
      {.name = "transposed read first", .steps = "tr" + repeated("wtr", 6)},
      {.name = "transposed reads only", .steps = repeated("wt", 6), .samples = 3},
      {.name = "many reads", .steps = "rtrt" + repeated("wtrrttr", 5) + "wttt", .samples = 3},
      {.name = "several writes between reads", .steps = "rwwrwwwrwwwwwwtwwr", .samples = 3},
      {.name = "many writes, one read", .steps = repeated("w", 21) + "r"},
      {.name = "no read at the end", .steps = "rwrtwwrwww", .samples = 3},
      {.name = "no alpha", .steps = repeated("rtw", 9) + "r", .samples = 3, .alpha = false},
      {.name = "clip", .steps = "rt" + repeated("wrt", 9), .samples = 3, .clip = 0.3},
      {.name = "clip, 40 updates", .steps = "r" + repeated("wwr", 20), .clip = 0.2},
      {.name = "clip, no alpha", .steps = "r" + repeated("wr", 9), .clip = 0.3, .alpha = false},
      {.name = "initial state",
       .steps = "r" + repeated("wrt", 9),
       .samples = 3,
       .initial_state = true},
      {.name = "initial state, clip",
       .steps = repeated("wr", 6),
       .clip = 0.6,
       .initial_state = true},
      {.name = "one input, many outputs", .steps = repeated("wrt", 5), .inputs = 1, .outputs = 37},
      {.name = "many inputs, one output",
       .steps = repeated("wrt", 5),
       .samples = 3,
       .inputs = 11,
       .outputs = 1},
  };
}

/// Large enough for several tiles of rows.
Program large_program() {
  return {.name = "several tiles",
          .steps = repeated("rtw", 3) + "wrt",
          .samples = 3,
          .clip = 0.4,
          .inputs = 37,
          .outputs = 130};
}

/// Each program also with the layer turned: passes over few outputs run across.
std::vector<Program> all_programs() {
  std::vector<Program> all = programs();
  all.push_back(large_program());
  for (std::size_t k = all.size(); k-- > 0;) {
    Program turned = all[k];
    std::swap(turned.inputs, turned.outputs);
    turned.name += ", turned";
    if (turned.outputs < 16) all.push_back(turned);
  }
  all.push_back({.name = "several tiles of few outputs",
                 .steps = repeated("rtw", 3) + "wrt",
                 .samples = 3,
                 .inputs = 700,
                 .outputs = 6});
  return all;
}

// Order of the matrices of a program.
enum Input { weight, bias, alpha, bias_alpha, pre, post, rate, decay, x, d, input_count };

/// What each write and read takes is stacked in rows.
template <class Scalar>
std::vector<Matrix<Scalar>> inputs_of(const Program& p) {
  const Index writes = std::max<Index>(p.count('w'), 1);
  const Index reads = std::max<Index>(p.count('r'), 1);
  const Index transposed = std::max<Index>(p.count('t'), 1);
  return {random_matrix<Scalar>(p.outputs, p.inputs, 21),
          random_matrix<Scalar>(p.outputs, 1, 22),
          random_matrix<Scalar>(p.outputs, p.inputs, 23),
          random_matrix<Scalar>(p.outputs, 1, 24),
          random_matrix<Scalar>(p.inputs * writes, p.samples, 25),
          random_matrix<Scalar>(p.outputs * writes, p.samples, 26),
          random_matrix<Scalar>(writes, p.samples, 27, -0.2, 0.8),
          random_matrix<Scalar>(writes, p.samples, 28, -0.05, 0.3),
          random_matrix<Scalar>(p.inputs * reads, p.samples, 29),
          random_matrix<Scalar>(p.outputs * transposed, p.samples, 30)};
}

template <class Scalar>
Matrix<Scalar> initial_weight(const Program& p, Index sample) {
  const auto seed = static_cast<std::uint64_t>(40 + sample);
  return random_matrix<Scalar>(p.outputs, p.inputs, seed, -0.5, 0.5);
}
template <class Scalar>
Matrix<Scalar> initial_bias(const Program& p, Index sample) {
  return random_matrix<Scalar>(p.outputs, 1, static_cast<std::uint64_t>(50 + sample), -0.5, 0.5);
}

template <class Scalar>
Synapse<Scalar> open(const Program& p, std::span<const Var<Scalar>> in,
                     bool differentiable = true) {
  SlowWeights<Scalar> slow{in[weight], in[bias], {}, {}};
  if (p.alpha) {
    slow.alpha = in[alpha];
    slow.bias_alpha = in[bias_alpha];
  }
  Synapse<Scalar> synapse(
      in[weight].tape(), slow,
      {.samples = p.samples, .differentiable = differentiable, .weight_clip = p.clip});
  for (Index s = 0; p.initial_state && s < p.samples; ++s) {
    synapse.set_fast_weight(s, initial_weight<Scalar>(p, s));
    synapse.set_fast_bias(s, initial_bias<Scalar>(p, s));
  }
  return synapse;
}

/// Carries a program out. The synapse's answers enter the later steps: the latest u the next x, the
/// latest y the next post.
template <class Scalar>
std::vector<Var<Scalar>> run(const Program& p, std::span<const Var<Scalar>> in,
                             Synapse<Scalar>& synapse) {
  std::vector<Var<Scalar>> results;
  Var<Scalar> y, u;
  Index writes = 0, reads = 0, transposed = 0;
  const auto mixed = [](const Var<Scalar>& own, const Var<Scalar>& fed_back) {
    return fed_back.empty() ? own : own + tanh(fed_back) * 0.25;
  };
  for (const char kind : p.steps) {
    if (kind == 'w') {
      const Var<Scalar> p_post = mixed(rows(in[post], writes * p.outputs, p.outputs), y);
      synapse.write({rows(in[pre], writes * p.inputs, p.inputs), p_post, p.bias_pre},
                    rows(in[rate], writes, 1), rows(in[decay], writes, 1));
      ++writes;
    } else if (kind == 'r') {
      y = synapse.read(mixed(rows(in[x], reads++ * p.inputs, p.inputs), u));
      results.push_back(y);
    } else {
      u = synapse.read_transposed(rows(in[d], transposed++ * p.outputs, p.outputs));
      results.push_back(u);
    }
  }
  return results;
}

/// The same with whole matrices, in double. weights[v][s] and biases[v][s]: after v updates.
struct Naive {
  Naive(const Program& p, const std::vector<Matrix<double>>& in) {
    const Matrix<double> a =
        p.alpha ? in[alpha] : Matrix<double>(Matrix<double>::Ones(p.outputs, p.inputs));
    const Matrix<double> b =
        p.alpha ? in[bias_alpha] : Matrix<double>(Matrix<double>::Ones(p.outputs, 1));
    weights.emplace_back();
    biases.emplace_back();
    for (Index s = 0; s < p.samples; ++s) {
      weights[0].push_back(p.initial_state
                               ? initial_weight<double>(p, s)
                               : Matrix<double>(Matrix<double>::Zero(p.outputs, p.inputs)));
      biases[0].push_back(p.initial_state ? initial_bias<double>(p, s)
                                          : Matrix<double>(Matrix<double>::Zero(p.outputs, 1)));
    }
    Matrix<double> y = Matrix<double>::Zero(p.outputs, p.samples);
    Matrix<double> u = Matrix<double>::Zero(p.inputs, p.samples);
    Index writes = 0, reads = 0, transposed = 0;
    for (const char kind : p.steps) {
      if (kind == 'w') {
        weights.push_back(weights.back());
        biases.push_back(biases.back());
      }
      for (Index s = 0; s < p.samples; ++s) {
        Matrix<double>& w = weights.back()[static_cast<std::size_t>(s)];
        Matrix<double>& beta = biases.back()[static_cast<std::size_t>(s)];
        if (kind == 'w') {
          const double keep = 1 - in[decay](writes, s);
          for (Index i = 0; i < p.outputs; ++i) {
            const double q = in[post](writes * p.outputs + i, s) + 0.25 * std::tanh(y(i, s));
            for (Index j = 0; j < p.inputs; ++j) {
              const double change =
                  in[rate](writes, s) * a(i, j) * in[pre](writes * p.inputs + j, s) * q;
              w(i, j) = clipped(p, keep * w(i, j) + change);
            }
            beta(i) = clipped(p, keep * beta(i) + in[rate](writes, s) * b(i) * p.bias_pre * q);
          }
        } else if (kind == 'r') {
          const Matrix<double> arg = in[x].block(reads * p.inputs, s, p.inputs, 1).array() +
                                     0.25 * u.col(s).array().tanh();
          y.col(s) = (in[weight] + w) * arg + in[bias] + beta;
        } else {
          u.col(s) =
              (in[weight] + w).transpose() * in[d].block(transposed * p.outputs, s, p.outputs, 1);
        }
      }
      if (kind == 'r') results.push_back(y);
      if (kind == 't') results.push_back(u);
      writes += kind == 'w';
      reads += kind == 'r';
      transposed += kind == 't';
    }
  }

  static double clipped(const Program& p, double w) {
    return p.clip > 0 ? std::min(std::max(w, -p.clip), p.clip) : w;
  }

  std::vector<std::vector<Matrix<double>>> weights;
  std::vector<std::vector<Matrix<double>>> biases;
  std::vector<Matrix<double>> results;
};

std::vector<Matrix<double>> widened(const auto& matrices) {
  std::vector<Matrix<double>> all;
  for (const auto& m : matrices) all.push_back(m.template cast<double>());
  return all;
}

template <class Scalar>
std::vector<Var<Scalar>> variables(Tape<Scalar>& tape, const std::vector<Matrix<Scalar>>& values) {
  std::vector<Var<Scalar>> all;
  for (const auto& value : values) all.push_back(tape.variable(value));
  return all;
}

template <class Scalar, class Derived>
double error_of(const Eigen::MatrixBase<Derived>& got, const Matrix<double>& expected) {
  const double allowed = rounding<Scalar>(100, 1 + expected.cwiseAbs().maxCoeff());
  return (got.template cast<double>() - expected).cwiseAbs().maxCoeff() / allowed;
}

/// A loss of all results, or of the first or last `count` of them.
template <class Scalar>
Var<Scalar> loss_of(const std::vector<Var<Scalar>>& results, std::size_t first, std::size_t count) {
  Var<Scalar> total;
  for (std::size_t k = first; k < first + count; ++k) {
    const Var<Scalar>& y = results[k];
    const auto c = y.tape().constant(random_matrix<Scalar>(y.rows(), y.cols(), 60 + k));
    const Var<Scalar> term = sum(y * c + square(y) * 0.25);
    total = total.empty() ? term : total + term;
  }
  return total;
}

}  // namespace

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
        worst = std::max(worst, error_of<TestType>(results[k].value(), naive.results[k]));
      }
      CHECK(worst <= 1);
      CHECK(synapse.version() == p.count('w'));
      for (Index s = 0; s < p.samples; ++s) {
        const auto sample = static_cast<std::size_t>(s);
        CHECK(error_of<TestType>(synapse.fast_weight(s), naive.weights.back()[sample]) <= 1);
        CHECK(error_of<TestType>(synapse.fast_bias(s), naive.biases.back()[sample]) <= 1);
      }
    }
  }
}

TEMPLATE_TEST_CASE("Every version of the fast weights can be replayed", "[synapse]", float,
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
          worst = std::max(worst, error_of<TestType>(synapse.fast_weight_at(v, s), expected));
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

TEMPLATE_TEST_CASE("A synapse without history needs no tape behind it", "[synapse]", float,
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

TEST_CASE("A synapse's gradient equals differences in every history", "[synapse]") {
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

TEMPLATE_TEST_CASE("The gradient of several samples is that of each alone", "[synapse]", float,
                   double) {
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
      CHECK(error_of<TestType>(together[k], alone[k]) <= 1);
    }
  }
}

TEST_CASE("A loss may see only some of the reads", "[synapse]") {
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

TEMPLATE_TEST_CASE("A second sweep gives the same gradient", "[synapse]", float, double) {
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

TEST_CASE("Arguments that are constants leave the other gradients alone", "[synapse]") {
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

TEMPLATE_TEST_CASE("A weight on the bound passes its gradient and one beyond does not", "[synapse]",
                   float, double) {
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

TEMPLATE_TEST_CASE("A look at old weights between two parts of a sweep changes no adjoint",
                   "[synapse]", float, double) {
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

TEST_CASE("An inner gradient through a synapse is differentiated with its weights", "[synapse]") {
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

TEST_CASE("The recorded gradient of a read is the transposed read", "[synapse]") {
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

TEMPLATE_TEST_CASE("A long differentiable history keeps few copies of the weights", "[synapse]",
                   float, double) {
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

TEST_CASE("A long history in float has the gradient of double", "[synapse]") {
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

TEMPLATE_TEST_CASE("A history goes on after a sweep over its end", "[synapse]", float, double) {
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
      worst = std::max(worst, error_of<TestType>(synapse.fast_weight_at(v, 0),
                                                 naive.weights[static_cast<std::size_t>(v)][0]));
    }
    CHECK(worst <= 1);
    tape.backward(y);
    const Matrix<TestType> first = in[decay].adjoint();
    tape.backward(y);
    CHECK(in[decay].adjoint() == first);
  }
}

TEMPLATE_TEST_CASE("A cleared tape repeats an episode of a synapse without allocating", "[synapse]",
                   float, double) {
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

TEMPLATE_TEST_CASE("The clipped rate follows its definition", "[synapse]", float, double) {
  const Matrix<double> p1 = random_matrix<TestType>(3, 4, 1).template cast<double>();
  const Matrix<double> p2 = random_matrix<TestType>(2, 4, 2).template cast<double>();
  Matrix<double> q1 = random_matrix<TestType>(5, 4, 3).template cast<double>();
  Matrix<double> q2 = random_matrix<TestType>(1, 4, 4).template cast<double>();
  q1.col(1) *= 0.125;
  q2.col(1) *= 0.125;
  q1.col(2).setZero();
  q2.col(2).setZero();
  const Matrix<double> r = random_matrix<TestType>(1, 4, 5).template cast<double>();
  for (const double max_norm : {1.0, 0.25, 1e6}) {
    Tape<TestType> tape;
    const auto var = [&](const Matrix<double>& m) { return tape.variable(m.cast<TestType>()); };
    const std::array<RankOne<TestType>, 2> changes{{{var(p1), var(q1), 1}, {var(p2), var(q2), 0}}};
    const auto limited = clipped_rate<TestType>(var(r), changes, max_norm);
    int clipped = 0;
    for (Index s = 0; s < 4; ++s) {
      double square = 0;
      for (Index i = 0; i < 5; ++i) {
        for (Index j = 0; j < 3; ++j) square += std::pow(p1(j, s) * q1(i, s), 2);
        square += std::pow(q1(i, s), 2);  // the bias
      }
      for (Index j = 0; j < 2; ++j) square += std::pow(p2(j, s) * q2(0, s), 2);
      const double norm = std::sqrt(square);
      const double expected = r(s) * max_norm / std::max(norm, max_norm);
      const double got = static_cast<double>(limited.value()(0, s));
      CHECK(std::abs(got - expected) <= rounding<TestType>(16, std::abs(r(s))));
      if (norm < max_norm) CHECK(got == r(s));
      clipped += norm > max_norm;
    }
    if (max_norm == 1) CHECK(clipped == 2);
  }
}

TEST_CASE("The clipped rate of huge floats is that of doubles", "[synapse]") {
  const auto results = [](auto scalar) {
    using S = decltype(scalar);
    Tape<S> tape;
    const auto pre = tape.variable(random_matrix(5, 2, 1).cast<S>() * S(1e12));
    const auto post = tape.variable(random_matrix(4, 2, 2).cast<S>() * S(1e9));
    const auto rate = tape.variable(random_matrix(1, 2, 3, 0.1, 1).cast<S>() * S(1e15));
    const RankOne<S> change{pre, post, 1};
    const auto clipped = clipped_rate(rate, std::span(&change, 1), 1);
    tape.backward(clipped);
    std::vector<Matrix<double>> all;
    for (const auto& m : {Matrix<S>(clipped.value()), Matrix<S>(rate.adjoint()),
                          Matrix<S>(pre.adjoint()), Matrix<S>(post.adjoint())}) {
      all.push_back(m.template cast<double>());
    }
    return all;
  };
  const auto single = results(1.0f), full = results(1.0);
  for (std::size_t k = 0; k < full.size(); ++k) {
    INFO("result " << k);
    REQUIRE(full[k].norm() > 0);
    CHECK((single[k] - full[k]).norm() <= 1e-5 * full[k].norm());
  }
}

TEST_CASE("The clipped rate has the gradient of differences", "[synapse]") {
  Matrix<double> q1 = random_matrix(5, 4, 3);
  Matrix<double> q2 = random_matrix(1, 4, 4);
  q1.col(1) *= 0.1;
  q2.col(1) *= 0.1;
  q1.col(2).setZero();
  q2.col(2).setZero();
  for (const double bias_pre : {0.0, 1.0, -0.5}) {
    check_gradient(
        [&](auto rate, auto pre1, auto post1, auto pre2, auto post2) {
          const std::array<RankOne<double>, 3> changes{
              {{pre1, post1, bias_pre}, {pre2, post2, 1}, {post1, post1, bias_pre}}};
          return square(clipped_rate<double>(rate, changes, 1)) + sin(rate);
        },
        random_matrix(1, 4, 5), random_matrix(3, 4, 1), q1, random_matrix(2, 4, 2), q2);
  }
}

TEMPLATE_TEST_CASE("Proposals of zero clip nothing and give no NaN", "[synapse]", float, double) {
  Tape<TestType> tape;
  const auto r = tape.variable(random_matrix<TestType>(1, 2, 1));
  const auto p = tape.variable(Matrix<TestType>::Zero(3, 2));
  const auto q = tape.variable(Matrix<TestType>::Zero(2, 2));
  const auto strong_p = tape.variable(Matrix<TestType>::Constant(3, 2, 4));
  const RankOne<TestType> change{p, q, 0};
  const auto limited = clipped_rate<TestType>(r, {&change, 1}, 1);
  CHECK(limited.value() == r.value());
  tape.backward(limited);
  CHECK(r.adjoint() == Matrix<TestType>::Ones(1, 2));
  CHECK(clipped_rate<TestType>(r, {}, 1).value() == r.value());

  // One sample is clipped, the other proposes nothing.
  Matrix<TestType> half = Matrix<TestType>::Zero(2, 2);
  half(1, 0) = 3;
  const auto q_half = tape.variable(half);
  const RankOne<TestType> mixed{strong_p, q_half, 1};
  const auto result = clipped_rate<TestType>(r, {&mixed, 1}, 1);
  CHECK(result.value()(0, 0) == Approx(r.value()(0, 0) / 21));  // |p|^2 + 1 = 49, |q| = 3
  CHECK(result.value()(0, 1) == r.value()(0, 1));
  tape.backward(result);
  CHECK(q_half.adjoint().allFinite());
  CHECK(strong_p.adjoint().allFinite());
  CHECK(q_half.adjoint().col(1).isZero(0));
  CHECK(strong_p.adjoint().col(1).isZero(0));
  CHECK(r.adjoint()(0, 1) == 1);
}

TEST_CASE("A clipped rate that does not fit throws and says why", "[synapse]") {
  Tape<double> tape;
  Tape<double> other;
  const auto r = tape.variable(random_matrix(1, 2, 1));
  const auto p = tape.variable(random_matrix(3, 2, 2));
  const auto q = tape.variable(random_matrix(2, 2, 3));
  const auto narrow = tape.variable(random_matrix(2, 1, 3));
  const auto foreign = other.variable(random_matrix(2, 2, 3));
  const auto limit = [&](Var<double> rate, Var<double> pre, Var<double> post, double max_norm) {
    const RankOne<double> change{pre, post, 0};
    return clipped_rate<double>(rate, {&change, 1}, max_norm);
  };
  CHECK(rejection([&] { limit(q, p, q, 1); }) == "clipped_rate: rate must be 1 x 2, got 2 x 2");
  CHECK(rejection([&] { limit(r, narrow, q, 1); }) == "clipped_rate: pre must be 2 x 2, got 2 x 1");
  CHECK(rejection([&] { limit(r, p, narrow, 1); }) ==
        "clipped_rate: post must be 2 x 2, got 2 x 1");
  CHECK(rejection([&] { limit(r, p, foreign, 1); }) ==
        "clipped_rate: the variable must be on this tape, got one on another tape: record a whole "
        "computation on one tape");
  CHECK(rejection([&] { limit(r, {}, q, 1); }) ==
        "clipped_rate: the variable must be on this tape, got an empty one");
  for (const double max_norm : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    CHECK(rejection([&] {
            limit(r, p, q, max_norm);
          }).starts_with("clipped_rate: max_norm must be a finite number in [1e-30, 1e+30], got "));
  }
  CHECK(rejection([&] { tape.gradient(sum(limit(r, p, q, 1)), q); }) ==
        "Tape::gradient: the path to the loss must be free of clipped_rate, got one that uses it");
}

TEST_CASE("A recorded gradient takes a synapse's weights for constants or is refused",
          "[synapse]") {
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
