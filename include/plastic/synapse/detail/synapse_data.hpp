#pragma once

#include "plastic/synapse/detail/history.hpp"
#include "plastic/synapse/detail/outer_products.hpp"
#include "plastic/synapse/rank_one.hpp"
#include "plastic/tape/operation.hpp"

namespace plastic::detail {

/// What the nodes of one synapse share; lives in the tape's arena.
template <class Scalar>
struct SynapseData {
  using Entry = UpdateEntry<Scalar>;

  SynapseOptions options;
  SlowWeights<Scalar> slow;
  History<Scalar> history;
  OuterProducts<Scalar> slow_gradient;
  // Of a layer whose passes run across: W and A in that order.
  Scalar* turned_weight = nullptr;
  Scalar* turned_alpha = nullptr;
  // Of a layer that runs across or whose A is not learned; else the passes add to A's own adjoint.
  Scalar* own_alpha_adjoint = nullptr;
  Scalar* own_bias_alpha_adjoint = nullptr;
  Node<Scalar>* start = nullptr;
  Node<Scalar>* last_first_read = nullptr;  // of the newest version that has been read
  Entry* read_entry = nullptr;              // the update before that version
  std::size_t end = 0;                      // of the tape after the last read or write

  // A sweep's own.
  std::size_t sweep = ~std::size_t{0};
  Scalar* fast_adjoint = nullptr;  // of the version that the sweep has come down to
  const Scalar* waiting_x = nullptr;
  const Scalar* waiting_dy = nullptr;  // a use whose outer product fast_adjoint still lacks
  Scalar* zeros = nullptr;             // inputs, outputs, or samples of them, whichever is largest
  Scalar* scratch = nullptr;           // per sample: inputs, inputs, outputs
  Scalar* keep_sums = nullptr;         // per sample

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
    const bool across = history.across();
    history.follow(across ? nullptr : place(slow.weight), across ? nullptr : place(slow.alpha),
                   place(slow.bias), place(slow.bias_alpha));
  }

  void turn() {
    const auto copy = [&](const Var<Scalar>& from, Scalar* to) {
      if (to != nullptr) MatrixMap<Scalar>(to, inputs(), outputs()) = from.value().transpose();
    };
    copy(slow.weight, turned_weight);
    copy(slow.alpha, turned_alpha);
  }

  void begin_sweep(Tape<Scalar>& tape) {
    if (sweep == tape.sweep_number()) return;
    sweep = tape.sweep_number();
    waiting_x = nullptr;
    slow_gradient.drop();
    if (options.plastic) {
      if (fast_adjoint == nullptr) fast_adjoint = history.take_state();
      std::fill_n(fast_adjoint, history.state_size(), Scalar(0));
    }
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

  /// Takes x dy^T into the adjoint of the fast weights, at the latest before the next update.
  void add_fast(const Scalar* x, const Scalar* dy) {
    settle();
    waiting_x = x;
    waiting_dy = dy;
  }

  void add_fast_bias(const Scalar* dy) {
    for (Index s = 0; s < options.samples; ++s) {
      MatrixMap<Scalar>(history.bias_part(fast_adjoint, s), outputs(), 1) +=
          ConstMatrixMap<Scalar>(dy + s * outputs(), outputs(), 1);
    }
  }

  void settle() {
    if (waiting_x == nullptr) return;
    for (Index s = 0; s < options.samples; ++s) {
      history.weight_matrix(fast_adjoint, s).noalias() +=
          ConstMatrixMap<Scalar>(waiting_dy + s * outputs(), outputs(), 1) *
          ConstMatrixMap<Scalar>(waiting_x + s * inputs(), 1, inputs());
    }
    waiting_x = nullptr;
  }

  /// Adjoint of the update `entry` and of the use y = x (W + w') + b + beta' that came first after
  /// it; dx (inputs x samples) takes the use's share.
  void undo(Tape<Scalar>& tape, Entry& entry, const Scalar* x, const Scalar* dy, bool uses_bias,
            Scalar* dx) {
    const typename History<Scalar>::Crossing weights = history.cross(entry);
    const auto run = [&]<Direction direction, bool Second>() {
      if (history.clip() > 0) {
        undo<direction, Second, true, false>(tape, entry, weights, x, dy, uses_bias, dx);
      } else if (weights.after == nullptr) {
        undo<direction, Second, false, false>(tape, entry, weights, x, dy, uses_bias, dx);
      } else {
        undo<direction, Second, false, true>(tape, entry, weights, x, dy, uses_bias, dx);
      }
    };
    const auto run_second = [&]<bool Second>(std::bool_constant<Second>) {
      history.across() ? run.template operator()<Direction::across, Second>()
                       : run.template operator()<Direction::down, Second>();
    };
    waiting_x != nullptr ? run_second(std::true_type{}) : run_second(std::false_type{});
    waiting_x = nullptr;
    if (entry.next != nullptr) history.release(*entry.next);
  }

 private:
  using Direction = kernels::Direction;

  static Scalar* adjoint_or_null(Tape<Scalar>& tape, Node<Scalar>& node) {
    return node.needs_adjoint ? tape.open_adjoint(node).data() : nullptr;
  }

  template <Direction direction, bool Second, bool Clip, bool Undo>
  void undo(Tape<Scalar>& tape, Entry& entry, const typename History<Scalar>::Crossing& weights,
            const Scalar* x, const Scalar* dy, bool uses_bias, Scalar* dx) {
    constexpr bool across = direction == Direction::across;
    const auto adjoint_of = [&](const Var<Scalar>& alpha, Scalar* own) {
      return own != nullptr ? own : tape.open_adjoint(alpha.node()).data();
    };
    Scalar* alpha = adjoint_of(slow.alpha, own_alpha_adjoint);
    Scalar* bias_alpha = adjoint_of(slow.bias_alpha, own_bias_alpha_adjoint);
    Scalar* pre_adjoint = adjoint_or_null(tape, *entry.pre);
    Scalar* post_adjoint = adjoint_or_null(tape, *entry.post);
    Scalar* rate_adjoint = adjoint_or_null(tape, *entry.rate);
    Scalar* decay_adjoint = adjoint_or_null(tape, *entry.decay);
    const Index n = inputs();
    const Index m = outputs();
    using Array = Eigen::Array<Scalar, Eigen::Dynamic, 1>;
    using Column = Eigen::Map<Array>;
    using ConstColumn = Eigen::Map<const Array>;
    const auto input_sum = [&](Index s) { return scratch + s * (2 * n + m); };
    const auto pre_sum = [&](Index s) { return input_sum(s) + n; };
    const auto post_sum = [&](Index s) { return pre_sum(s) + n; };
    std::fill_n(scratch, options.samples * (2 * n + m), Scalar(0));
    std::fill_n(keep_sums, options.samples, Scalar(0));

    const auto use_of = [&](const Scalar* by_input, const Scalar* by_output, Index first, Index s) {
      using Use = kernels::OuterProduct<Scalar>;
      return across ? Use{by_output + s * m + first, by_input + s * n}
                    : Use{by_input + s * n + first, by_output + s * m};
    };
    history.for_row_tiles(entry.version, [&](Index first, Index count, Index s) {
      kernels::Update<Scalar> update = entry.factors(s, history.clip(), across);
      update.by_row += first;
      const Index at = first * history.weights().cols;
      kernels::UpdateAdjoint<Scalar> adjoint{
          history.weight_part(fast_adjoint, s) + at, alpha + at,
          input_sum(s) + (across ? 0 : first),       (across ? post_sum(s) : pre_sum(s)) + first,
          across ? pre_sum(s) : post_sum(s),         keep_sums[s]};
      kernels::update_product_adjoint<direction, Second, Clip, Undo>(
          history.weights().part(first, count),
          {history.weight_part(weights.before, s) + at,
           Undo ? history.weight_part(weights.after, s) + at : nullptr},
          update, use_of(x, dy, first, s),
          Second ? use_of(waiting_x, waiting_dy, first, s) : kernels::OuterProduct<Scalar>{},
          adjoint);
      keep_sums[s] = adjoint.keep;
    });
    for (Index s = 0; s < options.samples; ++s) {
      Scalar bias_input = 0, bias_pre = 0;
      const Scalar bias_x = uses_bias ? 1 : 0;
      kernels::UpdateAdjoint<Scalar> bias_adjoint{history.bias_part(fast_adjoint, s),
                                                  bias_alpha,
                                                  &bias_input,
                                                  &bias_pre,
                                                  post_sum(s),
                                                  keep_sums[s]};
      kernels::update_product_adjoint<Direction::down, false, Clip, Undo>(
          history.bias(),
          {history.bias_part(weights.before, s),
           Undo ? history.bias_part(weights.after, s) : nullptr},
          entry.bias_factors(s, history.clip()), {&bias_x, dy + s * m}, {}, bias_adjoint);
      const Scalar rate_sum = ConstColumn(entry.pre->value + s * n, n)
                                  .matrix()
                                  .dot(ConstColumn(pre_sum(s), n).matrix()) +
                              entry.bias_pre * bias_pre;
      const Scalar rate = entry.rate->value[s];
      if (dx != nullptr) Column(dx + s * n, n) += ConstColumn(input_sum(s), n);
      if (pre_adjoint != nullptr) {
        Column(pre_adjoint + s * n, n) += rate * ConstColumn(pre_sum(s), n);
      }
      if (post_adjoint != nullptr) {
        Column(post_adjoint + s * m, m) += rate * ConstColumn(post_sum(s), m);
      }
      if (rate_adjoint != nullptr) rate_adjoint[s] += rate_sum;
      if (decay_adjoint != nullptr) decay_adjoint[s] -= bias_adjoint.keep;
    }
  }
};

}  // namespace plastic::detail
