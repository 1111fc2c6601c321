// What holds for every task.

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>

#include "support/allocation_counter.hpp"
#include "support/errors.hpp"
#include "support/tasks.hpp"

using namespace plastic;
using namespace plastic::testing;

TEMPLATE_TEST_CASE("A sample is the same whatever the division into shards", "[tasks][every_task]",
                   float, double) {
  for_each_task([](const auto& task, const char* name) {
    INFO(name);
    const Index samples = 9;
    const Episodes<TestType> whole = generate<TestType>(task, 2, 4, samples);
    for (const Index shard : {1, 2, 4}) {
      for (Index first = 0; first < samples; first += shard) {
        const Index count = std::min(shard, samples - first);
        const Episodes<TestType> part = generate<TestType>(task, 2, 4 + first, count);
        for (std::size_t s = 0; s < part.lengths.size(); ++s) {
          REQUIRE(part.lengths[s] == whole.lengths[static_cast<std::size_t>(first) + s]);
        }
        REQUIRE((part.queries.size() == 0) == (whole.queries.size() == 0));
        for (Index t = 0; t < task.steps(); ++t) {
          const auto same = [&](const auto& a, const auto& b) {
            return a.middleCols(t * count, count) == b.middleCols(t * samples + first, count);
          };
          REQUIRE(same(part.inputs, whole.inputs));
          REQUIRE(same(part.targets, whole.targets));
          REQUIRE(same(part.weights, whole.weights));
          if (part.queries.size() > 0) REQUIRE(same(part.queries, whole.queries));
        }
      }
    }
  });
}

TEST_CASE("Another seed, purpose, batch or sample is another episode", "[tasks][every_task]") {
  for_each_task([](const auto& task, const char* name) {
    INFO(name);
    Episodes<double> base, other;
    const Index samples = 4;  // several, as a few bits may agree by chance
    task.generate(stream, 0, 0, samples, base);
    task.generate(stream, 0, 0, samples, other);
    CHECK(base.inputs == other.inputs);
    CHECK(base.targets == other.targets);
    const auto check_differs = [&](const Random::Stream& of, std::uint64_t batch, Index first) {
      task.generate(of, batch, first, samples, other);
      CHECK(base.inputs != other.inputs);
      CHECK(base.targets != other.targets);
    };
    check_differs({12, stream.purpose}, 0, 0);
    check_differs({11, Random::Purpose::validation}, 0, 0);
    check_differs(stream, 1, 0);
    check_differs(stream, 0, samples);
  });
  for_each_paper_task([](const auto& task, const char* name) {
    INFO(name);
    CHECK(generate<double>(task, 0, 0, 1).targets != generate<double>(task, 0, 1, 1).targets);
  });
}

TEST_CASE("Float episodes are the double ones, rounded", "[tasks][every_task]") {
  for_each_task([](const auto& task, const char* name) {
    INFO(name);
    const Episodes<float> rounded = generate<float>(task, 1, 0, 50);
    const Episodes<double> exact = generate<double>(task, 1, 0, 50);
    CHECK(rounded.inputs == exact.inputs.template cast<float>());
    CHECK(rounded.targets == exact.targets.template cast<float>());
    CHECK(rounded.weights == exact.weights.template cast<float>());
    CHECK(rounded.lengths == exact.lengths);
  });
}

TEMPLATE_TEST_CASE("Episodes whose sizes fit keep their memory and allocate nothing",
                   "[tasks][every_task]", float, double) {
  for_each_task([](const auto& task, const char* name) {
    INFO(name);
    Episodes<TestType> episodes = generate<TestType>(task, 0, 0, 8);
    const TestType* const inputs = episodes.inputs.data();
    const TestType* const targets = episodes.targets.data();
    const TestType* const weights = episodes.weights.data();
    const TestType* const queries = episodes.queries.data();
    std::size_t allocations = 0;
    {
      const AllocationCounter counter;
      task.generate(stream, 1, 8, 8, episodes);
      allocations = counter.count();
    }
    CHECK(allocations == 0);
    CHECK(episodes.inputs.data() == inputs);
    CHECK(episodes.targets.data() == targets);
    CHECK(episodes.weights.data() == weights);
    CHECK(episodes.queries.data() == queries);
    CHECK(episodes.inputs == generate<TestType>(task, 1, 8, 8).inputs);
    CHECK(episodes.targets == generate<TestType>(task, 1, 8, 8).targets);
    CHECK(episodes.weights == generate<TestType>(task, 1, 8, 8).weights);
  });
}

TEST_CASE("Tasks reject samples and batches that do not exist", "[tasks][every_task]") {
  for_each_task([](const auto& task, const char* name) {
    INFO(name);
    Episodes<float> e;
    CHECK_THROWS_WITH(task.generate(stream, 0, 0, 0, e), naming("generate: samples"));
    CHECK_THROWS_WITH(task.generate(stream, 0, -1, 1, e), naming("generate: first"));
    CHECK_THROWS_WITH(task.generate(stream, std::uint64_t{1} << 56, 0, 1, e), naming("batch"));
    if constexpr (sizeof(Index) > 4) {
      const auto limit = static_cast<Index>(std::int64_t{1} << 32);
      CHECK_THROWS_WITH(task.generate(stream, 0, limit, 1, e), naming("generate: first"));
      CHECK_NOTHROW(task.generate(stream, 0, limit - 1, 1, e));
    }
  });
}
