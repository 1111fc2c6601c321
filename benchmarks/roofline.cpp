#include "roofline.hpp"

#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "vectors.hpp"

namespace bench {
namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();
constexpr std::size_t unroll = 16;

void multiply_adds(std::size_t vectors, const float* from, float* to) {
  const Vec a = load(from), b = load(from + lanes);
  Vec sums[unroll];
  for (std::size_t k = 0; k < unroll; ++k) sums[k] = splat(static_cast<float>(k));
  for (std::size_t i = 0; i < vectors; i += unroll) {
    for (std::size_t k = 0; k < unroll; ++k) sums[k] = sums[k] * a + b;
  }
  for (const Vec& sum : sums) add_to(to, sum);
}

void reads(std::size_t vectors, const float* from, float* to) {
  Vec sums[unroll] = {};
  for (std::size_t i = 0; i < vectors; i += unroll) {
    for (std::size_t k = 0; k < unroll; ++k) sums[k] += load(from + (i + k) * lanes);
  }
  for (const Vec& sum : sums) add_to(to, sum);
}

void updates(std::size_t vectors, float* at) {
  const Vec one = splat(1);
  for (std::size_t i = 0; i < vectors; i += unroll) {
    for (std::size_t k = 0; k < unroll; ++k) add_to(at + (i + k) * lanes, one);
  }
}

// Nanoseconds that a call of f takes, the least of several.
template <class F>
double least_time(F&& f) {
  using Clock = std::chrono::steady_clock;
  double least = infinite;
  for (int i = 0; i < 12; ++i) {
    const Clock::time_point begin = Clock::now();
    f();
    least = std::min(least, std::chrono::duration<double, std::nano>(Clock::now() - begin).count());
  }
  return least;
}

double cache_bytes(int name, double otherwise) {
  const long bytes = sysconf(name);
  return bytes > 0 ? static_cast<double>(bytes) : otherwise;
}

// What a pass does to each vector that it visits.
struct Pass {
  double vectors, multiply_adds, reads, updates;
};

double least_time(const Pass& pass, double working_set, const Throughput& throughput) {
  double moving = 0, held = 0;
  for (const Throughput::Level& level : throughput.levels) {
    const double holds = std::min(1.0, level.bytes / working_set);
    const double share = std::max(0.0, holds - held);
    moving += share * (pass.reads * level.read + pass.updates * level.update);
    held = std::max(held, holds);
  }
  const Throughput::Level& first = throughput.levels.front();
  return pass.vectors * std::max({pass.multiply_adds * throughput.multiply_add,
                                  pass.reads * first.read + pass.updates * first.update, moving});
}

}  // namespace

Throughput measure_throughput(int threads) {
  const double count = threads;
  const double caches[] = {cache_bytes(_SC_LEVEL1_DCACHE_SIZE, 32 << 10),
                           cache_bytes(_SC_LEVEL2_CACHE_SIZE, 1 << 20),
                           cache_bytes(_SC_LEVEL3_CACHE_SIZE, 32 << 20) / count, infinite};
  constexpr double most = 256 << 20;
  Throughput result{infinite, {}};
  for (std::size_t k = 0; k < 4; ++k) {
    // A working set that the level before cannot hold, and this one can with ease.
    const double bytes = k < 2 ? caches[k] / 4 : k == 2 ? 4 * caches[1] : 2 * caches[2];
    if (bytes > most) {
      // No benchmark needs more memory than a cache of this size.
      result.levels.back().bytes = infinite;
      break;
    }
    const std::size_t vectors =
        static_cast<std::size_t>(bytes) / (sizeof(float) * lanes) / unroll * unroll;
    const std::size_t times = std::max<std::size_t>(1, (std::size_t{1} << 15) / vectors);
    double read = 0, update = 0, multiply_add = 0;
#pragma omp parallel num_threads(threads) reduction(max : read, update, multiply_add)
    {
      Buffer buffer(vectors * lanes), sums(2 * lanes);
      const auto per_vector = [&](auto&& f) {
#pragma omp barrier
        const double time = least_time([&] {
          for (std::size_t i = 0; i < times; ++i) f();
        });
        return time / static_cast<double>(times * vectors);
      };
      update = per_vector([&] { updates(vectors, buffer); });
      read = per_vector([&] { reads(vectors, buffer, sums); });
      buffer.clear();
      multiply_add = per_vector([&] { multiply_adds(vectors, buffer, sums); });
    }
    result.multiply_add = std::min(result.multiply_add, multiply_add);
    result.levels.push_back({caches[k], read, update});
  }
  return result;
}

double roofline(const Walked& walked, double weights, int arrays, int threads,
                const Throughput& throughput) {
  // The operations are those of the passes in limit.cpp, once per vector.
  const Pass passes[] = {
      {walked.reads, 2, 2, 0},            // W and v
      {walked.updates, 4, 2, 1},          // A, W; v
      {walked.adjoints, 9, 2, 3},         // A, W; v, G, dA
      {walked.adjoints_of_two, 10, 2, 3}  // likewise
  };
  const double working_set = weights * arrays * static_cast<double>(sizeof(float));
  double time = walked.outer_products * throughput.multiply_add;  // dW stays in registers
  for (const Pass& pass : passes) time += least_time(pass, working_set, throughput);
  return time / threads;
}

}  // namespace bench
