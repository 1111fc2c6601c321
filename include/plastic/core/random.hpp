#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "plastic/core/check.hpp"

namespace plastic {
namespace detail {

/// Philox4x32-10: a keyed bijection of the 128-bit counters. Source: Salmon, Moraes, Dror, Shaw,
/// "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3.
constexpr std::array<std::uint32_t, 4> philox_words(std::array<std::uint32_t, 4> counter,
                                                    std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {
        static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
        static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

}  // namespace detail

/// The random numbers of one sample: a pure function of (seed, purpose, batch, sample), so that
/// samples may be drawn in any order and on any thread.
///
/// Words come from Philox4x32-10. The key is the seed; the counter holds, from its lowest word:
/// 32 bits that count blocks of four words, the sample, the lower half of the batch, and the
/// purpose in the upper 8 bits above 24 further bits of the batch. A sample's sequence repeats
/// after 2^34 words. Uniform numbers have the same bits everywhere; `normal` goes through the
/// platform's log, sin and cos, whose last bit may differ. Draw in double and round to float, and
/// both see the same data.
///
/// Copies are cheap (no allocation) and continue independently from the same place. One object
/// belongs to one thread.
class Random {
 public:
  /// What the numbers are for; the same seed gives unrelated numbers for each. A program may add
  /// purposes of its own from 4 to 127; dropout takes those from 128 to 255.
  enum class Purpose : std::uint32_t { training, validation, test, initial_weights };

  /// Seed and purpose, which the samples of all batches of a stream share.
  struct Stream {
    std::uint64_t seed = 0;               ///< any
    Purpose purpose = Purpose::training;  ///< below 256
  };

  /// Throws std::invalid_argument unless purpose < 2^8, batch < 2^56 and sample < 2^32.
  Random(Stream stream, std::uint64_t batch, std::uint64_t sample)
      : key_{static_cast<std::uint32_t>(stream.seed),
             static_cast<std::uint32_t>(stream.seed >> 32)},
        counter_{0, static_cast<std::uint32_t>(sample), static_cast<std::uint32_t>(batch),
                 static_cast<std::uint32_t>(batch >> 32) |
                     static_cast<std::uint32_t>(stream.purpose) << 24} {
    const auto purpose = static_cast<std::uint32_t>(stream.purpose);
    if (purpose >> 8 != 0) detail::reject("Random", "purpose", "below 2^8", purpose);
    if (batch >> 56 != 0) detail::reject("Random", "batch", "below 2^56", batch);
    if (sample >> 32 != 0) detail::reject("Random", "sample", "below 2^32", sample);
  }

  /// The next word, uniform in [0, 2^32).
  std::uint32_t bits() {
    if (next_ == 4) refill();
    return words_[next_++];
  }

  /// Uniform in [0, 1), a multiple of 2^-53. Takes two words.
  double uniform() {
    const std::uint64_t high = bits();
    const std::uint64_t low = bits();
    return static_cast<double>((high << 32 | low) >> 11) * 0x1p-53;
  }

  /// Uniform in [low, high); `high` itself only by rounding. Takes two words. Throws
  /// std::invalid_argument unless 0 <= high - low < infinity.
  double uniform(double low, double high) {
    const double width = high - low;
    if (!(width >= 0 && std::isfinite(width))) {
      detail::reject("Random::uniform", "high - low", "finite and not negative", width);
    }
    return low + width * uniform();
  }

  /// Standard normal, by Box-Muller: every other call takes four words, the calls between none.
  double normal() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    const double angle = 2 * std::numbers::pi * uniform();
    spare_ = radius * std::sin(angle);
    has_spare_ = true;
    return radius * std::cos(angle);
  }

  /// Uniform in {0, ..., n - 1}, without bias. Takes one word, rarely more. Throws
  /// std::invalid_argument if n is 0. Source: Lemire, "Fast random integer generation in an
  /// interval", ACM TOMACS 2019.
  std::uint32_t below(std::uint32_t n) {
    if (n == 0) detail::reject("Random::below", "n", "at least 1", n);
    std::uint64_t product = std::uint64_t{bits()} * n;
    if (static_cast<std::uint32_t>(product) < n) {
      const std::uint32_t threshold = (0 - n) % n;
      while (static_cast<std::uint32_t>(product) < threshold) {
        product = std::uint64_t{bits()} * n;
      }
    }
    return static_cast<std::uint32_t>(product >> 32);
  }

  /// Skips the next `words` words at O(1) cost, and drops the second value of a Box-Muller pair if
  /// it is still unused.
  void skip(std::uint64_t words) {
    const std::uint64_t target = std::uint64_t{4} * counter_[0] + next_ - 4 + words;
    counter_[0] = static_cast<std::uint32_t>(target / 4);
    refill();
    next_ = static_cast<std::uint32_t>(target % 4);
    has_spare_ = false;
  }

 private:
  void refill() {
    words_ = detail::philox_words(counter_, key_);
    ++counter_[0];
    next_ = 0;
  }

  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 4> counter_;
  std::array<std::uint32_t, 4> words_{};
  std::uint32_t next_ = 4;
  bool has_spare_ = false;
  double spare_ = 0;
};

}  // namespace plastic
