#include "plastic/core/random.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include "support/errors.hpp"

#if __has_include(<Random123/philox.h>)
#include <Random123/philox.h>
#define PLASTIC_HAS_RANDOM123
#endif

namespace {

using plastic::Random;
using plastic::detail::philox_words;
using plastic::testing::naming;
using Words = std::array<std::uint32_t, 4>;
using Key = std::array<std::uint32_t, 2>;

constexpr Random::Stream stream{.seed = 7, .purpose = Random::Purpose::training};

double correlation(const std::vector<double>& x, const std::vector<double>& y) {
  const auto n = static_cast<double>(x.size());
  double sx = 0, sy = 0, sxx = 0, syy = 0, sxy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    sx += x[i];
    sy += y[i];
    sxx += x[i] * x[i];
    syy += y[i] * y[i];
    sxy += x[i] * y[i];
  }
  return (sxy - sx * sy / n) / std::sqrt((sxx - sx * sx / n) * (syy - sy * sy / n));
}

std::vector<double> draws(Random random, std::size_t count) {
  std::vector<double> values(count);
  for (double& value : values) value = random.uniform();
  return values;
}

// Five standard deviations of a mean of n independent values.
double five_sigma(double deviation, int n) { return 5 * deviation / std::sqrt(n); }

}  // namespace

TEST_CASE("Philox gives the published known answers", "[core][random]") {
  constexpr std::uint32_t ones = 0xffffffff;
  static_assert(philox_words({0, 0, 0, 0}, {0, 0}) ==
                Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  static_assert(philox_words({ones, ones, ones, ones}, {ones, ones}) ==
                Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  REQUIRE(
      philox_words({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
      Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

#ifdef PLASTIC_HAS_RANDOM123
TEST_CASE("Philox equals the Random123 library on random keys and counters", "[core][random]") {
  Random source(stream, 0, 0);
  for (int i = 0; i < 10000; ++i) {
    const Words counter{source.bits(), source.bits(), source.bits(), source.bits()};
    const Key key{source.bits(), source.bits()};
    const r123::Philox4x32::ctr_type expected =
        r123::Philox4x32()({{counter[0], counter[1], counter[2], counter[3]}}, {{key[0], key[1]}});
    const Words got = philox_words(counter, key);
    for (std::size_t word = 0; word < 4; ++word) REQUIRE(got[word] == expected[word]);
  }
}
#endif

TEST_CASE("The counter holds block, sample, batch and purpose as documented", "[core][random]") {
  const Random::Stream odd{.seed = 0x0123456789abcdef, .purpose = Random::Purpose::test};
  const std::uint64_t batch = 0x00a1b2c3d4e5f607;
  const std::uint64_t sample = 0xfedcba98;
  Random random(odd, batch, sample);
  for (std::uint32_t block = 0; block < 3; ++block) {
    const Words expected =
        philox_words({block, 0xfedcba98, 0xd4e5f607, 0x02a1b2c3}, {0x89abcdef, 0x01234567});
    for (const std::uint32_t word : expected) REQUIRE(random.bits() == word);
  }
}

TEST_CASE("A uniform number is the upper 53 bits of two words", "[core][random]") {
  Random random(stream, 3, 4);
  Random words(stream, 3, 4);
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t high = words.bits();
    const std::uint64_t low = words.bits();
    REQUIRE(random.uniform() == std::ldexp(static_cast<double>((high << 32 | low) >> 11), -53));
  }
}

TEST_CASE("Uniform numbers have the range, moments and histogram of the unit interval",
          "[core][random]") {
  constexpr int n = 200000;
  constexpr std::size_t bins = 100;
  Random random(stream, 0, 1);
  std::array<int, bins> counts{};
  double sum = 0, squares = 0;
  for (int i = 0; i < n; ++i) {
    const double u = random.uniform();
    REQUIRE((u >= 0 && u < 1));
    sum += u;
    squares += u * u;
    ++counts[static_cast<std::size_t>(u * bins)];
  }
  CHECK(std::abs(sum / n - 0.5) < five_sigma(std::sqrt(1.0 / 12), n));
  CHECK(std::abs(squares / n - 1.0 / 3) < five_sigma(std::sqrt(4.0 / 45), n));
  double chi_square = 0;
  for (const int count : counts) {
    const double expected = static_cast<double>(n) / bins;
    chi_square += (count - expected) * (count - expected) / expected;
  }
  CHECK(std::abs(chi_square - (bins - 1)) < 5 * std::sqrt(2.0 * (bins - 1)));
}

TEST_CASE("Uniform numbers of an interval stay in it", "[core][random]") {
  Random random(stream, 0, 2);
  double least = 10, most = -10;
  for (int i = 0; i < 20000; ++i) {
    const double u = random.uniform(-3, 2);
    least = std::min(least, u);
    most = std::max(most, u);
  }
  CHECK((least >= -3 && least < -2.99));
  CHECK((most < 2 && most > 1.99));
  CHECK(random.uniform(4, 4) == 4);
}

TEST_CASE("Normal numbers have the moments and tails of the normal distribution",
          "[core][random]") {
  constexpr int n = 400000;
  Random random(stream, 0, 3);
  std::array<double, 5> moments{};
  int outside = 0;
  for (int i = 0; i < n; ++i) {
    const double x = random.normal();
    REQUIRE(std::isfinite(x));
    double power = 1;
    for (double& moment : moments) {
      moment += power / n;
      power *= x;
    }
    outside += std::abs(x) > 1.959963984540054;
  }
  CHECK(std::abs(moments[1]) < five_sigma(1, n));
  CHECK(std::abs(moments[2] - 1) < five_sigma(std::sqrt(2.0), n));
  CHECK(std::abs(moments[3]) < five_sigma(std::sqrt(15.0), n));
  CHECK(std::abs(moments[4] - 3) < five_sigma(std::sqrt(96.0), n));
  CHECK(std::abs(static_cast<double>(outside) / n - 0.05) < five_sigma(std::sqrt(0.0475), n));
}

TEST_CASE("The two values of a Box-Muller pair are both used and uncorrelated", "[core][random]") {
  constexpr std::size_t n = 100000;
  Random random(stream, 0, 4);
  std::vector<double> first(n), second(n), first_square(n), second_square(n);
  for (std::size_t i = 0; i < n; ++i) {
    first[i] = random.normal();
    second[i] = random.normal();
    first_square[i] = first[i] * first[i];
    second_square[i] = second[i] * second[i];
  }
  CHECK(std::abs(correlation(first, second)) < five_sigma(1, n));
  CHECK(std::abs(correlation(first_square, second_square)) < five_sigma(1, n));

  Random words(stream, 0, 4);
  for (std::size_t word = 0; word < 4 * n; ++word) words.bits();
  REQUIRE(random.bits() == words.bits());
}

TEST_CASE("Integers below n are unbiased where multiplying alone would favour some",
          "[core][random]") {
  constexpr int draws_count = 90000;
  constexpr std::uint32_t n = 3u << 30;
  Random random(stream, 0, 5);
  std::array<int, 3> residues{};
  for (int i = 0; i < draws_count; ++i) {
    const std::uint32_t value = random.below(n);
    REQUIRE(value < n);
    ++residues[value % 3];
  }
  for (const int count : residues) {
    CHECK(std::abs(count / static_cast<double>(draws_count) - 1.0 / 3) <
          five_sigma(std::sqrt(2.0 / 9), draws_count));
  }

  std::array<int, 5> counts{};
  for (int i = 0; i < draws_count; ++i) ++counts[random.below(5)];
  for (const int count : counts) {
    CHECK(std::abs(count / static_cast<double>(draws_count) - 0.2) < five_sigma(0.4, draws_count));
  }
  CHECK(random.below(1) == 0);
}

TEST_CASE("The same seed, purpose, batch and sample give the same numbers", "[core][random]") {
  REQUIRE(draws(Random(stream, 8, 9), 100) == draws(Random(stream, 8, 9), 100));
}

TEST_CASE("Another seed, purpose, batch or sample gives unrelated numbers", "[core][random]") {
  constexpr std::size_t n = 20000;
  constexpr std::uint64_t upper = std::uint64_t{1} << 32;
  const std::vector<double> base = draws(Random(stream, 8, 9), n);
  for (const Random& other :
       {Random({8, stream.purpose}, 8, 9), Random({7 + upper, stream.purpose}, 8, 9),
        Random({7, Random::Purpose::validation}, 8, 9), Random({7, Random::Purpose::test}, 8, 9),
        Random({7, Random::Purpose::initial_weights}, 8, 9), Random(stream, 9, 9),
        Random(stream, 8 + upper, 9), Random(stream, 8, 10), Random(stream, 9, 8)}) {
    const std::vector<double> values = draws(other, n);
    CHECK(values[0] != base[0]);
    CHECK(std::abs(correlation(base, values)) < five_sigma(1, n));
  }
}

TEST_CASE("Neighbouring samples, batches and draws are uncorrelated", "[core][random]") {
  constexpr std::size_t n = 100000;
  std::vector<double> samples(n), next_samples(n), batches(n), next_batches(n);
  for (std::size_t i = 0; i < n; ++i) {
    samples[i] = Random(stream, 0, i).uniform();
    next_samples[i] = Random(stream, 0, i + 1).uniform();
    batches[i] = Random(stream, i, 0).uniform();
    next_batches[i] = Random(stream, i + 1, 0).uniform();
  }
  CHECK(std::abs(correlation(samples, next_samples)) < five_sigma(1, n));
  CHECK(std::abs(correlation(batches, next_batches)) < five_sigma(1, n));
  CHECK(std::abs(correlation(samples, batches)) < five_sigma(1, n));

  std::vector<double> sequence = draws(Random(stream, 0, 0), n + 1);
  const std::vector<double> shifted(sequence.begin() + 1, sequence.end());
  sequence.pop_back();
  CHECK(std::abs(correlation(sequence, shifted)) < five_sigma(1, n));
}

TEST_CASE("Skipping words equals drawing them", "[core][random]") {
  for (int before = 0; before < 9; ++before) {
    for (int skipped = 0; skipped < 9; ++skipped) {
      Random slow(stream, 1, 2);
      for (int i = 0; i < before; ++i) slow.bits();
      Random fast = slow;
      for (int i = 0; i < skipped; ++i) slow.bits();
      fast.skip(static_cast<std::uint64_t>(skipped));
      for (int i = 0; i < 9; ++i) REQUIRE(fast.bits() == slow.bits());
    }
  }
}

TEST_CASE("Skipping drops the unused value of a Box-Muller pair", "[core][random]") {
  Random random(stream, 1, 2);
  Random expected(stream, 1, 2);
  random.normal();
  random.skip(0);
  expected.skip(4);
  REQUIRE(random.normal() == expected.normal());
}

TEST_CASE("Random rejects what does not fit its counter and names it", "[core][random]") {
  CHECK_THROWS_WITH(Random(stream, std::uint64_t{1} << 56, 0), naming("batch"));
  CHECK_THROWS_WITH(Random(stream, 0, std::uint64_t{1} << 32), naming("sample"));
  CHECK_THROWS_WITH(Random({1, static_cast<Random::Purpose>(256)}, 0, 0), naming("purpose"));
  CHECK_NOTHROW(Random({1, static_cast<Random::Purpose>(255)}, (std::uint64_t{1} << 56) - 1,
                       (std::uint64_t{1} << 32) - 1));

  Random random(stream, 0, 0);
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(random.below(0), std::invalid_argument);
  CHECK_THROWS_AS(random.uniform(1, 0), std::invalid_argument);
  CHECK_THROWS_AS(random.uniform(0, infinity), std::invalid_argument);
  CHECK_THROWS_AS(random.uniform(infinity, infinity), std::invalid_argument);
  CHECK_THROWS_AS(random.uniform(0, std::nan("")), std::invalid_argument);
}
