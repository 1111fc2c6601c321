#pragma once

#include <cstddef>

namespace plastic::testing {

/// Counts what the present thread takes from the heap while the counter lives: operator new in all
/// its forms, and with glibc (outside the sanitizers) also malloc, which Eigen calls. An allocation
/// may count twice, so only 0 is exact. One counter per thread at a time.
class AllocationCounter {
 public:
  AllocationCounter();
  ~AllocationCounter();
  AllocationCounter(const AllocationCounter&) = delete;
  AllocationCounter& operator=(const AllocationCounter&) = delete;

  std::size_t count() const;

  /// Whether malloc is counted here.
  static bool sees_malloc();
};

}  // namespace plastic::testing
