#include "plastic/synapse/clipped_rate.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "plastic/tape/functions.hpp"
#include "support/errors.hpp"
#include "support/gradcheck.hpp"

using namespace plastic;
using namespace plastic::testing;

TEMPLATE_TEST_CASE("The clipped rate follows its definition", "[synapse][clipped_rate]", float,
                   double) {
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

TEST_CASE("The clipped rate of huge floats is that of doubles", "[synapse][clipped_rate]") {
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

TEST_CASE("The clipped rate has the gradient of differences", "[synapse][clipped_rate]") {
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

TEMPLATE_TEST_CASE("Proposals of zero clip nothing and give no NaN", "[synapse][clipped_rate]",
                   float, double) {
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

TEST_CASE("A clipped rate that does not fit throws and says why", "[synapse][clipped_rate]") {
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
