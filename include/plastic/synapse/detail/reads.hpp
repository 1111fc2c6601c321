#pragma once

#include <array>
#include <span>

#include "plastic/synapse/detail/synapse_data.hpp"

/// The tape nodes of a synapse. Each version of the fast weights is read by one node or more; the
/// reads form a chain, so that a sweep which reaches a late read undoes every update before it.
namespace plastic::detail {

/// The first node of a synapse: swept last, it hands on what the sweep has gathered.
template <class Scalar>
class SynapseStart final : public Node<Scalar> {
 public:
  explicit SynapseStart(SynapseData<Scalar>* data) : data_(data) { this->needs_adjoint = true; }
  void propagate(Tape<Scalar>& tape) override { data_->end_sweep(tape); }

 private:
  SynapseData<Scalar>* data_;
};

/// Reads one version of the weights; the first of a version also undoes the updates that led to it.
template <class Scalar>
class SynapseRead : public Node<Scalar> {
 public:
  using Entry = UpdateEntry<Scalar>;

  SynapseRead(SynapseData<Scalar>* data, Node<Scalar>* argument)
      : data_(data), argument_{argument}, entry_(data->history.newest()) {
    this->needs_adjoint = data->options.differentiable;
    first_ = data->last_first_read == nullptr || data->read_entry != entry_;
    previous_ = data->last_first_read;
    down_to_ = data->read_entry;
    if (first_) {
      data->last_first_read = this;
      data->read_entry = entry_;
    }
  }

  std::span<Node<Scalar>* const> parents() const override { return argument_; }

  bool uses_wanted(Index first) override {
    weights_wanted_ = uses_wanted_weights(first);
    return argument().wanted || weights_wanted_;
  }

  void record(Tape<Scalar>& tape) final {
    if (weights_wanted_) {
      reject("Tape::gradient", "the path to the loss", "free of a synapse's weights and updates",
             "one through them");
    }
    if (entry_ != data_->history.newest()) {
      reject("Tape::gradient", "a synapse on the path to the loss",
             "without a write since it was read", "one that has been written");
    }
    if (argument().wanted) record_argument(tape);
  }

 protected:
  ~SynapseRead() = default;

  /// Records the adjoint of the argument.
  virtual void record_argument(Tape<Scalar>& tape) = 0;

  Node<Scalar>& argument() const { return *argument_[0]; }
  SynapseData<Scalar>& data() const { return *data_; }
  bool has_update() const { return entry_ != nullptr; }
  bool undoes() const { return first_ && has_update(); }
  Scalar* state() const { return data_->history.state_after(entry_); }
  Scalar* argument_adjoint(Tape<Scalar>& tape) const {
    return argument().needs_adjoint ? tape.open_adjoint(argument()).data() : nullptr;
  }

  void enter(Tape<Scalar>& tape) const {
    data_->begin_sweep(tape);
    if (previous_ != nullptr) tape.open_adjoint(*previous_);
  }

  /// The use x, dy came first after the newest of the updates to undo.
  void undo(Tape<Scalar>& tape, const Scalar* x, const Scalar* dy, bool uses_bias,
            Scalar* dx) const {
    data_->undo(tape, *entry_, x, dy, uses_bias, dx);
    for (Entry* e = entry_->previous; e != down_to_; e = e->previous) {
      data_->undo(tape, *e, data_->zeros, data_->zeros, false, nullptr);
    }
  }

 private:
  /// Whether W, b, A or a factor of an update enters what is wanted, from the index `first` on.
  bool uses_wanted_weights(Index first) const {
    const auto is_wanted = [](const Var<Scalar>& v) { return !v.empty() && v.node().wanted; };
    const SlowWeights<Scalar>& slow = data_->slow;
    if (is_wanted(slow.weight) || is_wanted(slow.bias) || is_wanted(slow.alpha) ||
        is_wanted(slow.bias_alpha)) {
      return true;
    }
    for (const Entry* e = entry_; e != nullptr && e->place > first; e = e->previous) {
      if (e->pre->wanted || e->post->wanted || e->rate->wanted || e->decay->wanted) return true;
    }
    return false;
  }

  SynapseData<Scalar>* data_;
  std::array<Node<Scalar>*, 1> argument_;
  Entry* entry_;    // the update before the version, nullptr for the initial weights
  Entry* down_to_;  // the update before the version that was read before
  bool first_ = false;
  bool weights_wanted_ = false;  // in the gradient that is being recorded
  Node<Scalar>* previous_ = nullptr;
};

template <class Read, class Scalar>
Var<Scalar> append_read(SynapseData<Scalar>& data, const Var<Scalar>& argument, Index rows) {
  Tape<Scalar>& tape = argument.tape();
  Scalar* memory = tape.allocate(rows * argument.cols());
  auto* node = tape.template emplace<Read>(&data, &argument.node());
  node->value = memory;
  node->rows = rows;
  node->cols = argument.cols();
  return {&tape, node};
}

/// u = (W + w) d.
template <class Scalar>
class TransposedRead final : public SynapseRead<Scalar> {
 public:
  using SynapseRead<Scalar>::SynapseRead;

  void propagate(Tape<Scalar>& tape) override {
    this->enter(tape);
    SynapseData<Scalar>& data = this->data();
    const Scalar* d = this->argument().value;
    const Scalar* du = this->adjoint;
    data.add_slow(tape, du, d);
    Scalar* dd = this->argument_adjoint(tape);
    if (!data.options.plastic) {
      if (dd != nullptr) data.add_slow_product(du, dd);
      return;
    }
    if (dd != nullptr) data.history.add_weight_product(this->state(), du, dd);
    if (this->has_update()) data.add_fast(du, d);
    if (this->undoes()) this->undo(tape, data.zeros, data.zeros, false, nullptr);
  }

 protected:
  void record_argument(Tape<Scalar>&) override {
    reject("Tape::gradient", "the path to the loss", "differentiated at most twice",
           "a third derivative of a plastic layer");
  }
};

template <class Scalar>
Var<Scalar> read_transposed(SynapseData<Scalar>& data, const Var<Scalar>& d) {
  const Var<Scalar> u = append_read<TransposedRead<Scalar>>(data, d, data.inputs());
  u.node().value_map().setZero();
  if (data.options.plastic) {
    data.history.add_transposed_product(data.history.latest(), d.node().value, u.node().value);
  } else {
    data.add_slow_transposed_product(d.node().value, u.node().value);
  }
  return u;
}

/// y = x (W + w) + b + beta.
template <class Scalar>
class ProductRead final : public SynapseRead<Scalar> {
 public:
  using SynapseRead<Scalar>::SynapseRead;

  void propagate(Tape<Scalar>& tape) override {
    this->enter(tape);
    SynapseData<Scalar>& data = this->data();
    const Scalar* x = this->argument().value;
    const Scalar* dy = this->adjoint;
    data.add_slow(tape, x, dy);
    data.add_slow_bias(tape, dy);
    Scalar* dx = this->argument_adjoint(tape);
    if (!data.options.plastic) {
      if (dx != nullptr) data.add_slow_transposed_product(dy, dx);
    } else if (this->undoes()) {
      this->undo(tape, x, dy, true, dx);
    } else {
      if (dx != nullptr) data.history.add_transposed_product(this->state(), dy, dx);
      if (this->has_update()) {
        data.add_fast(x, dy);
        data.add_fast_bias(dy);
      }
    }
  }

 protected:
  void record_argument(Tape<Scalar>& tape) override {
    add_recorded(tape, this->argument(),
                 read_transposed(this->data(), Var<Scalar>(&tape, this->recorded)));
  }
};

template <class Scalar>
Var<Scalar> read_product(SynapseData<Scalar>& data, const Var<Scalar>& x) {
  const Var<Scalar> y = append_read<ProductRead<Scalar>>(data, x, data.outputs());
  if (data.options.plastic) {
    data.history.read(x.node().value, y.node().value);
  } else {
    y.node().value_map() = data.slow.bias.value().col(0).replicate(1, x.cols());
    data.add_slow_product(x.node().value, y.node().value);
  }
  return y;
}

}  // namespace plastic::detail
