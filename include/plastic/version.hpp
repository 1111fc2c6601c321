#pragma once

#include <string_view>

/// The library's version, for the preprocessor; CMake reads it here.
#define PLASTIC_VERSION_MAJOR 0
#define PLASTIC_VERSION_MINOR 1
#define PLASTIC_VERSION_PATCH 0

namespace plastic {

/// major.minor.patch
inline constexpr std::string_view version = "0.1.0";

}  // namespace plastic
