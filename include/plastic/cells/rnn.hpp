#pragma once

#include "plastic/cells/cell.hpp"

namespace plastic {

/// e = relu(in_fc(x)); h' = relu(h_fc(h) + i_fc(e)).
struct Rnn {
  static constexpr std::string_view name = "rnn";
  static constexpr std::size_t states = 1;
  enum Layers : std::size_t { in_fc, h_fc, i_fc };

  static Index features(const CellOptions& o) { return o.hidden; }

  static std::vector<LayerShape> layers(const CellOptions& o) {
    return {{"in_fc", o.inputs, o.hidden, 1},
            {"h_fc", o.hidden, o.hidden, 1},
            {"i_fc", o.hidden, o.hidden, 1}};
  }

  template <class Scalar>
  static Var<Scalar> advance(Step<Scalar>& step, const Var<Scalar>& x) {
    const Var<Scalar> e = relu(step.layer(in_fc, x));
    const Var<Scalar> h = relu(step.layer(h_fc, step.state(0)) + step.layer(i_fc, e));
    step.activity(in_fc, e);
    step.activity(h_fc, h);
    step.activity(i_fc, h);
    return h;
  }
};

template <class Rule, class Scalar>
using PlasticRNN = PlasticCell<Rnn, Rule, Scalar>;

}  // namespace plastic
