#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "plastic/core/parameters.hpp"
#include "plastic/core/random.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/optim/optimizer.hpp"
#include "plastic/optim/sgd.hpp"
#include "support/errors.hpp"
#include "support/gradcheck.hpp"

namespace {

using plastic::AdamW;
using plastic::AdamWOptions;
using plastic::Index;
using plastic::Parameters;
using plastic::Random;
using plastic::SGD;
using plastic::SGDOptions;
using plastic::Vector;
using plastic::testing::naming;
using plastic::testing::relative_error;

const double infinity = std::numeric_limits<double>::infinity();
const double not_a_number = std::numeric_limits<double>::quiet_NaN();

// Tolerance after some fifty steps; values and steps are of order one.
template <class Scalar>
constexpr double tolerance = std::is_same_v<Scalar, float> ? 2e-5 : 1e-12;

// Sizes with gaps behind them, and one of several pieces of the optimizers' loop.
template <class Scalar>
Parameters<Scalar> random_parameters() {
  Parameters<Scalar> parameters;
  parameters.add("small", 3, 1);
  parameters.add("large", 47, 53);
  parameters.add("frozen", 5, 7);
  parameters.add("one", 1, 1);
  parameters.freeze(parameters.find("frozen"));
  Random random({.seed = 1, .purpose = Random::Purpose::initial_weights}, 0, 0);
  for (const plastic::ParameterBlock& block : parameters.blocks()) {
    for (Index i = 0; i < block.size(); ++i) {
      parameters.values()[block.offset + i] = static_cast<Scalar>(random.uniform(-1, 1));
    }
  }
  return parameters;
}

// Values everywhere, also for frozen blocks and in the gaps. The later, the smaller: AMSGrad then
// differs from Adam.
template <class Scalar>
Vector<Scalar> random_gradients(Index size, int step) {
  Random random({.seed = 2}, static_cast<std::uint64_t>(step), 0);
  Vector<Scalar> gradients(size);
  for (Index i = 0; i < size; ++i) {
    gradients[i] = static_cast<Scalar>(random.normal() / step);
  }
  return gradients;
}

struct AdamWReference {
  AdamWOptions options;
  std::vector<double> m, v, largest;
  int t = 0;

  void step(std::vector<double>& p, const std::vector<double>& g) {
    ++t;
    m.resize(p.size());
    v.resize(p.size());
    largest.resize(p.size());
    for (std::size_t i = 0; i < p.size(); ++i) {
      p[i] *= 1 - options.learning_rate * options.weight_decay;
      m[i] = options.beta1 * m[i] + (1 - options.beta1) * g[i];
      v[i] = options.beta2 * v[i] + (1 - options.beta2) * g[i] * g[i];
      largest[i] = options.amsgrad ? std::max(largest[i], v[i]) : v[i];
      const double denominator =
          std::sqrt(largest[i]) / std::sqrt(1 - std::pow(options.beta2, t)) + options.epsilon;
      p[i] -= options.learning_rate / (1 - std::pow(options.beta1, t)) * m[i] / denominator;
    }
  }
};

struct SGDReference {
  SGDOptions options;
  std::vector<double> buffer;

  void step(std::vector<double>& p, const std::vector<double>& g) {
    const bool first = buffer.empty();
    buffer.resize(p.size());
    for (std::size_t i = 0; i < p.size(); ++i) {
      const double d = g[i] + options.weight_decay * p[i];
      buffer[i] = first ? d : options.momentum * buffer[i] + d;
      p[i] -= options.learning_rate * buffer[i];
    }
  }
};

template <class Scalar>
std::vector<double> in_double(const Vector<Scalar>& values) {
  return {values.begin(), values.end()};
}

// Runs an optimizer beside its reference: trainable blocks agree, all else keeps its value.
template <class Scalar, class Optimizer, class Reference>
void compare(Optimizer optimizer, Reference reference) {
  Parameters<Scalar> parameters = random_parameters<Scalar>();
  const Vector<Scalar> start = parameters.values();
  std::vector<double> expected = in_double(start);
  for (int step = 1; step <= 50; ++step) {
    const Vector<Scalar> gradients = random_gradients<Scalar>(parameters.size(), step);
    optimizer.step(parameters, gradients);
    reference.step(expected, in_double(gradients));
  }
  std::vector<bool> learned(static_cast<std::size_t>(start.size()));
  for (const plastic::ParameterBlock& block : parameters.blocks()) {
    if (!block.trainable) continue;
    const auto begin = learned.begin() + block.offset;
    std::fill(begin, begin + block.size(), true);
  }
  double worst = 0;
  double moved = infinity;
  for (Index i = 0; i < start.size(); ++i) {
    const auto k = static_cast<std::size_t>(i);
    if (learned[k]) {
      worst = std::max(worst, std::abs(static_cast<double>(parameters.values()[i]) - expected[k]));
      moved = std::min(moved, std::abs(expected[k] - static_cast<double>(start[i])));
    } else {
      REQUIRE(parameters.values()[i] == start[i]);
      for (const Vector<Scalar>& moment : optimizer.moments()) REQUIRE(moment[i] == 0);
    }
  }
  CHECK(worst < tolerance<Scalar>);
  CHECK(moved > 0);
  CHECK(optimizer.steps() == 50);
}

// Minimises sum a (p - c)^2 / 2 with curvatures a in [0.5, 2]; returns the distance that is left.
template <class Scalar, class Optimizer>
double distance_after(Optimizer optimizer, Parameters<Scalar> parameters, int steps) {
  const Index size = parameters.size();
  Vector<Scalar> goal = Vector<Scalar>::LinSpaced(size, -1, 1);
  const Vector<Scalar> curvature = Vector<Scalar>::LinSpaced(size, Scalar(0.5), 2);
  for (int i = 0; i < steps; ++i) {
    const Vector<Scalar> gradients = curvature.cwiseProduct(parameters.values() - goal);
    optimizer.step(parameters, gradients);
  }
  return static_cast<double>((parameters.values() - goal).cwiseAbs().maxCoeff());
}

template <class Scalar>
Parameters<Scalar> without_gaps() {
  Parameters<Scalar> parameters;
  parameters.add("weight", 8, 6);
  return parameters;
}

}  // namespace

TEMPLATE_TEST_CASE("AdamW equals a scalar loop", "[optim][optimizers]", float, double) {
  const bool amsgrad = GENERATE(true, false);
  const double weight_decay = GENERATE(0.0, 0.1);
  const AdamWOptions options{.learning_rate = 0.02,
                             .beta1 = 0.8,
                             .beta2 = 0.99,
                             .epsilon = 1e-3,
                             .weight_decay = weight_decay,
                             .amsgrad = amsgrad};
  compare<TestType>(AdamW<TestType>(random_parameters<TestType>(), options),
                    AdamWReference{.options = options, .m = {}, .v = {}, .largest = {}});
}

TEMPLATE_TEST_CASE("AdamW's defaults equal a scalar loop with PyTorch's numbers",
                   "[optim][optimizers]", float, double) {
  const AdamWOptions expected{.learning_rate = 1e-3,
                              .beta1 = 0.9,
                              .beta2 = 0.999,
                              .epsilon = 1e-8,
                              .weight_decay = 0,
                              .amsgrad = true};
  compare<TestType>(AdamW<TestType>(random_parameters<TestType>()),
                    AdamWReference{.options = expected, .m = {}, .v = {}, .largest = {}});
}

TEMPLATE_TEST_CASE("SGD equals a scalar loop", "[optim][optimizers]", float, double) {
  const SGDOptions options{
      .learning_rate = 0.05, .momentum = GENERATE(0.0, 0.9), .weight_decay = GENERATE(0.0, 0.1)};
  compare<TestType>(SGD<TestType>(random_parameters<TestType>(), options),
                    SGDReference{.options = options, .buffer = {}});
}

TEMPLATE_TEST_CASE("The first step of AdamW has the length of the learning rate",
                   "[optim][optimizers]", float, double) {
  Parameters<TestType> parameters = without_gaps<TestType>();
  AdamW<TestType> optimizer(parameters, {.learning_rate = 0.25});
  optimizer.step(parameters, Vector<TestType>::Constant(parameters.size(), 3));
  CHECK(relative_error(parameters.values().maxCoeff(), -0.25) < 1e-5);
  CHECK(relative_error(parameters.values().minCoeff(), -0.25) < 1e-5);
}

TEMPLATE_TEST_CASE("The optimizers converge on a quadratic", "[optim][optimizers]", float, double) {
  const Parameters<TestType> parameters = without_gaps<TestType>();
  CHECK(distance_after(AdamW<TestType>(parameters, {.learning_rate = 0.05}), parameters, 2000) <
        1e-4);
  CHECK(distance_after(SGD<TestType>(parameters, {.learning_rate = 0.3}), parameters, 300) < 1e-5);
  CHECK(distance_after(SGD<TestType>(parameters, {.learning_rate = 0.1, .momentum = 0.8}),
                       parameters, 300) < 1e-5);
}

TEMPLATE_TEST_CASE("A step on a list of parameter sets equals a step on each",
                   "[optim][optimizers]", float, double) {
  const auto check = [](auto joint, auto first, auto second) {
    Parameters<TestType> a = random_parameters<TestType>(), b = without_gaps<TestType>();
    Parameters<TestType> c = a, d = b;
    for (int step = 1; step <= 5; ++step) {
      const std::vector<Vector<TestType>> gradients{random_gradients<TestType>(a.size(), step),
                                                    random_gradients<TestType>(b.size(), step)};
      const std::vector<Parameters<TestType>*> sets{&a, &b};
      joint.step(sets, gradients);
      first.step(c, gradients[0]);
      second.step(d, gradients[1]);
    }
    CHECK(a.values() == c.values());
    CHECK(b.values() == d.values());
    CHECK(joint.sets() == 2);
    CHECK(joint.size(1) == b.size());
  };
  Parameters<TestType> a = random_parameters<TestType>(), b = without_gaps<TestType>();
  check(AdamW<TestType>({&a, &b}), AdamW<TestType>(a), AdamW<TestType>(b));
  const SGDOptions options{.momentum = 0.5};
  check(SGD<TestType>({&a, &b}, options), SGD<TestType>(a, options), SGD<TestType>(b, options));

  AdamW<TestType> joint({&a, &b});
  CHECK_THROWS_WITH(joint.step(a, a.values()), naming("the number of parameter sets"));
  const std::vector<Parameters<TestType>*> none;
  CHECK_THROWS_WITH(AdamW<TestType>(none), naming("the list of parameter sets"));
}

TEMPLATE_TEST_CASE("A gradient that is not finite is an error and changes nothing",
                   "[optim][optimizers]", float, double) {
  const auto check = [](auto optimizer) {
    Parameters<TestType> parameters = random_parameters<TestType>();
    optimizer.step(parameters, random_gradients<TestType>(parameters.size(), 1));
    const Vector<TestType> before = parameters.values();
    const std::vector<Vector<TestType>> moments(optimizer.moments().begin(),
                                                optimizer.moments().end());
    for (const double bad : {not_a_number, infinity, -infinity}) {
      for (const Index at : {Index{0}, parameters.size() / 2, parameters.size() - 1}) {
        Vector<TestType> gradients = random_gradients<TestType>(parameters.size(), 2);
        gradients[at] = static_cast<TestType>(bad);
        CHECK_THROWS_AS(optimizer.step(parameters, gradients), plastic::NonFiniteLoss);
      }
    }
    CHECK(parameters.values() == before);
    CHECK(optimizer.steps() == 1);
    for (std::size_t m = 0; m < moments.size(); ++m) CHECK(optimizer.moments()[m] == moments[m]);
    // Large numbers whose squares overflow are finite.
    Vector<TestType> large =
        Vector<TestType>::Constant(parameters.size(), std::numeric_limits<TestType>::max() / 4);
    CHECK_NOTHROW(optimizer.step(parameters, large));
  };
  const Parameters<TestType> parameters = random_parameters<TestType>();
  check(AdamW<TestType>(parameters));
  check(SGD<TestType>(parameters, {.learning_rate = 0, .momentum = 0.5}));
}

TEMPLATE_TEST_CASE("A restored optimizer continues exactly where the saved one was",
                   "[optim][optimizers]", float, double) {
  const auto check = [](auto saved, auto fresh, std::size_t moments) {
    Parameters<TestType> expected = random_parameters<TestType>();
    for (int step = 1; step <= 5; ++step) {
      saved.step(expected, random_gradients<TestType>(expected.size(), step));
    }
    Parameters<TestType> got = expected;
    using Moments = std::vector<Vector<TestType>>;
    saved.set_learning_rate(0.02);
    fresh.restore(saved.steps(), saved.learning_rate(),
                  {Moments(saved.moments().begin(), saved.moments().end())});
    CHECK(fresh.learning_rate() == 0.02);
    CHECK(fresh.options().learning_rate != 0.02);
    CHECK(fresh.settings() == saved.settings());
    for (int step = 6; step <= 10; ++step) {
      const Vector<TestType> gradients = random_gradients<TestType>(expected.size(), step);
      saved.step(expected, gradients);
      fresh.step(got, gradients);
    }
    CHECK(got.values() == expected.values());
    CHECK(fresh.steps() == 10);
    REQUIRE(fresh.moments().size() == moments);
    REQUIRE(fresh.moment_names().size() == moments);

    Moments wrong(moments, Vector<TestType>::Zero(expected.size()));
    CHECK_THROWS_AS(fresh.restore(-1, 0.1, {wrong}), std::invalid_argument);
    CHECK_THROWS_AS(fresh.restore(1, -0.1, {wrong}), std::invalid_argument);
    CHECK_THROWS_AS(fresh.restore(1, 0.1, {wrong, wrong}), std::invalid_argument);
    wrong.back().conservativeResize(expected.size() - 1);
    CHECK_THROWS_AS(fresh.restore(1, 0.1, {wrong}), std::invalid_argument);
    wrong.emplace_back();
    CHECK_THROWS_AS(fresh.restore(1, 0.1, {wrong}), std::invalid_argument);
    CHECK(fresh.steps() == 10);
  };
  using Adam = AdamW<TestType>;
  using Descent = SGD<TestType>;
  const Parameters<TestType> parameters = random_parameters<TestType>();
  check(Adam(parameters), Adam(parameters), 3);
  check(Adam(parameters, {.amsgrad = false}), Adam(parameters, {.amsgrad = false}), 2);
  check(Descent(parameters, {.momentum = 0.5}), Descent(parameters, {.momentum = 0.5}), 1);
}

TEMPLATE_TEST_CASE("A new learning rate takes effect at the next step", "[optim][optimizers]",
                   float, double) {
  Parameters<TestType> parameters = without_gaps<TestType>();
  SGD<TestType> optimizer(parameters, {.learning_rate = 1});
  const Vector<TestType> ones = Vector<TestType>::Ones(parameters.size());
  optimizer.step(parameters, ones);
  optimizer.set_learning_rate(0.5);
  CHECK(optimizer.learning_rate() == 0.5);
  optimizer.step(parameters, ones);
  CHECK((parameters.values().array() == TestType(-1.5)).all());

  AdamW<TestType> adam(parameters);
  adam.set_learning_rate(0);
  const Vector<TestType> before = parameters.values();
  adam.step(parameters, ones);
  CHECK(parameters.values() == before);
  for (const double bad : {-1e-3, not_a_number, infinity}) {
    CHECK_THROWS_WITH(adam.set_learning_rate(bad), naming("rate"));
    CHECK_THROWS_WITH(optimizer.set_learning_rate(bad), naming("rate"));
  }
}

TEMPLATE_TEST_CASE("Options out of range are rejected by name", "[optim][optimizers]", float,
                   double) {
  const Parameters<TestType> parameters = without_gaps<TestType>();
  const auto adam = [&](const AdamWOptions& options) { AdamW<TestType>(parameters, options); };
  const auto sgd = [&](const SGDOptions& options) { SGD<TestType>(parameters, options); };
  for (const double bad : {-0.1, not_a_number, infinity}) {
    CHECK_THROWS_WITH(adam({.learning_rate = bad}), naming("learning_rate"));
    CHECK_THROWS_WITH(adam({.beta1 = bad}), naming("beta1"));
    CHECK_THROWS_WITH(adam({.beta2 = bad}), naming("beta2"));
    CHECK_THROWS_WITH(adam({.epsilon = bad}), naming("epsilon"));
    CHECK_THROWS_WITH(adam({.weight_decay = bad}), naming("weight_decay"));
    CHECK_THROWS_WITH(sgd({.learning_rate = bad}), naming("learning_rate"));
    CHECK_THROWS_WITH(sgd({.momentum = bad}), naming("momentum"));
    CHECK_THROWS_WITH(sgd({.weight_decay = bad}), naming("weight_decay"));
  }
  CHECK_THROWS_WITH(adam({.beta1 = 1}), naming("beta1"));
  CHECK_THROWS_WITH(adam({.beta2 = 1}), naming("beta2"));
  CHECK_THROWS_WITH(adam({.epsilon = 0}), naming("epsilon"));
  CHECK_THROWS_WITH(sgd({.momentum = 1}), naming("momentum"));
  CHECK_THROWS_AS(adam({.beta1 = 1}), std::invalid_argument);
}

TEMPLATE_TEST_CASE("A step with vectors of another length is rejected and not counted",
                   "[optim][optimizers]", float, double) {
  Parameters<TestType> parameters = without_gaps<TestType>();
  AdamW<TestType> adam(parameters);
  SGD<TestType> sgd(parameters);
  const Vector<TestType> shorter = Vector<TestType>::Zero(parameters.size() - 1);
  CHECK_THROWS_WITH(adam.step(parameters, shorter), naming("gradients"));
  CHECK_THROWS_WITH(sgd.step(parameters, shorter), naming("gradients"));
  parameters.add("late", 1, 1);
  const Vector<TestType> longer = Vector<TestType>::Zero(parameters.size());
  CHECK_THROWS_WITH(adam.step(parameters, longer), naming("parameters"));
  CHECK_THROWS_WITH(sgd.step(parameters, longer), naming("parameters"));
  CHECK(adam.steps() == 0);
  CHECK(sgd.steps() == 0);
}

TEMPLATE_TEST_CASE("The gradient norm equals a plain sum at every odd length",
                   "[optim][optimizers]", float, double) {
  for (const Index size : {0, 1, 2, 15, 16, 17, 31, 33, 1000}) {
    const Vector<TestType> gradients = random_gradients<TestType>(size, 1);
    double sum = 0;
    for (const TestType g : gradients) sum += static_cast<double>(g) * static_cast<double>(g);
    CHECK(std::abs(plastic::gradient_norm(gradients) - std::sqrt(sum)) <= 1e-13 * std::sqrt(sum));
  }
}

TEMPLATE_TEST_CASE("Clipping scales a long gradient to the limit and keeps its direction",
                   "[optim][optimizers]", float, double) {
  const Vector<TestType> before = random_gradients<TestType>(1003, 1);
  Vector<TestType> gradients = before;
  const double norm = plastic::clip_gradient_norm(gradients, 2.5);
  CHECK(relative_error(norm, static_cast<double>(before.norm())) < 1e-6);
  const double cosine = static_cast<double>(gradients.normalized().dot(before.normalized()));
  CHECK(relative_error(static_cast<double>(gradients.norm()), 2.5) < 1e-6);
  CHECK(relative_error(cosine, 1) < 1e-6);
}

TEMPLATE_TEST_CASE("Clipping leaves a short gradient as it is", "[optim][optimizers]", float,
                   double) {
  const Vector<TestType> before = random_gradients<TestType>(100, 1);
  Vector<TestType> gradients = before;
  const double norm = plastic::gradient_norm(before);
  CHECK(plastic::clip_gradient_norm(gradients, norm) == norm);
  CHECK(plastic::clip_gradient_norm(gradients, infinity) == norm);
  CHECK(gradients == before);
}

TEST_CASE("Clipping survives floats whose squares overflow", "[optim][optimizers]") {
  Vector<float> gradients = Vector<float>::Constant(4, 1e30f);
  CHECK(relative_error(plastic::clip_gradient_norm(gradients, 1), 2e30) < 1e-6);
  CHECK(gradients.isApproxToConstant(0.5f));
}

TEMPLATE_TEST_CASE("Clipping returns a norm that is not finite and touches nothing",
                   "[optim][optimizers]", float, double) {
  for (const double bad : {not_a_number, infinity}) {
    Vector<TestType> gradients = Vector<TestType>::Ones(40);
    gradients[7] = static_cast<TestType>(bad);
    CHECK_FALSE(std::isfinite(plastic::clip_gradient_norm(gradients, 1)));
    CHECK(gradients[6] == 1);
    CHECK(gradients.tail(32) == Vector<TestType>::Ones(32));
  }
}

TEST_CASE("Clipping rejects a limit that is not positive", "[optim][optimizers]") {
  Vector<float> gradients = Vector<float>::Ones(3);
  for (const double bad : {0.0, -1.0, not_a_number}) {
    CHECK_THROWS_WITH(plastic::clip_gradient_norm(gradients, bad), naming("max_norm"));
  }
}

TEMPLATE_TEST_CASE("The gradients of several sets are clipped by their common norm",
                   "[optim][optimizers]", float, double) {
  std::vector<Vector<TestType>> gradients{Vector<TestType>::Constant(9, 1),
                                          Vector<TestType>::Constant(4, 2)};
  const double norm = plastic::clip_gradient_norm(std::span(gradients), 1);
  CHECK(relative_error(norm, 5) < 1e-6);
  CHECK(relative_error(gradients[0][8], 0.2) < 1e-6);
  CHECK(relative_error(gradients[1][3], 0.4) < 1e-6);
}
