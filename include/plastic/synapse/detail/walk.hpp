#pragma once

#include <algorithm>

#include "plastic/kernels/compiled.hpp"
#include "plastic/synapse/detail/history.hpp"
#include "plastic/tape/tape.hpp"

namespace plastic::detail {

/// A read y = x (W + w) of one version of the weights, going backward: x inputs x samples, dy, the
/// adjoint of y, outputs x samples. For u = (W + w) d, x is the adjoint of u and dy is d.
template <class Scalar>
struct BackwardRead {
  const Scalar* x = nullptr;  ///< nullptr: no read
  const Scalar* dy = nullptr;
  bool reads_bias = false;      ///< whether it also reads the bias
  bool needs_all_rows = false;  ///< whether the adjoint of x is also wanted where x is 0
};

/// State that a sweep over a synapse carries from version to version of its fast weights, from the
/// newest back to the first: the weights v, their adjoint G, and the adjoint of the scale s.
///
/// For a read: dx = s v dy + W dy, G += s x dy^T, ds += x^T v dy. For a lazy update, with the rate
/// r = eta / s' of v and s' = (1 - lambda) s: M = A o G, dq = r p^T M, dr = p^T M q,
/// dA = r (p q^T) o G; then deta = dr / s', ds' -= dr r / s', d(1 - lambda) = s ds',
/// ds = (1 - lambda) ds', and G stays. For another, whose s' is 1: G = keep G', with
/// keep = (1 - lambda) s and dkeep = <v, G'>. Scalars are kept in double.
template <class Scalar>
class Walk {
 public:
  using Entry = UpdateEntry<Scalar>;

  /// Adjoints of A, in the layout of the passes, and of a.
  struct AlphaAdjoints {
    Scalar* weight = nullptr;
    Scalar* bias = nullptr;
  };

  void open(Arena& arena, History<Scalar>& history) {
    history_ = &history;
    const auto samples = static_cast<std::size_t>(history.samples());
    states_ = arena.allocate_array<SampleState>(samples);
    const auto sums = static_cast<std::size_t>(2 * history.inputs() + history.outputs());
    auto* memory = arena.allocate_array<Scalar>(samples * sums);
    std::fill_n(memory, samples * sums, Scalar(0));
    for (std::size_t s = 0; s < samples; ++s)
      (new (states_ + s) SampleState)->sums = memory + s * sums;
    const auto largest = static_cast<std::size_t>(std::max(history.inputs(), history.outputs()));
    zeros_ = arena.allocate_array<Scalar>(largest * samples);
    std::fill_n(zeros_, largest * samples, Scalar(0));
  }

  /// Starts a new sweep.
  void begin() {
    version_ = -1;
    pending_read_ = {};
    for (Index s = 0; s < history_->samples(); ++s) {
      if (!has_memory_) {
        states_[s].adjoint = history_->allocate_sample();
        states_[s].own = history_->allocate_sample();
      }
      states_[s].scale_adjoint = 0;
      std::fill_n(states_[s].adjoint, history_->sample_size(), Scalar(0));
    }
    has_memory_ = true;
  }

  /// Goes to the version after `entry`, or to the first for nullptr.
  void go_to(const Entry* entry) {
    const Index version = entry == nullptr ? 0 : entry->version + 1;
    for (Index s = 0; s < history_->samples(); ++s) {
      SampleState& state = states_[s];
      state.scale = history_->scale_after(entry, s);
      if (version == version_) continue;
      if (version == history_->current_version()) {
        state.v = history_->current(s);
      } else {
        history_->copy_version(version, s, state.own);
        state.v = state.own;
      }
    }
    version_ = version;
  }

  /// dx += (W + w) dy if it is given, and the scale's adjoint if the version has an update; x, dx:
  /// inputs x samples; dy: outputs x samples.
  void backward_to_input(const BackwardRead<Scalar>& read, Scalar* dx) {
    const History<Scalar>& h = *history_;
    if (dx == nullptr && version_ == 0) return;
    for (Index s = 0; s < h.samples(); ++s) {
      SampleState& state = states_[s];
      const Scalar* x = read.x + s * h.inputs();
      const Scalar* dy = read.dy + s * h.outputs();
      read.needs_all_rows ? h.choose_all_rows(s) : h.choose_rows(s, read.x);
      Scalar* to = dx == nullptr ? state.sums : dx + s * h.inputs();
      state.scale_adjoint += static_cast<double>(
          h.template add_transposed_product<true>(s, state.v, state.scale, dy, to, x));
    }
  }

  /// dd += du (W + w), likewise; du: inputs x samples, d: outputs x samples.
  void backward_to_output(const BackwardRead<Scalar>& read, Scalar* dd) {
    const History<Scalar>& h = *history_;
    if (dd == nullptr && version_ == 0) return;
    for (Index s = 0; s < h.samples(); ++s) {
      SampleState& state = states_[s];
      h.choose_rows(s, kernels::Fading<Scalar>{read.x});
      Scalar* to = dd == nullptr ? state.sums : dd + s * h.outputs();
      state.scale_adjoint += static_cast<double>(h.template add_product<true>(
          s, state.v, state.scale, read.x + s * h.inputs(), to, read.dy + s * h.outputs()));
    }
  }

  /// Adds s x dy^T to the adjoint of the fast weights, before the next update at the latest, and
  /// the bias's part at once.
  void add_outer_product(const BackwardRead<Scalar>& read) {
    add_pending_outer_product();
    pending_read_ = read;
    if (!read.reads_bias) return;
    for (Index s = 0; s < history_->samples(); ++s) {
      const ConstMatrixMap<Scalar> dy(read.dy + s * outputs(), outputs(), 1);
      MatrixMap<Scalar>(history_->bias_part(states_[s].adjoint), outputs(), 1) +=
          static_cast<Scalar>(states_[s].scale) * dy;
      states_[s].scale_adjoint += static_cast<double>(dy.col(0).dot(
          ConstMatrixMap<Scalar>(history_->bias_part(states_[s].v), outputs(), 1).col(0)));
    }
  }

  /// Goes backward over `entry`, which led to the current version, and over the first read after it
  /// (none: x is nullptr); adds the read's adjoint to dx, inputs x samples, if given.
  void backward_update(Tape<Scalar>& tape, Entry& entry, const BackwardRead<Scalar>& first,
                       Scalar* dx, const AlphaAdjoints& alpha) {
    const Index n = inputs(), m = outputs();
    const BackwardRead<Scalar> read =
        first.x == nullptr ? BackwardRead<Scalar>{zeros_, zeros_} : first;
    for (Index s = 0; s < history_->samples(); ++s) {
      SampleState& state = states_[s];
      std::fill_n(state.sums, 2 * n + m, Scalar(0));
      state.keep_adjoint = 0;
      if (!entry.samples[s].lazy) state.v = history_->kept_before(entry, s);
      choose_rows(entry, read, s);
      if (entry.samples[s].lazy && state.v != state.own) {
        history_->copy_other_rows(s, state.v, state.own);
      }
    }
    const bool over_rows = history_->input_major();
    history_->for_row_tiles(entry.version, [&](kernels::Rows rows, Index s) {
      SampleState& state = states_[s];
      const SampleUpdate<Scalar>& sample_update = entry.samples[s];
      kernels::UpdateAdjoint<Scalar> total{state.adjoint, alpha.weight, state.input_sum(),
                                           over_rows ? state.pre_sum(n) : state.post_sum(n),
                                           over_rows ? state.post_sum(n) : state.pre_sum(n)};
      pass<true>(sample_update, history_->weights(), rows, state.v, state.own,
                 entry.weight_update(s, history_->layout(), history_->clip()),
                 outer_product(read.x, read.dy, s),
                 pending_read_.x == nullptr ? kernels::OuterProduct<Scalar>{}
                                            : outer_product(pending_read_.x, pending_read_.dy, s),
                 total, state);
    });
    for (Index s = 0; s < history_->samples(); ++s) {
      backward_bias(entry, read, alpha, s);
      add_factor_adjoints(tape, entry, dx, s);
    }
    pending_read_ = {};
    version_ = entry.version;
    for (Index s = 0; s < history_->samples(); ++s) {
      if (entry.samples[s].lazy) states_[s].v = states_[s].own;
      if (entry.next != nullptr) history_->release(*entry.next, s);
      states_[s].scale = history_->scale_after(entry.previous, s);
    }
  }

 private:
  /// State of one sample's sweep.
  struct SampleState {
    const Scalar* v = nullptr;  // weights of the current version
    Scalar* own = nullptr;      // where inverted updates are written
    Scalar* adjoint = nullptr;  // G
    double scale = 1;           // s
    double scale_adjoint = 0;   // ds
    double keep_adjoint = 0;    // adjoint of keep of the current update
    Scalar bias_pre_sum = 0;    // likewise for bias_pre, without the factor rate
    Scalar* sums = nullptr;     // sizes: inputs, inputs, outputs

    Scalar* input_sum() const { return sums; }
    Scalar* pre_sum(Index inputs) const { return sums + inputs; }
    Scalar* post_sum(Index inputs) const { return sums + 2 * inputs; }
  };

  Index inputs() const { return history_->inputs(); }
  Index outputs() const { return history_->outputs(); }

  /// The outer product of a read in the layout of the matrices.
  kernels::OuterProduct<Scalar> outer_product(const Scalar* x, const Scalar* dy, Index s) const {
    x += s * inputs();
    dy += s * outputs();
    return history_->input_major() ? kernels::OuterProduct<Scalar>{x, dy}
                                   : kernels::OuterProduct<Scalar>{dy, x};
  }

  /// Chooses the rows that are not silent in the update and in both reads.
  void choose_rows(const Entry& entry, const BackwardRead<Scalar>& read, Index s) const {
    if (!entry.samples[s].lazy || read.needs_all_rows || !entry.pre->zeros_are_silent()) {
      history_->choose_all_rows(s);
    } else if (pending_read_.x == nullptr) {
      history_->choose_rows(s, entry.pre->value, read.x);
    } else {
      history_->choose_rows(s, entry.pre->value, read.x, kernels::Fading<Scalar>{pending_read_.x});
    }
  }

  void add_pending_outer_product() {
    if (pending_read_.x == nullptr) return;
    for (Index s = 0; s < history_->samples(); ++s) {
      history_->weight_matrix(states_[s].adjoint).noalias() +=
          static_cast<Scalar>(states_[s].scale) *
          ConstMatrixMap<Scalar>(pending_read_.dy + s * outputs(), outputs(), 1) *
          ConstMatrixMap<Scalar>(pending_read_.x + s * inputs(), 1, inputs());
    }
    pending_read_ = {};
  }

  /// One backward pass over rows of a sample's weights or biases.
  template <bool Weights>
  void pass(const SampleUpdate<Scalar>& sample_update, const kernels::SlowMatrices<Scalar>& slow,
            kernels::Rows rows, const Scalar* v, Scalar* own, const kernels::Update<Scalar>& update,
            const kernels::OuterProduct<Scalar>& use, const kernels::OuterProduct<Scalar>& second,
            kernels::UpdateAdjoint<Scalar>& total, SampleState& state) const {
    const auto run = [&](auto over_rows, auto has_second) {
      constexpr auto sum = over_rows() ? kernels::Sum::over_rows : kernels::Sum::over_columns;
      if (sample_update.lazy) {
        kernels::lazy_update_adjoint<sum, has_second()>(slow, rows, v, own, update,
                                                        static_cast<Scalar>(sample_update.scale),
                                                        use, second, total);
      } else if (history_->clip() > 0) {
        kernels::decayed_update_adjoint<sum, has_second(), true>(slow, rows, v, update, use, second,
                                                                 total);
      } else {
        kernels::decayed_update_adjoint<sum, has_second(), false>(slow, rows, v, update, use,
                                                                  second, total);
      }
    };
    if constexpr (Weights) {
      with_constants(run, history_->input_major(), pending_read_.x != nullptr);
    } else {
      run(std::true_type{}, std::false_type{});
    }
    state.scale_adjoint += total.scale;
    state.keep_adjoint += total.keep;
  }

  void backward_bias(const Entry& entry, const BackwardRead<Scalar>& read,
                     const AlphaAdjoints& alpha, Index s) {
    SampleState& state = states_[s];
    const Scalar x = read.reads_bias ? 1 : 0;
    Scalar input = 0;
    state.bias_pre_sum = 0;
    kernels::UpdateAdjoint<Scalar> total{history_->bias_part(state.adjoint), alpha.bias, &input,
                                         &state.bias_pre_sum, state.post_sum(inputs())};
    pass<false>(entry.samples[s], history_->bias(), history_->first_row(),
                history_->bias_part(state.v), history_->bias_part(state.own),
                entry.bias_update(s, history_->clip()), {&x, read.dy + s * outputs()}, {}, total,
                state);
  }

  /// Adds a sample's sums to the adjoints of the update's factors.
  void add_factor_adjoints(Tape<Scalar>& tape, const Entry& entry, Scalar* dx, Index s) {
    using Column = Eigen::Map<Vector<Scalar>>;
    using ConstColumn = Eigen::Map<const Vector<Scalar>>;
    const Index n = inputs(), m = outputs();
    SampleState& state = states_[s];
    const SampleUpdate<Scalar>& sample_update = entry.samples[s];
    const ConstColumn pre_sum(state.pre_sum(n), n), post_sum(state.post_sum(n), m);
    if (dx != nullptr) Column(dx + s * n, n) += ConstColumn(state.input_sum(), n);
    if (entry.pre->needs_adjoint) {
      tape.open_adjoint(*entry.pre).col(s) += sample_update.rate * pre_sum;
    }
    if (entry.post->needs_adjoint) {
      tape.open_adjoint(*entry.post).col(s) += sample_update.rate * post_sum;
    }
    const double dr = static_cast<double>(ConstColumn(entry.pre->value + s * n, n).dot(pre_sum) +
                                          entry.bias_pre * state.bias_pre_sum);
    const double scale_before = history_->scale_after(entry.previous, s);
    const auto keep = static_cast<double>(Scalar(1) - entry.decay->value[s]);
    if (sample_update.lazy)
      state.scale_adjoint -= dr * static_cast<double>(sample_update.rate) / sample_update.scale;
    const double of_product = sample_update.lazy ? state.scale_adjoint : state.keep_adjoint;
    const auto add = [&](Node<Scalar>& node, double term) {
      if (node.needs_adjoint) tape.open_adjoint(node).col(s)[0] += static_cast<Scalar>(term);
    };
    add(*entry.rate, dr / sample_update.scale);
    add(*entry.decay, -scale_before * of_product);
    state.scale_adjoint = keep * of_product;
  }

  History<Scalar>* history_ = nullptr;
  SampleState* states_ = nullptr;  // one per sample
  Scalar* zeros_ = nullptr;
  Index version_ = -1;
  bool has_memory_ = false;
  BackwardRead<Scalar> pending_read_;  // read whose outer product is not yet in G
};

}  // namespace plastic::detail
