#include "plastic/core/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/errors.hpp"

using namespace plastic;
using namespace plastic::testing;

TEST_CASE("Every item of a parallel loop is done once", "[core][parallel]") {
  for (const int threads : {1, 2, 3, 8}) {
    for (const Index count : {0, 1, 2, 3, 100}) {
      std::vector<std::atomic<int>> done(static_cast<std::size_t>(count));
      std::atomic<int> strange = 0;
      parallel_for(count, threads, [&](Index item, int thread) {
        ++done[static_cast<std::size_t>(item)];
        strange += thread < 0 || thread >= threads;
      });
      CHECK(strange == 0);
      CHECK(std::all_of(done.begin(), done.end(), [](const auto& times) { return times == 1; }));
    }
  }
}

TEST_CASE("A parallel loop throws the exception of the lowest item after all are done",
          "[core][parallel]") {
  for (const int threads : {1, 2, 3}) {
    std::atomic<int> done = 0;
    const std::string error = error_of<std::out_of_range>([&] {
      parallel_for(50, threads, [&](Index item, int) {
        ++done;
        if (item % 10 == 7) throw std::out_of_range("item " + std::to_string(item));
      });
    });
    CHECK(error == "item 7");
    CHECK(done == 50);
  }
}

TEST_CASE("A parallel loop refuses to guess a number of threads", "[core][parallel]") {
  for (const int threads : {0, -1}) {
    CHECK(rejection([&] { parallel_for(3, threads, [](Index, int) {}); }) ==
          "parallel_for: threads must be at least 1, got " + std::to_string(threads));
  }
}
