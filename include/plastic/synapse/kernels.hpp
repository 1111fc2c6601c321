#pragma once

#include <Eigen/Core>

#include "plastic/tape/types.hpp"

/// The passes over fast weights. A row holds the weights from one input to all outputs and is
/// contiguous, so each pass walks every matrix once, row by row, with the sums over rows in
/// registers. Columns are cut into blocks of N packets, then single packets of falling width, then
/// single numbers: any number of columns works.
namespace plastic::detail::kernels {

namespace packet = Eigen::internal;

template <class Scalar>
using WidestPacket = typename packet::packet_traits<Scalar>::type;

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
EIGEN_STRONG_INLINE void for_column_blocks(Index first, Index cols, F&& f) {
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

template <class Packet, class Scalar>
EIGEN_STRONG_INLINE Packet load(const Scalar* from) {
  return packet::ploadu<Packet>(from);
}

template <class Packet, class Scalar>
EIGEN_STRONG_INLINE void add_to(Scalar* to, const Packet& x) {
  packet::pstoreu(to, packet::padd(load<Packet>(to), x));
}

/// x, or zero where it is so small that it or its decay would become a denormal number, which some
/// processors compute many times slower. Exact for all |x| above 2^-76 (float).
template <class Scalar, class Packet>
EIGEN_STRONG_INLINE Packet flush_tiny(const Packet& x) {
  const Packet grain =
      packet::pset1<Packet>(std::is_same_v<Scalar, float> ? Scalar(0x1p-100) : Scalar(0x1p-960));
  return packet::psub(packet::padd(x, grain), grain);
}

/// One rank-one update w' = keep w + rate A o (pre post^T) of one sample, clamped to +-clip.
template <class Scalar>
struct Update {
  const Scalar* pre = nullptr;   // rows
  const Scalar* post = nullptr;  // cols
  Scalar rate = 0;
  Scalar keep = 1;
  Scalar clip = 0;  // used where the template says so
};

/// Part of the slow matrices of a layer; A may be nullptr only where it is not read.
template <class Scalar>
struct Slow {
  const Scalar* weight = nullptr;
  const Scalar* alpha = nullptr;
  Index rows = 0;
  Index cols = 0;

  /// From row `first`, `count` rows.
  Slow part(Index first, Index count) const {
    return {weight + first * cols, alpha + first * cols, count, cols};
  }
};

/// w' of the update from `from` to `to` (which may be the same), and if Product, y += x (W + w').
/// Reads w, A, W and writes w' once: the update of a step and the product of the next in one pass.
template <bool Product, bool Clip, class Scalar>
void update_product(const Slow<Scalar>& slow, const Scalar* from, Scalar* to,
                    const Update<Scalar>& update, const Scalar* x, Scalar* y) {
  using namespace packet;
  for_column_blocks<Scalar>(0, slow.cols, [&]<class Packet, int N>(Index first) {
    Packet post[N], sum[N];
    for (int k = 0; k < N; ++k) {
      post[k] = load<Packet>(update.post + first + k * width<Packet>);
      if constexpr (Product) sum[k] = load<Packet>(y + first + k * width<Packet>);
    }
    const Packet keep = pset1<Packet>(update.keep);
    for (Index i = 0; i < slow.rows; ++i) {
      const Index row = i * slow.cols + first;
      const Packet pre = pset1<Packet>(update.rate * update.pre[i]);
      const Packet input = pset1<Packet>(Product ? x[i] : Scalar(0));
      for (int k = 0; k < N; ++k) {
        const Index at = row + k * width<Packet>;
        Packet w = pmul(keep, load<Packet>(from + at));
        w = pmadd(pmul(pre, post[k]), load<Packet>(slow.alpha + at), w);
        if constexpr (Clip) {
          w = pmin(pmax(w, pset1<Packet>(-update.clip)), pset1<Packet>(update.clip));
        }
        w = flush_tiny<Scalar>(w);
        pstoreu(to + at, w);
        if constexpr (Product) {
          sum[k] = pmadd(input, padd(w, load<Packet>(slow.weight + at)), sum[k]);
        }
      }
    }
    if constexpr (Product) {
      for (int k = 0; k < N; ++k) pstoreu(y + first + k * width<Packet>, sum[k]);
    }
  });
}

/// y += x (W + w).
template <class Scalar>
void product(const Slow<Scalar>& slow, const Scalar* w, const Scalar* x, Scalar* y) {
  using namespace packet;
  for_column_blocks<Scalar>(0, slow.cols, [&]<class Packet, int N>(Index first) {
    Packet sum[N];
    for (int k = 0; k < N; ++k) sum[k] = load<Packet>(y + first + k * width<Packet>);
    for (Index i = 0; i < slow.rows; ++i) {
      const Index row = i * slow.cols + first;
      const Packet input = pset1<Packet>(x[i]);
      for (int k = 0; k < N; ++k) {
        const Index at = row + k * width<Packet>;
        sum[k] = pmadd(input, padd(load<Packet>(w + at), load<Packet>(slow.weight + at)), sum[k]);
      }
    }
    for (int k = 0; k < N; ++k) pstoreu(y + first + k * width<Packet>, sum[k]);
  });
}

/// u += (W + w) d.
template <class Scalar>
void transposed_product(const Slow<Scalar>& slow, const Scalar* w, const Scalar* d, Scalar* u) {
  using namespace packet;
  for_column_blocks<Scalar>(0, slow.cols, [&]<class Packet, int N>(Index first) {
    Packet back[N];
    for (int k = 0; k < N; ++k) back[k] = load<Packet>(d + first + k * width<Packet>);
    for (Index i = 0; i < slow.rows; ++i) {
      const Index row = i * slow.cols + first;
      Packet sum = pset1<Packet>(Scalar(0));
      for (int k = 0; k < N; ++k) {
        const Index at = row + k * width<Packet>;
        sum = pmadd(back[k], padd(load<Packet>(w + at), load<Packet>(slow.weight + at)), sum);
      }
      u[i] += predux(sum);
    }
  });
}

/// A use y = x (W + w) with adjoint dy, or u = (W + w) dy with adjoint x: it adds x dy^T to the
/// adjoint of w.
template <class Scalar>
struct OuterProduct {
  const Scalar* x = nullptr;
  const Scalar* dy = nullptr;
};

/// What the backward pass adds to, for one sample.
template <class Scalar>
struct UpdateAdjoint {
  Scalar* fast = nullptr;   // adjoint of w' on entry, of w on return
  Scalar* alpha = nullptr;  // adjoint of A, or nullptr
  Scalar* input = nullptr;  // rows: (W + w') dy of the first use
  Scalar* pre = nullptr;    // rows: without the factor rate
  Scalar* post = nullptr;   // cols: without the factor rate
  Scalar keep = 0;
};

/// Where the adjoint finds the weights around an update: `before` it, or, to be undone, `after` it;
/// then w = (w' - change) / keep is written to `before`, which may be the same memory.
template <class Scalar>
struct Versions {
  Scalar* before = nullptr;
  const Scalar* after = nullptr;
};

/// Adjoint of update_product in one pass. With G' the adjoint of w' after the uses have been added,
/// masked where the clamp held, and M = A o G':
///   input += (W + w') dy, pre += M post, post += M^T pre, keep += <w, G'>,
///   A += rate (pre post^T) o G', G = keep G'.
template <bool SecondUse, bool Clip, bool Undo, class Scalar>
void update_product_adjoint(const Slow<Scalar>& slow, const Versions<Scalar>& w,
                            const Update<Scalar>& update, const OuterProduct<Scalar>& use,
                            const OuterProduct<Scalar>& second, UpdateAdjoint<Scalar>& adjoint) {
  static_assert(!(Clip && Undo), "a clamped update cannot be undone");
  using namespace packet;
  for_column_blocks<Scalar>(0, slow.cols, [&]<class Packet, int N>(Index first) {
    const Packet zero = pset1<Packet>(Scalar(0));
    Packet post_sum[N];
    for (int k = 0; k < N; ++k) post_sum[k] = zero;
    Packet keep_sum = zero;
    const Packet keep = pset1<Packet>(update.keep);
    const Packet undo = pset1<Packet>(Undo ? Scalar(1) / update.keep : Scalar(0));
    for (Index i = 0; i < slow.rows; ++i) {
      const Index row = i * slow.cols + first;
      const Packet pre = pset1<Packet>(update.pre[i]);
      const Packet rated = pset1<Packet>(update.rate * update.pre[i]);
      const Packet x = pset1<Packet>(use.x[i]);
      const Packet second_x = pset1<Packet>(SecondUse ? second.x[i] : Scalar(0));
      Packet input_sum = zero, pre_sum = zero;
      for (int k = 0; k < N; ++k) {
        const Index column = first + k * width<Packet>;
        const Index at = row + k * width<Packet>;
        const Packet dy = load<Packet>(use.dy + column);
        const Packet post = load<Packet>(update.post + column);
        const Packet alpha = load<Packet>(slow.alpha + at);
        const Packet change = pmul(rated, post);
        Packet before, after;
        if constexpr (Undo) {
          after = load<Packet>(w.after + at);
          before = pmul(undo, psub(after, pmul(change, alpha)));
          pstoreu(w.before + at, before);
        } else {
          before = load<Packet>(w.before + at);
          after = pmadd(change, alpha, pmul(keep, before));
        }
        Packet g = pmadd(x, dy, load<Packet>(adjoint.fast + at));
        if constexpr (SecondUse) g = pmadd(second_x, load<Packet>(second.dy + column), g);
        if constexpr (Clip) {
          const Packet high = pset1<Packet>(update.clip);
          const Packet inside = pcmp_le(pabs(after), high);
          after = pmin(pmax(after, pset1<Packet>(-update.clip)), high);
          g = pselect(inside, g, zero);
        }
        input_sum = pmadd(padd(after, load<Packet>(slow.weight + at)), dy, input_sum);
        keep_sum = pmadd(before, g, keep_sum);
        const Packet m = pmul(alpha, g);
        pre_sum = pmadd(m, post, pre_sum);
        post_sum[k] = pmadd(m, pre, post_sum[k]);
        if (adjoint.alpha != nullptr) {
          pstoreu(adjoint.alpha + at, pmadd(change, g, load<Packet>(adjoint.alpha + at)));
        }
        pstoreu(adjoint.fast + at, flush_tiny<Scalar>(pmul(keep, g)));
      }
      adjoint.input[i] += predux(input_sum);
      adjoint.pre[i] += predux(pre_sum);
    }
    for (int k = 0; k < N; ++k) add_to(adjoint.post + first + k * width<Packet>, post_sum[k]);
    adjoint.keep += predux(keep_sum);
  });
}

}  // namespace plastic::detail::kernels
