#include "plastic/synapse/fast_matrix.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "plastic/tape/functions.hpp"
#include "support/errors.hpp"
#include "support/gradcheck.hpp"

namespace {

using namespace plastic;
using namespace plastic::testing;

// What an update is made of.
struct Form {
  std::string name;
  enum { none, number, columns } keep = none;
  bool matrix = false;  // learned matrices beside keep and in the first term
  bool other = false;
  MatrixBound bound = MatrixBound::none;
  std::size_t terms = 4;
};

const std::vector<Form> with_four_terms = {
    {"additive"},
    {"number", Form::number},
    {"columns", Form::columns},
    {"matrix", Form::none, true},
    {"number and matrix", Form::number, true},
    {"columns and matrix", Form::columns, true},
    {"clip", Form::none, true, false, MatrixBound::clip},
    {"decay and clip", Form::number, false, false, MatrixBound::clip},
    {"soft", Form::none, false, false, MatrixBound::soft},
    {"soft with a matrix", Form::none, true, false, MatrixBound::soft},
    {"other", Form::number, true, true},
    {"other and clip", Form::none, false, true, MatrixBound::clip},
    {"other and soft", Form::none, true, true, MatrixBound::soft}};

// Each with four terms, and with the first alone.
const std::vector<Form> forms = [] {
  std::vector<Form> all = with_four_terms;
  for (Form form : with_four_terms) {
    form.name += ", one term";
    form.terms = 1;
    all.push_back(form);
  }
  return all;
}();

constexpr double limit = 0.7;

// Factors of the updates: keep, L, C, D, pre, post, gain.
template <class Scalar>
std::vector<Matrix<Scalar>> factors(Index n, Index m, Index samples) {
  const auto random = [](Index rows, Index cols, std::uint64_t seed, double low, double high) {
    return random_matrix<Scalar>(rows, cols, seed, low, high);
  };
  return {random(m, samples, 1, 0.3, 0.9), random(m, n, 2, -1, 1),
          random(m, n, 3, -1, 1),          random(m, n, 4, -0.2, 0.2),
          random(n, samples, 5, -1, 1),    random(m, samples, 6, -1, 1),
          random(1, samples, 7, -1, 1)};
}

// Writes to `h` what the form says, from the factors on the tape.
template <class Scalar>
void write(const Form& form, const std::vector<Var<Scalar>>& f, FastMatrix<Scalar>& h,
           FastMatrix<Scalar>& other) {
  const std::array terms{MatrixTerm<Scalar>{form.matrix ? f[2] : Var<Scalar>(), f[4], f[5]},
                         MatrixTerm<Scalar>{f[3], {}, f[5]}, MatrixTerm<Scalar>{{}, f[4] * 0.1, {}},
                         MatrixTerm<Scalar>{f[3], {}, {}}};
  MatrixChange<Scalar> change;
  change.terms = std::span(terms).first(form.terms);
  if (form.keep == Form::number) change.keep = rows(f[0], 0, 1);
  if (form.keep == Form::columns) change.keep = f[0];
  if (form.matrix && form.bound != MatrixBound::soft) change.keep_matrix = f[1];
  if (form.other) {
    change.other = &other;
    change.gain = f[6];
  }
  change.bound = form.bound;
  change.limit = limit;
  h.write(change);
  const MatrixTerm<Scalar> term{{}, f[4], f[5]};
  MatrixChange<Scalar> of_other;
  of_other.keep = rows(f[0], 0, 1);
  of_other.terms = std::span(&term, 1);
  other.write(of_other);
}

// The same entry by entry in double; matrices are outputs x inputs.
void write_naively(const Form& form, const std::vector<Matrix<double>>& f, Index s,
                   Matrix<double>& h, Matrix<double>& other) {
  for (Index i = 0; i < h.cols(); ++i) {
    for (Index j = 0; j < h.rows(); ++j) {
      const double p = f[4](i, s), q = f[5](j, s);
      double d = (form.matrix ? f[2](j, i) : 1) * p * q;
      if (form.terms == 4) d += f[3](j, i) * q + 0.1 * p + f[3](j, i);
      if (form.other) d += f[6](0, s) * other(j, i);
      double keep = 1;
      if (form.keep == Form::number) keep = f[0](0, s);
      if (form.keep == Form::columns) keep = f[0](j, s);
      if (form.bound == MatrixBound::soft) {
        h(j, i) += std::max(d, 0.0) * (1 - h(j, i)) + std::min(d, 0.0) * (1 + h(j, i));
      } else {
        h(j, i) = (form.matrix ? f[1](j, i) : 1) * keep * h(j, i) + d;
      }
      if (form.bound != MatrixBound::none) h(j, i) = std::min(std::max(h(j, i), -limit), limit);
      other(j, i) = f[0](0, s) * other(j, i) + p * q;
    }
  }
}

}  // namespace

TEMPLATE_TEST_CASE("Every form of update and read of a fast matrix is the naive one",
                   "[synapse][fast_matrix]", double, float) {
  using Scalar = TestType;
  const double tolerance = std::is_same_v<Scalar, double> ? 1e-13 : 1e-5;
  for (const auto& [n, m] :
       {std::pair<Index, Index>{1, 1}, {3, 5}, {7, 33}, {18, 2}, {5, 16}, {2, 90}}) {
    for (const Form& form : forms) {
      for (const bool differentiable : {true, false}) {
        INFO(form.name << ", " << n << " x " << m);
        const Index samples = 2;
        const auto values = factors<Scalar>(n, m, samples);
        Tape<Scalar> tape;
        std::vector<Var<Scalar>> f;
        std::vector<Matrix<double>> wide;
        for (const auto& value : values) {
          f.push_back(tape.variable(value));
          wide.push_back(value.template cast<double>());
        }
        FastMatrix<Scalar> h(tape, n, m, samples, differentiable);
        FastMatrix<Scalar> other(tape, n, m, samples, differentiable);
        std::vector<Matrix<double>> expected(2, Matrix<double>::Zero(m, n)), others = expected;
        for (int t = 0; t < 5; ++t) {
          write(form, f, h, other);
          for (Index s = 0; s < samples; ++s) {
            const auto at = static_cast<std::size_t>(s);
            write_naively(form, wide, s, expected[at], others[at]);
          }
        }
        CHECK(h.version() == 5);
        const Matrix<Scalar> y = h.read(f[4]).value(), ay = h.read(f[4], f[2]).value();
        const Matrix<Scalar> squares = h.column_squares(f[1]).value();
        const Matrix<Scalar> largest = h.largest(f[1]).value();
        for (Index s = 0; s < samples; ++s) {
          const Matrix<double>& e = expected[static_cast<std::size_t>(s)];
          const auto difference = [&](const auto& got, const Matrix<double>& want) {
            const Matrix<double> all = got.template cast<double>() - want;
            return all.cwiseAbs().maxCoeff() / (1 + want.cwiseAbs().maxCoeff());
          };
          CHECK(difference(h.value(s), e) < tolerance);
          CHECK(difference(y.col(s), e * wide[4].col(s)) < tolerance);
          CHECK(difference(ay.col(s), wide[2].cwiseProduct(e) * wide[4].col(s)) < tolerance);
          const Matrix<double> whole = wide[1] + e;
          CHECK(difference(squares.col(s), whole.rowwise().squaredNorm()) < tolerance);
          CHECK(difference(largest.col(s), Matrix<double>::Constant(
                                               1, 1, whole.cwiseAbs().maxCoeff())) < tolerance);
        }
      }
    }
  }
}

TEST_CASE("Adjoints of every form of update and read of a fast matrix are central differences",
          "[synapse][fast_matrix]") {
  for (const Form& form : forms) {
    struct Size {
      Index inputs, outputs, interval;
    };
    for (const auto& [n, m, interval] : {Size{3, 4, 0}, Size{3, 4, 3}, Size{2, 37, 0}}) {
      INFO(form.name << ", " << n << " x " << m << ", interval " << interval);
      check_gradient(
          [&, n = n, m = m, interval = interval](std::span<const Var<double>> x) {
            Tape<double>& tape = x.front().tape();
            std::vector<Var<double>> f(x.begin(), x.end());
            FastMatrix<double> h(tape, n, m, 2, true, interval);
            FastMatrix<double> other(tape, n, m, 2, true, interval);
            Var<double> result;
            for (int t = 0; t < 8; ++t) {
              const Var<double> y = h.read(f[4]) + h.read(f[4], f[2]) +
                                    sqrt(h.column_squares(f[1]) + 0.1) +
                                    h.largest(f[2]) * other.read(f[4]);
              f[4] = tanh(x[4] + matmul(transpose(x[1]), y) * (1.2 / static_cast<double>(m)));
              f[5] = tanh(x[5] + y * 0.2);
              write(form, f, h, other);
              result = result.empty() ? y : result * 0.5 + y;
            }
            return result;
          },
          factors<double>(n, m, 2));
    }
  }
}

TEST_CASE("A long differentiable history of a fast matrix keeps few copies",
          "[synapse][fast_matrix]") {
  const auto memory = [](Index size, bool deferred) {
    Tape<float> tape;
    const auto x = tape.variable(random_matrix<float>(size, 1, 1));
    const auto zero = tape.constant(Matrix<float>::Zero(size, size));
    const auto one = tape.constant(Matrix<float>::Ones(size, size));
    FastMatrix<float> h(tape, size, size, 1, true, 0, deferred);
    Var<float> y = x;
    for (int t = 0; t < 2000; ++t) {
      const MatrixTerm<float> term{{}, y, y * 0.1};
      MatrixChange<float> change;
      change.keep = tape.constant(Matrix<float>::Constant(1, 1, 0.9F));
      change.terms = std::span(&term, 1);
      h.write(change);
      y = tanh((deferred ? h.read_layer(y, zero, one) : h.read(y)) + x);
    }
    tape.backward(y);
    CHECK(x.adjoint().allFinite());
    return static_cast<double>(tape.memory());
  };
  const double copy = 200.0 * 200 * sizeof(float);
  for (const bool deferred : {false, true}) {
    INFO("deferred " << deferred);
    CHECK(memory(200, deferred) <
          2.6 * std::sqrt(2000.0) * copy + 2000 * 60 * 200.0 * sizeof(float));
  }
}

namespace {

// An episode with a layer of two samples, and its gradients: deferred, or with a matrix that is
// not.
struct LayerRun {
  Index inputs = 3;
  Index outputs = 4;
  int steps = 8;
  Index interval = 0;
  enum { none, number, columns } keep = number;
  bool deferred = true;
};

template <class Scalar>
std::vector<Matrix<Scalar>> run_layer(const LayerRun& run) {
  constexpr Index samples = 2;
  const Index n = run.inputs, m = run.outputs;
  Tape<Scalar> tape;
  std::vector<Var<Scalar>> v;
  const auto add = [&](Index rows, Index cols, double low, double high) {
    v.push_back(tape.variable(random_matrix<Scalar>(rows, cols, v.size() + 1, low, high)));
    return v.back();
  };
  const double spread = 1 / std::sqrt(static_cast<double>(n));
  const auto weight = add(m, n, -spread, spread), alpha = add(m, n, -1, 1),
             keep = add(m, samples, 0.6, 0.95), input = add(n, samples, -1, 1),
             back = add(n, m, -spread, spread), first = add(m, samples, -1, 1);
  FastMatrix<Scalar> h(tape, n, m, samples, true, run.interval, run.deferred);
  for (Index s = 0; s < samples; ++s) h.set_value(s, random_matrix<Scalar>(m, n, 50 + s));
  const auto read = [&](const Var<Scalar>& x, const Var<Scalar>& skip) {
    if (run.deferred) return h.read_layer(x, weight, alpha, skip);
    const Var<Scalar> y = matmul(weight, x) + h.read(x, alpha);
    return skip.empty() ? y : select(skip, tape.constant(Matrix<Scalar>::Zero(m, samples)), y);
  };
  Var<Scalar> x = input, y = first, total = sum(keep);
  for (int t = 0; t < run.steps; ++t) {
    // Steps that want all, some or one of the columns, one sample or none; and a second read.
    Matrix<Scalar> skip = Matrix<Scalar>::Zero(m, samples);
    if (t % 5 == 1) skip.topRows(m - 1).setOnes();
    if (t % 5 == 2 || t % 11 > 6) skip.setOnes();
    if (t % 5 == 3) skip.col(t % 2).setOnes();
    if (t % 11 == 8) skip.bottomRows(1).setZero();
    const Var<Scalar> wanted = t % 5 == 0 && t % 11 <= 6 ? Var<Scalar>() : tape.constant(skip);
    y = tanh(read(x, wanted) + first);
    if (t % 7 == 3) y = y + read(tanh(x + input), {}) * 0.3;
    const Var<Scalar> change = y * 0.3;
    const MatrixTerm<Scalar> term{{}, x, change};
    MatrixChange<Scalar> update;
    update.terms = std::span(&term, 1);
    if (run.keep == LayerRun::number) update.keep = rows(keep, 0, 1);
    if (run.keep == LayerRun::columns) update.keep = keep;
    Matrix<Scalar> active = Matrix<Scalar>::Ones(1, samples);
    if (t % 6 == 4) active(0, 1) = 0;
    update.active = tape.constant(active);
    h.write(update);
    if (t == run.steps / 2) CHECK(h.value(1).allFinite());
    x = tanh(matmul(back, y) + input);
    total = total + sum(y) * (t % 3 == 0 ? 0 : 1);
  }
  CHECK(h.version() == run.steps);
  std::vector<Matrix<Scalar>> results{y.value(), h.value(0), h.value(1)};
  for (int sweep = 0; sweep < 2; ++sweep) {
    tape.backward(sweep == 0 ? sum(y) + sum(keep) : total);
    for (const Var<Scalar>& each : v) results.push_back(each.adjoint());
  }
  return results;
}

}  // namespace

TEMPLATE_TEST_CASE("A deferred fast matrix is like one that is not", "[synapse][fast_matrix]",
                   double, float) {
  using Scalar = TestType;
  const double tolerance = std::is_same_v<Scalar, double> ? 1e-11 : 2e-3;
  std::vector<LayerRun> runs;
  for (const auto& [n, m] : {std::pair<Index, Index>{1, 1}, {3, 4}, {7, 33}, {5, 47}, {3, 530}}) {
    runs.push_back({n, m, 24});
  }
  runs.push_back({3, 17, 40, 0, LayerRun::none});
  runs.push_back({3, 33, 40, 0, LayerRun::columns});
  runs.push_back({3, 18, 45, 1});
  runs.push_back({3, 18, 45, 3});
  runs.push_back({3, 18, 90, 25, LayerRun::columns});
  runs.push_back({2, 17, 600});
  for (LayerRun run : runs) {
    INFO(run.inputs << " x " << run.outputs << ", " << run.steps << " steps, interval "
                    << run.interval << ", keep " << run.keep);
    const auto got = run_layer<Scalar>(run);
    run.deferred = false;
    const auto expected = run_layer<Scalar>(run);
    for (std::size_t k = 0; k < got.size(); ++k) {
      INFO("result " << k);
      const Matrix<Scalar> error = got[k] - expected[k];
      CHECK(error.cwiseAbs().maxCoeff() <=
            tolerance * (1 + static_cast<double>(expected[k].cwiseAbs().maxCoeff())));
    }
  }
}

TEST_CASE("What a deferred fast matrix cannot do is refused by name", "[synapse][fast_matrix]") {
  Tape<double> tape;
  const auto w = tape.variable(random_matrix(2, 3, 1)), a = tape.variable(random_matrix(2, 3, 2));
  FastMatrix<double> h(tape, 3, 2, 1, true, 0, true), other(tape, 3, 2, 1, true);
  const auto x = tape.variable(random_matrix(3, 1, 3)), y = tape.variable(random_matrix(2, 1, 4));
  const auto late = tape.variable(random_matrix(2, 3, 5));
  CHECK(rejection([&] { h.read(x); }) ==
        "FastMatrix::read: the matrix must be one that is not deferred, got a deferred one");
  CHECK(rejection([&] { h.column_squares(); }) ==
        "FastMatrix::column_squares: the matrix must be one that is not deferred, got a deferred "
        "one");
  CHECK(rejection([&] { other.read_layer(x, w, a); }) ==
        "FastMatrix::read_layer: the matrix must be deferred, got one that is not");
  CHECK(rejection([&] { h.read_layer(x, w, a, x); }) ==
        "FastMatrix::read_layer: skip must be 2 x 1, got 3 x 1");
  CHECK(rejection([&] { h.read_layer(x, late, a); }) ==
        "FastMatrix::read_layer: weight must be the same in all reads, and older than the matrix, "
        "got another one");
  const std::array terms{MatrixTerm<double>{{}, x, y}, MatrixTerm<double>{{}, x, y}};
  MatrixChange<double> change;
  const std::string expected =
      "FastMatrix::write: the change of a deferred matrix must be keep, of the same shape in all "
      "of "
      "them, and one term of pre and post, got another one";
  change.terms = terms;
  CHECK(rejection([&] { h.write(change); }) == expected);
  change.terms = std::span(terms).first(1);
  h.write(change);
  change.keep = y;
  CHECK(rejection([&] { h.write(change); }) == expected);
  CHECK(rejection([&] {
          h.set_value(0, Matrix<double>::Zero(2, 3));
        }).starts_with("FastMatrix::set_value: the matrix must be one that has not been written"));
}

TEST_CASE("Mistakes with a fast matrix are refused by name", "[synapse][fast_matrix]") {
  Tape<double> tape;
  FastMatrix<double> h(tape, 3, 2, 1, true), square(tape, 2, 2, 1, true), empty;
  const auto x = tape.variable(random_matrix(3, 1, 1)), y = tape.variable(random_matrix(2, 1, 2));
  CHECK(rejection([&] { empty.read(x); }) ==
        "FastMatrix::read: the matrix must be on a tape, got an empty one");
  CHECK(rejection([&] { h.read(y); }) == "FastMatrix::read: x must be 3 x 1, got 2 x 1");
  CHECK(rejection([&] { h.read(x, x); }) == "FastMatrix::read: alpha must be 2 x 3, got 3 x 1");
  CHECK(rejection([&] { FastMatrix<double>(tape, 0, 2, 1, true); }) ==
        "FastMatrix: inputs must be at least 1, got 0");
  const auto refused = [&](auto&& set) {
    MatrixChange<double> change;
    set(change);
    return rejection([&] { h.write(change); });
  };
  CHECK(refused([&](auto& c) { c.keep = x; }) ==
        "FastMatrix::write: keep must be 2 x 1, got 3 x 1");
  CHECK(refused([&](auto& c) {
          c.bound = MatrixBound::clip;
        }).starts_with("FastMatrix::write: limit must be a finite number in"));
  CHECK(refused([&](auto& c) { c.other = &square; }) ==
        "FastMatrix::write: other must be 2 x 3, got 2 x 2");
  CHECK(refused([&](auto& c) {
          c.other = &h;
          c.gain = tape.constant(Matrix<double>::Ones(1, 1));
        }) ==
        "FastMatrix::write: other must be another matrix of the same episode, got a "
        "different one");
  const std::vector<MatrixTerm<double>> many(7);
  CHECK(refused([&](auto& c) { c.terms = many; }) ==
        "FastMatrix::write: the number of terms must be at most 6, got 7");
  CHECK(refused([&](auto& c) {
          c.bound = MatrixBound::soft;
          c.limit = 1;
          c.keep = tape.constant(Matrix<double>::Ones(1, 1));
        }).starts_with("FastMatrix::write: keep and keep_matrix must be empty"));
  CHECK(rejection([&] { h.value(1); }) == "FastMatrix::value: sample must be in 0 .. 0, got 1");
  const auto start = tape.position();
  const MatrixTerm<double> term{{}, x, y};
  MatrixChange<double> change;
  change.terms = std::span(&term, 1);
  h.write(change);
  CHECK(rejection([&] {
          h.set_value(0, Matrix<double>::Zero(2, 3));
        }).starts_with("FastMatrix::set_value: the matrix must be one that has not been written"));
  CHECK(rejection([&] { tape.gradient(sum(h.read(x)), x); }) ==
        "Tape::gradient: the path to the loss must be free of a fast matrix, got one through it");
  tape.rewind(start);
  CHECK(rejection([&] {
          h.read(x);
        }).starts_with("FastMatrix::read: the tape must be at least as long"));
}
