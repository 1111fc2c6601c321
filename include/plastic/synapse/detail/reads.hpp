#pragma once

#include <array>
#include <span>

#include "plastic/synapse/detail/synapse_data.hpp"

/// The tape nodes of a synapse. Each version of the fast weights is read by one node or more; the
/// reads form a chain, so that a sweep which reaches a late read goes back over every update before
/// it.
namespace plastic::detail {

/// The first node of a synapse: swept last, it passes on the adjoints that the sweep has gathered.
template <class Scalar>
class SynapseStart final : public Node<Scalar> {
 public:
  explicit SynapseStart(SynapseData<Scalar>* data) : data_(data) { this->needs_adjoint = true; }
  void propagate(Tape<Scalar>& tape) override { data_->end_sweep(tape); }

 private:
  SynapseData<Scalar>* data_;
};

/// A read of one version of the weights; the first read of a version also goes backward over the
/// updates that led to it.
template <class Scalar>
class SynapseRead : public Node<Scalar> {
 public:
  using Entry = UpdateEntry<Scalar>;

  SynapseRead(SynapseData<Scalar>* data, Node<Scalar>* argument)
      : data_(data), argument_{argument} {
    this->needs_adjoint = data->options().differentiable;
  }

  /// Must be called once, before anything else.
  void set_link(const ReadLink<Scalar>& link) { link_ = link; }

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
    if (link_.entry != data_->history().newest()) {
      reject("Tape::gradient", "a synapse on the path to the loss", "unwritten since it was read",
             "one that has been written");
    }
    if (argument().wanted) record_argument(tape);
  }

 protected:
  ~SynapseRead() = default;

  /// Records the adjoint of the argument.
  virtual void record_argument(Tape<Scalar>& tape) = 0;

  Node<Scalar>& argument() const { return *argument_[0]; }
  SynapseData<Scalar>& data() const { return *data_; }
  Scalar* argument_adjoint(Tape<Scalar>& tape) const {
    return argument().needs_adjoint ? tape.open_adjoint(argument()).data() : nullptr;
  }

  /// Prepares the walk at the version that was read.
  void begin_backward(Tape<Scalar>& tape) const {
    data_->begin_sweep(tape);
    if (link_.previous != nullptr) tape.open_adjoint(*link_.previous);
    if (data_->options().plastic) data_->walk().go_to(link_.entry);
  }

  bool has_update() const { return link_.entry != nullptr; }
  /// Whether the sweep goes backward over updates from here.
  bool has_backward_updates() const { return link_.first && has_update(); }

  /// Goes backward to the previously read version; `read` is the first read after the newest of the
  /// updates between.
  void backward_updates(Tape<Scalar>& tape, const BackwardRead<Scalar>& read, Scalar* dx) const {
    const auto alpha = data_->alpha_adjoints(tape);
    data_->walk().backward_update(tape, *link_.entry, read, dx, alpha);
    for (Entry* e = link_.entry->previous; e != link_.down_to; e = e->previous) {
      data_->walk().backward_update(tape, *e, {}, nullptr, alpha);
    }
  }

 private:
  /// Whether W, b, A or a factor of an update, from the index `first` on, is wanted.
  bool uses_wanted_weights(Index first) const {
    const auto is_wanted = [](const Var<Scalar>& v) { return !v.empty() && v.node().wanted; };
    const SlowWeights<Scalar>& slow = data_->slow();
    if (is_wanted(slow.weight) || is_wanted(slow.bias) || is_wanted(slow.alpha) ||
        is_wanted(slow.bias_alpha)) {
      return true;
    }
    for (const Entry* e = link_.entry; e != nullptr && e->tape_size > first; e = e->previous) {
      if (e->pre->wanted || e->post->wanted || e->rate->wanted || e->decay->wanted) return true;
    }
    return false;
  }

  SynapseData<Scalar>* data_;
  std::array<Node<Scalar>*, 1> argument_;
  ReadLink<Scalar> link_;
  bool weights_wanted_ = false;  // in the gradient that is being recorded
};

template <class Read, class Scalar, class... More>
Var<Scalar> append_read(SynapseData<Scalar>& data, const Var<Scalar>& argument, Index rows,
                        const More&... more) {
  Tape<Scalar>& tape = argument.tape();
  auto* read =
      tape.template emplace_result<Read>(rows, argument.cols(), &data, &argument.node(), more...);
  read->set_link(data.append(read));
  return {&tape, read};
}

/// u = (W + w) d; if `alive` is given (inputs x samples), only in the rows where it is not 0, and 0
/// elsewhere.
template <class Scalar>
class TransposedRead final : public SynapseRead<Scalar> {
 public:
  TransposedRead(SynapseData<Scalar>* data, Node<Scalar>* argument, const Scalar* alive)
      : SynapseRead<Scalar>(data, argument), alive_(alive) {}

  void propagate(Tape<Scalar>& tape) override {
    this->begin_backward(tape);
    SynapseData<Scalar>& data = this->data();
    if (alive_ != nullptr) {
      for (Index k = 0; k < this->rows * this->cols; ++k) {
        if (alive_[k] == Scalar(0)) this->adjoint[k] = 0;
      }
    }
    const BackwardRead<Scalar> read{this->adjoint, this->argument().value};
    data.add_slow(tape, read.x, read.dy);
    Scalar* dd = this->argument_adjoint(tape);
    if (!data.options().plastic) {
      if (dd != nullptr) data.add_slow_product(read.x, dd);
      return;
    }
    data.walk().backward_to_output(read, dd);
    if (this->has_update()) data.walk().add_outer_product(read);
    if (this->has_backward_updates()) this->backward_updates(tape, {}, nullptr);
  }

 protected:
  void record_argument(Tape<Scalar>&) override {
    reject("Tape::gradient", "the path to the loss", "differentiated at most twice",
           "a third derivative of a plastic layer");
  }

 private:
  const Scalar* alive_;
};

template <class Scalar>
Var<Scalar> read_transposed(SynapseData<Scalar>& data, const Var<Scalar>& d,
                            const Scalar* alive = nullptr) {
  const Var<Scalar> u = append_read<TransposedRead<Scalar>>(data, d, data.inputs(), alive);
  Scalar* to = u.node().value;
  u.node().value_map().setZero();
  if (!data.options().plastic) {
    data.add_slow_transposed_product(d.node().value, to);
    return u;
  }
  History<Scalar>& history = data.history();
  for (Index s = 0; s < history.samples(); ++s) {
    const Scalar* v = history.latest(s);
    alive == nullptr ? history.choose_all_rows(s) : history.choose_rows(s, alive);
    history.add_transposed_product(s, v, history.scale(s), d.node().value + s * data.outputs(),
                                   to + s * data.inputs());
  }
  return u;
}

/// y = x (W + w) + b + beta.
template <class Scalar>
class ProductRead final : public SynapseRead<Scalar> {
 public:
  using SynapseRead<Scalar>::SynapseRead;

  void propagate(Tape<Scalar>& tape) override {
    this->begin_backward(tape);
    SynapseData<Scalar>& data = this->data();
    const BackwardRead<Scalar> read{this->argument().value, this->adjoint, true,
                                    !this->argument().zeros_are_silent()};
    data.add_slow(tape, read.x, read.dy);
    data.add_slow_bias(tape, read.dy);
    Scalar* dx = this->argument_adjoint(tape);
    if (!data.options().plastic) {
      if (dx != nullptr) data.add_slow_transposed_product(read.dy, dx);
    } else if (this->has_backward_updates()) {
      this->backward_updates(tape, read, dx);
    } else {
      data.walk().backward_to_input(read, dx);
      if (this->has_update()) data.walk().add_outer_product(read);
    }
  }

 protected:
  void record_argument(Tape<Scalar>& tape) override {
    const Node<Scalar>& x = this->argument();
    const bool masked = this->data().options().plastic && x.masks_zeros && !x.target;
    add_recorded(tape, this->argument(),
                 read_transposed(this->data(), Var<Scalar>(&tape, this->recorded),
                                 masked ? x.value : nullptr));
  }
};

template <class Scalar>
Var<Scalar> read_product(SynapseData<Scalar>& data, const Var<Scalar>& x) {
  const Var<Scalar> y = append_read<ProductRead<Scalar>>(data, x, data.outputs());
  if (data.options().plastic) {
    data.history().read(x.node(), y.node().value);
  } else {
    y.node().value_map() = data.slow().bias.value().col(0).replicate(1, x.cols());
    data.add_slow_product(x.node().value, y.node().value);
  }
  return y;
}

}  // namespace plastic::detail
