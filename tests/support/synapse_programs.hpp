#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "plastic/synapse/synapse.hpp"
#include "plastic/tape/functions.hpp"
#include "support/gradcheck.hpp"

/// Programs of reads and writes for a synapse and its naive twin.
namespace plastic::testing {

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

inline std::string repeated(const std::string& part, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += part;
  return all;
}

inline std::vector<Program> programs() {
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
inline Program large_program() {
  return {.name = "several tiles",
          .steps = repeated("rtw", 3) + "wrt",
          .samples = 3,
          .clip = 0.4,
          .inputs = 37,
          .outputs = 130};
}

/// Each program also with the layer turned: passes over few outputs run across.
inline std::vector<Program> all_programs() {
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

/// The largest difference, as a part of what rounding allows.
template <class Scalar, class Derived>
double error_ratio(const Eigen::MatrixBase<Derived>& got, const Matrix<double>& expected) {
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

}  // namespace plastic::testing
