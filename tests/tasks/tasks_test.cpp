#include "support/tasks.hpp"

#include <Eigen/QR>
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "plastic/core/random.hpp"
#include "plastic/tasks/cue_reward.hpp"
#include "plastic/tasks/episodes.hpp"
#include "plastic/tasks/few_shot_regression.hpp"
#include "plastic/tasks/sampled_task.hpp"
#include "plastic/tasks/sequence_reproduction.hpp"
#include "plastic/tasks/task_mix.hpp"
#include "support/errors.hpp"
#include "support/gradcheck.hpp"

namespace {

using plastic::CueReward;
using plastic::CueRewardOptions;
using plastic::Episodes;
using plastic::FewShotRegression;
using plastic::FewShotRegressionOptions;
using plastic::Index;
using plastic::Matrix;
using plastic::Random;
using plastic::RegressionFunction;
using plastic::SequenceReproduction;
using plastic::TaskMix;
using plastic::Vector;
using plastic::testing::for_each_paper_task;
using plastic::testing::generate;
using plastic::testing::naming;
using plastic::testing::relative_error;
using plastic::testing::stream;
using plastic::testing::too_many;

static_assert(plastic::Task<CueReward, float> && plastic::Task<CueReward, double>);

struct WithoutSteps {
  Index inputs() const { return 1; }
  Index outputs() const { return 1; }
  void generate(const Random::Stream&, std::uint64_t, Index, Index, Episodes<float>&) const {}
};
static_assert(!plastic::Task<WithoutSteps, float>);

}  // namespace

TEST_CASE("Cue-reward has 16 inputs, 1 output and 20 steps by default", "[tasks]") {
  const CueReward task;
  CHECK(task.inputs() == 16);
  CHECK(task.outputs() == 1);
  CHECK(task.steps() == 20);
  CHECK(task.options().cues == 5);
  CHECK(task.options().noise == 0.1);
}

TEMPLATE_TEST_CASE("Cue-reward shows the reward while it stores and a flag while it asks",
                   "[tasks]", float, double) {
  const Index samples = 7;
  const Episodes<TestType> episodes = generate<TestType>(CueReward(), 3, 0, samples);
  REQUIRE(episodes.inputs.rows() == 16);
  REQUIRE(episodes.inputs.cols() == 20 * samples);
  REQUIRE(episodes.targets.rows() == 1);
  REQUIRE(episodes.targets.cols() == 20 * samples);
  REQUIRE(episodes.weights.rows() == 1);
  REQUIRE(episodes.weights.cols() == 20 * samples);
  for (Index t = 0; t < 20; ++t) {
    for (Index s = 0; s < samples; ++s) {
      const Index column = t * samples + s;
      const TestType reward = episodes.targets(0, column);
      REQUIRE(std::abs(reward) <= 1);
      REQUIRE(reward != 0);
      REQUIRE(episodes.inputs(14, column) == (t < 10 ? reward : 0));
      REQUIRE(episodes.inputs(15, column) == (t < 10 ? 0 : 1));
      REQUIRE(episodes.weights(0, column) == 1);
    }
  }
}

TEST_CASE("Cue-reward follows its options", "[tasks]") {
  const CueReward task({.cues = 2, .features = 3, .storage_steps = 4, .recall_steps = 1});
  REQUIRE(task.inputs() == 5);
  REQUIRE(task.steps() == 5);
  const Episodes<double> episodes = generate<double>(task, 0, 0, 6);
  REQUIRE(episodes.inputs.rows() == 5);
  REQUIRE(episodes.inputs.cols() == 30);
  CHECK((episodes.inputs.row(4).head(24).array() == 0).all());
  CHECK((episodes.inputs.row(4).tail(6).array() == 1).all());
  CHECK((episodes.inputs.row(3).tail(6).array() == 0).all());
  CHECK(episodes.inputs.row(3).head(24) == episodes.targets.row(0).head(24));
}

TEST_CASE("Within an episode a cue keeps its features and its reward", "[tasks]") {
  const Index samples = 200;
  const Episodes<double> episodes = generate<double>(CueReward({.noise = 0}), 5, 0, samples);
  std::size_t all_seen = 0;
  for (Index s = 0; s < samples; ++s) {
    std::set<double> rewards;
    for (Index t = 0; t < 20; ++t) {
      const Index column = t * samples + s;
      rewards.insert(episodes.targets(0, column));
      for (Index before = 0; before < t; ++before) {
        const Index other = before * samples + s;
        const bool same_reward = episodes.targets(0, column) == episodes.targets(0, other);
        const bool same_cue =
            episodes.inputs.col(column).head(14) == episodes.inputs.col(other).head(14);
        REQUIRE(same_reward == same_cue);
      }
    }
    REQUIRE(rewards.size() <= 5);
    all_seen += rewards.size() == 5;
  }
  CHECK(all_seen > 150);
}

TEST_CASE("Targets of different samples and batches are uncorrelated", "[tasks]") {
  for_each_paper_task([](const auto& task, const char* name) {
    INFO(name);
    const Index samples = 4000;
    const auto queries = [&](std::uint64_t batch, Index first) {
      return Matrix<double>(
          generate<double>(task, batch, first, samples).targets.rightCols(samples));
    };
    const Matrix<double> base = queries(0, 0);
    const auto correlation = [&](const Matrix<double>& other) {
      return std::abs(base.cwiseProduct(other).sum()) / (base.norm() * other.norm());
    };
    const double bound = 5 / std::sqrt(static_cast<double>(base.size()));
    CHECK(correlation(queries(1, 0)) < bound);
    CHECK(correlation(queries(0, samples)) < bound);
    CHECK(correlation(queries(0, 1)) < bound);
  });
}

TEST_CASE("Cues, rewards and noise have the stated distributions", "[tasks]") {
  const Index samples = 4000;
  const Episodes<double> clean = generate<double>(CueReward({.noise = 0}), 1, 0, samples);
  const Episodes<double> noisy = generate<double>(CueReward(), 1, 0, samples);
  REQUIRE(clean.targets == noisy.targets);

  // At one step, samples are independent.
  const auto cues = clean.inputs.topLeftCorner(14, samples).array();
  CHECK(cues.minCoeff() >= 0);
  CHECK(cues.minCoeff() < 0.001);
  CHECK(cues.maxCoeff() < 1);
  CHECK(cues.maxCoeff() > 0.999);
  CHECK(std::abs(cues.mean() - 0.5) < 0.006);
  CHECK(std::abs((cues - 0.5).square().mean() - 1.0 / 12) < 0.002);

  const auto rewards = clean.targets.leftCols(samples).array();
  CHECK(rewards.minCoeff() < -0.99);
  CHECK(rewards.maxCoeff() > 0.99);
  CHECK(std::abs(rewards.mean()) < 0.045);
  CHECK(std::abs(rewards.square().mean() - 1.0 / 3) < 0.025);

  const Matrix<double> noise = (noisy.inputs - clean.inputs).topRows(14);
  CHECK(std::abs(noise.mean()) < 0.0005);
  CHECK(relative_error(std::sqrt(noise.array().square().mean()), 0.1) < 0.004);
  CHECK((noisy.inputs - clean.inputs).bottomRows(2).isZero(0));

  double repeated = 0;
  for (Index column = samples; column < clean.targets.cols(); ++column) {
    repeated += clean.targets(0, column) == clean.targets(0, column - samples);
  }
  const auto pairs = static_cast<double>(clean.targets.cols() - samples);
  CHECK(std::abs(repeated / pairs - 0.2) < 5 * 0.4 / std::sqrt(pairs));
}

TEST_CASE("Cue-reward rejects bad options by name", "[tasks]") {
  for (const Index bad : {Index{0}, Index{-1}, too_many}) {
    CHECK_THROWS_WITH(CueReward({.cues = bad}), naming("cues"));
    CHECK_THROWS_WITH(CueReward({.features = bad}), naming("features"));
    CHECK_THROWS_WITH(CueReward({.storage_steps = bad}), naming("storage_steps"));
    CHECK_THROWS_WITH(CueReward({.recall_steps = bad}), naming("recall_steps"));
  }
  for (const double bad : {-0.1, std::nan(""), std::numeric_limits<double>::infinity()}) {
    CHECK_THROWS_WITH(CueReward({.noise = bad}), naming("noise"));
    CHECK_THROWS_AS(CueReward({.noise = bad}), std::invalid_argument);
  }
}

TEST_CASE("Cue-reward's queries are its recall steps", "[tasks]") {
  const Episodes<float> e = generate<float>(CueReward(), 0, 0, 3);
  CHECK(e.weights.isOnes(0));
  CHECK(e.queries.leftCols(30).isZero(0));
  CHECK(e.queries.rightCols(30).isOnes(0));
}

TEMPLATE_TEST_CASE("A sequence is shown, kept and asked for", "[tasks]", float, double) {
  const Index n = 4, m = 3, d = 2, samples = 5;
  const SequenceReproduction task({.length = n, .delay = m, .dimension = d});
  REQUIRE(task.inputs() == d + 2);
  REQUIRE(task.outputs() == d);
  REQUIRE(task.steps() == 2 * n + m);
  const Episodes<TestType> e = generate<TestType>(task, 0, 0, samples);
  for (Index t = 0; t < task.steps(); ++t) {
    for (Index s = 0; s < samples; ++s) {
      const Index column = t * samples + s;
      const auto value = e.inputs.col(column).head(d);
      const bool shown = t < n;
      const bool recall = t >= n + m;
      CHECK(value.isZero(0) == !shown);
      CHECK(e.inputs(d, column) == TestType(shown));
      CHECK(e.inputs(d + 1, column) == TestType(recall));
      CHECK(e.weights(0, column) == TestType(recall));
      CHECK(e.queries(0, column) == TestType(recall));
      if (recall) {
        CHECK(e.targets.col(column) == e.inputs.col((t - n - m) * samples + s).head(d));
      } else {
        CHECK(e.targets.col(column).isZero(0));
      }
    }
  }
}

TEST_CASE("Values of a sequence are uniform and independent", "[tasks]") {
  const Index samples = 4000;
  const SequenceReproduction task({.length = 2, .delay = 1, .dimension = 2});
  const Matrix<double> shown =
      generate<double>(task, 0, 0, samples).inputs.topLeftCorner(2, 2 * samples);
  const auto x = shown.array();
  CHECK(x.minCoeff() < -0.999);
  CHECK(x.minCoeff() >= -1);
  CHECK(x.maxCoeff() > 0.999);
  CHECK(x.maxCoeff() < 1);
  CHECK(std::abs(x.mean()) < 5 * std::sqrt(1.0 / 3 / static_cast<double>(x.size())));
  CHECK(std::abs(x.square().mean() - 1.0 / 3) < 0.012);
  const double bound = 5.0 / 3 / std::sqrt(static_cast<double>(samples));
  CHECK(
      std::abs((shown.leftCols(samples).array() * shown.rightCols(samples).array()).row(0).mean()) <
      bound);
  CHECK(std::abs((shown.row(0).array() * shown.row(1).array()).mean()) < bound);
}

TEST_CASE("Sequence reproduction has 3 inputs, 1 output and 60 steps by default", "[tasks]") {
  const SequenceReproduction task;
  CHECK(task.steps() == 60);
  CHECK(task.inputs() == 3);
  CHECK(task.outputs() == 1);
}

TEMPLATE_TEST_CASE("A regression shows points with values, then points without", "[tasks]", float,
                   double) {
  for (const RegressionFunction function : {RegressionFunction::linear, RegressionFunction::mlp}) {
    const Index n = 3, k = 5, q = 4, samples = 6;
    const FewShotRegressionOptions options{
        .function = function, .variables = n, .support = k, .queries = q};
    FewShotRegressionOptions exact = options;
    exact.noise = 0;
    const FewShotRegression task(options);
    REQUIRE(task.inputs() == n + 2);
    REQUIRE(task.outputs() == 1);
    REQUIRE(task.steps() == k + q);
    const Episodes<TestType> e = generate<TestType>(task, 0, 0, samples);
    const Episodes<TestType> clean = generate<TestType>(FewShotRegression(exact), 0, 0, samples);
    CHECK(e.targets == clean.targets);
    CHECK(e.inputs.topRows(n) == clean.inputs.topRows(n));
    CHECK(e.weights.isOnes(0));
    for (Index t = 0; t < task.steps(); ++t) {
      for (Index s = 0; s < samples; ++s) {
        const Index column = t * samples + s;
        const bool shown = t < k;
        CHECK(e.inputs.col(column).head(n).cwiseAbs().maxCoeff() <= 1);
        CHECK(e.inputs(n + 1, column) == TestType(shown));
        CHECK(e.queries(0, column) == TestType(!shown));
        CHECK(clean.inputs(n, column) == (shown ? e.targets(0, column) : TestType(0)));
        CHECK((e.inputs(n, column) != clean.inputs(n, column)) == shown);
      }
    }
  }
}

TEST_CASE("Regression targets have mean 0 and standard deviation 1 in every episode", "[tasks]") {
  for (const RegressionFunction function : {RegressionFunction::linear, RegressionFunction::mlp}) {
    const FewShotRegression task({.function = function, .variables = 6});
    const Index samples = 200;
    const Episodes<double> e = generate<double>(task, 0, 0, samples);
    for (Index s = 0; s < samples; ++s) {
      const Matrix<double> y = e.targets(Eigen::all, Eigen::seqN(s, task.steps(), samples));
      CHECK(std::abs(y.mean()) < 1e-12);
      CHECK(std::abs(y.squaredNorm() / static_cast<double>(task.steps() - 1) - 1) < 1e-12);
    }
  }
}

namespace {

// What least squares make of one sample: a coefficient for each of the n variables and a constant,
// and the sum of the squares that they leave.
struct Fit {
  Vector<double> coefficients;
  double residual;
};

Fit fit_sample(const Episodes<double>& episodes, Index sample, Index samples, Index n) {
  const Index steps = episodes.inputs.cols() / samples;
  Matrix<double> x = Matrix<double>::Ones(steps, n + 1);
  Vector<double> y(steps);
  for (Index t = 0; t < steps; ++t) {
    x.row(t).head(n) = episodes.inputs.col(t * samples + sample).head(n).transpose();
    y(t) = episodes.targets(0, t * samples + sample);
  }
  const Vector<double> coefficients = x.colPivHouseholderQr().solve(y);
  return {coefficients, (y - x * coefficients).squaredNorm()};
}

}  // namespace

TEST_CASE("A linear regression is linear and a network's is not", "[tasks]") {
  const Index n = 2;
  const auto residual = [&](RegressionFunction function) {
    const FewShotRegression task({.function = function, .variables = n});
    const Episodes<double> e = generate<double>(task, 0, 0, 50);
    double sum = 0;
    for (Index s = 0; s < 50; ++s) sum += fit_sample(e, s, 50, n).residual;
    return sum;
  };
  CHECK(residual(RegressionFunction::linear) < 1e-20);
  CHECK(residual(RegressionFunction::mlp) > 1e-3);
}

TEST_CASE("Points, coefficients and noise of a regression have the stated distributions",
          "[tasks]") {
  const Index samples = 4000, n = 3;
  const FewShotRegression task({.variables = n, .support = 2, .queries = 3});
  const Episodes<double> noisy = generate<double>(task, 1, 0, samples);
  const Episodes<double> clean = generate<double>(
      FewShotRegression({.variables = n, .support = 2, .queries = 3, .noise = 0}), 1, 0, samples);
  const auto x = clean.inputs.topRows(n).array();
  CHECK(x.minCoeff() < -0.999);
  CHECK(x.maxCoeff() > 0.999);
  CHECK(std::abs(x.mean()) < 5 * std::sqrt(1.0 / 3 / static_cast<double>(x.size())));
  CHECK(std::abs(x.square().mean() - 1.0 / 3) < 0.008);
  const Matrix<double> noise = (noisy.inputs - clean.inputs).row(n).leftCols(2 * samples);
  CHECK(std::abs(noise.mean()) < 5 * 0.1 / std::sqrt(static_cast<double>(noise.size())));
  CHECK(relative_error(std::sqrt(noise.array().square().mean()), 0.1) < 0.04);

  // Only the slopes of the standardised function can be recovered; no sign and no variable is
  // preferred.
  Vector<double> signs = Vector<double>::Zero(n), sizes = Vector<double>::Zero(n);
  const FewShotRegression long_task({.variables = n});
  const Index episodes = 2000;
  const Episodes<double> e = generate<double>(long_task, 2, 0, episodes);
  for (Index s = 0; s < episodes; ++s) {
    const Vector<double> slope = fit_sample(e, s, episodes, n).coefficients.head(n);
    signs += slope.array().sign().matrix();
    sizes += slope.cwiseAbs();
  }
  const auto count = static_cast<double>(episodes);
  CHECK(signs.cwiseAbs().maxCoeff() / count < 5 / std::sqrt(count));
  CHECK(sizes.maxCoeff() / sizes.minCoeff() < 1.1);
}

TEST_CASE("The other tasks reject bad options by name", "[tasks]") {
  for (const Index bad : {Index{0}, Index{-1}, too_many}) {
    CHECK_THROWS_WITH(SequenceReproduction({.length = bad}), naming("length"));
    CHECK_THROWS_WITH(SequenceReproduction({.dimension = bad}), naming("dimension"));
    if (bad != 0) CHECK_THROWS_WITH(FewShotRegression({.variables = bad}), naming("variables"));
    CHECK_THROWS_WITH(FewShotRegression({.support = bad}), naming("support"));
    CHECK_THROWS_WITH(FewShotRegression({.queries = bad}), naming("queries"));
  }
  CHECK_THROWS_WITH(SequenceReproduction({.delay = -1}), naming("delay"));
  CHECK_NOTHROW(SequenceReproduction({.delay = 0}));
  CHECK_THROWS_WITH(FewShotRegression({.noise = -1}), naming("noise"));
  CHECK_THROWS_WITH(FewShotRegression({.function = static_cast<RegressionFunction>(7)}),
                    naming("function"));
}

TEST_CASE("A regression has the paper's number of variables where none is given", "[tasks]") {
  CHECK(FewShotRegression().inputs() == 12 + 2);
  CHECK(FewShotRegression({.function = RegressionFunction::mlp}).inputs() == 6 + 2);
  CHECK(FewShotRegression().steps() == 40);
}

TEST_CASE("A mix of one task is that task", "[tasks]") {
  const TaskMix<CueReward, SequenceReproduction> mix({{CueReward(), 3}});
  CHECK(mix.inputs() == 16);
  CHECK(mix.outputs() == 1);
  CHECK(mix.steps() == 20);
  const Episodes<float> e = generate<float>(mix, 3, 1, 4);
  const Episodes<float> expected = generate<float>(CueReward(), 3, 1, 4);
  CHECK(e.inputs == expected.inputs);
  CHECK(e.targets == expected.targets);
}

TEST_CASE("A mix draws each task as often as its weight says and tells which it is", "[tasks]") {
  const SequenceReproduction sequence({.length = 2, .delay = 1, .dimension = 3});
  const TaskMix<CueReward, SequenceReproduction> mix({{CueReward(), 1}, {sequence, 3}});
  REQUIRE(mix.inputs() == 16 + 2);
  REQUIRE(mix.outputs() == 3);
  REQUIRE(mix.steps() == 20);
  double sequences = 0;
  const int batches = 2000;
  for (std::uint64_t batch = 0; batch < batches; ++batch) {
    const std::size_t part = mix.part_of(stream, batch);
    sequences += static_cast<double>(part);
    if (batch > 20) continue;
    const Episodes<double> e = generate<double>(mix, batch, 0, 2);
    REQUIRE(e.inputs.row(16 + static_cast<Index>(part)).isOnes(0));
    REQUIRE(e.inputs.row(17 - static_cast<Index>(part)).isZero(0));
    if (part == 0) {
      const Episodes<double> cue = generate<double>(CueReward(), batch, 0, 2);
      REQUIRE(e.inputs.topRows(16) == cue.inputs);
      REQUIRE(e.targets.topRows(1) == cue.targets);
      REQUIRE(e.targets.bottomRows(2).isZero(0));
    } else {
      const Episodes<double> shown = generate<double>(sequence, batch, 0, 2);
      REQUIRE(e.inputs.topRows(5) == shown.inputs);
      REQUIRE(e.inputs.middleRows(5, 11).isZero(0));
      REQUIRE(e.targets == shown.targets);
      REQUIRE(e.weights == shown.weights);
    }
  }
  CHECK(std::abs(sequences / batches - 0.75) < 5 * std::sqrt(0.75 * 0.25 / batches));
}

TEST_CASE("A mix without tasks or weight is refused", "[tasks]") {
  using Mix = TaskMix<CueReward, SequenceReproduction>;
  CHECK_THROWS_WITH(Mix({}), naming("parts"));
  CHECK_THROWS_WITH(Mix({{CueReward(), 0}}), naming("weights"));
  CHECK_THROWS_WITH(Mix({{CueReward(), 1}, {CueReward(), -1}}), naming("weight"));
  CHECK_THROWS_WITH(Mix({{CueReward(), std::nan("")}}), naming("weight"));
  // A weight of 0 is allowed, and that task never comes.
  const Mix mix({{CueReward(), 0}, {SequenceReproduction(), 1}, {CueReward(), 0}});
  for (std::uint64_t batch = 0; batch < 50; ++batch) CHECK(mix.part_of(stream, batch) == 1);
}

TEMPLATE_TEST_CASE("A task from a function has the samples that it fills in", "[tasks]", float,
                   double) {
  const plastic::SampledTask task(
      {.inputs = 3, .outputs = 2, .steps = 4}, [](Random& random, auto episode) {
        using Scalar = std::remove_reference_t<decltype(episode.weight(0))>;
        const auto number = static_cast<Scalar>(random.uniform(-1, 1));
        episode.input(0)[2] = number;
        episode.input(1).setOnes();
        episode.target(episode.steps() - 1)[1] = -number;
        episode.weight(3) = 2;
      });
  static_assert(plastic::Task<decltype(task), TestType>);
  CHECK(task.inputs() == 3);
  CHECK(task.outputs() == 2);
  CHECK(task.steps() == 4);

  Episodes<TestType> all, part;
  task.generate(stream, 5, 10, 4, all);
  REQUIRE(all.inputs.rows() == 3);
  REQUIRE(all.inputs.cols() == 16);
  REQUIRE(all.targets.rows() == 2);
  CHECK(all.queries.size() == 0);
  for (Index s = 0; s < 4; ++s) {
    Random random(stream, 5, static_cast<std::uint64_t>(10 + s));
    const auto number = static_cast<TestType>(random.uniform(-1, 1));
    CHECK(all.inputs(2, s) == number);
    CHECK(all.inputs.col(4 + s).isOnes(0));
    CHECK(all.targets(1, 12 + s) == -number);
    CHECK(all.weights(0, 12 + s) == 2);
  }
  CHECK(all.weights.sum() == 8);
  CHECK(all.inputs.rightCols(8).isZero(0));

  // Filled again, also where it was full before, and in parts.
  task.generate(stream, 5, 12, 1, part);
  for (Index t = 0; t < 4; ++t) CHECK(part.inputs.col(t) == all.inputs.col(4 * t + 2));
  const TestType* memory = all.inputs.data();
  const Matrix<TestType> before = all.inputs;
  all.inputs.setConstant(9);
  task.generate(stream, 5, 10, 4, all);
  CHECK(all.inputs == before);
  CHECK(all.inputs.data() == memory);
}

TEST_CASE("A task from a function refuses steps that there are not, and sizes", "[tasks]") {
  const auto nothing = [](Random&, auto) {};
  using Options = plastic::SampledTaskOptions;
  CHECK_THROWS_WITH(plastic::SampledTask(Options{.inputs = 0}, nothing),
                    "SampledTask: inputs must be an integer in [1, 2^31), got 0");
  CHECK_THROWS_WITH(plastic::SampledTask(Options{.steps = -1}, nothing),
                    "SampledTask: steps must be an integer in [1, 2^31), got -1");
  const plastic::SampledTask late({.steps = 4},
                                  [](Random&, auto episode) { episode.input(4)[0] = 1; });
  Episodes<double> episodes;
  CHECK_THROWS_WITH(late.generate(stream, 0, 0, 2, episodes),
                    "SampleEpisode::input: t must be in 0 .. 3, got 4");
  CHECK_THROWS_WITH(late.generate(stream, 0, -1, 2, episodes),
                    "SampledTask::generate: first must be at least 0, got -1");
}

TEMPLATE_TEST_CASE("A task from a function refuses rows that a column does not have", "[tasks]",
                   double, float) {
  Episodes<TestType> episodes;
  const auto error = [&](auto&& fill) {
    return plastic::testing::rejection(
        [&] { plastic::SampledTask({.outputs = 3}, fill).generate(stream, 0, 0, 2, episodes); });
  };
  CHECK(error([](Random&, auto e) { e.target(0)[3] = 1; }) ==
        "SampleEpisode::target: the row must be in 0 .. 2, got 3");
  CHECK(error([](Random&, auto e) { e.target(0)(-1) = 1; }) ==
        "SampleEpisode::target: the row must be in 0 .. 2, got -1");
  CHECK(error([](Random&, auto e) { e.input(0)[1] = 1; }) ==
        "SampleEpisode::input: the row must be in 0 .. 0, got 1");
  CHECK(error([](Random& random, auto e) {
          e.target(0).setConstant(static_cast<TestType>(random.uniform()));
          e.target(0)[1] = e.target(0)[2] = e.input(0)[0] = 1;
          e.input(0) = e.target(0).head(1);
        }) == "no error");
}
