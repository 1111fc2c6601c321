#pragma once

#include <cstring>

#include "plastic/synapse/detail/outer_products.hpp"
#include "plastic/synapse/detail/walk.hpp"
#include "plastic/synapse/rank_one.hpp"
#include "plastic/tape/operation.hpp"

namespace plastic::detail {

/// The transpose of a slow matrix, and what the matrix was when it was made. A step of one sample
/// looks at the slow weights each time, and comparing costs a sixth of transposing.
template <class Scalar>
struct Turned {
  Scalar* values = nullptr;
  Scalar* seen = nullptr;

  void follow(const ConstMatrixMap<Scalar>& matrix) {
    const auto bytes = static_cast<std::size_t>(matrix.size()) * sizeof(Scalar);
    if (std::memcmp(seen, matrix.data(), bytes) == 0) return;
    std::memcpy(seen, matrix.data(), bytes);
    MatrixMap<Scalar>(values, matrix.cols(), matrix.rows()) = matrix.transpose();
  }
};

/// What the nodes of one synapse share; lives in the tape's arena.
template <class Scalar>
struct SynapseData {
  using Entry = UpdateEntry<Scalar>;

  SynapseOptions options;
  SlowWeights<Scalar> slow;
  History<Scalar> history;
  Walk<Scalar> walk;
  OuterProducts<Scalar> slow_gradient;
  // Of a layer whose matrices are output-major: W and A in that order.
  Turned<Scalar> turned_weight;
  Turned<Scalar> turned_alpha;
  // Of such a layer, or where A is not learned; else the passes add to A's own adjoint.
  Scalar* own_alpha_adjoint = nullptr;
  Scalar* own_bias_alpha_adjoint = nullptr;
  Node<Scalar>* start = nullptr;
  Node<Scalar>* last_first_read = nullptr;  // of the newest version that has been read
  Entry* read_entry = nullptr;              // the update before that version
  std::size_t end = 0;                      // of the tape after the last read or write
  std::size_t sweep = ~std::size_t{0};

  Index inputs() const { return slow.weight.cols(); }
  Index outputs() const { return slow.weight.rows(); }

  static bool learned(const Var<Scalar>& alpha) {
    return !alpha.empty() && alpha.node().needs_adjoint;
  }

  /// Brings the turned copies up to date, and the passes to where the slow weights lie.
  void follow_slow_weights() {
    turn();
    if (!options.plastic) return;
    const auto place = [](const Var<Scalar>& v) -> const Scalar* {
      return v.empty() ? nullptr : v.node().value;
    };
    const bool in_place = history.input_major();
    history.follow(in_place ? place(slow.weight) : nullptr, in_place ? place(slow.alpha) : nullptr,
                   place(slow.bias), place(slow.bias_alpha));
  }

  void turn() {
    if (turned_weight.values != nullptr) turned_weight.follow(slow.weight.value());
    if (turned_alpha.values != nullptr) turned_alpha.follow(slow.alpha.value());
  }

  void begin_sweep(Tape<Scalar>& tape) {
    if (sweep == tape.sweep_number()) return;
    sweep = tape.sweep_number();
    slow_gradient.drop();
    if (options.plastic) walk.begin();
    if (own_alpha_adjoint != nullptr) {
      std::fill_n(own_alpha_adjoint, inputs() * outputs(), Scalar(0));
    }
    if (own_bias_alpha_adjoint != nullptr) {
      std::fill_n(own_bias_alpha_adjoint, outputs(), Scalar(0));
    }
    tape.open_adjoint(*start);
  }

  /// Hands on what a sweep has gathered for W and A.
  void end_sweep(Tape<Scalar>& tape) {
    Node<Scalar>& weight = slow.weight.node();
    if (weight.needs_adjoint) slow_gradient.flush(tape.open_adjoint(weight));
    if (own_alpha_adjoint != nullptr && learned(slow.alpha)) {
      tape.open_adjoint(slow.alpha.node()) +=
          ConstMatrixMap<Scalar>(own_alpha_adjoint, inputs(), outputs()).transpose();
    }
  }

  /// Where the passes add the adjoints of A and a.
  typename Walk<Scalar>::AlphaAdjoints alpha_adjoints(Tape<Scalar>& tape) const {
    const auto adjoint_of = [&](const Var<Scalar>& alpha, Scalar* own) {
      return own != nullptr ? own : tape.open_adjoint(alpha.node()).data();
    };
    return {adjoint_of(slow.alpha, own_alpha_adjoint),
            adjoint_of(slow.bias_alpha, own_bias_alpha_adjoint)};
  }

  /// y += x W of every sample, for a layer without fast weights.
  void add_slow_product(const Scalar* x, Scalar* y) const {
    kernels::add_product<Scalar>(y, slow.weight.node().value, {x, 1, inputs()}, outputs(), inputs(),
                                 options.samples);
  }

  /// u += W d of every sample, likewise.
  void add_slow_transposed_product(const Scalar* d, Scalar* u) const {
    kernels::add_transposed_product(u, slow.weight.node().value, d, inputs(), outputs(),
                                    options.samples);
  }

  /// The slow weights' part of a use y = x W: gathered, added up by the start node.
  void add_slow(Tape<Scalar>& tape, const Scalar* x, const Scalar* dy) {
    Node<Scalar>& weight = slow.weight.node();
    if (weight.needs_adjoint) {
      slow_gradient.add(x, dy, options.samples, tape.open_adjoint(weight));
    }
  }

  void add_slow_bias(Tape<Scalar>& tape, const Scalar* dy) {
    Node<Scalar>& bias = slow.bias.node();
    if (!bias.needs_adjoint) return;
    tape.accumulate(bias, ConstMatrixMap<Scalar>(dy, outputs(), options.samples).rowwise().sum());
  }
};

}  // namespace plastic::detail
