#include "plastic/core/settings.hpp"

#include <catch2/catch.hpp>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "plastic/core/random.hpp"

namespace {

using plastic::Random;

// Numbers of all sizes, and those that people write.
template <class Scalar>
std::vector<Scalar> many_numbers() {
  using Limits = std::numeric_limits<Scalar>;
  using Bits = std::conditional_t<sizeof(Scalar) == 8, std::uint64_t, std::uint32_t>;
  std::vector<Scalar> all{0,
                          Scalar(0.1),
                          Scalar(1e-3),
                          Scalar(1e-4),
                          Scalar(1e5),
                          Scalar(123456),
                          Scalar(1e22),
                          Scalar(0x1p60),
                          Limits::min(),
                          Limits::max(),
                          Limits::denorm_min(),
                          Limits::epsilon(),
                          Limits::infinity()};
  Random random({.seed = 1}, 0, 0);
  for (int k = 0; k < 2000; ++k) {
    const std::uint64_t high = random.bits();
    const auto any = Eigen::numext::bit_cast<Scalar>(static_cast<Bits>(high << 32 | random.bits()));
    if (std::isfinite(any)) all.push_back(any);
    all.push_back(static_cast<Scalar>(random.below(100000)) / 1000);
    all.push_back(static_cast<Scalar>(random.normal()));
  }
  const std::size_t count = all.size();
  for (std::size_t k = 0; k < count; ++k) all.push_back(-all[k]);
  return all;
}

}  // namespace

TEMPLATE_TEST_CASE("Settings give numbers back with the same bits", "[core][settings]", float,
                   double) {
  for (const TestType x : many_numbers<TestType>()) {
    const std::string text = plastic::detail::number_text(x);
    INFO(text);
    const auto back = plastic::detail::number_setting<TestType>({{"x", text}}, "x");
    REQUIRE(back == x);
    REQUIRE(std::signbit(back) == std::signbit(x));
  }
  const auto none = plastic::detail::number_text(std::numeric_limits<TestType>::quiet_NaN());
  REQUIRE(std::isnan(plastic::detail::number_setting<TestType>({{"x", none}}, "x")));
}

TEMPLATE_TEST_CASE("Numbers by streams are those of <charconv>", "[core][settings]", float,
                   double) {
  for (const TestType x : many_numbers<TestType>()) {
    const std::string text = plastic::detail::shortest_text(x);
    INFO(text);
    TestType back{};
    REQUIRE(plastic::detail::read_by_stream(text, back));
    REQUIRE(back == x);
    // Where <charconv> has floating-point numbers, number_text is by it.
    REQUIRE(text == plastic::detail::number_text(x));
  }
  for (const std::string text : {"", "+1", " 1", "1 ", "0x1", "1e", "1e999", "-", "one", "1,5",
                                 "1.5.", "infinity and more", "--1", "-+1", "1e5e"}) {
    INFO(text);
    TestType value{};
    REQUIRE_FALSE(plastic::detail::read_by_stream(text, value));
    REQUIRE_FALSE(plastic::detail::read_number(text, value));
  }
}
