#pragma once

#include <cstdint>

#include "plastic/core/types.hpp"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace plastic::detail::kernels {

/// What nonzero_rows may write behind the numbers that it finds.
inline constexpr Index nonzero_slack = 16;

#ifdef __AVX512F__
/// Which of 16 numbers from `x` on are not 0; `count` of them are there.
inline __mmask16 nonzero_mask(const float* x, Index count) {
  const auto there = static_cast<__mmask16>(count >= 16 ? 0xffff : (1 << count) - 1);
  return _mm512_mask_cmp_ps_mask(there, _mm512_maskz_loadu_ps(there, x), _mm512_setzero_ps(),
                                 _CMP_NEQ_UQ);
}
inline __mmask16 nonzero_mask(const double* x, Index count) {
  const auto there = static_cast<unsigned>(count >= 16 ? 0xffff : (1 << count) - 1);
  const auto low = static_cast<__mmask8>(there & 0xff), high = static_cast<__mmask8>(there >> 8);
  const __m512d zero = _mm512_setzero_pd();
  const unsigned first =
      _mm512_mask_cmp_pd_mask(low, _mm512_maskz_loadu_pd(low, x), zero, _CMP_NEQ_UQ);
  const unsigned second =
      _mm512_mask_cmp_pd_mask(high, _mm512_maskz_loadu_pd(high, x + 8), zero, _CMP_NEQ_UQ);
  return static_cast<__mmask16>(first | second << 8);
}
#endif

/// Writes the numbers i < n, ascending, for which one of the vectors is not 0 at i, and returns how
/// many they are; `rows` has room for n + nonzero_slack. What is not a number is not 0.
/// Measured with 128 rows: 25 ns with AVX-512 and 130 without, of 700 to 1500 for the pass that
/// walks them.
template <class Scalar, class... Vectors>
Index nonzero_rows(Index n, std::int32_t* rows, const Scalar* first, const Vectors*... more) {
  Index count = 0;
#ifdef __AVX512F__
  __m512i numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (Index i = 0; i < n; i += 16) {
    unsigned mask = nonzero_mask(first + i, n - i);
    ((mask |= nonzero_mask(more + i, n - i)), ...);
    _mm512_storeu_si512(rows + count,
                        _mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), numbers));
    count += __builtin_popcount(mask);
    numbers = _mm512_add_epi32(numbers, _mm512_set1_epi32(16));
  }
#else
  for (Index i = 0; i < n; ++i) {
    rows[count] = static_cast<std::int32_t>(i);
    bool alive = first[i] != Scalar(0);
    ((alive |= more[i] != Scalar(0)), ...);
    count += alive ? 1 : 0;
  }
#endif
  return count;
}

}  // namespace plastic::detail::kernels
