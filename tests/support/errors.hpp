#pragma once

#include <catch2/catch.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

/// What errors say.
namespace plastic::testing {

/// What an exception of this type says when the call throws it; "no error" if it does not throw.
template <class Exception, class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const Exception& error) {
    return error.what();
  }
  return "no error";
}

/// The same of a call that rejects what it is given.
template <class Call>
std::string rejection(const Call& call) {
  return error_of<std::invalid_argument>(call);
}

inline bool mentions(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

/// Matches a message with this word.
inline auto naming(const std::string& word) { return Catch::Matchers::Matches(".*" + word + ".*"); }

}  // namespace plastic::testing
