#include "plastic/optim/schedule.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <numbers>

#include "support/errors.hpp"
#include "support/gradcheck.hpp"

using plastic::Index;
using plastic::testing::naming;
using plastic::testing::relative_error;

TEST_CASE("A schedule is any function of the batch, or of the batch and the length of the run",
          "[optim][schedule]") {
  using plastic::Schedule;
  CHECK(Schedule().empty());
  CHECK(Schedule().rates(100).empty());
  CHECK_THROWS_WITH(Schedule()(0, 1), naming("Schedule"));
  const Schedule constant = [](Index) { return 0.3; };
  CHECK(constant(0, 10) == 0.3);
  CHECK(constant(1000000, 10) == 0.3);
  const Schedule falling = [](Index batch, Index batches) {
    return 1 - static_cast<double>(batch) / static_cast<double>(batches);
  };
  CHECK(falling(25, 100) == 0.75);
  CHECK_THAT(falling.rates(8), Catch::Matchers::StartsWith("1 to 0.125, fingerprint "));
  // Every single rate counts.
  const Schedule step = [](Index batch) { return batch < 700 ? 1.0 : 0.1; };
  const Schedule later = [](Index batch) { return batch < 701 ? 1.0 : 0.1; };
  CHECK(step.rates(1000) != later.rates(1000));
  CHECK(step.rates(700) == later.rates(700));
  CHECK_THROWS_WITH(falling(101, 100), naming("the rate of batch 101"));
  // A damaged checkpoint may claim such numbers.
  for (const Index batches : {Index{0}, std::numeric_limits<Index>::min()}) {
    CHECK_THROWS_WITH(constant.rates(batches), naming("Schedule::rates: batches must be"));
  }
}

TEST_CASE("A warm-up rises in a line to the rate", "[optim][schedule]") {
  const plastic::LinearWarmUp rising({.learning_rate = 2, .batches = 4});
  CHECK(rising(0) == 0.5);
  CHECK(rising(3) == 2);
  CHECK(rising(100) == 2);
  const plastic::CosineSchedule cosine({.learning_rate = 2, .floor = 1, .warm_up = 4});
  CHECK(cosine(0, 24) == 0.5);
  CHECK(cosine(3, 24) == 2);
  CHECK(cosine(4, 24) == 2);
  CHECK(relative_error(cosine(14, 24), 1.5) < 1e-12);
  CHECK(relative_error(cosine(24, 24), 1) < 1e-12);
  CHECK_THROWS_WITH(plastic::LinearWarmUp({.batches = 0}), naming("batches"));
  CHECK_THROWS_WITH(plastic::CosineSchedule({.warm_up = -1}), naming("warm_up"));
}

TEST_CASE("The cosine schedule falls in steps from the rate to the floor and stays",
          "[optim][schedule]") {
  const plastic::CosineSchedule schedule(
      {.learning_rate = 1, .floor = 0.2, .batches = 1000, .every = 100});
  CHECK(schedule(0) == 1);
  CHECK(schedule(99) == 1);
  CHECK(relative_error(schedule(100), 0.2 + 0.4 * (1 + std::cos(std::numbers::pi / 10))) < 1e-12);
  CHECK(schedule(199) == schedule(100));
  CHECK(relative_error(schedule(500), 0.6) < 1e-12);
  for (Index batch = 1; batch < 1000; ++batch) CHECK(schedule(batch) <= schedule(batch - 1));
  CHECK(relative_error(schedule(1000), 0.2) < 1e-12);
  CHECK(relative_error(schedule(123456), 0.2) < 1e-12);
}

TEST_CASE("The cosine schedule rejects bad options by name", "[optim][schedule]") {
  using plastic::CosineSchedule;
  CHECK_THROWS_WITH(CosineSchedule({.learning_rate = std::numeric_limits<double>::quiet_NaN()}),
                    naming("learning_rate"));
  CHECK_THROWS_WITH(CosineSchedule({.learning_rate = 1, .floor = 2}), naming("floor"));
  CHECK_THROWS_WITH(CosineSchedule({.batches = -1}), naming("batches"));
  CHECK_THROWS_WITH(CosineSchedule({.every = 0}), naming("every"));
  CHECK_THROWS_WITH(CosineSchedule({.batches = 10})(-1), naming("batch"));
  CHECK_THROWS_WITH(CosineSchedule({})(3), naming("batches"));
  CHECK_THROWS_WITH(plastic::LinearWarmUp({})(-1), naming("batch"));
}
