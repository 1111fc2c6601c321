#include "plastic/core/parameters.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <utility>

#include "plastic/tape/functions.hpp"
#include "support/errors.hpp"

using namespace plastic;
using namespace plastic::testing;

TEST_CASE("Parameters are named, numbered and checked", "[core][parameters]") {
  Parameters<float> parameters;
  CHECK(parameters.add("first", 3, 2) == 0);
  CHECK(parameters.add("second", 1, 1) == 1);
  parameters.freeze(1);
  CHECK(parameters.trainable_count() == 6);
  parameters.unfreeze(1);
  CHECK(parameters.trainable_count() == 7);
  parameters.matrix("first").setConstant(2);
  CHECK(parameters.matrix(0).sum() == 12);
  CHECK(parameters.values().sum() == 12);

  const auto no_block = [](const std::string& got) {
    return "Parameters: the block number must be in 0 .. 1, got " + got;
  };
  CHECK(rejection([&] { parameters.block(2); }) == no_block("2"));
  CHECK(rejection([&] { parameters.matrix(-1); }) == no_block("-1"));
  CHECK(rejection([&] { parameters.freeze(7); }) == no_block("7"));
  CHECK(rejection([&] { parameters.unfreeze(2); }) == no_block("2"));
  CHECK(rejection([&] { parameters.matrix("third"); }) ==
        "Parameters::find: name must be the name of a parameter, got third");
  CHECK(rejection([&] { parameters.add("first", 1, 1); }) ==
        "Parameters::add: name must be new, got first");
  CHECK(rejection([&] { parameters.add("empty", 0, 1); }) ==
        "Parameters::add: rows must be at least 1, got 0");
  // Products that overflow, also to a small number, and what no memory can hold.
  for (const auto& size :
       {std::pair(Index{1} << 32, Index{1} << 32), std::pair(Index{1} << 62, Index{4}),
        std::pair(Index{1} << 61, Index{1}), std::pair(Index{3037000500}, Index{3037000500})}) {
    const Index rows = size.first, cols = size.second;
    CHECK(rejection([&] { parameters.add("huge", rows, cols); }).find("a product of at most") !=
          std::string::npos);
    Tape<float> tape;
    const auto column = tape.variable(Matrix<float>(rows > 1 ? 1 : 2, 1));
    CHECK(rejection([&] { broadcast(column, rows, cols); }).find("a product of at most") !=
          std::string::npos);
  }
  Vector<float> other(3);
  CHECK(rejection([&] { parameters.view(other, 0); }) ==
        "Parameters::view: the vector's length must be " + std::to_string(parameters.size()) +
            ", got 3");
}
