#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "plastic/cells/families.hpp"

/// Networks whose fast weights are fast matrices, in every setting that changes what they compute.
namespace plastic::testing {

/// The settings with three inputs and two outputs.
template <class Options>
Options small(Options options, Index hidden) {
  options.inputs = 3;
  options.hidden = hidden;
  options.outputs = 2;
  options.seed = 7;
  return options;
}

/// Calls f(cell, name) for every network in every setting. 32 units and their halves are whole
/// vectors, so that no function of a sample is computed beside another's.
template <class Scalar, class F>
void for_each_model(Index hidden, F&& f) {
  const auto call = [&]<class Cell>(std::type_identity<Cell>, const typename Cell::Options& options,
                                    const std::string& what) {
    Cell cell(small(options, hidden));
    // Large enough that every bound is active, and that nothing is nearly linear.
    Parameters<Scalar>& parameters = cell.parameters();
    const double range = 1.6 / std::sqrt(static_cast<double>(hidden));
    for (Index n = 0; n < static_cast<Index>(parameters.blocks().size()); ++n) {
      parameters.unfreeze(n);
      if (parameters.block(n).name.starts_with("rule.") && parameters.block(n).size() == 1)
        continue;
      detail::start_block(parameters, n, 11, Start::uniform(-range, range));
    }
    f(cell, std::string(Cell::cell_name) + " " + std::string(Cell::rule_name) + " " + what);
  };
  using Shape = AlphaShape;
  using Form = TraceForm;
  constexpr std::type_identity<TraceRNN<Scalar>> trace;
  call(trace, {.eta = 0.2}, "decay");
  call(trace, {.form = Form::oja, .alpha = Shape::neuron, .eta = 0.4}, "oja, neuron");
  call(trace, {.form = Form::clip, .clip = 0.3, .eta = 0.9}, "clip");
  call(trace, {.form = Form::soft, .clip = 0.6, .alpha = Shape::single, .eta = 0.9},
       "soft, single");
  call(trace, {.form = Form::additive, .eta = 0.3}, "additive");
  call(trace, {.eta = 0.2, .readout = false}, "decay, no readout");
  call(std::type_identity<TraceClampRNN<Scalar>>{}, {.eta = 0.2}, "decay");

  constexpr std::type_identity<ModulatedRNN<Scalar>> modulated;
  call(modulated, {.clip = 0.2}, "clip, fan-out");
  call(modulated, {.form = Form::decay, .squash = Squash::sigmoid}, "decay, fan-out");
  call(modulated, {.form = Form::decay, .fanout = false, .squash = Squash::sigmoid}, "decay");
  call(modulated, {.form = Form::soft, .clip = 0.5, .fanout = false}, "soft");
  call(modulated, {.form = Form::additive, .alpha = Shape::neuron, .squash = Squash::none},
       "additive, neuron, none");
  constexpr std::type_identity<ModulatedLSTM<Scalar>> modulated_lstm;
  call(modulated_lstm, {.clip = 0.05, .alpha = Shape::neuron}, "clip, fan-out, neuron");
  call(modulated_lstm, {.form = Form::decay, .fanout = false}, "decay");

  constexpr std::type_identity<RetroactiveRNN<Scalar>> retroactive;
  call(retroactive, {.clip = 0.1, .eta = 0.5}, "clip, hebb");
  call(retroactive, {.form = Form::soft, .clip = 0.4, .delta = EligibilityForm::oja, .eta = 0.5},
       "soft, oja");
  call(retroactive, {.form = Form::additive, .squash = Squash::sigmoid, .eta = 0.5}, "additive");

  constexpr std::type_identity<FastWeightsRNN<Scalar>> fast_weights;
  call(fast_weights, {.activation = Activation::tanh}, "tanh, norm");
  call(fast_weights, {.loops = 3}, "relu, norm, three loops");
  call(fast_weights, {.loops = 2, .layer_norm = false, .eta = 0.1}, "relu, two loops");

  constexpr std::type_identity<DeltaNet<Scalar>> delta;
  call(delta, {}, "elu");
  call(delta, {.feature = DeltaFeature::dpfp, .nu = 2}, "dpfp 2");
  call(delta, {.heads = 2, .bias = false}, "elu, two heads, no bias");
  call(delta, {.correct = false}, "elu, sum");
  constexpr std::type_identity<DeltaRNN<Scalar>> delta_rnn;
  call(delta_rnn, {.heads = 2}, "elu, two heads");
  call(delta_rnn, {.feature = DeltaFeature::dpfp}, "dpfp 1");
  constexpr std::type_identity<RecurrentDeltaNet<Scalar>> recurrent_delta;
  call(recurrent_delta, {}, "one head");
  call(recurrent_delta, {.heads = 2}, "two heads");

  constexpr std::type_identity<StpnRNN<Scalar>> stpn;
  call(stpn, {}, "pre");
  call(stpn, {.norm = StpnNorm::post, .clip = 0.3}, "post, clip");
  call(stpn, {.norm = StpnNorm::none, .plastic = StpnPlastic::hidden}, "none, hidden");
  call(stpn, {.norm = StpnNorm::pre, .plastic = StpnPlastic::hidden, .scalar = true},
       "pre, hidden, scalar");
  call(stpn, {.presynaptic = StpnPresynaptic::after}, "pre, new presynaptic");

  constexpr std::type_identity<AbcdMLP<Scalar>> abcd;
  call(abcd, {.squash = Squash::tanh}, "ABCD_lr");
  call(abcd, {.form = AbcdForm::ABCD, .normalise = AbcdNormalise::max}, "ABCD, max");
  constexpr std::type_identity<AbcdRNN<Scalar>> abcd_rnn;
  for (const AbcdForm form :
       {AbcdForm::A, AbcdForm::AD, AbcdForm::AD_lr, AbcdForm::ABC, AbcdForm::ABC_lr, AbcdForm::ABCD,
        AbcdForm::ABCD_lr_D_out, AbcdForm::ABCD_lr_D_in_and_out}) {
    call(abcd_rnn, {.form = form}, detail::setting_text(form));
  }
}

}  // namespace plastic::testing
