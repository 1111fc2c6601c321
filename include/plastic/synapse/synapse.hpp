#pragma once

#include <algorithm>

#include "plastic/synapse/detail/reads.hpp"

namespace plastic {

/// The weights of one layer over one episode, W + w_t for each sample, on a tape.
///
/// w_t is a history of rank-one updates (`write`), replayed when needed: memory and time of an
/// episode of T steps grow as O(T (inputs + outputs)) and O(sqrt T inputs outputs) per sample.
/// `read` and `read_transposed` see the newest version. The next read applies a pending update in
/// one pass with its product. A handle: copies refer to the same synapse. After its first read the
/// tape must not be rewound to a position before its latest read or write; `read` and `write` throw
/// std::invalid_argument if they detect that it was. They also throw it on an empty synapse, on
/// shapes that do not fit and on variables of another tape. Memory comes from the tape's arena.
template <class Scalar>
class Synapse {
 public:
  /// An empty synapse.
  Synapse() = default;

  /// A synapse whose fast weights start at zero. Throws std::invalid_argument on shapes that do not
  /// fit, and on an option out of its range.
  Synapse(Tape<Scalar>& tape, const SlowWeights<Scalar>& slow, const SynapseOptions& options)
      : tape_(&tape) {
    check(slow, options);
    data_ = new (tape.arena().allocate(sizeof(Data))) Data(tape, slow, options);
    if (options.differentiable) {
      data_->set_start(tape.template emplace<detail::SynapseStart<Scalar>>(data_));
    } else if (options.plastic) {
      allocate_pending();
    }
  }

  bool empty() const { return data_ == nullptr; }           ///< whether it was made without a tape
  Index inputs() const { return checked_data().inputs(); }  ///< columns of W
  Index outputs() const { return checked_data().outputs(); }          ///< rows of W
  Index samples() const { return checked_data().options().samples; }  ///< as in the options

  /// y = x (W + w) + b + beta for each sample. x: inputs x samples; y: outputs x samples.
  /// Differentiable once in everything that it depends on, and twice in x until the next write.
  Var<Scalar> read(const Var<Scalar>& x) {
    check_not_empty("Synapse::read");
    check_not_rewound("Synapse::read");
    tape_->check_on_this_tape("Synapse::read", x);
    detail::check_shape("Synapse::read", "x", x.rows(), x.cols(), inputs(), samples());
    return with_end_marked(detail::read_product(*data_, x));
  }

  /// u = (W + w) d for each sample: an adjoint passed back through the layer. d: outputs x samples;
  /// u: inputs x samples. Differentiable once.
  Var<Scalar> read_transposed(const Var<Scalar>& d) {
    check_not_empty("Synapse::read_transposed");
    check_not_rewound("Synapse::read_transposed");
    tape_->check_on_this_tape("Synapse::read_transposed", d);
    detail::check_shape("Synapse::read_transposed", "d", d.rows(), d.cols(), outputs(), samples());
    return with_end_marked(detail::read_transposed(*data_, d));
  }

  /// w <- (1 - decay) w + rate A o (pre post^T), beta <- (1 - decay) beta + rate a o (bias_pre
  /// post), then clamps to the weight clip. rate, decay: 1 x samples. Costs O(inputs + outputs)
  /// until the next read. Differentiable once in every argument. Throws std::invalid_argument if
  /// the synapse is not plastic.
  void write(const RankOne<Scalar>& change, const Var<Scalar>& rate, const Var<Scalar>& decay) {
    check_not_empty("Synapse::write");
    check_not_rewound("Synapse::write");
    check(change, rate, decay);
    if (!data_->options().differentiable) return write_pending(change, rate, decay);
    Entry* entry = data_->history().make_entry();
    entry->pre = &change.pre.node();
    entry->post = &change.post.node();
    entry->rate = &rate.node();
    entry->decay = &decay.node();
    entry->bias_pre = static_cast<Scalar>(change.bias_pre);
    entry->tape_size = static_cast<Index>(tape_->size());
    data_->history().append(entry);
    data_->set_end(tape_->size());
  }

  /// @{
  /// The fast weights now, outputs x inputs, and the fast biases, outputs x 1, of one sample, as
  /// copies. Looking changes nothing, and several threads may look at once. Cost O(inputs outputs);
  /// allocate. Throws std::invalid_argument if the synapse is not plastic or there is no such
  /// sample.
  Matrix<Scalar> fast_weight(Index sample) const {
    check_state("Synapse::fast_weight", sample);
    const FastSample<Scalar> now = fast_sample(sample);
    return static_cast<Scalar>(now.scale) * now.weight;
  }
  Vector<Scalar> fast_bias(Index sample) const {
    check_state("Synapse::fast_bias", sample);
    const FastSample<Scalar> now = fast_sample(sample);
    return static_cast<Scalar>(now.scale) * now.bias;
  }
  /// @}

  /// @{
  /// Set them. In a synapse with a history this is the initial state, a constant of the gradient.
  /// Throw std::invalid_argument as above, if the shape differs, and if a synapse with a history
  /// has been written.
  void set_fast_weight(Index sample, const Eigen::Ref<const Matrix<Scalar>>& weight) {
    check_state("Synapse::set_fast_weight", sample);
    set_fast_sample(sample, {weight, fast_bias(sample), 1});
  }
  void set_fast_bias(Index sample, const Eigen::Ref<const Vector<Scalar>>& bias) {
    check_state("Synapse::set_fast_bias", sample);
    set_fast_sample(sample, {fast_weight(sample), bias, 1});
  }
  /// @}

  /// @{
  /// Get and set the stored form of one sample's fast weights, which determines all later bits.
  /// Throw std::invalid_argument as above.
  FastSample<Scalar> fast_sample(Index sample) const {
    check_state("Synapse::fast_sample", sample);
    Vector<Scalar> values(data_->history().sample_size());
    data_->copy_sample(sample, values.data());
    return {data_->history().weight_matrix(values.data()), values.tail(outputs()),
            data_->history().scale(sample)};
  }
  void set_fast_sample(Index sample, const FastSample<Scalar>& to) {
    constexpr std::string_view here = "Synapse::set_fast_sample";
    check_state(here, sample);
    detail::check_shape(here, "weight", to.weight.rows(), to.weight.cols(), outputs(), inputs());
    detail::check_shape(here, "bias", to.bias.rows(), to.bias.cols(), outputs(), 1);
    if (!std::isfinite(to.scale)) detail::reject(here, "scale", "finite", to.scale);
    if (data_->options().differentiable && version() > 0) {
      detail::reject(here, "the synapse", "one that has not been written",
                     "one whose history has begun");
    }
    if (!data_->options().differentiable) refresh_slow_weights();
    Scalar* values = data_->history().latest(sample);
    data_->history().weight_matrix(values) = to.weight;
    MatrixMap<Scalar>(data_->history().bias_part(values), outputs(), 1) = to.bias;
    data_->history().set_scale(sample, to.scale);
  }
  /// @}

  // For plastic synapses that are not differentiable.

  /// Resets the fast weights of one sample to zero, even if they are not finite. Throws
  /// std::invalid_argument if there is no such sample, or the synapse has a history.
  void reset_sample(Index sample) {
    check_state("Synapse::reset_sample", sample);
    check_no_history("Synapse::reset_sample");
    data_->history().clear_sample(sample);
    for (const auto* factor : {pending_->pre, pending_->post, pending_->rate, pending_->decay}) {
      factor->value_map().col(sample).setZero();
    }
  }

  /// Copies the fast weights of `other`, with its pending update: from then on both give the same
  /// bits. Allocates nothing. Throws std::invalid_argument if the two differ in size, or one of
  /// them has a history.
  void copy(const Synapse& other) {
    check_state("Synapse::copy", 0);
    other.check_state("Synapse::copy", 0);
    check_no_history("Synapse::copy");
    other.check_no_history("Synapse::copy");
    detail::check_shape("Synapse::copy", "the other synapse", other.outputs(), other.inputs(),
                        outputs(), inputs());
    if (other.samples() != samples()) {
      detail::reject("Synapse::copy", "the other synapse's samples", std::to_string(samples()),
                     other.samples());
    }
    const auto copy_value = [](const Node<Scalar>* to, const Node<Scalar>* from) {
      to->value_map() = from->value_map();
    };
    copy_value(pending_->pre, other.pending_->pre);
    copy_value(pending_->post, other.pending_->post);
    copy_value(pending_->rate, other.pending_->rate);
    copy_value(pending_->decay, other.pending_->decay);
    pending_->bias_pre = other.pending_->bias_pre;
    data_->history().copy(other.data_->history(), pending_);
  }

  /// Continues as if the current fast weights were the result of `version` updates, whose number
  /// determines the order in which a read sums. Throws std::invalid_argument if it is negative, or
  /// the synapse has a history.
  void resume(Index version) {
    check_state("Synapse::resume", 0);
    check_no_history("Synapse::resume");
    if (version < 0) detail::reject("Synapse::resume", "version", "at least 0", version);
    data_->history().advance();
    data_->history().resume(pending_, version);
  }

  /// The slow weights that it was made with.
  const SlowWeights<Scalar>& slow_weights() const { return checked_data().slow(); }

  /// Must be called before a read if W or A may have changed, in value or address, since the
  /// synapse was made; only a synapse that is not differentiable allows that. Costs a copy of W and
  /// A if the layer has few outputs, else nothing.
  void refresh_slow_weights() {
    check_not_empty("Synapse::refresh_slow_weights");
    data_->refresh_slow_weights();
  }

  /// Number of updates so far.
  Index version() const { return checked_data().history().versions(); }

  /// The fast weights after `version` updates, outputs x inputs, replayed from the history of a
  /// differentiable synapse. Costs O(sqrt T) passes over one layer, and allocates the result.
  /// Throws std::invalid_argument if there is no such version or sample, or no history.
  Matrix<Scalar> fast_weight_at(Index version, Index sample) {
    check_state("Synapse::fast_weight_at", sample);
    if (!data_->options().differentiable) {
      detail::reject("Synapse::fast_weight_at", "the synapse", "one that keeps its history",
                     "one that is not differentiable");
    }
    if (version < 0 || version > this->version()) {
      detail::reject("Synapse::fast_weight_at", "version",
                     "in 0 .. " + std::to_string(this->version()), version);
    }
    data_->history().advance();
    Vector<Scalar> values(data_->history().sample_size());
    data_->history().copy_version(version, sample, values.data());
    const Entry* entry = data_->history().newest();
    while (entry != nullptr && entry->version >= version) entry = entry->previous;
    return static_cast<Scalar>(data_->history().scale_after(entry, sample)) *
           data_->history().weight_matrix(values.data());
  }

 private:
  using Data = detail::SynapseData<Scalar>;
  using Entry = detail::UpdateEntry<Scalar>;

  void check_no_history(std::string_view function) const {
    if (data_->options().differentiable) {
      detail::reject(function, "the synapse", "one that is not differentiable",
                     "one that keeps its history");
    }
  }
  void check_not_empty(std::string_view function) const {
    if (empty()) detail::reject(function, "the synapse", "on a tape", "an empty one");
  }
  const Data& checked_data() const {
    check_not_empty("Synapse");
    return *data_;
  }

  void check_not_rewound(std::string_view function) const {
    if (data_->rewound(tape_->size())) {
      detail::reject(function, "the tape",
                     "at least as long as after the synapse's last read or write",
                     "one that was rewound past it");
    }
  }
  Var<Scalar> with_end_marked(const Var<Scalar>& result) {
    data_->set_end(tape_->size());
    return result;
  }

  /// Allocates the factors of the pending update, which no tape keeps.
  void allocate_pending() {
    pending_ = data_->history().make_entry();
    const auto leaf = [&](Index rows) {
      Scalar* memory = tape_->allocate(rows * samples());
      std::fill_n(memory, rows * samples(), Scalar(0));
      return &tape_->borrow(memory, rows, samples()).node();
    };
    pending_->pre = leaf(inputs());
    pending_->post = leaf(outputs());
    pending_->rate = leaf(1);
    pending_->decay = leaf(1);
  }

  void write_pending(const RankOne<Scalar>& change, const Var<Scalar>& rate,
                     const Var<Scalar>& decay) {
    data_->history().advance();
    pending_->pre->value_map() = change.pre.value();
    pending_->post->value_map() = change.post.value();
    pending_->rate->value_map() = rate.value();
    pending_->decay->value_map() = decay.value();
    pending_->bias_pre = static_cast<Scalar>(change.bias_pre);
    data_->history().replace(pending_);
  }

  void check_state(std::string_view function, Index sample) const {
    check_not_empty(function);
    if (!data_->options().plastic) {
      detail::reject(function, "the synapse", "plastic", "one without fast weights");
    }
    if (sample < 0 || sample >= samples()) {
      detail::reject(function, "sample", "in 0 .. " + std::to_string(samples() - 1), sample);
    }
  }

  void check(const SlowWeights<Scalar>& slow, const SynapseOptions& options) const {
    constexpr std::string_view here = "Synapse";
    tape_->check_on_this_tape(here, slow.weight);
    tape_->check_on_this_tape(here, slow.bias);
    const Index rows = slow.weight.rows();
    const Index cols = slow.weight.cols();
    detail::check_positive(here, "samples", options.samples);
    detail::check_range(here, "weight_clip", options.weight_clip, 0.0, 1e30);
    if (options.weight_clip > 0 && !(static_cast<Scalar>(options.weight_clip) > 0)) {
      detail::reject(here, "weight_clip", "0 or a positive number of the scalar type",
                     options.weight_clip);
    }
    if (options.snapshot_interval < 0) {
      detail::reject(here, "snapshot_interval", "at least 0", options.snapshot_interval);
    }
    detail::check_shape(here, "bias", slow.bias.rows(), slow.bias.cols(), rows, 1);
    if (!slow.alpha.empty()) {
      tape_->check_on_this_tape(here, slow.alpha);
      detail::check_shape(here, "alpha", slow.alpha.rows(), slow.alpha.cols(), rows, cols);
    }
    if (!slow.bias_alpha.empty()) {
      tape_->check_on_this_tape(here, slow.bias_alpha);
      detail::check_shape(here, "bias_alpha", slow.bias_alpha.rows(), slow.bias_alpha.cols(), rows,
                          1);
    }
  }

  void check(const RankOne<Scalar>& change, const Var<Scalar>& rate,
             const Var<Scalar>& decay) const {
    constexpr std::string_view here = "Synapse::write";
    if (!data_->options().plastic) {
      detail::reject(here, "the synapse", "plastic", "one without fast weights");
    }
    tape_->check_on_this_tape(here, change.pre);
    tape_->check_on_this_tape(here, change.post);
    tape_->check_on_this_tape(here, rate);
    tape_->check_on_this_tape(here, decay);
    detail::check_shape(here, "change.pre", change.pre.rows(), change.pre.cols(), inputs(),
                        samples());
    detail::check_shape(here, "change.post", change.post.rows(), change.post.cols(), outputs(),
                        samples());
    detail::check_shape(here, "rate", rate.rows(), rate.cols(), 1, samples());
    detail::check_shape(here, "decay", decay.rows(), decay.cols(), 1, samples());
  }

  Tape<Scalar>* tape_ = nullptr;
  Data* data_ = nullptr;
  Entry* pending_ = nullptr;
};

}  // namespace plastic
