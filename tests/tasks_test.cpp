#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>

#include "plastic/random/random.hpp"
#include "plastic/tasks/cue_reward.hpp"
#include "plastic/tasks/episodes.hpp"

namespace {

using plastic::CueReward;
using plastic::CueRewardOptions;
using plastic::Episodes;
using plastic::Index;
using plastic::Matrix;
using plastic::Random;

constexpr Random::Stream stream{.seed = 11, .purpose = Random::Purpose::training};

static_assert(plastic::Task<CueReward, float> && plastic::Task<CueReward, double>);

struct WithoutSteps {
  Index inputs() const { return 1; }
  Index outputs() const { return 1; }
  void generate(const Random::Stream&, std::uint64_t, Index, Index, Episodes<float>&) const {}
};
static_assert(!plastic::Task<WithoutSteps, float>);

template <class Scalar>
Episodes<Scalar> generate(const CueReward& task, std::uint64_t batch, Index first, Index samples) {
  Episodes<Scalar> episodes;
  task.generate(stream, batch, first, samples, episodes);
  return episodes;
}

auto naming(const std::string& word) { return Catch::Matchers::Matches(".*" + word + ".*"); }

double relative_error(double got, double expected) {
  return std::abs(got - expected) / std::abs(expected);
}

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

TEMPLATE_TEST_CASE("A sample is the same whatever the division into shards", "[tasks]", float,
                   double) {
  const CueReward task;
  const Index samples = 9;
  const Episodes<TestType> whole = generate<TestType>(task, 2, 4, samples);
  for (const Index shard : {1, 2, 4}) {
    for (Index first = 0; first < samples; first += shard) {
      const Index count = std::min(shard, samples - first);
      const Episodes<TestType> part = generate<TestType>(task, 2, 4 + first, count);
      for (Index t = 0; t < task.steps(); ++t) {
        const Index from = t * samples + first;
        REQUIRE(part.inputs.middleCols(t * count, count) == whole.inputs.middleCols(from, count));
        REQUIRE(part.targets.middleCols(t * count, count) == whole.targets.middleCols(from, count));
      }
    }
  }
}

TEST_CASE("Another seed, purpose, batch or sample is another episode", "[tasks]") {
  const CueReward task;
  Episodes<double> base, other;
  task.generate(stream, 0, 0, 1, base);
  task.generate({12, stream.purpose}, 0, 0, 1, other);
  CHECK(base.targets != other.targets);
  task.generate({11, Random::Purpose::validation}, 0, 0, 1, other);
  CHECK(base.targets != other.targets);
  task.generate(stream, 1, 0, 1, other);
  CHECK(base.targets != other.targets);
  task.generate(stream, 0, 1, 1, other);
  CHECK(base.targets != other.targets);
}

TEST_CASE("Float episodes are the double ones, rounded", "[tasks]") {
  const Episodes<float> rounded = generate<float>(CueReward(), 1, 0, 50);
  const Episodes<double> exact = generate<double>(CueReward(), 1, 0, 50);
  CHECK(rounded.inputs == exact.inputs.cast<float>());
  CHECK(rounded.targets == exact.targets.cast<float>());
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

TEST_CASE("Episodes whose sizes fit keep their memory", "[tasks]") {
  const CueReward task;
  Episodes<float> episodes = generate<float>(task, 0, 0, 8);
  const float* const inputs = episodes.inputs.data();
  const float* const targets = episodes.targets.data();
  const float* const weights = episodes.weights.data();
  task.generate(stream, 1, 8, 8, episodes);
  CHECK(episodes.inputs.data() == inputs);
  CHECK(episodes.targets.data() == targets);
  CHECK(episodes.weights.data() == weights);
  CHECK(episodes.inputs == generate<float>(task, 1, 8, 8).inputs);
}

TEST_CASE("Cue-reward rejects bad options by name", "[tasks]") {
  for (const Index bad : {Index{0}, Index{-1}, Index{1} << 31}) {
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

TEST_CASE("Cue-reward rejects samples and batches that do not exist", "[tasks]") {
  const CueReward task;
  Episodes<float> episodes;
  const Index limit = Index{1} << 32;
  CHECK_THROWS_WITH(task.generate(stream, 0, 0, 0, episodes), naming("samples"));
  CHECK_THROWS_WITH(task.generate(stream, 0, -1, 1, episodes), naming("first"));
  CHECK_THROWS_WITH(task.generate(stream, 0, limit, 1, episodes), naming("first"));
  CHECK_THROWS_WITH(task.generate(stream, std::uint64_t{1} << 56, 0, 1, episodes), naming("batch"));
  CHECK_NOTHROW(task.generate(stream, 0, limit - 1, 1, episodes));
}
