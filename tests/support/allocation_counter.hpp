#pragma once

#include <cstddef>

namespace plastic::testing {

/// Counts what the present thread, or every thread, takes from the heap while the counter lives:
/// operator new in all its forms, and with glibc (outside the sanitizers) also malloc, which Eigen
/// calls. An allocation may count twice, so only 0 is exact. One counter at a time.
class AllocationCounter {
 public:
  enum class Threads { this_one, all };

  explicit AllocationCounter(Threads threads = Threads::this_one);
  ~AllocationCounter();
  AllocationCounter(const AllocationCounter&) = delete;
  AllocationCounter& operator=(const AllocationCounter&) = delete;

  std::size_t count() const;

  /// Whether malloc is counted here.
  static bool sees_malloc();
};

}  // namespace plastic::testing
