#pragma once

#include <cstdint>
#include <string_view>

#include "plastic/core/random.hpp"

/// @file
/// What several tasks draw and check.
namespace plastic::detail {

/// Checks a total of counts. It comes as a double, which does not overflow.
inline void check_total(std::string_view task, std::string_view what, double total) {
  if (!(total < 0x1p31)) reject(task, what, "below 2^31", total);
}

/// 0 or 1 with equal probability. Takes one word.
inline int random_bit(Random& random) { return static_cast<int>(random.bits() >> 31); }

/// -1 or 1 with equal probability. Takes one word.
inline int random_sign(Random& random) { return 2 * random_bit(random) - 1; }

/// Uniform in {0, ..., n - 1}; n is in [1, 2^32).
inline Index random_index(Random& random, Index n) {
  return static_cast<Index>(random.below(static_cast<std::uint32_t>(n)));
}

/// Uniform among the numbers below n that have no mark, of which there must be one; marks it.
/// mark(i) is a reference to the mark of i, 0 at first. It rejects what is marked and needs no
/// memory; all n numbers take about n log n words.
template <class Mark>
Index draw_unmarked(Random& random, Index n, const Mark& mark) {
  Index i = random_index(random, n);
  while (mark(i) != 0) i = random_index(random, n);
  mark(i) = 1;
  return i;
}

}  // namespace plastic::detail
