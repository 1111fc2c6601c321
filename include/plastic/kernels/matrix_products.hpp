#pragma once

#include <type_traits>

#include "plastic/kernels/packets.hpp"

/// Matrix products of slow weights, for the sizes of a shard: on one thread and without allocation,
/// which Eigen's products do not guarantee.
namespace plastic::detail::kernels {

/// b(k, j) = data[k * k_stride + j * j_stride].
template <class Scalar>
struct Strided {
  const Scalar* data = nullptr;
  Index k_stride = 1;
  Index j_stride = 1;
};

/// c += a b, where a is rows x depth and c rows x cols, both column-major and contiguous. A block
/// of 3 packets x 8 columns stays in registers over the whole depth (2 x 4 where there are 16).
template <class Scalar>
void add_product(Scalar* c, const Scalar* a, const Strided<Scalar>& b, Index rows, Index depth,
                 Index cols) {
  using namespace packet;
  constexpr bool wide = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS >= 32;
  for_column_blocks<Scalar, WidestPacket<Scalar>, wide ? 3 : 2>(
      0, rows, [&]<class Packet, int N>(Index first) PLASTIC_INLINE {
        const auto block = [&]<int Columns>(std::integral_constant<int, Columns>, Index j) {
          Packet sum[Columns][N];
          unrolled<Columns>([&](auto i) PLASTIC_INLINE {
            unrolled<N>([&](auto k) PLASTIC_INLINE { sum[i][k] = pset1<Packet>(Scalar(0)); });
          });
          for (Index d = 0; d < depth; ++d) {
            Packet left[N];
            unrolled<N>([&](auto k) PLASTIC_INLINE {
              left[k] = load<Packet>(a + d * rows + first + k * width<Packet>);
            });
            unrolled<Columns>([&](auto i) PLASTIC_INLINE {
              const Packet right = pset1<Packet>(b.data[d * b.k_stride + (j + i) * b.j_stride]);
              unrolled<N>([&](auto k)
                              PLASTIC_INLINE { sum[i][k] = pmadd(left[k], right, sum[i][k]); });
            });
          }
          unrolled<Columns>([&](auto i) PLASTIC_INLINE {
            unrolled<N>([&](auto k) PLASTIC_INLINE {
              add_to(c + (j + i) * rows + first + k * width<Packet>, sum[i][k]);
            });
          });
        };
        // Scalars are stored one by one: g++ 12 turns an array of them into vector stores for which
        // the stack is not aligned.
        constexpr int columns = width<Packet> == 1 ? 1 : wide ? 8 : 4;
        Index j = 0;
        for (; j + columns <= cols; j += columns) {
          block(std::integral_constant<int, columns>{}, j);
        }
        for (; j < cols; ++j) block(std::integral_constant<int, 1>{}, j);
      });
}

/// c += a^T b, where a is depth x rows, b depth x cols and c rows x cols, all column-major and
/// contiguous. 4 x 4 sums along the contiguous sides at a time.
template <class Scalar>
void add_transposed_product(Scalar* c, const Scalar* a, const Scalar* b, Index rows, Index depth,
                            Index cols) {
  using namespace packet;
  using Packet = WidestPacket<Scalar>;
  constexpr Index step = lanes<Scalar>;
  const Index whole = depth / step * step;
  const auto block = [&]<int Rows, int Columns>(std::integral_constant<int, Rows>,
                                                std::integral_constant<int, Columns>, Index i,
                                                Index j) {
    Packet sum[Rows][Columns];
    unrolled<Rows>([&](auto r) PLASTIC_INLINE {
      unrolled<Columns>([&](auto k) PLASTIC_INLINE { sum[r][k] = pset1<Packet>(Scalar(0)); });
    });
    for (Index d = 0; d < whole; d += step) {
      Packet right[Columns];
      unrolled<Columns>([&](auto k)
                            PLASTIC_INLINE { right[k] = load<Packet>(b + (j + k) * depth + d); });
      unrolled<Rows>([&](auto r) PLASTIC_INLINE {
        const Packet left = load<Packet>(a + (i + r) * depth + d);
        unrolled<Columns>([&](auto k)
                              PLASTIC_INLINE { sum[r][k] = pmadd(left, right[k], sum[r][k]); });
      });
    }
    unrolled<Rows>([&](auto r) PLASTIC_INLINE {
      unrolled<Columns>([&](auto k) PLASTIC_INLINE {
        Scalar total = predux(sum[r][k]);
        for (Index d = whole; d < depth; ++d) {
          total += a[(i + r) * depth + d] * b[(j + k) * depth + d];
        }
        c[(j + k) * rows + i + r] += total;
      });
    });
  };
  constexpr int side = 4;
  using Four = std::integral_constant<int, side>;
  using One = std::integral_constant<int, 1>;
  Index j = 0;
  for (; j + side <= cols; j += side) {
    Index i = 0;
    for (; i + side <= rows; i += side) block(Four{}, Four{}, i, j);
    for (; i < rows; ++i) block(One{}, Four{}, i, j);
  }
  for (; j < cols; ++j) {
    Index i = 0;
    for (; i + side <= rows; i += side) block(Four{}, One{}, i, j);
    for (; i < rows; ++i) block(One{}, One{}, i, j);
  }
}

}  // namespace plastic::detail::kernels
