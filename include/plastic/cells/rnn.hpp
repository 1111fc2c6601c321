#pragma once

#include "plastic/cells/cell.hpp"
#include "plastic/cells/forward.hpp"

namespace plastic {
namespace detail {

/// h' = relu(h_fc(h) + i_fc(e)); h_fc and i_fc are indices of layers.
template <class Scalar>
Var<Scalar> rnn_step(CellStep<Scalar>& step, std::size_t h_fc, std::size_t i_fc,
                     const Var<Scalar>& e) {
  const Var<Scalar> h = relu(step.layer(h_fc, step.state(0)) + step.layer(i_fc, e));
  step.activity(h_fc, h);
  step.activity(i_fc, h);
  return h;
}

}  // namespace detail

/// e = relu(in_fc(x)); h' = relu(h_fc(h) + i_fc(e)).
struct Rnn {
  static constexpr std::string_view name = "rnn";  ///< name in files
  static constexpr std::size_t states = 1;         ///< h
  /// Indices of the layers, in the order of `layers`.
  enum Layers : std::size_t { in_fc, h_fc, i_fc };

  static Index features(const CellOptions& o) { return o.hidden; }  ///< rows of h'

  /// in_fc: hidden x inputs; h_fc and i_fc: hidden x hidden.
  static std::vector<LayerShape> layers(const CellOptions& o) {
    return {{"in_fc", o.inputs, o.hidden, 1},
            {"h_fc", o.hidden, o.hidden, 1},
            {"i_fc", o.hidden, o.hidden, 1}};
  }

  /// One time step. x: inputs x samples; returns h', hidden x samples.
  template <class Scalar>
  static Var<Scalar> advance(CellStep<Scalar>& step, const Var<Scalar>& x) {
    const Var<Scalar> e = relu(step.layer(in_fc, x));
    step.activity(in_fc, e);
    return detail::rnn_step(step, h_fc, i_fc, e);
  }
};

/// The same on another network's features: h' = relu(h_fc(h) + i_fc(x)).
struct FeatureRnn {
  static constexpr std::string_view name = "feature_rnn";  ///< name in files
  static constexpr std::size_t states = 1;                 ///< h
  /// Indices of the layers, in the order of `layers`.
  enum Layers : std::size_t { h_fc, i_fc };

  static Index features(const CellOptions& o) { return o.hidden; }  ///< rows of h'

  /// h_fc: hidden x hidden; i_fc: hidden x inputs.
  static std::vector<LayerShape> layers(const CellOptions& o) {
    return {{"h_fc", o.hidden, o.hidden, 1}, {"i_fc", o.inputs, o.hidden, 1}};
  }

  /// One time step. x: inputs x samples; returns h', hidden x samples.
  template <class Scalar>
  static Var<Scalar> advance(CellStep<Scalar>& step, const Var<Scalar>& x) {
    return detail::rnn_step(step, h_fc, i_fc, x);
  }
};

}  // namespace plastic
