#include "plastic/synapse/fast_matrix.hpp"

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
};

const std::vector<Form> forms = {{"additive"},
                                 {"number", Form::number},
                                 {"columns", Form::columns},
                                 {"matrix", Form::none, true},
                                 {"number and matrix", Form::number, true},
                                 {"columns and matrix", Form::columns, true},
                                 {"clip", Form::none, true, false, MatrixBound::clip},
                                 {"decay and clip", Form::number, false, false, MatrixBound::clip},
                                 {"soft", Form::none, true, false, MatrixBound::soft},
                                 {"other", Form::number, true, true},
                                 {"other and clip", Form::none, false, true, MatrixBound::clip},
                                 {"other and soft", Form::none, true, true, MatrixBound::soft}};

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
  change.terms = terms;
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
      double d = (form.matrix ? f[2](j, i) : 1) * p * q + f[3](j, i) * q + 0.1 * p + f[3](j, i);
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
  for (const auto& [n, m] : {std::pair<Index, Index>{1, 1}, {3, 5}, {7, 33}, {18, 2}, {5, 16}}) {
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
    for (const Index interval : {Index{0}, Index{3}}) {
      INFO(form.name << ", interval " << interval);
      check_gradient(
          [&](std::span<const Var<double>> x) {
            Tape<double>& tape = x.front().tape();
            std::vector<Var<double>> f(x.begin(), x.end());
            FastMatrix<double> h(tape, 3, 4, 2, true, interval);
            FastMatrix<double> other(tape, 3, 4, 2, true, interval);
            Var<double> result;
            for (int t = 0; t < 8; ++t) {
              const Var<double> y = h.read(f[4]) + h.read(f[4], f[2]) +
                                    sqrt(h.column_squares(f[1]) + 0.1) +
                                    h.largest(f[2]) * other.read(f[4]);
              f[4] = tanh(x[4] + matmul(transpose(x[1]), y) * 0.3);
              f[5] = tanh(x[5] + y * 0.2);
              write(form, f, h, other);
              result = result.empty() ? y : result * 0.5 + y;
            }
            return result;
          },
          factors<double>(3, 4, 2));
    }
  }
}

TEST_CASE("A long differentiable history of a fast matrix keeps few copies",
          "[synapse][fast_matrix]") {
  const auto memory = [](Index size) {
    Tape<float> tape;
    const auto x = tape.variable(random_matrix<float>(size, 1, 1));
    FastMatrix<float> h(tape, size, size, 1, true);
    Var<float> y = x;
    for (int t = 0; t < 2000; ++t) {
      const MatrixTerm<float> term{{}, y, y * 0.1};
      MatrixChange<float> change;
      change.keep = tape.constant(Matrix<float>::Constant(1, 1, 0.9F));
      change.terms = std::span(&term, 1);
      h.write(change);
      y = tanh(h.read(y) + x);
    }
    tape.backward(y);
    CHECK(x.adjoint().allFinite());
    return static_cast<double>(tape.memory());
  };
  const double copy = 200.0 * 200 * sizeof(float);
  CHECK(memory(200) < 2.6 * std::sqrt(2000.0) * copy + 2000 * 60 * 200.0 * sizeof(float));
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
