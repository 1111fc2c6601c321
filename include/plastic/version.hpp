#pragma once

#include <string_view>

/// The library's version, for the preprocessor; CMake reads it here.
#define PLASTIC_VERSION_MAJOR 0
#define PLASTIC_VERSION_MINOR 2
#define PLASTIC_VERSION_PATCH 0

/// Recurrent networks whose weights have a slow part, learned by gradient descent, and a fast part,
/// rewritten by a plasticity rule while the network runs.
namespace plastic {

/// The library's version, MAJOR.MINOR.PATCH.
inline constexpr std::string_view version = "0.2.0";

}  // namespace plastic
