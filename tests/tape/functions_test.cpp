#include "plastic/tape/functions.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "support/errors.hpp"
#include "support/gradcheck.hpp"

using namespace plastic;
using namespace plastic::testing;

namespace {

template <class Scalar>
struct Unary {
  const char* name;
  Var<Scalar> (*record)(const Var<Scalar>&);
  double (*plain)(double);
  double low = -2;
  double high = 2;
};

/// Every elementwise operation of one argument.
template <class S>
std::vector<Unary<S>> unary_operations() {
  using V = Var<S>;
  return {
      {"-x", [](const V& x) { return -x; }, [](double x) { return -x; }},
      {"x * 3", [](const V& x) { return x * 3; }, [](double x) { return x * 3; }},
      {"-0.5 * x", [](const V& x) { return -0.5 * x; }, [](double x) { return -0.5 * x; }},
      {"x / 4", [](const V& x) { return x / 4; }, [](double x) { return x / 4; }},
      {"x + 2", [](const V& x) { return x + 2; }, [](double x) { return x + 2; }},
      {"0.5f + x", [](const V& x) { return 0.5F + x; }, [](double x) { return 0.5 + x; }},
      {"3 / x", [](const V& x) { return 3 / x; }, [](double x) { return 3 / x; }, 0.5, 2},
      {"x - 3", [](const V& x) { return x - 3; }, [](double x) { return x - 3; }},
      {"3 - x", [](const V& x) { return 3 - x; }, [](double x) { return 3 - x; }},
      {"exp", [](const V& x) { return exp(x); }, [](double x) { return std::exp(x); }},
      {"log", [](const V& x) { return log(x); }, [](double x) { return std::log(x); }, 0.2, 3},
      {"sqrt", [](const V& x) { return sqrt(x); }, [](double x) { return std::sqrt(x); }, 0.2, 3},
      {"square", [](const V& x) { return square(x); }, [](double x) { return x * x; }},
      {"sin", [](const V& x) { return sin(x); }, [](double x) { return std::sin(x); }},
      {"cos", [](const V& x) { return cos(x); }, [](double x) { return std::cos(x); }},
      {"tanh", [](const V& x) { return tanh(x); }, [](double x) { return std::tanh(x); }},
      {"sigmoid", [](const V& x) { return sigmoid(x); },
       [](double x) { return 1 / (1 + std::exp(-x)); }},
      {"softplus", [](const V& x) { return softplus(x); },
       [](double x) { return std::log(1 + std::exp(x)); }},
      {"relu", [](const V& x) { return relu(x); }, [](double x) { return x > 0 ? x : 0; }},
      {"leaky_relu", [](const V& x) { return leaky_relu(x, 0.25); },
       [](double x) { return x > 0 ? x : 0.25 * x; }},
      {"step", [](const V& x) { return step(x); }, [](double x) { return x > 0 ? 1. : 0.; }},
      {"is_between", [](const V& x) { return is_between(x, -1, 0.5); },
       [](double x) { return x >= -1 && x <= 0.5 ? 1. : 0.; }},
      {"abs", [](const V& x) { return abs(x); }, [](double x) { return std::abs(x); }},
      {"clamp", [](const V& x) { return clamp(x, -1, 0.5); },
       [](double x) { return std::min(std::max(x, -1.), 0.5); }},
      {"pow 3", [](const V& x) { return pow(x, 3); }, [](double x) { return x * x * x; }},
      {"pow -1.5", [](const V& x) { return pow(x, -1.5); },
       [](double x) { return std::pow(x, -1.5); }, 0.3, 2},
  };
}

template <class Scalar>
struct Binary {
  const char* name;
  Var<Scalar> (*record)(const Var<Scalar>&, const Var<Scalar>&);
  double (*plain)(double, double);
};

template <class S>
std::vector<Binary<S>> binary_operations() {
  using V = Var<S>;
  return {
      {"+", [](const V& a, const V& b) { return a + b; }, [](double a, double b) { return a + b; }},
      {"-", [](const V& a, const V& b) { return a - b; }, [](double a, double b) { return a - b; }},
      {"*", [](const V& a, const V& b) { return a * b; }, [](double a, double b) { return a * b; }},
      {"/", [](const V& a, const V& b) { return a / b; }, [](double a, double b) { return a / b; }},
  };
}

struct Shape {
  Index rows, cols;
};
constexpr std::array<Shape, 4> broadcast_shapes{{{3, 5}, {1, 5}, {3, 1}, {1, 1}}};

template <class Scalar, class Derived>
void check_close(const Var<Scalar>& x, const Eigen::MatrixBase<Derived>& expected, double k = 8) {
  REQUIRE(x.rows() == expected.rows());
  REQUIRE(x.cols() == expected.cols());
  const Matrix<double> e = expected.template cast<double>();
  const double error = (x.value().template cast<double>() - e).cwiseAbs().maxCoeff();
  CHECK(error <= rounding<Scalar>(k, 1 + e.cwiseAbs().maxCoeff()));
}

/// An operation whose adjoint is wrong by 0.1 percent.
struct WrongSquare {
  [[maybe_unused]] static constexpr std::string_view name = "wrong_square";
  static constexpr bool elementwise = true;
  auto value(const auto& x) const { return x * x; }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    return dy * x * 2.002;
  }
};

/// Right once, but the second derivative is lost.
struct FlatSquare {
  [[maybe_unused]] static constexpr std::string_view name = "flat_square";
  static constexpr bool elementwise = true;
  auto value(const auto& x) const { return x * x; }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    if constexpr (requires { x.tape(); }) {
      return dy * x.tape().constant(2 * x.value());
    } else {
      return dy * (x + x);
    }
  }
};

}  // namespace

TEST_CASE("The gradient check notices adjoints that are slightly wrong", "[tape][functions]") {
  const std::vector<Matrix<double>> x{random_matrix(2, 3, 1)};
  const auto wrong = [](std::span<const Var<double>> v) { return apply(WrongSquare{}, v[0]); };
  const auto flat = [](std::span<const Var<double>> v) { return apply(FlatSquare{}, v[0]); };
  CHECK(gradient_mismatch(wrong, x).size > 100);
  CHECK(gradient_mismatch(flat, x).size < 1);
  CHECK(second_order_mismatch(flat, x).size > 100);
}

TEMPLATE_TEST_CASE("Elementwise operations have the values of the plain functions",
                   "[tape][functions]", float, double) {
  for (const Unary<TestType>& op : unary_operations<TestType>()) {
    INFO(op.name);
    const Matrix<TestType> x = random_matrix<TestType>(7, 5, 3, op.low, op.high);
    Tape<TestType> tape;
    check_close(op.record(tape.constant(x)), x.template cast<double>().unaryExpr(op.plain));
  }
}

TEST_CASE("Elementwise operations are differentiable twice", "[tape][functions]") {
  for (const Unary<double>& op : unary_operations<double>()) {
    INFO(op.name);
    const Matrix<double> x = random_matrix(4, 3, 5, op.low, op.high);
    check_gradient(op.record, x);
    check_second_order(op.record, x);
  }
}

TEMPLATE_TEST_CASE("Binary operations repeat sides of 1", "[tape][functions]", float, double) {
  for (const Binary<TestType>& op : binary_operations<TestType>()) {
    for (const Shape& left : broadcast_shapes) {
      for (const Shape& right : broadcast_shapes) {
        INFO(left.rows << " x " << left.cols << " " << op.name << " " << right.rows << " x "
                       << right.cols);
        const Matrix<double> a =
            random_matrix<TestType>(left.rows, left.cols, 1).template cast<double>();
        const Matrix<double> b = random_matrix(right.rows, right.cols, 2, 0.5, 2)
                                     .cast<TestType>()
                                     .template cast<double>();
        Matrix<double> expected(std::max(left.rows, right.rows), std::max(left.cols, right.cols));
        for (Index i = 0; i < expected.rows(); ++i) {
          for (Index j = 0; j < expected.cols(); ++j) {
            expected(i, j) = op.plain(a(left.rows == 1 ? 0 : i, left.cols == 1 ? 0 : j),
                                      b(right.rows == 1 ? 0 : i, right.cols == 1 ? 0 : j));
          }
        }
        Tape<TestType> tape;
        check_close(op.record(tape.constant(a.cast<TestType>()), tape.constant(b.cast<TestType>())),
                    expected);
      }
    }
  }
}

TEST_CASE("Binary operations are differentiable twice in every broadcast", "[tape][functions]") {
  for (const Binary<double>& op : binary_operations<double>()) {
    for (const Shape& left : broadcast_shapes) {
      for (const Shape& right : broadcast_shapes) {
        INFO(left.rows << " x " << left.cols << " " << op.name << " " << right.rows << " x "
                       << right.cols);
        const Matrix<double> a = random_matrix(left.rows, left.cols, 1);
        const Matrix<double> b = random_matrix(right.rows, right.cols, 2, 0.5, 2);
        check_gradient(op.record, a, b);
        check_second_order(op.record, a, b);
      }
    }
  }
}

TEMPLATE_TEST_CASE("Sums, broadcasts and rearrangements have the values of plain Eigen",
                   "[tape][functions]", float, double) {
  using Plain = Matrix<TestType>;
  const Plain m = random_matrix<TestType>(4, 3, 1);
  const Plain n = random_matrix<TestType>(3, 5, 2);
  Tape<TestType> tape;
  const auto x = tape.constant(m);
  check_close(sum(x), Plain::Constant(1, 1, m.sum()));
  check_close(mean(x), Plain::Constant(1, 1, m.mean()));
  check_close(sum_features(x), m.colwise().sum().eval());
  check_close(sum_samples(x), m.rowwise().sum().eval());
  check_close(sum_to(x, 4, 1), m.rowwise().sum().eval());
  check_close(broadcast(sum_features(x), 4, 3), m.colwise().sum().replicate(4, 1).eval());
  check_close(broadcast(sum_samples(x), 4, 3), m.rowwise().sum().replicate(1, 3).eval());
  check_close(broadcast(sum(x), 2, 6), Plain::Constant(2, 6, m.sum()));
  check_close(matmul(x, tape.constant(n)), (m * n).eval());
  check_close(transpose(x), m.transpose().eval());
  check_close(rows(x, 1, 2), m.middleRows(1, 2).eval());
  check_close(rows(x, 3, 1), m.bottomRows(1).eval());
  Plain padded = Plain::Zero(7, 3);
  padded.middleRows(2, 4) = m;
  check_close(pad_rows(x, 2, 7), padded);
  check_close(pad_rows(x, 0, 4), m);
  const std::array parts{x, tape.constant(n.topRows(2).transpose().topRows(4)), x};
  Plain side_by_side(4, 8);
  side_by_side << m, n.topRows(2).transpose().topRows(4), m;
  check_close(concatenate_samples<TestType>(parts), side_by_side);
}

TEST_CASE("Sums, broadcasts and rearrangements are differentiable twice", "[tape][functions]") {
  const auto both = [](auto f, const auto&... inputs) {
    check_gradient(f, inputs...);
    check_second_order(f, inputs...);
  };
  const Matrix<double> x = random_matrix(4, 3, 1);
  const auto bent = [](const auto& v) { return v * sin(v); };
  both([&](auto v) { return bent(sum(v)); }, x);
  both([&](auto v) { return bent(mean(v)); }, x);
  both([&](auto v) { return bent(sum_features(v)); }, x);
  both([&](auto v) { return bent(sum_samples(v)); }, x);
  both([&](auto v) { return bent(broadcast(v, 4, 3)); }, random_matrix(1, 3, 2));
  both([&](auto v) { return bent(broadcast(v, 4, 3)); }, random_matrix(4, 1, 2));
  both([&](auto v) { return bent(broadcast(v, 4, 3)); }, random_matrix(1, 1, 2));
  both([&](auto v) { return bent(transpose(v)); }, x);
  both([&](auto v) { return bent(rows(v, 1, 2)); }, x);
  both([&](auto v) { return bent(rows(v, 0, 4)); }, x);
  both([&](auto v) { return bent(pad_rows(v, 2, 7)); }, x);
  both([&](auto a, auto b) { return bent(matmul(a, b)); }, x, random_matrix(3, 5, 3));
  both([&](auto a, auto b) { return bent(matmul(a, b)); }, x, random_matrix(3, 1, 3));
  both([&](auto a, auto b) { return bent(matmul(a, b)); }, random_matrix(1, 4, 4), x);
  both([&](auto v) { return bent(matmul(v, transpose(v))); }, x);
}

TEMPLATE_TEST_CASE("Columns and steps are copies of those of the matrix", "[tape][functions]",
                   float, double) {
  using Plain = Matrix<TestType>;
  for (const Index features : {1, 3, 8, 17}) {
    const Plain m = random_matrix<TestType>(features, 6, 1);
    Tape<TestType> tape;
    const auto x = tape.constant(m);
    CHECK(columns(x, 0, 1).value() == m.leftCols(1));
    CHECK(columns(x, 2, 3).value() == m.middleCols(2, 3));
    CHECK(columns(x, 5, 1).value() == m.rightCols(1));
    CHECK(&columns(x, 0, 6).node() == &x.node());
    CHECK(time_steps(x, 2, 1, 2).value() == m.middleCols(2, 4));
    CHECK(time_steps(x, 3, 1, 1).value() == m.rightCols(3));
    CHECK(time_steps(x, 1, 4, 2).value() == m.rightCols(2));
    CHECK(&time_steps(x, 6, 0, 1).node() == &x.node());
    std::vector<Index> which{5, 0, 3, 3, 1, 5, 5, 2};
    const auto picked = columns(x, which);
    const Plain expected = m(Eigen::all, which);
    CHECK(picked.value() == expected);
    CHECK(columns(x, std::array<Index, 1>{4}).value() == m.col(4));

    // The list is copied, so the sweep does not depend on the caller's list.
    const auto v = tape.variable(m);
    const auto loss = sum(columns(v, which));
    std::fill(which.begin(), which.end(), 0);
    const auto recorded = tape.gradient(loss, v);
    tape.backward(loss);
    Plain times(features, 6);
    times.rowwise() = Eigen::RowVector<TestType, 6>(1, 1, 1, 2, 0, 3);
    CHECK(v.adjoint() == times);
    CHECK(recorded.value() == times);
  }
}

TEST_CASE("Columns and steps are differentiable any number of times", "[tape][functions]") {
  const auto both = [](auto f, const auto&... inputs) {
    check_gradient(f, inputs...);
    check_second_order(f, inputs...);
  };
  const Matrix<double> x = random_matrix(3, 6, 1);
  const auto bent = [](const auto& v) { return v * sin(v); };
  const std::array<Index, 7> which{5, 0, 3, 3, 1, 5, 5};
  both([&](auto v) { return bent(columns(v, 2, 3)); }, x);
  both([&](auto v) { return bent(columns(v, 0, 6)); }, x);
  both([&](auto v) { return bent(columns(v, which)); }, x);
  both([&](auto v) { return bent(time_steps(v, 2, 1, 2)); }, x);
  // Parts that meet in one matrix, and a part of a part.
  both(
      [&](auto v) {
        return bent(columns(v, 0, 4)) * bent(columns(v, 2, 4)) + time_steps(v, 2, 0, 2);
      },
      x);
  both([&](auto v) { return bent(columns(bent(columns(v, which)), 1, 5)) + sum(v); }, x);
  // Third order: the gradient of an inner loss, recorded and differentiated.
  const auto inner_step = [&](auto v) {
    const auto inner = sum(exp(columns(v, which)) * sin(columns(v, which)));
    return columns(v, which) - columns(v.tape().gradient(inner, v), which) * 0.3;
  };
  check_second_order([&](auto v) { return bent(inner_step(v)); }, x);
}

TEMPLATE_TEST_CASE("A selection takes entries from one of two matrices", "[tape][functions]", float,
                   double) {
  using Plain = Matrix<TestType>;
  constexpr TestType zero = 0;
  for (const Shape& shape : {Shape{1, 1}, Shape{1, 5}, Shape{3, 7}, Shape{8, 4}, Shape{17, 3}}) {
    INFO(shape.rows << " x " << shape.cols);
    Plain m = random_matrix<TestType>(shape.rows, shape.cols, 1);
    m = (m.array() > zero).select(m, -zero).eval();
    const Plain a = random_matrix<TestType>(shape.rows, shape.cols, 2);
    const Plain b = random_matrix<TestType>(shape.rows, shape.cols, 3);
    Tape<TestType> tape;
    const auto x = tape.constant(a), y = tape.constant(b);
    CHECK(select(tape.constant(m), x, y).value() == (m.array() != zero).select(a, b));
    const Plain row_mask = m.topRows(1);
    const Plain repeated = row_mask.replicate(shape.rows, 1);
    CHECK(select(tape.constant(row_mask), x, y).value() == (repeated.array() != zero).select(a, b));
  }
  Tape<TestType> tape;
  const auto minus_zero = select(row(tape, {1, 0}), row(tape, {-0.0, 1}), row(tape, {1, -0.0}));
  CHECK(std::signbit(minus_zero.value()(0, 0)));
  CHECK(std::signbit(minus_zero.value()(0, 1)));
}

TEST_CASE("Selections are differentiable any number of times", "[tape][functions]") {
  const Matrix<double> a = random_matrix(3, 4, 1), b = random_matrix(3, 4, 2);
  Matrix<double> all(3, 4), per_sample(1, 4);
  all << 1, 0, 2, 0, 0, 0, -1, 1, 1, 0.5, 0, 0;
  per_sample << 0, 1, 0, 3;
  for (const Matrix<double>& m : {all, per_sample}) {
    const auto select_bent = [&](auto v, auto w) {
      return sin(select(v.tape().constant(m), v * w, square(w)));
    };
    check_gradient(select_bent, a, b);
    check_second_order(select_bent, a, b);
    // Both from one matrix, and third order.
    check_second_order([&](auto v) { return select(v.tape().constant(m), exp(v), v * v); }, a);
    check_second_order(
        [&](auto v, auto w) { return v - v.tape().gradient(sum(exp(select_bent(v, w))), v) * 0.3; },
        a, b);
  }
}

TEMPLATE_TEST_CASE("What a selection does not take changes neither value nor adjoint",
                   "[tape][functions]", float, double) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  constexpr double infinity = std::numeric_limits<double>::infinity();
  Tape<TestType> tape;
  const auto mask = row(tape, {1, 0, 1, 0, 1, 0});
  const auto a = row(tape, {1, nan, 2, infinity, 3, -infinity});
  const auto b = row(tape, {nan, 4, infinity, 5, -infinity, 6});
  const auto y = select(mask, a, b);
  CHECK(y.value() == row(tape, {1, 4, 2, 5, 3, 6}).value());
  const auto loss = sum(y * y * y);
  const std::array wrt{a, b, mask};
  std::array<Var<TestType>, 3> first, second;
  tape.gradient(loss, wrt, first);
  tape.gradient(sum(first[0] + first[1]), wrt, second);
  tape.backward(loss);
  const auto da = row(tape, {3, 0, 12, 0, 27, 0}), db = row(tape, {0, 48, 0, 75, 0, 108});
  CHECK(a.adjoint() == da.value());
  CHECK(b.adjoint() == db.value());
  CHECK(first[0].value() == da.value());
  CHECK(first[1].value() == db.value());
  CHECK(second[0].value() == row(tape, {6, 0, 12, 0, 18, 0}).value());
  CHECK(second[1].value() == row(tape, {0, 24, 0, 30, 0, 36}).value());

  // An adjoint that is NaN stays on the side that was taken.
  tape.forget_adjoints();
  tape.seed(y, row(tape, {nan, nan, infinity, infinity, 1, 1}).value());
  tape.sweep(tape.position(), {});
  CHECK(a.adjoint()(0, 1) == 0);
  CHECK(a.adjoint()(0, 3) == 0);
  CHECK(b.adjoint()(0, 0) == 0);
  CHECK(b.adjoint()(0, 2) == 0);
  CHECK(std::isnan(a.adjoint()(0, 0)));
  CHECK(b.adjoint()(0, 3) == std::numeric_limits<TestType>::infinity());

  // No derivative goes to the mask.
  CHECK(first[2].value().isZero(0));
  CHECK_THROWS_AS(mask.adjoint(), std::invalid_argument);
}

TEST_CASE("Matrices side by side pass their columns' adjoints back", "[tape][functions]") {
  check_gradient(
      [](auto a, auto b) {
        const std::array parts{a, square(b), a};
        return sin(concatenate_samples<double>(parts));
      },
      random_matrix(3, 2, 1), random_matrix(3, 4, 2));

  Tape<double> tape;
  const auto a = tape.variable(random_matrix(2, 2, 1));
  const std::array parts{a, a};
  const auto loss = sum(concatenate_samples<double>(parts));
  CHECK(rejection([&] { tape.gradient(loss, a); }) ==
        "Tape::gradient: the path to the loss must be free of concatenate_samples, got one that "
        "uses it");
}

TEST_CASE("Composed functions are differentiable twice", "[tape][functions]") {
  const auto both = [](auto f, const auto&... inputs) {
    check_gradient(f, inputs...);
    check_second_order(f, inputs...);
  };
  const Matrix<double> x = random_matrix(4, 3, 1, -2, 2);
  const Matrix<double> y = random_matrix(4, 3, 2);
  const Matrix<double> per_sample = random_matrix(1, 3, 3, 0, 2);
  Matrix<double> probabilities = random_matrix(4, 3, 4, 0.1, 1);
  probabilities.array().rowwise() /= probabilities.colwise().sum().array().eval();
  both([](auto v) { return log_sum_exp(v); }, x);
  both([](auto v) { return softmax(v); }, x);
  both([](auto v) { return log_softmax(v); }, x);
  both([](auto v, auto gain, auto bias) { return layer_norm(v, gain, bias); }, x,
       random_matrix(4, 1, 5), random_matrix(4, 1, 6));
  both([](auto a, auto b) { return mean_squared_error(a, b); }, x, y);
  both([](auto a, auto b, auto weights) { return mean_squared_error(a, b, weights); }, x, y,
       per_sample);
  both([&](auto v) { return cross_entropy(v, v.tape().constant(probabilities)); }, x);
  both([&](auto v) { return cross_entropy(v, v.tape().constant(probabilities), 0.3); }, x);
  for (const double smoothing : {0.0, 0.3, 1.0}) {  // columns of any sum
    both([=](auto a, auto b) { return cross_entropy(a, b, smoothing); }, x, y);
  }
  both([](auto a, auto b) { return binary_cross_entropy(a, b); }, x, y);
}

TEMPLATE_TEST_CASE("Layer norm follows its definition", "[tape][functions]", float, double) {
  const Matrix<double> x = random_matrix<TestType>(6, 3, 1, -3, 3).template cast<double>();
  const Matrix<double> gain = random_matrix<TestType>(6, 1, 2).template cast<double>();
  const Matrix<double> bias = random_matrix<TestType>(6, 1, 3).template cast<double>();
  for (const double epsilon : {1e-5, 0.5}) {
    Matrix<double> expected(6, 3);
    for (Index s = 0; s < 3; ++s) {
      double mean = 0, variance = 0;
      for (Index i = 0; i < 6; ++i) mean += x(i, s) / 6;
      for (Index i = 0; i < 6; ++i) variance += (x(i, s) - mean) * (x(i, s) - mean) / 6;
      for (Index i = 0; i < 6; ++i) {
        expected(i, s) = (x(i, s) - mean) / std::sqrt(variance + epsilon) * gain(i) + bias(i);
      }
    }
    Tape<TestType> tape;
    const auto v = tape.constant(x.cast<TestType>());
    const auto g = tape.constant(gain.cast<TestType>());
    const auto b = tape.constant(bias.cast<TestType>());
    check_close(layer_norm(v, g, b, epsilon), expected);
    if (epsilon == 1e-5) check_close(layer_norm(v, g, b), expected);
  }
}

TEMPLATE_TEST_CASE("Losses follow their definitions", "[tape][functions]", float, double) {
  const Matrix<double> x = random_matrix<TestType>(5, 4, 1, -2, 2).template cast<double>();
  const Matrix<double> y = random_matrix<TestType>(5, 4, 2).template cast<double>();
  const Matrix<double> w = random_matrix<TestType>(1, 4, 3, 0, 2).template cast<double>();
  Tape<TestType> tape;
  const auto v = tape.constant(x.cast<TestType>());
  const auto target = tape.constant(y.cast<TestType>());
  const auto weights = tape.constant(w.cast<TestType>());

  double weighted = 0;
  for (Index s = 0; s < 4; ++s) weighted += w(s) * (x.col(s) - y.col(s)).squaredNorm();
  check_close(mean_squared_error(v, target),
              Matrix<double>::Constant(1, 1, (x - y).squaredNorm() / 20));
  check_close(mean_squared_error(v, target, weights),
              Matrix<double>::Constant(1, 1, weighted / (5 * w.sum())));

  const Matrix<double> e = x.array().exp();
  const Matrix<double> p = e.array().rowwise() / e.colwise().sum().array();
  check_close(softmax(v), p);
  check_close(log_sum_exp(v), e.colwise().sum().array().log().matrix().eval());

  check_close(log_softmax(v), p.array().log().matrix().eval());

  const Matrix<double> yes = (y.array() + 1) / 2, sigmoid = e.array() / (1 + e.array());
  const double binary =
      -(yes.array() * sigmoid.array().log() + (1 - yes.array()) * (1 - sigmoid.array()).log())
           .mean();
  check_close(binary_cross_entropy(v, tape.constant(yes.cast<TestType>())),
              Matrix<double>::Constant(1, 1, binary));

  Matrix<double> one_hot = Matrix<double>::Zero(5, 4);
  for (Index s = 0; s < 4; ++s) one_hot((3 * s) % 5, s) = 1;
  for (const double smoothing : {0.0, 0.1, 1.0}) {
    double expected = 0;
    for (Index s = 0; s < 4; ++s) {
      for (Index k = 0; k < 5; ++k) {
        const double q = (1 - smoothing) * one_hot(k, s) + smoothing / 5;
        expected -= q * std::log(p(k, s)) / 4;
      }
    }
    check_close(cross_entropy(v, tape.constant(one_hot.cast<TestType>()), smoothing),
                Matrix<double>::Constant(1, 1, expected));
  }
}

TEMPLATE_TEST_CASE("Cross entropy weighs each sample by the sum of its target", "[tape][functions]",
                   float, double) {
  constexpr Index classes = 5, samples = 4;
  const Matrix<double> x =
      random_matrix<TestType>(classes, samples, 1, -2, 2).template cast<double>();
  const Matrix<double> e = x.array().exp();
  const Matrix<double> p = e.array().rowwise() / e.colwise().sum().array();
  const std::array<double, 4> advantage{1.5, -2, 0, 0.25};
  const std::array<Index, 4> action{0, 3, 1, 3};
  Matrix<double> target = Matrix<double>::Zero(classes, samples);
  for (std::size_t s = 0; s < 4; ++s) {
    target(action[s], static_cast<Index>(s)) = advantage[s];
  }
  Tape<TestType> tape;
  const auto v = tape.variable(x.cast<TestType>());
  const auto q = tape.constant(target.cast<TestType>());
  for (const double smoothing : {0.0, 0.1, 1.0}) {
    INFO("smoothing " << smoothing);
    double expected = 0;
    Matrix<double> slope(classes, samples);
    for (std::size_t s = 0; s < 4; ++s) {
      const auto column = static_cast<Index>(s);
      expected -= advantage[s] * (1 - smoothing) * std::log(p(action[s], column)) / samples;
      expected -= advantage[s] * smoothing / classes * p.col(column).array().log().sum() / samples;
      slope.col(column) = advantage[s] * (p.col(column).array() - smoothing / classes) / samples;
      slope(action[s], column) -= advantage[s] * (1 - smoothing) / samples;
    }
    const auto loss = cross_entropy(v, q, smoothing);
    check_close(loss, Matrix<double>::Constant(1, 1, expected));
    const auto recorded = tape.gradient(loss, v);
    check_close(recorded, slope);
    tape.backward(loss);
    CHECK(v.adjoint().isApprox(recorded.value()));
    CHECK(v.adjoint().col(2).isZero(0));  // a weight of 0 leaves its sample out

    // A one-hot target has the bits of the formula for columns that sum to 1.
    const auto one_hot = tape.constant(Matrix<TestType>::Identity(classes, samples));
    const auto smoothed = one_hot * (1 - smoothing) + smoothing / classes;
    CHECK(cross_entropy(v, one_hot, smoothing).value() ==
          mean(log_sum_exp(v) - sum_features(smoothed * v)).value());
  }
}

TEMPLATE_TEST_CASE("Logarithms of probabilities that are too small stay finite",
                   "[tape][functions]", float, double) {
  const double far = std::is_same_v<TestType, float> ? 200 : 2000;         // exp(far) is infinite
  const double large = std::is_same_v<TestType, float> ? 0x1p25 : 0x1p54;  // has no digit for log 2
  Matrix<double> logits(2, 4);
  logits << 0, far, large, -large, -far, -far, large, -large;
  Tape<TestType> tape;
  const auto x = tape.variable(logits.cast<TestType>());
  const auto y = log_softmax(x);
  Matrix<double> expected(2, 4);
  const double half = -std::log(2.0);
  expected << 0, 0, half, half, -far, -2 * far, half, half;
  check_close(y, expected, 1);
  const auto recorded = tape.gradient(rows(y, 1, 1), x);
  tape.backward(rows(y, 1, 1));
  Matrix<TestType> slope(2, 4);
  slope << TestType(-1), TestType(-1), TestType(-0.5), TestType(-0.5), TestType(1), TestType(1),
      TestType(0.5), TestType(0.5);
  CHECK(x.adjoint().isApprox(slope));
  CHECK(recorded.value().isApprox(slope));
}

TEMPLATE_TEST_CASE("Binary cross entropy of extreme logits is finite", "[tape][functions]", float,
                   double) {
  const double far = std::is_same_v<TestType, float> ? 200 : 2000;
  Tape<TestType> tape;
  const auto x = row(tape, {-1e30, -far, 0, far, 1e30, -1e30, -far, 0, far, 1e30});
  const auto right = row(tape, {0, 0, 0.5, 1, 1, 0, 0, 0.5, 1, 1});
  const auto loss = binary_cross_entropy(x, right);
  CHECK(static_cast<double>(loss.value()(0, 0)) == Approx(std::log(2.0) / 5));
  tape.backward(loss);
  CHECK(x.adjoint().isZero(TestType(1e-30)));
  const auto wrong = binary_cross_entropy(row(tape, {-far, far}), row(tape, {1, 0}));
  CHECK(static_cast<double>(wrong.value()(0, 0)) == Approx(far));
}

TEMPLATE_TEST_CASE("Extreme inputs do not overflow", "[tape][functions]", float, double) {
  const double largest = 1e30;
  const double far = std::is_same_v<TestType, float> ? 200 : 2000;  // exp(far) is infinite
  Tape<TestType> tape;
  const auto x = row(tape, {-largest, -far, -40, 0, 40, far, largest});
  const auto y = softplus(x);
  const auto slope = tape.gradient(y, x);
  tape.backward(sum(y));
  for (Index j = 0; j < x.cols(); ++j) {
    INFO("x = " << x.value()(0, j));
    const double at = static_cast<double>(x.value()(0, j));
    const double expected = at > 0 ? at + std::log1p(std::exp(-at)) : std::log1p(std::exp(at));
    const double got = static_cast<double>(y.value()(0, j));
    CHECK(std::abs(got - expected) <= rounding<TestType>(4, expected) + 1e-40);
    const double derivative = 1 / (1 + std::exp(-at));
    CHECK(static_cast<double>(x.adjoint()(0, j)) == Approx(derivative).margin(1e-30));
    CHECK(slope.value()(0, j) == x.adjoint()(0, j));
  }

  Matrix<double> logits(3, 4);
  logits.col(0) << far, 0, -far;
  logits.col(1) << -largest, -largest, -largest;
  logits.col(2) << largest, -largest, 0;
  logits.col(3) << far, far, far;
  const auto v = tape.variable(logits.cast<TestType>());
  const Matrix<double> lse = log_sum_exp(v).value().template cast<double>();
  CHECK(lse(0) == far);
  CHECK(lse(1) == Approx(-largest));
  CHECK(lse(2) == Approx(largest));
  CHECK(lse(3) == Approx(far + std::log(3.0)));
  const auto p = softmax(v);
  CHECK(p.value().allFinite());
  for (const Index j : {Index{0}, Index{2}}) {
    CHECK((p.value().col(j) - Matrix<TestType>::Identity(3, 1)).isZero(TestType(1e-30)));
  }
  Matrix<TestType> target = Matrix<TestType>::Zero(3, 2);
  target(2, 0) = 1;
  target(0, 1) = 1;
  const auto two = tape.variable(Matrix<TestType>(v.value()(Eigen::all, {0, 2})));
  const auto loss = cross_entropy(two, tape.constant(target));
  CHECK(static_cast<double>(loss.value()(0, 0)) == Approx(far));  // the mean of 2 far and 0
  tape.backward(loss);
  CHECK(two.adjoint().allFinite());
  CHECK(two.adjoint()(0, 0) == TestType(0.5));
  CHECK(two.adjoint()(2, 0) == TestType(-0.5));
  CHECK(two.adjoint().col(1).isZero(0));
}

TEMPLATE_TEST_CASE("What is not a number stays so in every operation that is no indicator",
                   "[tape][functions]", float, double) {
  Tape<TestType> tape;
  const Index columns = 37;  // vectors, parts of them, and single numbers
  const auto x = tape.variable(
      Matrix<TestType>::Constant(1, columns, std::numeric_limits<TestType>::quiet_NaN()));
  for (const auto& operation : unary_operations<TestType>()) {
    const std::string name = operation.name;
    if (name == "step" || name == "is_between") continue;
    INFO(name);
    CHECK(operation.record(x).value().array().isNaN().all());
  }
}

TEMPLATE_TEST_CASE("Kinks have the derivatives that the documentation names", "[tape][functions]",
                   float, double) {
  Tape<TestType> tape;
  const auto check = [&](auto f, std::initializer_list<double> at,
                         std::initializer_list<double> slopes) {
    const auto x = row(tape, at);
    const auto expected = row(tape, slopes);
    const auto y = f(x);
    const auto recorded = tape.gradient(y, x);
    tape.backward(y);
    CHECK(x.adjoint() == expected.value());
    CHECK(recorded.value() == expected.value());
  };
  check([](auto x) { return relu(x); }, {-1, -0.0, 0, 1}, {0, 0, 0, 1});
  check([](auto x) { return abs(x); }, {-1, -0.0, 0, 1}, {-1, 0, 0, 1});
  check([](auto x) { return clamp(x, -1, 2); }, {-1.5, -1, 0, 2, 2.5}, {0, 1, 1, 1, 0});
  check([](auto x) { return clamp(x, 1, 1); }, {0.5, 1, 1.5}, {0, 1, 0});
  check([](auto x) { return step(x); }, {-1, 0, 1}, {0, 0, 0});
  check([](auto x) { return is_between(x, TestType(-1), TestType(1)); }, {-2, -1, 0, 1},
        {0, 0, 0, 0});
  CHECK(step(row(tape, {-1, -0.0, 0, 1})).value() == row(tape, {0, 0, 0, 1}).value());
  CHECK(is_between(row(tape, {-2, -1, 1, 1.5}), TestType(-1), TestType(1)).value() ==
        row(tape, {0, 1, 1, 0}).value());
}

TEST_CASE("Powers have their derivatives at zero", "[tape][functions]") {
  for (const int exponent : {0, 1, 2, 3, 4}) {
    INFO("exponent " << exponent);
    Tape<double> tape;
    const auto x = tape.variable(Matrix<double>::Zero(1, 1));
    Var<double> y = pow(x, exponent);
    for (int order = 0; order <= 4; ++order) {
      INFO("derivative of order " << order);
      CHECK(y.value()(0, 0) == (order == exponent ? std::tgamma(exponent + 1.0) : 0.0));
      y = tape.gradient(y, x);
    }
  }
}

TEST_CASE("Operations that do not fit throw and say why", "[tape][functions]") {
  Tape<double> tape;
  Tape<double> other;
  const auto a = tape.variable(random_matrix(2, 3, 1));
  const auto b = tape.variable(random_matrix(2, 2, 2));
  const auto foreign = other.variable(random_matrix(2, 3, 3));

  CHECK(rejection([&] { a + b; }) ==
        "operator+: the right side must be of the left side's shape 2 x 3, or broadcastable to it, "
        "got 2 x 2");
  CHECK(rejection([&] { a - transpose(a); }).starts_with("operator-: the right side must be"));
  CHECK(rejection([&] { a* b; }).starts_with("operator*: the right side must be"));
  CHECK(rejection([&] { a / b; }).starts_with("operator/: the right side must be"));
  CHECK(rejection([&] { a + foreign; }) ==
        "operator+: the variable must be on this tape, got one on another tape: record a whole "
        "computation on one tape");
  CHECK(rejection([&] { matmul(a, transpose(foreign)); }) ==
        "matmul: the variable must be on this tape, got one on another tape: record a whole "
        "computation on one tape");
  CHECK(rejection([&] { matmul(a, b); }) == "matmul: b must be a matrix of 3 rows, got 2 x 2");
  CHECK(rejection([&] { broadcast(b, 2, 4); }) ==
        "broadcast: x must be broadcastable to 2 x 4, got 2 x 2");
  CHECK(rejection([&] { broadcast(b, 4, 2); }).starts_with("broadcast: x must be"));
  CHECK(rejection([&] { sum_to(a, 2, 2); }) ==
        "sum_to: the result's shape must be that of x, 2 x 3, or 1 on a side, got 2 x 2");
  CHECK(rejection([&] { sum_to(a, 4, 3); }).starts_with("sum_to: the result's shape must be"));
  CHECK(rejection([&] { rows(a, 1, 2); }) ==
        "rows: the range must be within 0 .. 2, got 2 starting at 1");
  CHECK(rejection([&] { rows(a, -1, 1); }).starts_with("rows: the range"));
  constexpr Index most = std::numeric_limits<Index>::max();
  CHECK(rejection([&] { rows(a, most, 2); }).starts_with("rows: the range"));
  CHECK(rejection([&] { rows(a, 1, most); }).starts_with("rows: the range"));
  for (const auto& [first, count] :
       {std::pair<Index, Index>{-1, 1}, {0, 0}, {0, -1}, {3, 1}, {0, 4}, {most, 2}, {1, most}}) {
    const std::string range = std::to_string(count) + " starting at " + std::to_string(first);
    CHECK(rejection([&, f = first, n = count] { columns(a, f, n); }) ==
          "columns: the range must be within 0 .. 3, got " + range);
    CHECK(rejection([&, f = first, n = count] { time_steps(a, 1, f, n); }) ==
          "time_steps: the range must be within 0 .. 3, got " + range);
  }
  CHECK(rejection([&] { time_steps(a, 3, 1, 1); }) ==
        "time_steps: the range must be within 0 .. 1, got 1 starting at 1");
  CHECK(rejection([&] { time_steps(a, 2, 0, 1); }) ==
        "time_steps: x must be features x (steps * 2), got 2 x 3");
  CHECK(rejection([&] { time_steps(a, 0, 0, 1); }) ==
        "time_steps: samples must be at least 1, got 0");
  CHECK(rejection([&] { time_steps(a, -3, 0, 1); }) ==
        "time_steps: samples must be at least 1, got -3");
  CHECK(rejection([&] { time_steps(a, most, 0, 1); }).starts_with("time_steps: x must be"));
  CHECK(rejection([&] { columns(a, std::span<const Index>{}); }) ==
        "columns: which must be at least one column, got 0");
  CHECK(rejection([&] {
          columns(a, std::array<Index, 2>{0, 3});
        }) == "columns: which must be in 0 .. 2, got 3");
  CHECK(rejection([&] {
          columns(a, std::array<Index, 2>{-1, 0});
        }) == "columns: which must be in 0 .. 2, got -1");
  CHECK(rejection([&] { select(a, a, b); }) == "select: b must be 2 x 3, got 2 x 2");
  CHECK(rejection([&] { select(b, a, a); }) ==
        "select: the mask must be 2 x 3 or 1 x 3, got 2 x 2");
  CHECK(rejection([&] { select(rows(b, 0, 1), a, a); }) ==
        "select: the mask must be 2 x 3 or 1 x 3, got 1 x 2");
  CHECK(rejection([&] { select(columns(a, 0, 1), a, a); }) ==
        "select: the mask must be 2 x 3 or 1 x 3, got 2 x 1");
  for (const auto& [m, x, y] : {std::array{foreign, a, a}, {a, foreign, a}, {a, a, foreign}}) {
    CHECK(rejection([&, mask = m, left = x, right = y] {
            select(mask, left, right);
          }).starts_with("select: the variable must be on this tape, got one on another tape"));
  }
  CHECK(rejection([&] { pad_rows(a, most, 4); }).starts_with("pad_rows: first"));
  CHECK(rejection([&] { rows(a, 0, 0); }).starts_with("rows: the range"));
  CHECK(rejection([&] { pad_rows(a, 2, 3); }) == "pad_rows: first must be in 0 .. 1, got 2");
  CHECK(rejection([&] { pad_rows(a, -1, 3); }) == "pad_rows: first must be in 0 .. 1, got -1");
  CHECK(rejection([&] { clamp(a, 1, 0.5); }) == "clamp: low must be at most high, got 1");
  CHECK(rejection([&] { clamp(a, std::nan(""), 1); }).starts_with("clamp: low must be"));

  CHECK(rejection([&] { concatenate_samples<double>({}); }) ==
        "concatenate_samples: parts must be at least one matrix, got 0");
  CHECK(rejection([&] {
          concatenate_samples<double>(std::array{a, transpose(a)});
        }) == "concatenate_samples: parts must be 2 x 2, got 3 x 2");
  CHECK(rejection([&] {
          concatenate_samples<double>(std::array{a, foreign});
        }) ==
        "concatenate_samples: the variable must be on this tape, got one on another tape: record a "
        "whole computation on one tape");
}

TEST_CASE("Composed functions that do not fit throw and say why", "[tape][functions]") {
  Tape<double> tape;
  const auto x = tape.variable(random_matrix(2, 3, 1));
  const auto column = tape.variable(random_matrix(2, 1, 2));
  const auto wide = tape.variable(random_matrix(1, 3, 2));
  CHECK(rejection([&] { layer_norm(x, wide, column); }) ==
        "layer_norm: gain must be 2 x 1, got 1 x 3");
  CHECK(rejection([&] { layer_norm(x, column, wide); }) ==
        "layer_norm: bias must be 2 x 1, got 1 x 3");
  for (const double epsilon : {-1e-3, 2.0, std::nan("")}) {
    CHECK(rejection([&] {
            layer_norm(x, column, column, epsilon);
          }).starts_with("layer_norm: epsilon must be a finite number in [0, 1], got "));
  }
  CHECK(rejection([&] { mean_squared_error(x, wide); }) ==
        "mean_squared_error: target must be 2 x 3, got 1 x 3");
  CHECK(rejection([&] { mean_squared_error(x, x, column); }) ==
        "mean_squared_error: weights must be 1 x 3, got 2 x 1");
  CHECK(rejection([&] { cross_entropy(x, column); }) ==
        "cross_entropy: target must be 2 x 3, got 2 x 1");
  CHECK(rejection([&] { cross_entropy(x, x, 1.5); }) ==
        "cross_entropy: smoothing must be a finite number in [0, 1], got 1.5");
  CHECK(rejection([&] { cross_entropy(x, x, -0.1); }).starts_with("cross_entropy: smoothing"));
  CHECK(rejection([&] { binary_cross_entropy(x, column); }) ==
        "binary_cross_entropy: target must be 2 x 3, got 2 x 1");
}

TEST_CASE("The log of a sum of exponentials of infinities is the largest", "[tape][functions]") {
  const double infinity = std::numeric_limits<double>::infinity();
  Tape<double> tape;
  Matrix<double> x(2, 3);
  x << -infinity, infinity, -infinity, -infinity, 1, 1;
  const Matrix<double> y = log_sum_exp(tape.constant(x)).value();
  CHECK(y(0, 0) == -infinity);
  CHECK(y(0, 1) == infinity);
  CHECK(y(0, 2) == 1);
}
