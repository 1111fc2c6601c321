#pragma once

/// What the library requires of the compiler's options. A program that would be wrong does not
/// compile, or aborts at startup.

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || \
    defined(_M_FP_FAST)
#error \
    "plastic: -ffast-math, -Ofast and -ffinite-math-only remove NaN, which the library needs to \
detect a run that diverges; compile without them"
#endif

#if (defined(__GNUC__) || defined(__clang__)) && !defined(__cpp_exceptions)
#error "plastic: faults are said by exceptions; compile without -fno-exceptions"
#endif

#include <Eigen/Core>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <type_traits>

static_assert(std::is_same_v<Eigen::Index, std::ptrdiff_t>,
              "plastic: sizes and offsets need Eigen's own index type; compile without "
              "EIGEN_DEFAULT_DENSE_INDEX_TYPE");

namespace plastic::detail {

/// The property by which the memory of matrices, and the code of inline functions, differs between
/// files compiled for different processors.
inline constexpr int vector_alignment = EIGEN_MAX_ALIGN_BYTES;

/// The value in one of the program's files: an inline variable exists once in the whole program.
inline int vector_alignment_of_program = vector_alignment;

inline bool stop_unless_all_files_agree(int alignment_here) {
  if (vector_alignment_of_program == alignment_here) return true;
  std::fprintf(stderr,
               "plastic: one file of this program is compiled for vectors of %d bytes and another "
               "for %d bytes: give all files the same -march\n",
               vector_alignment_of_program, alignment_here);
  std::abort();
}

// Internal to each file, as it must not be shared with the others.
namespace {
// NOLINTNEXTLINE(misc-definitions-in-headers): each file has its own on purpose
[[maybe_unused]] const bool all_files_agree = stop_unless_all_files_agree(vector_alignment);
}  // namespace

}  // namespace plastic::detail
