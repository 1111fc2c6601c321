#pragma once

#include <algorithm>
#include <cstring>

#include "plastic/synapse/detail/outer_products.hpp"
#include "plastic/synapse/detail/walk.hpp"
#include "plastic/synapse/rank_one.hpp"
#include "plastic/tape/operation.hpp"

namespace plastic::detail {

/// The transpose of a slow matrix, and a copy of the matrix it was made from: every step has to
/// check for changes, and comparing costs a sixth of transposing.
template <class Scalar>
struct TransposedCopy {
  Scalar* values = nullptr;
  Scalar* source = nullptr;

  void update(const ConstMatrixMap<Scalar>& matrix) {
    const auto bytes = static_cast<std::size_t>(matrix.size()) * sizeof(Scalar);
    if (std::memcmp(source, matrix.data(), bytes) == 0) return;
    std::memcpy(source, matrix.data(), bytes);
    MatrixMap<Scalar>(values, matrix.cols(), matrix.rows()) = matrix.transpose();
  }
};

/// Position of a read in the chain of reads of a synapse.
template <class Scalar>
struct ReadLink {
  UpdateEntry<Scalar>* entry = nullptr;    ///< the update that led to the version that is read
  bool first = false;                      ///< whether this is the first read of that version
  UpdateEntry<Scalar>* down_to = nullptr;  ///< the update that led to the previously read version
  Node<Scalar>* previous = nullptr;        ///< the first read of the previously read version
};

/// Data shared by the nodes of one synapse; lives in the tape's arena.
template <class Scalar>
class SynapseData {
 public:
  SynapseData(Tape<Scalar>& tape, const SlowWeights<Scalar>& slow, const SynapseOptions& options)
      : options_(options), slow_(slow) {
    if (options.plastic) {
      const Scalar* bias_alpha =
          slow.bias_alpha.empty() ? filled(tape, outputs(), 1) : slow.bias_alpha.node().value;
      history_.open(tape.arena(), weights_in_order(tape),
                    {slow.bias.node().value, bias_alpha, 1, outputs()}, options.samples,
                    static_cast<Scalar>(options.weight_clip), options.differentiable,
                    options.snapshot_interval);
    }
    if (!options.differentiable) return;
    slow_gradient_.open(tape.arena(), inputs(), outputs(), std::max(options.samples, Index{64}));
    if (!options.plastic) return;
    walk_.open(tape.arena(), history_);
    if (!history_.input_major() || !learned(slow.alpha)) {
      own_alpha_adjoint_ = tape.allocate(inputs() * outputs());
    }
    if (!learned(slow.bias_alpha)) own_bias_alpha_adjoint_ = tape.allocate(outputs());
  }

  const SynapseOptions& options() const { return options_; }
  const SlowWeights<Scalar>& slow() const { return slow_; }
  History<Scalar>& history() { return history_; }
  const History<Scalar>& history() const { return history_; }
  Walk<Scalar>& walk() { return walk_; }
  Index inputs() const { return slow_.weight.cols(); }
  Index outputs() const { return slow_.weight.rows(); }

  /// The node that is swept last.
  void set_start(Node<Scalar>* start) { start_ = start; }

  /// Appends a read of the newest version to the chain.
  ReadLink<Scalar> append(Node<Scalar>* read) {
    const ReadLink<Scalar> link{history_.newest(),
                                chain_end_ == nullptr || chain_end_entry_ != history_.newest(),
                                chain_end_entry_, chain_end_};
    if (link.first) {
      chain_end_ = read;
      chain_end_entry_ = link.entry;
    }
    return link;
  }

  /// @{
  /// Length of the tape after the last read or write; whether the tape was rewound before it.
  void set_end(std::size_t nodes) { end_ = nodes; }
  bool rewound(std::size_t nodes) const { return options_.differentiable && nodes < end_; }
  /// @}

  /// Updates the transposed copies, and the passes' pointers to the slow weights.
  void refresh_slow_weights() {
    update_transposed();
    if (!options_.plastic) return;
    const auto pointer = [](const Var<Scalar>& v) -> const Scalar* {
      return v.empty() ? nullptr : v.node().value;
    };
    const bool in_place = history_.input_major();
    history_.rebind(in_place ? pointer(slow_.weight) : nullptr,
                    in_place ? pointer(slow_.alpha) : nullptr, pointer(slow_.bias),
                    pointer(slow_.bias_alpha));
  }

  /// Copies the stored fast weights of one sample, with the pending update applied, to `values`.
  /// The transposed copy of A may be out of date; it is not updated, as other threads may look too.
  void copy_sample(Index sample, Scalar* values) const {
    Matrix<Scalar> alpha;
    if (transposed_alpha_.values != nullptr) alpha = slow_.alpha.value().transpose();
    history_.copy_sample(sample, alpha.size() == 0 ? nullptr : alpha.data(), values);
  }

  void begin_sweep(Tape<Scalar>& tape) {
    if (sweep_ == tape.sweep_number()) return;
    sweep_ = tape.sweep_number();
    slow_gradient_.drop();
    if (options_.plastic) walk_.begin();
    if (own_alpha_adjoint_ != nullptr) {
      std::fill_n(own_alpha_adjoint_, inputs() * outputs(), Scalar(0));
    }
    if (own_bias_alpha_adjoint_ != nullptr) {
      std::fill_n(own_bias_alpha_adjoint_, outputs(), Scalar(0));
    }
    tape.open_adjoint(*start_);
  }

  /// Passes on the adjoints of W and A that a sweep has gathered.
  void end_sweep(Tape<Scalar>& tape) {
    Node<Scalar>& weight = slow_.weight.node();
    if (weight.needs_adjoint) slow_gradient_.flush(tape.open_adjoint(weight));
    if (own_alpha_adjoint_ != nullptr && learned(slow_.alpha)) {
      tape.open_adjoint(slow_.alpha.node()) +=
          ConstMatrixMap<Scalar>(own_alpha_adjoint_, inputs(), outputs()).transpose();
    }
  }

  /// Where the passes add the adjoints of A and a.
  typename Walk<Scalar>::AlphaAdjoints alpha_adjoints(Tape<Scalar>& tape) const {
    const auto adjoint_of = [&](const Var<Scalar>& alpha, Scalar* own) {
      return own != nullptr ? own : tape.open_adjoint(alpha.node()).data();
    };
    return {adjoint_of(slow_.alpha, own_alpha_adjoint_),
            adjoint_of(slow_.bias_alpha, own_bias_alpha_adjoint_)};
  }

  /// y += x W for every sample, for a layer without fast weights.
  void add_slow_product(const Scalar* x, Scalar* y) const {
    kernels::add_product<Scalar>(y, slow_.weight.node().value, {x, 1, inputs()}, outputs(),
                                 inputs(), options_.samples);
  }

  /// u += W d for every sample, likewise.
  void add_slow_transposed_product(const Scalar* d, Scalar* u) const {
    kernels::add_transposed_product(u, slow_.weight.node().value, d, inputs(), outputs(),
                                    options_.samples);
  }

  /// Gathers the slow weights' adjoint of a read y = x W; the start node sums it.
  void add_slow(Tape<Scalar>& tape, const Scalar* x, const Scalar* dy) {
    Node<Scalar>& weight = slow_.weight.node();
    if (weight.needs_adjoint) {
      slow_gradient_.add(x, dy, options_.samples, tape.open_adjoint(weight));
    }
  }

  void add_slow_bias(Tape<Scalar>& tape, const Scalar* dy) {
    Node<Scalar>& bias = slow_.bias.node();
    if (!bias.needs_adjoint) return;
    tape.accumulate(bias, ConstMatrixMap<Scalar>(dy, outputs(), options_.samples).rowwise().sum());
  }

 private:
  static bool learned(const Var<Scalar>& alpha) {
    return !alpha.empty() && alpha.node().needs_adjoint;
  }

  static Scalar* filled(Tape<Scalar>& tape, Index count, Scalar value) {
    Scalar* memory = tape.allocate(count);
    std::fill_n(memory, count, value);
    return memory;
  }

  /// W and A in the order of the passes.
  kernels::SlowMatrices<Scalar> weights_in_order(Tape<Scalar>& tape) {
    const Index size = inputs() * outputs();
    const bool fixed_alpha = slow_.alpha.empty();
    if (History<Scalar>::layout_of(inputs(), outputs()) == Layout::input_major) {
      return {slow_.weight.node().value,
              fixed_alpha ? filled(tape, size, 1) : slow_.alpha.node().value, inputs(), outputs()};
    }
    const auto zeros = [&] {
      return TransposedCopy<Scalar>{filled(tape, size, 0), filled(tape, size, 0)};
    };
    transposed_weight_ = zeros();
    if (!fixed_alpha) transposed_alpha_ = zeros();
    update_transposed();
    return {transposed_weight_.values,
            fixed_alpha ? filled(tape, size, 1) : transposed_alpha_.values, outputs(), inputs()};
  }

  void update_transposed() {
    if (transposed_weight_.values != nullptr) transposed_weight_.update(slow_.weight.value());
    if (transposed_alpha_.values != nullptr) transposed_alpha_.update(slow_.alpha.value());
  }

  SynapseOptions options_;
  SlowWeights<Scalar> slow_;
  History<Scalar> history_;
  Walk<Scalar> walk_;
  OuterProducts<Scalar> slow_gradient_;
  // W and A in output-major order, if the layer's matrices are.
  TransposedCopy<Scalar> transposed_weight_;
  TransposedCopy<Scalar> transposed_alpha_;
  // For such a layer, or if A is not learned; else the passes add to A's own adjoint.
  Scalar* own_alpha_adjoint_ = nullptr;
  Scalar* own_bias_alpha_adjoint_ = nullptr;
  Node<Scalar>* start_ = nullptr;
  Node<Scalar>* chain_end_ = nullptr;               // first read of the newest version read so far
  UpdateEntry<Scalar>* chain_end_entry_ = nullptr;  // the update that led to that version
  std::size_t end_ = 0;
  std::size_t sweep_ = ~std::size_t{0};
};

}  // namespace plastic::detail
