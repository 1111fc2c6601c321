#pragma once

#include <vector>

#include "limit.hpp"

namespace bench {

/// What this machine does at most, measured by small probes that run on `threads` threads at once:
/// nanoseconds per vector of `lanes` numbers, on each of them.
struct Throughput {
  struct Level {
    double bytes;   ///< that one thread has of it
    double read;    ///< a load
    double update;  ///< a load and a store to the same place
  };

  double multiply_add;
  std::vector<Level> levels;  ///< caches from the first on, then memory, whose bytes have no bound
};

Throughput measure_throughput(int threads);

/// Least nanoseconds that the passes take: those of each kind need at least the time of their
/// multiply-adds, of their loads and stores in the first-level cache, and of moving the matrices
/// from where they lie. `arrays` matrices of `weights` numbers are walked again and again: of these
/// each cache level serves what it holds, and the next one the rest.
double roofline(const Walked& walked, double weights, int arrays, int threads,
                const Throughput& throughput);

}  // namespace bench
