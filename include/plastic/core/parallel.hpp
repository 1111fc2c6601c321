#pragma once

#include <algorithm>
#include <exception>
#include <mutex>

#include "plastic/core/types.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace plastic {

/// Threads that the machine offers to this process; 1 without OpenMP.
inline int available_threads() {
#ifdef _OPENMP
  return std::max(1, omp_get_num_procs());
#else
  return 1;
#endif
}

/// Calls f(item, thread) for every item in 0 .. count - 1, each on some thread in 0 .. threads - 1;
/// one after another without OpenMP. If calls throw, all others are still made, and then the
/// exception of the lowest item leaves this function.
template <class F>
void parallel_for(Index count, [[maybe_unused]] int threads, F&& f) {
  std::exception_ptr error;
  Index error_item = count;
  std::mutex error_mutex;
  const auto guarded = [&](Index item, int thread) {
    try {
      f(item, thread);
    } catch (...) {
      const std::lock_guard lock(error_mutex);
      if (item < error_item) {
        error = std::current_exception();
        error_item = item;
      }
    }
  };
#ifdef _OPENMP
  // Not the pragma's if clause: clang's runtime allocates even for a region of one thread.
  if (threads > 1 && count > 1) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (Index item = 0; item < count; ++item) guarded(item, omp_get_thread_num());
    count = 0;
  }
#endif
  for (Index item = 0; item < count; ++item) guarded(item, 0);
  if (error) std::rethrow_exception(error);
}

}  // namespace plastic
