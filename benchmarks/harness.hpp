#pragma once

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "model.hpp"

namespace bench {

/// Set by a benchmark whose result was wrong: the program then fails.
inline bool& any_failed() {
  static bool failed = false;
  return failed;
}

/// A benchmark in two parts. `verify` returns what is wrong, or nothing; it runs once, before the
/// first timing. `prepare` makes the function that is timed, for which everything has been
/// allocated and run once.
struct Program {
  std::function<std::string()> verify;
  std::function<std::function<void()>()> prepare;
  std::function<void(benchmark::State&)> report = {};  ///< adds counters of its own
};

inline void register_benchmark(const std::string& name, Work work, int items,
                               benchmark::TimeUnit unit, const Program& program) {
  auto verdict = std::make_shared<std::optional<std::string>>();
  const auto run = [=](benchmark::State& state) {
    try {
      if (!*verdict) {
        *verdict = program.verify();
        reset_peak_memory();
      }
      if (!(*verdict)->empty()) {
        any_failed() = true;
        state.SkipWithError((*verdict)->c_str());
        return;
      }
      const std::function<void()> timed = program.prepare();
      timed();
      for (auto _ : state) timed();
    } catch (const std::exception& error) {
      any_failed() = true;
      state.SkipWithError(error.what());
      return;
    }
    const auto iterations = static_cast<double>(state.iterations());
    state.SetItemsProcessed(state.iterations() * items);
    if (work.bytes > 0) state.SetBytesProcessed(static_cast<std::int64_t>(iterations * work.bytes));
    state.counters["flops"] =
        benchmark::Counter(iterations * work.flops, benchmark::Counter::kIsRate);
    if (program.report) program.report(state);
    state.counters["peak_MiB"] = peak_memory();
  };
  benchmark::RegisterBenchmark(name.c_str(), run)->UseRealTime()->Unit(unit);
}

inline void register_benchmark(const std::string& kind, const Case& c, bool backward,
                               benchmark::TimeUnit unit, const Program& program) {
  register_benchmark(c.name(kind), work_of(c, backward), c.batch, unit, program);
}

/// Runs what `add(sweep)` registers. Options are Google Benchmark's, and --sweep.
inline int run_main(int argc, char** argv, const std::function<void(bool)>& add) {
  bool sweep = false;
  int kept = 0;
  for (int i = 0; i < argc; ++i) {
    if (std::strcmp(argv[i], "--sweep") == 0) {
      sweep = true;
    } else {
      argv[kept++] = argv[i];
    }
  }
  add(sweep);
  benchmark::Initialize(&kept, argv);
  if (benchmark::ReportUnrecognizedArguments(kept, argv)) {
    std::fprintf(stderr, "and --sweep, which adds cases over hidden, batch, steps and threads\n");
    return 2;
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return any_failed() ? 1 : 0;
}

}  // namespace bench
