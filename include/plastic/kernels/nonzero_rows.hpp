#pragma once

#include <bit>
#include <cstdint>

#include "plastic/kernels/fast_weights.hpp"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace plastic::detail::kernels {

/// Number of entries that nonzero_rows may write past those that it finds.
inline constexpr Index nonzero_slack = 16;

/// A vector whose tiny entries count as 0: for adjoints, which may fade.
template <class Scalar>
struct Fading {
  const Scalar* values;
  Scalar operator[](Index i) const { return flushed(values[i]); }
  friend Fading operator+(const Fading& x, Index offset) { return {x.values + offset}; }
};

#ifdef __AVX512F__
/// Bit mask of the `count` numbers at `x`, at most 16, whose absolute values compare with `bound`.
template <int comparison>
unsigned size_mask(const float* x, Index count, float bound) {
  const auto there = static_cast<__mmask16>(count >= 16 ? 0xffff : (1 << count) - 1);
  return _mm512_mask_cmp_ps_mask(there, _mm512_abs_ps(_mm512_maskz_loadu_ps(there, x)),
                                 _mm512_set1_ps(bound), comparison);
}
template <int comparison>
unsigned size_mask(const double* x, Index count, double bound) {
  const auto part = [bound](const double* from, Index size) -> unsigned {
    const auto there = static_cast<__mmask8>(size >= 8 ? 0xff : (1 << size) - 1);
    return _mm512_mask_cmp_pd_mask(there, _mm512_abs_pd(_mm512_maskz_loadu_pd(there, from)),
                                   _mm512_set1_pd(bound), comparison);
  };
  return part(x, count) | (count > 8 ? part(x + 8, count - 8) << 8 : 0);
}
/// Bit mask of the nonzero ones among the first `count` of 16 numbers.
template <class Scalar>
unsigned nonzero_mask(const Scalar* x, Index count) {
  return size_mask<_CMP_NEQ_UQ>(x, count, Scalar(0));
}
template <class Scalar>
unsigned nonzero_mask(const Fading<Scalar>& x, Index count) {
  return size_mask<_CMP_NLT_UQ>(x.values, count, tiny<Scalar>);
}
#endif

/// Writes the indices i < n, ascending, at which one of the vectors (pointers or Fading) is not 0,
/// and returns their number; `rows` has room for n + nonzero_slack. NaN counts as not 0. Measured
/// with 128 rows: 25 ns with AVX-512 and 130 without, of 700 to 1500 for the pass that walks them.
template <class... Vectors>
Index nonzero_rows(Index n, std::int32_t* rows, const Vectors&... vectors) {
  Index count = 0;
#ifdef __AVX512F__
  __m512i numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (Index i = 0; i < n; i += 16) {
    const unsigned mask = (nonzero_mask(vectors + i, n - i) | ...);
    _mm512_storeu_si512(rows + count,
                        _mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), numbers));
    count += std::popcount(mask);
    numbers = _mm512_add_epi32(numbers, _mm512_set1_epi32(16));
  }
#else
  for (Index i = 0; i < n; ++i) {
    rows[count] = static_cast<std::int32_t>(i);
    bool alive = false;
    ((alive |= vectors[i] != 0), ...);
    count += alive ? 1 : 0;
  }
#endif
  return count;
}

}  // namespace plastic::detail::kernels
