#pragma once

#include <algorithm>
#include <exception>
#include <latch>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "plastic/core/check.hpp"

#ifdef _OPENMP
#include <omp.h>
#ifdef __linux__
#include <pthread.h>
#endif
#endif

namespace plastic {

/// Threads that this process may use: the processors that the system gives it, and no more than
/// OMP_NUM_THREADS or omp_set_num_threads say; 1 without OpenMP.
inline int available_threads() {
#ifdef _OPENMP
  return std::max(1, std::min(omp_get_num_procs(), omp_get_max_threads()));
#else
  return 1;
#endif
}

namespace detail {

/// Makes OpenMP end its threads before this process forks: in the child, g++'s library would wait
/// forever for threads that only the parent has. Both start new ones when they need them.
inline void prepare_threads_for_fork() {
#if defined(_OPENMP) && defined(__linux__)
  static const int registered =
      pthread_atfork([] { omp_pause_resource_all(omp_pause_hard); }, nullptr, nullptr);
  static_cast<void>(registered);
#endif
}

/// Number of threads, at least 1 and at most `wanted`, that the system grants. OpenMP's libraries
/// end the program where it refuses one, so a team larger than any before is first tried with
/// threads of our own, each with some of the memory that work needs.
inline int granted_threads(int wanted) {
  static std::mutex mutex;
  static int granted = 1;
  static bool refused = false;
  const std::lock_guard lock(mutex);
  if (wanted <= granted || refused) return std::min(wanted, granted);
  std::latch all_tried(1);
  std::vector<std::thread> threads;
  try {
    threads.reserve(static_cast<std::size_t>(wanted - 1));
    while (static_cast<int>(threads.size()) < wanted - 1) {
      threads.emplace_back([&] {
        const std::unique_ptr<char[]> reserved(new (std::nothrow) char[std::size_t{1} << 23]);
        all_tried.wait();
      });
    }
  } catch (const std::exception&) {
    refused = true;
  }
  all_tried.count_down();
  for (std::thread& thread : threads) thread.join();
  // The threads' work needs memory too, which the last ones may have taken.
  granted = 1 + static_cast<int>(threads.size()) / (refused ? 2 : 1);
  return granted;
}

}  // namespace detail

/// Calls f(item, thread) for every item in 0 .. count - 1, each on some thread in 0 .. threads - 1,
/// but never on more threads than there are items or than the system gives; one after another
/// without OpenMP. A program may fork between two calls, on Linux. If calls throw, all others are
/// still made, and then the exception of the lowest item leaves this function. Throws
/// std::invalid_argument unless threads is positive: available_threads() is all that there are.
template <class F>
void parallel_for(Index count, int threads, F&& f) {
  detail::check_positive("parallel_for", "threads", threads);
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
    detail::prepare_threads_for_fork();
    const int team = detail::granted_threads(static_cast<int>(std::min<Index>(threads, count)));
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
    for (Index item = 0; item < count; ++item) guarded(item, omp_get_thread_num());
    count = 0;
  }
#endif
  for (Index item = 0; item < count; ++item) guarded(item, 0);
  if (error) std::rethrow_exception(error);
}

}  // namespace plastic
