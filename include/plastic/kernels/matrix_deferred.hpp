#pragma once

#include <algorithm>
#include <span>

#include "plastic/kernels/fast_weights.hpp"
#include "plastic/kernels/matrix_rank_one.hpp"

/// Passes over a block of columns of one sample's fast matrix that carry out several updates, each
/// H' = keep H + pre post^T, and a read y = x (W + A o H) at once: at a thousand units a matrix is
/// beyond the second-level cache, and each pass over it costs as much as it moves.
namespace plastic::detail::kernels {

/// Most updates that one pass carries out or goes back over.
inline constexpr Index most_deferred = 8;

/// H' = keep H + pre post^T of one sample; keep: one number or cols, or nullptr for 1.
template <class Scalar>
struct DeferredUpdate {
  const Scalar* keep = nullptr;
  const Scalar* pre = nullptr;   // rows
  const Scalar* post = nullptr;  // cols
};

/// Where the adjoints of its factors are added.
template <class Scalar>
struct DeferredAdjoint {
  Scalar* keep = nullptr;
  Scalar* pre = nullptr;
  Scalar* post = nullptr;
};

/// y = x (W + A o H) of one sample, and its adjoints.
template <class Scalar>
struct LayerRead {
  const Scalar* x = nullptr;       // rows; nullptr: no read
  const Scalar* weight = nullptr;  // W and A, rows x cols
  const Scalar* alpha = nullptr;
  Scalar* y = nullptr;         // cols
  const Scalar* dy = nullptr;  // cols
  Scalar* dx = nullptr;        // rows
  Scalar* da = nullptr;        // rows x cols, or nullptr
};

/// Columns of a matrix that are passed over together, in packets of at most `width` numbers.
struct ColumnBlock {
  Index number;
  Index first;
  Index last;  // one past it
  Index width;
};

/// Calls f(block) for blocks of columns: whole packets, at most 32 at a time, then the rest by
/// narrower ones. Rows are that long because memory is fastest in order: in blocks of 8 packets a
/// read of 1001 rows took 1.3 times as long.
template <class Scalar, class F>
void for_wide_blocks(Index cols, F&& f) {
  Index number = 0, first = 0;
  for (Index width = lanes<Scalar>; first < cols; width /= 2) {
    const Index most = 32 * width, end = first + (cols - first) / width * width;
    for (; first < end; first = std::min(first + most, end)) {
      f(ColumnBlock{number++, first, std::min(first + most, end), width});
    }
  }
}

// As in packets.hpp.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"

/// Calls f<keep, Packet>() for a kind of keep and the packet of a block.
template <class Scalar, class Packet = WidestPacket<Scalar>, class F>
void with_block(Keep keep, const ColumnBlock& block, F&& f) {
  if constexpr (width < Packet >> 1) {
    if (block.width < width<Packet>) {
      using Half = typename packet::unpacket_traits<Packet>::half;
      using Next = std::conditional_t<(width<Half> < width<Packet>), Half, Scalar>;
      return with_block<Scalar, Next>(keep, block, f);
    }
  }
  if (keep == Keep::all) return f.template operator()<Keep::all, Packet>();
  if (keep == Keep::number) return f.template operator()<Keep::number, Packet>();
  f.template operator()<Keep::columns, Packet>();
}

#pragma GCC diagnostic pop

/// Calls f<N>(column) for pieces of N packets that cover a block.
template <class Packet, int N = 8, class F>
EIGEN_ALWAYS_INLINE void for_pieces(Index first, Index last, F&& f) {
  for (; first + N * width<Packet> <= last; first += N * width<Packet>) {
    f.template operator()<N>(first);
  }
  if constexpr (N > 1) for_pieces<Packet, N / 2>(first, last, f);
}

/// h = keep h + p q for a piece of a row.
template <Keep Kept, class Packet, int N, class Scalar>
EIGEN_ALWAYS_INLINE void advance_piece(const DeferredUpdate<Scalar>& u, Index i, Index column,
                                       Packet (&h)[N]) {
  using namespace packet;
  const Packet by_row = pset1<Packet>(u.pre[i]);
  unrolled<N>([&](auto k) PLASTIC_INLINE {
    const Index at = column + k * width<Packet>;
    if constexpr (Kept == Keep::number) h[k] = pmul(pset1<Packet>(*u.keep), h[k]);
    if constexpr (Kept == Keep::columns) h[k] = pmul(load<Packet>(u.keep + at), h[k]);
    h[k] = pmadd(by_row, load<Packet>(u.post + at), h[k]);
    if constexpr (Kept != Keep::all) h[k] = flush_tiny<Scalar>(h[k]);
  });
}

/// See advance_block.
template <Keep Kept, class Packet, class Scalar>
void advance_columns(Index rows, Index cols, Index first, Index last,
                     std::span<const DeferredUpdate<Scalar>> updates, const Scalar* from,
                     Scalar* to, const LayerRead<Scalar>& read) {
  using namespace packet;
  const bool stored = from != to || !updates.empty(), reads = read.x != nullptr;
  for (Index i = 0; i < rows; ++i) {
    const Packet input = pset1<Packet>(reads ? read.x[i] : Scalar(0));
    for_pieces<Packet>(first, last, [&]<int N>(Index column) PLASTIC_INLINE {
      const Index at = i * cols + column;
      Packet h[N];
      unrolled<N>([&](auto k)
                      PLASTIC_INLINE { h[k] = load<Packet>(from + at + k * width<Packet>); });
      for (const DeferredUpdate<Scalar>& u : updates) {
        advance_piece<Kept, Packet, N>(u, i, column, h);
      }
      if (stored) {
        unrolled<N>([&](auto k) PLASTIC_INLINE { pstoreu(to + at + k * width<Packet>, h[k]); });
      }
      if (!reads) return;
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        const Index entry = at + k * width<Packet>;
        const Packet weight =
            pmadd(load<Packet>(read.alpha + entry), h[k], load<Packet>(read.weight + entry));
        add_to(read.y + column + k * width<Packet>, pmul(input, weight));
      });
    });
  }
}

/// See retreat_block.
template <Keep Kept, class Packet, class Scalar>
void retreat_columns(Index rows, Index cols, Index first, Index last,
                     std::span<const DeferredUpdate<Scalar>> updates,
                     std::span<const DeferredAdjoint<Scalar>> adjoints, const Scalar* from,
                     Scalar* g, bool fresh, const LayerRead<Scalar>& read) {
  using namespace packet;
  const std::size_t back = adjoints.size(), start = updates.size() - back;
  const bool reads = read.x != nullptr;
  const Packet zero = pset1<Packet>(Scalar(0));
  Packet number_sums[most_deferred], pre_sums[most_deferred];
  for (Packet& sum : number_sums) sum = zero;
  for (Index i = 0; i < rows; ++i) {
    const Packet input = pset1<Packet>(reads ? read.x[i] : Scalar(0));
    Packet row_sum = zero;
    for (std::size_t b = 0; b < back; ++b) pre_sums[b] = zero;
    for_pieces<Packet>(first, last, [&]<int N>(Index column) PLASTIC_INLINE {
      const Index at = i * cols + column;
      Packet h[N], adjoint[N], versions[most_deferred][N];
      unrolled<N>([&](auto k)
                      PLASTIC_INLINE { h[k] = load<Packet>(from + at + k * width<Packet>); });
      for (std::size_t u = 0; u < start; ++u) {
        advance_piece<Kept, Packet, N>(updates[u], i, column, h);
      }
      for (std::size_t b = 0; b < back; ++b) {
        unrolled<N>([&](auto k) PLASTIC_INLINE { versions[b][k] = h[k]; });
        advance_piece<Kept, Packet, N>(updates[start + b], i, column, h);
      }
      unrolled<N>([&](auto k) PLASTIC_INLINE {
        adjoint[k] = fresh ? zero : load<Packet>(g + at + k * width<Packet>);
      });
      if (reads) {
        unrolled<N>([&](auto k) PLASTIC_INLINE {
          const Index entry = at + k * width<Packet>;
          const Packet dy = load<Packet>(read.dy + column + k * width<Packet>);
          const Packet alpha = load<Packet>(read.alpha + entry);
          row_sum = pmadd(pmadd(alpha, h[k], load<Packet>(read.weight + entry)), dy, row_sum);
          const Packet product = pmul(input, dy);
          if (read.da != nullptr) add_to(read.da + entry, pmul(h[k], product));
          adjoint[k] = pmadd(alpha, product, adjoint[k]);
        });
      }
      for (std::size_t b = back; b-- > 0;) {
        const DeferredUpdate<Scalar>& u = updates[start + b];
        const Packet by_row = pset1<Packet>(u.pre[i]);
        unrolled<N>([&](auto k) PLASTIC_INLINE {
          const Index place = column + k * width<Packet>;
          pre_sums[b] = pmadd(adjoint[k], load<Packet>(u.post + place), pre_sums[b]);
          add_to(adjoints[b].post + place, pmul(adjoint[k], by_row));
          if constexpr (Kept == Keep::number) {
            number_sums[b] = pmadd(adjoint[k], versions[b][k], number_sums[b]);
            adjoint[k] = pmul(pset1<Packet>(*u.keep), adjoint[k]);
          }
          if constexpr (Kept == Keep::columns) {
            add_to(adjoints[b].keep + place, pmul(adjoint[k], versions[b][k]));
            adjoint[k] = pmul(load<Packet>(u.keep + place), adjoint[k]);
          }
        });
      }
      unrolled<N>([&](auto k) PLASTIC_INLINE { pstoreu(g + at + k * width<Packet>, adjoint[k]); });
    });
    if (reads) read.dx[i] += predux(row_sum);
    for (std::size_t b = 0; b < back; ++b) adjoints[b].pre[i] += predux(pre_sums[b]);
  }
  if constexpr (Kept == Keep::number) {
    for (std::size_t b = 0; b < back; ++b) *adjoints[b].keep += predux(number_sums[b]);
  }
}

/// Carries out the updates from H at `from` to H at `to`, both rows x cols, in a block, and the
/// read if there is one. Nothing is stored if the two are the same and there are no updates.
template <class Scalar>
void advance_block(Keep keep, const ColumnBlock& block, Index rows, Index cols,
                   std::span<const DeferredUpdate<Scalar>> updates, const Scalar* from, Scalar* to,
                   const LayerRead<Scalar>& read) {
  with_block<Scalar>(keep, block, [&]<Keep kept, class Packet>() {
    advance_columns<kept, Packet, Scalar>(rows, cols, block.first, block.last, updates, from, to,
                                          read);
  });
}

/// Goes back over a read of the last version, if there is one, and then over the last updates, as
/// many as there are `adjoints`. from: H before all updates; g: the adjoint of H after them, which
/// becomes that before the first of those that are gone back over; `fresh`: it is still zero, and
/// not read.
template <class Scalar>
void retreat_block(Keep keep, const ColumnBlock& block, Index rows, Index cols,
                   std::span<const DeferredUpdate<Scalar>> updates,
                   std::span<const DeferredAdjoint<Scalar>> adjoints, const Scalar* from, Scalar* g,
                   bool fresh, const LayerRead<Scalar>& read) {
  with_block<Scalar>(keep, block, [&]<Keep kept, class Packet>() {
    retreat_columns<kept, Packet, Scalar>(rows, cols, block.first, block.last, updates, adjoints,
                                          from, g, fresh, read);
  });
}

}  // namespace plastic::detail::kernels
