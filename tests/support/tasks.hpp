#pragma once

#include <cstdint>

#include "plastic/plastic.hpp"

/// Every task that the library generates, small and with odd sizes too.
namespace plastic::testing {

inline constexpr Random::Stream stream{.seed = 11, .purpose = Random::Purpose::training};

/// One more than a task's option may be, or something negative where an Index has 32 bits.
inline constexpr auto too_many = static_cast<Index>(std::int64_t{1} << 31);

template <class Scalar, class Task>
Episodes<Scalar> generate(const Task& task, std::uint64_t batch, Index first, Index samples) {
  Episodes<Scalar> episodes;
  task.generate(stream, batch, first, samples, episodes);
  return episodes;
}

/// Calls f(task, name) for the tasks of the paper.
template <class F>
void for_each_paper_task(F&& f) {
  const auto call = [&](const char* name, const auto& task) { f(task, name); };
  call("cue-reward", CueReward());
  call("sequence reproduction", SequenceReproduction());
  call("sequence reproduction of vectors",
       SequenceReproduction({.length = 3, .delay = 0, .dimension = 5}));
  call("linear regression", FewShotRegression());
  call("mlp regression",
       FewShotRegression(
           {.function = RegressionFunction::mlp, .variables = 6, .support = 7, .queries = 4}));
}

/// Calls f(task, name) for the published tasks of memory.
template <class F>
void for_each_memory_task(F&& f) {
  const auto call = [&](const char* name, const auto& task) { f(task, name); };
  call("pattern completion", PatternCompletion({.bits = 9,
                                                .patterns = 3,
                                                .rounds = 3,
                                                .presentation_steps = 2,
                                                .blank_steps = 1,
                                                .probe_steps = 2}));
  call("pattern completion of one step each", PatternCompletion({.bits = 5,
                                                                 .patterns = 2,
                                                                 .rounds = 1,
                                                                 .presentation_steps = 1,
                                                                 .blank_steps = 0,
                                                                 .probe_steps = 1}));
  call("key-value retrieval", KeyValueRetrieval({.keys = 7}));
  call("key-value retrieval without repeats", KeyValueRetrieval({.keys = 5, .repeats = false}));
  call("associative retrieval", AssociativeRetrieval());
  call("familiarity", Familiarity({.bits = 11, .steps = 9, .delay = 2}));
  call("copy", Copy({.length = 4, .dimension = 3}));
  call("copy of signs", Copy({.length = 3, .dimension = 2, .values = CopyValues::signs}));
  call("copy of bits", Copy({.length = 3, .dimension = 4, .values = CopyValues::bits}));
  call("associative recall", AssociativeRecall({.max_items = 4, .length = 2, .bits = 5}));
  call("priority sort", PrioritySort({.vectors = 5, .answers = 3, .bits = 4}));
}

template <class F>
void for_each_task(F&& f) {
  for_each_paper_task(f);
  for_each_memory_task(f);
}

}  // namespace plastic::testing
