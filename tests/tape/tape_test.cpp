#include "plastic/tape/tape.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <functional>
#include <new>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "plastic/tape/functions.hpp"
#include "support/allocation_counter.hpp"
#include "support/errors.hpp"
#include "support/gradcheck.hpp"

using namespace plastic;
using namespace plastic::testing;

namespace {

/// A small program that meets operations of every kind.
template <class Scalar>
Var<Scalar> small_network(const Var<Scalar>& w, const Var<Scalar>& x, const Var<Scalar>& b) {
  const Var<Scalar> h = relu(matmul(w, x) + b);
  return sum(square(tanh(h) - sigmoid(h * 2)) + softplus(h)) + mean(log_sum_exp(h));
}

}  // namespace

TEST_CASE("A variable used several times gathers all its adjoints", "[tape]") {
  Tape<double> tape;
  const Matrix<double> value = random_matrix(3, 3, 1);
  const auto x = tape.variable(value);
  tape.backward(sum(x * x + x + x));
  CHECK(x.adjoint().isApprox((2 * value.array() + 2).matrix()));
  const auto both = [](auto v) { return matmul(v, sin(v)) + v * v - v / (v * v + 1); };
  check_gradient(both, value);
  check_second_order(both, value);
}

TEST_CASE("A sweep in parts equals the whole sweep", "[tape]") {
  Tape<double> tape;
  const auto w = tape.variable(random_matrix(3, 2, 1));
  const auto x = tape.variable(random_matrix(2, 4, 2));
  const auto first = tape.position();
  const auto h = tanh(matmul(w, x));
  const auto middle = tape.position();
  const auto loss = sum(h * sin(h) + sum_features(h));
  tape.backward(loss);
  const Matrix<double> dw = w.adjoint(), dx = x.adjoint(), dh = h.adjoint();

  tape.backward(loss, middle);
  CHECK(h.adjoint() == dh);
  CHECK(w.node().adjoint == nullptr);
  tape.sweep(middle, first);
  CHECK(w.adjoint() == dw);
  tape.sweep(first, {});
  CHECK(w.adjoint() == dw);
  CHECK(x.adjoint() == dx);

  // The same from a derivative that comes from elsewhere.
  tape.forget_adjoints();
  CHECK(w.node().adjoint == nullptr);
  tape.seed(h, dh);
  tape.sweep(middle, {});
  CHECK(w.adjoint() == dw);
  CHECK(x.adjoint() == dx);

  tape.forget_adjoints();
  tape.seed(h, dh);
  tape.seed(h, dh);
  tape.sweep(middle, {});
  CHECK(w.adjoint().isApprox(2 * dw, 1e-14));
}

TEST_CASE("A sweep starts from the sum of a loss that is no single number", "[tape]") {
  Tape<double> tape;
  const auto x = tape.variable(random_matrix(2, 3, 1));
  const auto y = square(x);
  tape.backward(y);
  CHECK(x.adjoint().isApprox(2 * x.value()));
  tape.backward(x);
  CHECK(x.adjoint() == Matrix<double>::Ones(2, 3));
}

TEST_CASE("A new sweep starts anew", "[tape]") {
  Tape<double> tape;
  const auto x = tape.variable(random_matrix(2, 3, 1));
  const auto y = tape.variable(random_matrix(2, 3, 2));
  const auto both = sum(x * y);
  const auto one = sum(exp(x));
  tape.backward(both);
  CHECK(x.adjoint() == y.value());
  tape.backward(one);
  CHECK(x.adjoint() == exp(x).value());
  CHECK_THROWS_AS(y.adjoint(), std::invalid_argument);  // it is not on the way
  tape.backward(both);
  CHECK(x.adjoint() == y.value());
}

TEMPLATE_TEST_CASE("Borrowed memory is not copied and its gradient is added to", "[tape]", float,
                   double) {
  using Plain = Matrix<TestType>;
  Plain value = random_matrix<TestType>(3, 2, 1);
  Plain gradient = Plain::Constant(3, 2, 10);
  Tape<TestType> tape;
  const auto x = tape.borrow(value.data(), 3, 2, gradient.data());
  const auto fixed = tape.borrow(value.data(), 3, 2);
  CHECK(x.value().data() == value.data());
  const auto loss = sum(x * fixed);
  tape.backward(loss);
  CHECK(gradient.isApprox((value.array() + 10).matrix()));
  CHECK(x.adjoint().data() == gradient.data());
  tape.backward(loss);
  CHECK(gradient.isApprox((2 * value.array() + 10).matrix()));
  tape.forget_adjoints();
  CHECK(gradient.isApprox((2 * value.array() + 10).matrix()));
  CHECK_THROWS_AS(fixed.adjoint(), std::invalid_argument);
}

TEST_CASE("Constants have no adjoint and stop a sweep", "[tape]") {
  Tape<double> tape;
  const auto c = tape.constant(random_matrix(2, 2, 1));
  const auto x = tape.variable(random_matrix(2, 2, 2));
  const auto dead = exp(c);
  tape.backward(sum(dead * x));
  CHECK(x.adjoint() == dead.value());
  CHECK(rejection([&] { dead.adjoint(); }) ==
        "Var::adjoint: the variable must be reached by Tape::backward (run it first), got a "
        "constant (Tape::variable makes one with an adjoint)");
}

TEST_CASE("A rewound tape goes on from where it was", "[tape]") {
  Tape<double> tape;
  const auto w = tape.variable(random_matrix(3, 3, 1));
  const auto position = tape.position();
  Matrix<double> first;
  for (int turn = 0; turn < 3; ++turn) {
    tape.rewind(position);
    CHECK(tape.size() == 1);
    const auto x = tape.variable(random_matrix(3, 2, 7));
    tape.backward(small_network(w, x, tape.variable(random_matrix(3, 1, 8))));
    if (turn == 0) first = w.adjoint();
    CHECK(w.adjoint() == first);
    CHECK(w.value() == random_matrix(3, 3, 1));
  }
  tape.clear();
  CHECK(tape.size() == 0);
}

TEST_CASE("A rewound tape has no adjoints but those that are borrowed", "[tape]") {
  Tape<double> tape;
  Matrix<double> value = random_matrix(4, 4, 1), gradient = Matrix<double>::Zero(4, 4);
  const auto a = tape.variable(value);
  const auto b = tape.borrow(value.data(), 4, 4, gradient.data());
  const auto position = tape.position();
  tape.backward(sum(a * b));
  CHECK((a.adjoint() - value).isZero(0));
  tape.rewind(position);
  CHECK(rejection([&] { a.adjoint(); }) ==
        "Var::adjoint: the variable must be reached by Tape::backward (run it first), got one that "
        "no sweep has reached");
  CHECK((b.adjoint() - value).isZero(0));
}

TEST_CASE("Variables keep their values while the tape grows by many chunks", "[tape]") {
  Tape<double> tape;
  std::vector<Var<double>> all;
  for (std::uint64_t k = 0; k < 300; ++k) all.push_back(tape.variable(random_matrix(40, 40, k)));
  const auto large = tape.variable(random_matrix(700, 500, 1000));  // larger than a chunk
  all.push_back(tape.variable(random_matrix(40, 40, 300)));
  for (std::uint64_t k = 0; k <= 300; ++k)
    CHECK(all[static_cast<std::size_t>(k)].value() == random_matrix(40, 40, k));
  CHECK(large.value() == random_matrix(700, 500, 1000));
  CHECK(reinterpret_cast<std::uintptr_t>(large.value().data()) % 64 == 0);
}

TEST_CASE("The allocation counter counts this thread's allocations", "[tape]") {
  void* volatile sink = nullptr;
  {
    const AllocationCounter counter;
    CHECK_FALSE(counter.count() > 0);
  }
  const auto counted = [&](auto allocate, auto free) {
    std::size_t count = 0;
    {
      const AllocationCounter counter;
      sink = allocate();
      count = counter.count();
    }
    free(sink);
    return count;
  };
  CHECK(counted([] { return ::operator new(8); }, [](void* p) { ::operator delete(p); }) > 0);
  CHECK(counted([] { return ::operator new[](8); }, [](void* p) { ::operator delete[](p); }) > 0);
  constexpr std::align_val_t wide{64};
  CHECK(counted([] { return ::operator new[](8, wide); },
                [](void* p) { ::operator delete[](p, wide); }) > 0);
  if (AllocationCounter::sees_malloc()) {
    CHECK(counted([] { return std::malloc(8); }, [](void* p) { std::free(p); }) > 0);
  }
  std::size_t of_others = 0;
  std::thread other([&] {
    const AllocationCounter counter;
    of_others = counter.count();
  });
  other.join();
  CHECK(of_others == 0);
}

TEMPLATE_TEST_CASE("A cleared tape repeats a program without allocating", "[tape]", float, double) {
  const Matrix<TestType> w = random_matrix<TestType>(9, 7, 1);
  const Matrix<TestType> x = random_matrix<TestType>(7, 5, 2);
  const Matrix<TestType> b = random_matrix<TestType>(9, 1, 3);
  Matrix<TestType> gradient = Matrix<TestType>::Zero(9, 7);
  Tape<TestType> tape;
  const auto round = [&] {
    tape.clear();
    const auto weight = tape.borrow(w.data(), 9, 7, gradient.data());
    const auto input = tape.variable(x);
    const auto bias = tape.variable(b);
    const auto inner = small_network(weight, input, bias);
    const std::array parts{tape.gradient(inner, input), rows(input, 0, 7),
                           columns(input, std::array<Index, 3>{4, 0, 4}), columns(input, 1, 2)};
    const auto chosen = select(step(input), log_softmax(input), input);
    tape.backward(sum(square(concatenate_samples<TestType>(parts))) +
                  cross_entropy(chosen, input, 0.1) + binary_cross_entropy(chosen, step(input)));
  };
  round();
  const std::size_t memory = tape.memory();
  const Matrix<TestType> first = gradient;
  std::size_t allocations = 0;
  {
    const AllocationCounter counter;
    for (int turn = 0; turn < 3; ++turn) round();
    allocations = counter.count();
  }
  CHECK(allocations == 0);
  CHECK(tape.memory() == memory);
  CHECK(gradient.isApprox(4 * first));
}

TEST_CASE("A recorded gradient covers several variables at once", "[tape]") {
  Tape<double> tape;
  const auto a = tape.variable(random_matrix(2, 3, 1));
  const auto b = tape.variable(random_matrix(3, 2, 2));
  const auto unused = tape.variable(random_matrix(4, 2, 3));
  const auto fixed = tape.constant(random_matrix(3, 2, 4));
  const auto y = matmul(a, b * fixed);
  const auto loss = sum(square(y));
  const std::array wrt{b, a, unused, y, b, loss, fixed};
  std::array<Var<double>, 7> g;
  tape.gradient(loss, wrt, g);
  const Matrix<double> dy = 2 * y.value();
  const Matrix<double> db = (a.value().transpose() * dy).cwiseProduct(fixed.value());
  CHECK(g[0].value().isApprox(db));
  CHECK(g[1].value().isApprox(dy * (b.value().cwiseProduct(fixed.value())).transpose()));
  CHECK(g[2].value() == Matrix<double>::Zero(4, 2));
  CHECK(g[3].value().isApprox(dy));
  CHECK(g[4].value().isApprox(db));
  CHECK(g[5].value() == Matrix<double>::Ones(1, 1));
  CHECK(g[6].value().isApprox((a.value().transpose() * dy).cwiseProduct(b.value())));

  // Once more on the same tape, and with a variable that is younger than the loss.
  const auto late = tape.variable(random_matrix(2, 2, 5));
  CHECK(tape.gradient(loss, b).value() == g[0].value());
  CHECK(tape.gradient(loss, late).value() == Matrix<double>::Zero(2, 2));
  CHECK(tape.gradient(loss, y).value() == g[3].value());
}

TEST_CASE("A gradient that cannot be recorded leaves no mark on the tape", "[tape]") {
  Tape<double> tape;
  const auto x = tape.variable(random_matrix(2, 3, 1));
  const std::array parts{x, square(x)};
  const auto good = sum(square(x));
  const auto bad = sum(concatenate_samples(std::span<const Var<double>>(parts)));
  const Matrix<double> expected = 2 * x.value();
  CHECK(rejection([&] { tape.gradient(bad, x); }).starts_with("Tape::gradient: the path"));
  CHECK(tape.gradient(good, x).value().isApprox(expected, 1e-15));
  const std::array<Var<double>, 2> wrt{x, {}};
  std::array<Var<double>, 2> gradients;
  CHECK(rejection([&] { tape.gradient(good, wrt, gradients); }).starts_with("Tape::gradient"));
  CHECK(tape.gradient(good, x).value().isApprox(expected, 1e-15));
}

TEST_CASE("Only what comes after the oldest wrt is differentiated", "[tape]") {
  Tape<double> tape;
  const auto x = tape.variable(random_matrix(2, 2, 1));
  const auto h = exp(x);
  const auto loss = sum(h * x);
  CHECK(tape.gradient(loss, h).value() == x.value());
  CHECK(tape.gradient(loss, x).value().isApprox(
      (h.value().array() * x.value().array() + h.value().array()).matrix()));
}

TEST_CASE("An inner gradient is differentiated inside an outer loss", "[tape]") {
  const auto step_of_descent = [](auto w, auto x, auto target) {
    Tape<double>& tape = w.tape();
    const auto y = matmul(tanh(w), x);
    const auto inner = mean(square(y - target));
    const auto moved = w - tape.gradient(inner, w) * 0.3;
    return mean(square(matmul(sin(moved), x) - target)) + inner;
  };
  check_gradient(step_of_descent, random_matrix(3, 2, 1), random_matrix(2, 4, 2),
                 random_matrix(3, 4, 3));
  // Third order: the gradient of that, recorded and differentiated.
  check_second_order(step_of_descent, random_matrix(2, 2, 1), random_matrix(2, 2, 2),
                     random_matrix(2, 2, 3));
}

TEST_CASE("A tape that is misused throws and says why", "[tape]") {
  Tape<double> tape;
  Tape<double> other;
  const auto position = tape.position();
  const auto x = tape.variable(random_matrix(2, 3, 1));
  const auto foreign = other.variable(random_matrix(2, 3, 3));
  const auto loss = sum(square(x));

  CHECK(rejection([&] { x.adjoint(); }) ==
        "Var::adjoint: the variable must be reached by Tape::backward (run it first), got one that "
        "no sweep has reached");
  CHECK(rejection([&] { tape.backward(foreign); }) ==
        "Tape::backward: the variable must be on this tape, got one on another tape: record a "
        "whole computation on one tape");
  CHECK(rejection([&] { tape.backward({}); }) ==
        "Tape::backward: the variable must be on this tape, got an empty one");
  CHECK(rejection([&] { tape.seed(x, random_matrix(3, 2, 1)); }) ==
        "Tape::seed: adjoint must be 2 x 3, got 3 x 2");
  CHECK(rejection([&] { tape.seed(foreign, random_matrix(2, 3, 1)); }) ==
        "Tape::seed: the variable must be on this tape, got one on another tape: record a whole "
        "computation on one tape");
  CHECK(rejection([&] { tape.seed(Var<double>{}, random_matrix(2, 3, 1)); }) ==
        "Tape::seed: the variable must be on this tape, got an empty one");
  CHECK(rejection([&] { tape.gradient(foreign, x); }) ==
        "Tape::gradient: the variable must be on this tape, got one on another tape: record a "
        "whole computation on one tape");
  CHECK(rejection([&] { tape.gradient(loss, foreign); }) ==
        "Tape::gradient: the variable must be on this tape, got one on another tape: record a "
        "whole computation on one tape");
  CHECK(rejection([&] { tape.gradient(loss, Var<double>{}); }) ==
        "Tape::gradient: the variable must be on this tape, got an empty one");
  CHECK(rejection([&] {
          const std::array wrt{x, x};
          std::array<Var<double>, 1> g;
          tape.gradient(loss, wrt, g);
        }) == "Tape::gradient: gradients must be of length 2, got 1");

  const Var<double> empty;
  for (const auto& misuse : {std::function<void()>([&] { x* empty; }),
                             {[&] { empty + x; }},
                             {[&] { tanh(empty); }},
                             {[&] { columns(empty, std::array<Index, 1>{0}); }},
                             {[&] { select(empty, x, x); }},
                             {[&] { select(x, x, empty); }},
                             {[&] { log_softmax(empty); }},
                             {[&] { empty.value(); }}}) {
    CHECK(rejection(misuse) == "Var: the variable must be on a tape, got an empty one");
  }

  const auto end = tape.position();
  tape.rewind(position);
  CHECK(rejection([&] { tape.rewind(end); }) ==
        "Tape::rewind: position must be on the tape, got one past its end");
  CHECK(rejection([&] { tape.sweep(end, {}); }) ==
        "Tape::sweep: from must be on the tape, got a position past its end");
}

TEMPLATE_TEST_CASE("Constants and variables come from arrays as from matrices", "[tape]", float,
                   double) {
  using Array = Eigen::Array<TestType, Eigen::Dynamic, Eigen::Dynamic>;
  const Array values = Array::Random(3, 2);
  Tape<TestType> tape;
  CHECK((tape.constant(values).value().array() == values).all());
  CHECK((tape.constant(values * 2).value().array() == values * 2).all());
  const auto x = tape.variable(values.square());
  tape.backward(sum(x));
  CHECK(x.adjoint().isOnes(0));
}
