// How many threads are used, what limits their number, and what a fork does to them.

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <fstream>
#include <functional>
#include <set>
#include <string>

#include "plastic/plastic.hpp"

#ifdef _OPENMP
#include <omp.h>

namespace {

using namespace plastic;

// Steps of a training run on `threads` threads, from the same start each time.
struct Run {
  explicit Run(int threads)
      : net({.inputs = CueReward().inputs(), .hidden = 8}),
        optimizer(net.parameters()),
        trainer(net, CueReward(), optimizer, {.batch = 64, .threads = threads}) {}

  PlasticRNN<Hebbian, float> net;
  AdamW<float> optimizer;
  Trainer<EpisodeObjective<PlasticRNN<Hebbian, float>, CueReward>, AdamW<float>> trainer;
};

// The exit status of a child that calls f, or -1 where it does not come to an end in 20 seconds.
int status_of_child(const std::function<int()>& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    int result = 99;
    try {
      result = f();
    } catch (...) {
    }
    ::_exit(result);
  }
  for (int tenth = 0; tenth < 200; ++tenth) {
    int status = 0;
    if (::waitpid(child, &status, WNOHANG) == child) return status;
    ::usleep(100'000);
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  return -1;
}

}  // namespace

TEST_CASE("The user's limit of threads is the default", "[core][threads]") {
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  const int one = Run(0).trainer.options().threads;
  const int asked_for = Run(3).trainer.options().threads;
  omp_set_num_threads(before);
  CHECK(one == 1);
  CHECK(asked_for == 3);
  CHECK(Run(0).trainer.options().threads <= omp_get_num_procs());
}

TEST_CASE("There are never more threads than pieces of work", "[core][threads]") {
  for (const Index count : {1, 2, 3, 7}) {
    std::atomic<int> largest = 0, calls = 0;
    parallel_for(count, 64, [&](Index, int thread) {
      ++calls;
      int seen = largest;
      while (thread > seen && !largest.compare_exchange_weak(seen, thread)) {
      }
    });
    CHECK(calls == count);
    CHECK(largest < count);
  }
}

TEST_CASE("A process may fork after its threads have been at work, and both go on",
          "[core][threads]") {
  Run run(2);
  run.trainer.step(0);
  Run same(2);
  same.trainer.step(0);
  const double expected = same.trainer.step(1);
  CHECK(status_of_child([&] { return run.trainer.step(1) == expected ? 0 : 1; }) == 0);
  CHECK(run.trainer.step(1) == expected);
  // Also from a child's child.
  CHECK(status_of_child([&] {
          run.trainer.step(2);
          return status_of_child([&] {
            run.trainer.step(3);
            return 0;
          });
        }) == 0);
}

TEST_CASE("Where the system gives few threads the work is done by fewer, or an exception says so",
          "[core][threads]") {
  std::ifstream file("/proc/self/statm");
  rlim_t pages = 0;
  file >> pages;
  const rlim_t now = pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE));
  for (const rlim_t more :
       {rlim_t{1} << 20, rlim_t{32} << 20, rlim_t{128} << 20, rlim_t{400} << 20}) {
    INFO(more << " bytes");
    const int status = status_of_child([&] {
      const rlimit limit{now + more, now + more};
      if (::setrlimit(RLIMIT_AS, &limit) != 0) return 98;
      try {
        Run run(64);
        run.trainer.step(0);
      } catch (const std::exception&) {
        return 1;
      }
      return 0;
    });
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) <= (more >= (rlim_t{128} << 20) ? 0 : 1));
  }
}

#endif
