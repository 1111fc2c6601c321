#pragma once

#include <Eigen/Core>
#include <type_traits>
#include <utility>

#include "plastic/core/types.hpp"

/// SIMD packets, and loops over columns in blocks of them: N packets, then single packets of
/// decreasing width, then scalars, so that any number of columns works.
namespace plastic::detail::kernels {

namespace packet = Eigen::internal;

template <class Scalar>
using WidestPacket = typename packet::packet_traits<Scalar>::type;

/// Number of scalars in a SIMD register.
template <class Scalar>
constexpr Index lanes = packet::packet_traits<Scalar>::size;

/// Forces a block to be inlined into its pass: as a separate function it would reload every pointer
/// from memory after each store.
#if defined(_MSC_VER) && !defined(__clang__)
#define PLASTIC_INLINE [[msvc::forceinline]]
#else
#define PLASTIC_INLINE __attribute__((always_inline))
#endif

/// Half of the register file holds a block's sums; the rest is for the operands.
template <class Scalar>
constexpr int block_packets = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS >= 32 ? 8 : 4;

template <class Packet>
constexpr Index width = packet::unpacket_traits<Packet>::size;

// GCC warns that a packet type loses its alignment attribute as a template argument; the packets
// are loaded and stored unaligned.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"

/// Calls f.template operator()<Packet, N>(first) for blocks that cover the columns first .. cols.
template <class Scalar, class Packet = WidestPacket<Scalar>, int N = block_packets<Scalar>, class F>
EIGEN_ALWAYS_INLINE void for_column_blocks(Index first, Index cols, F&& f) {
  for (; first + N * width<Packet> <= cols; first += N * width<Packet>) {
    f.template operator()<Packet, N>(first);
  }
  if (first == cols) return;
  if constexpr (N > 1) {
    for_column_blocks<Scalar, Packet, 1>(first, cols, f);
  } else if constexpr (width<Packet> > 1) {
    using Half = typename packet::unpacket_traits<Packet>::half;
    using Next = std::conditional_t<(width<Half> < width<Packet>), Half, Scalar>;
    for_column_blocks<Scalar, Next, 1>(first, cols, f);
  }
}

#pragma GCC diagnostic pop

/// Calls f(k) for k = 0 .. N - 1, as constants: g++ leaves an array that a loop indexes in memory,
/// also where it unrolls the loop.
template <int N, class F>
EIGEN_ALWAYS_INLINE void unrolled(F&& f) {
  [&]<int... k>(std::integer_sequence<int, k...>) PLASTIC_INLINE {
    (f(std::integral_constant<int, k>{}), ...);
  }
  (std::make_integer_sequence<int, N>{});
}

template <class Packet, class Scalar>
EIGEN_ALWAYS_INLINE Packet load(const Scalar* from) {
  return packet::ploadu<Packet>(from);
}

template <class Packet, class Scalar>
EIGEN_ALWAYS_INLINE void add_to(Scalar* to, const Packet& x) {
  packet::pstoreu(to, packet::padd(load<Packet>(to), x));
}

}  // namespace plastic::detail::kernels
