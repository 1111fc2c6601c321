#pragma once

/// The members of PlasticCell; cells/cell.hpp includes it at its end.

#include "plastic/cells/cell.hpp"

namespace plastic {

template <class Dynamics, class Rule, class Scalar>
PlasticCell<Dynamics, Rule, Scalar>::PlasticCell(const Options& options) : options_(options) {
  const std::vector<LayerShape> shapes = layer_shapes(options);
  if (shapes.size() > max_layers) {
    detail::reject("PlasticCell", "the number of layers", "at most " + std::to_string(max_layers),
                   shapes.size());
  }
  for (const LayerShape& shape : shapes) {
    if constexpr (is_model) {
      layers_.emplace_back(parameters_, shape, options.seed);
    } else {
      layers_.emplace_back(parameters_, shape, options, Rule::plastic);
    }
    layer_names_.emplace_back(shape.name);
  }
  if constexpr (is_model) {
    matrix_shapes_ = Dynamics::matrices(options);
    blocks_ = detail::add_model_blocks<Dynamics>(options, parameters_);
    return;
  } else {
    out_scale_ = parameters_.add("out_scale", options.all_outputs(), 1);
    parameters_.matrix(out_scale_).setOnes();
    if (options.layer_norm) {
      norm_gain_ = parameters_.add("layer_norm.weight", Dynamics::features(options), 1);
      norm_bias_ = parameters_.add("layer_norm.bias", Dynamics::features(options), 1);
      parameters_.matrix(norm_gain_).setOnes();
    }
  }
}

template <class Dynamics, class Rule, class Scalar>
std::vector<LayerShape> PlasticCell<Dynamics, Rule, Scalar>::layer_shapes(const Options& options) {
  options.validate();
  std::vector<LayerShape> shapes = Dynamics::layers(options);
  if constexpr (!is_model) {
    LayerShape& output = shapes.emplace_back();
    output.name = "out_fc";
    output.inputs = Dynamics::features(options);
    output.outputs = options.all_outputs();
  }
  return shapes;
}

template <class Dynamics, class Rule, class Scalar>
Episode<Scalar> PlasticCell<Dynamics, Rule, Scalar>::begin(Tape<Scalar>& tape,
                                                           CellState<Scalar>& from,
                                                           Vector<Scalar>* gradients) const {
  check_owner("PlasticCell::begin", from.episode_);
  refresh_parameters(from.episode_);
  Episode<Scalar> episode = begin(tape, from.samples(), gradients, true);
  copy_state(from.episode_, episode);
  return episode;
}

template <class Dynamics, class Rule, class Scalar>
void PlasticCell<Dynamics, Rule, Scalar>::run(CellState<Scalar>& state,
                                              const Matrix<Scalar>& inputs, Matrix<Scalar>& output,
                                              Matrix<Scalar>* eta,
                                              std::span<const Index> lengths) const {
  check_owner("PlasticCell::run", state.episode_);
  if (&output == &inputs || &output == eta || eta == &inputs) {
    detail::reject("PlasticCell::run", "inputs, output and eta", "different matrices",
                   "the same one twice");
  }
  output.resize(options_.outputs, inputs.cols());
  if (eta != nullptr) eta->resize(1, inputs.cols());
  run(state, {inputs.data(), inputs.rows(), inputs.cols()},
      {output.data(), output.rows(), output.cols()},
      {eta == nullptr ? nullptr : eta->data(), 1, inputs.cols()}, lengths);
}

template <class Dynamics, class Rule, class Scalar>
void PlasticCell<Dynamics, Rule, Scalar>::run(CellState<Scalar>& state,
                                              const ConstMatrixMap<Scalar>& inputs,
                                              MatrixMap<Scalar> output, MatrixMap<Scalar> eta,
                                              std::span<const Index> lengths) const {
  check_owner("PlasticCell::run", state.episode_);
  const Index samples = state.samples();
  const Index steps = count_steps(inputs, samples);
  detail::check_shape("PlasticCell::run", "output", output.rows(), output.cols(), options_.outputs,
                      inputs.cols());
  detail::check_shape("PlasticCell::run", "eta", eta.rows(), eta.cols(), 1, inputs.cols());
  check_lengths(lengths, samples, steps);
  refresh_parameters(state.episode_);
  for (Index t = 0; t < steps; ++t) {
    const auto result =
        step_without_recording(state.episode_, inputs.middleCols(t * samples, samples), lengths, t);
    output.middleCols(t * samples, samples) = result.output;
    if (eta.data() != nullptr) eta.middleCols(t * samples, samples) = result.eta;
  }
}

template <class Dynamics, class Rule, class Scalar>
Episode<Scalar> PlasticCell<Dynamics, Rule, Scalar>::begin(Tape<Scalar>& tape, Index samples,
                                                           Vector<Scalar>* gradients,
                                                           bool differentiable) const {
  detail::check_positive("PlasticCell::begin", "samples", samples);
  detail::check_product("PlasticCell::begin", "samples times parameters", samples,
                        parameters_.size(), detail::most_values<Scalar>);
  if (tape.swept()) {
    detail::reject("PlasticCell::begin", "the tape",
                   "cleared after its sweep (Tape::clear), or it would grow with every episode",
                   "one with " + std::to_string(tape.size()) + " nodes from before its sweep");
  }
  if (gradients != nullptr && gradients->size() != parameters_.size()) {
    detail::reject(
        "PlasticCell::begin", "gradients",
        "a vector of length " + std::to_string(parameters_.size()) + " (see zero_gradients())",
        gradients->size());
  }
  Episode<Scalar> episode;
  episode.tape = &tape;
  episode.cell = this;
  episode.parameters = parameters_.values().data();
  episode.parameter_count = parameters_.size();
  episode.samples = samples;
  episode.differentiable = differentiable;
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    SynapseOptions of_layer{samples, has_fast_layers, differentiable};
    if constexpr (has_fast_layers) {
      of_layer.weight_clip = options_.weight_clip;
      of_layer.snapshot_interval = options_.snapshot_interval;
    }
    episode.synapses[l] =
        Synapse<Scalar>(tape, layers_[l].on(tape, parameters_, gradients), of_layer);
  }
  for (std::size_t k = 0; k < Dynamics::states; ++k) {
    episode.state[k] = tape.constant(Matrix<Scalar>::Zero(options_.hidden, samples));
  }
  if constexpr (is_model) {
    detail::begin_model<Dynamics>(options_, parameters_, matrix_shapes_, blocks_, gradients,
                                  episode);
    return episode;
  } else {
    episode.out_scale = borrow(tape, parameters_, out_scale_, gradients);
    if (options_.layer_norm) {
      episode.norm_gain = borrow(tape, parameters_, norm_gain_, gradients);
      episode.norm_bias = borrow(tape, parameters_, norm_bias_, gradients);
    }
    if (!options_.modulation) {
      const auto fixed = [&](double value) {
        return tape.constant(Matrix<Scalar>::Constant(1, samples, static_cast<Scalar>(value)));
      };
      episode.fixed_eta = fixed(options_.eta0);
      episode.fixed_decay = fixed(options_.decay0);
    }
    episode.step_begin = tape.position();
    return episode;
  }
}

template <class Dynamics, class Rule, class Scalar>
CellOutput<Var<Scalar>> PlasticCell<Dynamics, Rule, Scalar>::run_borrowed(
    Episode<Scalar>& episode, const ConstMatrixMap<Scalar>& inputs, std::span<const Index> lengths,
    bool last_update) const {
  const Index steps = count_steps(inputs, episode.samples);
  check_lengths(lengths, episode.samples, steps);
  Tape<Scalar>& tape = *episode.tape;
  using Vars = Var<Scalar>;
  Vars* outputs = tape.arena().template allocate_array<Vars>(static_cast<std::size_t>(2 * steps));
  Vars* etas = outputs + steps;
  for (Index t = 0; t < steps; ++t) {
    const Vars x =
        tape.borrow(inputs.col(t * episode.samples).data(), options_.inputs, episode.samples);
    const CellOutput<Vars> result = advance(episode, x, last_update || t + 1 < steps, lengths, t);
    outputs[t] = result.output;
    etas[t] = result.eta;
  }
  const auto count = static_cast<std::size_t>(steps);
  return {concatenate_samples(std::span<const Vars>(outputs, count)),
          concatenate_samples(std::span<const Vars>(etas, count))};
}

template <class Dynamics, class Rule, class Scalar>
Var<Scalar> PlasticCell<Dynamics, Rule, Scalar>::active_samples(const Episode<Scalar>& episode,
                                                                std::span<const Index> lengths,
                                                                Index t) {
  const auto ended = [t](Index length) { return length <= t; };
  if (std::none_of(lengths.begin(), lengths.end(), ended)) return {};
  return episode.tape->constant(Matrix<Scalar>::NullaryExpr(
      1, episode.samples,
      [&](Index, Index s) -> Scalar { return lengths[static_cast<std::size_t>(s)] > t ? 1 : 0; }));
}

template <class Dynamics, class Rule, class Scalar>
CellOutput<Var<Scalar>> PlasticCell<Dynamics, Rule, Scalar>::advance(Episode<Scalar>& episode,
                                                                     Var<Scalar> x, bool update,
                                                                     std::span<const Index> lengths,
                                                                     Index t) const {
  // A sample that has ended takes the step from zero input and state, so that everything stays
  // finite, with a learning rate and decay of zero; afterwards it gets its states back.
  const Var<Scalar> active = active_samples(episode, lengths, t);
  const auto zero_if_ended = [&](const Var<Scalar>& v) {
    if (active.empty()) return v;
    return select(active, v, episode.tape->constant(Matrix<Scalar>::Zero(v.rows(), v.cols())));
  };
  const std::array<Var<Scalar>, max_states> previous = episode.state;
  x = zero_if_ended(x);
  for (std::size_t k = 0; k < Dynamics::states; ++k) episode.state[k] = zero_if_ended(previous[k]);
  const auto keep_if_ended = [&] {
    if (active.empty()) return;
    for (std::size_t k = 0; k < Dynamics::states; ++k) {
      episode.state[k] = select(active, episode.state[k], previous[k]);
    }
  };
  if constexpr (is_model) {
    const CellOutput<Var<Scalar>> result =
        detail::advance_model<Dynamics>(options_, episode, x, update, active);
    keep_if_ended();
    return {zero_if_ended(result.output), zero_if_ended(result.eta)};
  } else {
    CellStep<Scalar> step(episode);
    Var<Scalar> hidden = Dynamics::advance(step, x);
    check_advance(episode, hidden);
    if (options_.layer_norm) hidden = layer_norm(hidden, episode.norm_gain, episode.norm_bias);
    if constexpr (Dynamics::states > 0) step.set_state(0, hidden);
    const std::size_t out_fc = layers_.size() - 1;
    const Var<Scalar> all = step.layer(out_fc, hidden);
    step.activity(out_fc, all);

    Var<Scalar> eta = episode.fixed_eta;
    Var<Scalar> decay = episode.fixed_decay;
    if (options_.modulation) {
      const Var<Scalar> half_m = sigmoid(rows(all, all.rows() - 1, 1));
      eta = half_m * (2 * options_.eta0);
      if (Rule::plastic && update) decay = half_m * (2 * options_.decay0);
    }
    eta = zero_if_ended(eta);
    if constexpr (Rule::plastic) {
      if (update) update_fast_weights(episode, step, all, eta, zero_if_ended(decay));
    }
    keep_if_ended();
    return {zero_if_ended(rows(all, 0, options_.outputs)), eta};
  }
}

template <class Dynamics, class Rule, class Scalar>
void PlasticCell<Dynamics, Rule, Scalar>::update_fast_weights(Episode<Scalar>& episode,
                                                              CellStep<Scalar>& step,
                                                              const Var<Scalar>& all,
                                                              const Var<Scalar>& eta,
                                                              const Var<Scalar>& decay) const {
  if constexpr (!is_model) {
    const std::size_t count = layers_.size();
    RuleStep<Scalar> view{*episode.tape,
                          step.connections(count),
                          all,
                          episode.out_scale,
                          static_cast<Scalar>(options_.inner_scale),
                          std::span(episode.synapses.data(), count)};
    for (std::size_t l = 0; l < count; ++l) check_applied(view.connections[l], l);
    Rule::propose(view);
    std::array<RankOne<Scalar>, max_layers> changes;
    for (std::size_t l = 0; l < count; ++l) {
      changes[l] = view.connections[l].change;
      check_proposal(changes[l], l);
    }
    const Var<Scalar> rate = clipped_rate(
        eta, std::span<const RankOne<Scalar>>(changes.data(), count), options_.max_norm);
    for (std::size_t l = 0; l < count; ++l) episode.synapses[l].write(changes[l], rate, decay);
  }
}

template <class Dynamics, class Rule, class Scalar>
CellOutput<ConstMatrixMap<Scalar>> PlasticCell<Dynamics, Rule, Scalar>::step_without_recording(
    Episode<Scalar>& episode, const Eigen::Ref<const Matrix<Scalar>>& x,
    std::span<const Index> lengths, Index t) const {
  Tape<Scalar>& tape = *episode.tape;
  tape.rewind(episode.step_begin);
  const std::array<Var<Scalar>, max_states> state_memory = episode.state;
  const CellOutput<Var<Scalar>> result = advance(episode, tape.constant(x), true, lengths, t);
  for (std::size_t k = 0; k < Dynamics::states; ++k) {
    state_memory[k].node().value_map() = episode.state[k].value();
  }
  episode.state = state_memory;
  return {result.output.value(), result.eta.value()};
}

template <class Dynamics, class Rule, class Scalar>
void PlasticCell<Dynamics, Rule, Scalar>::refresh_parameters(Episode<Scalar>& episode) const {
  if (episode.parameters != parameters_.values().data()) {
    episode.parameters = parameters_.values().data();
    const auto rebind = [&](const Var<Scalar>& v, Index number) {
      if (!v.empty()) v.node().value = const_cast<Scalar*>(parameters_.matrix(number).data());
    };
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      layers_[l].rebind(episode.synapses[l].slow_weights(), parameters_);
    }
    for (std::size_t k = 0; k < blocks_.size(); ++k) rebind(episode.blocks[k], blocks_[k]);
    rebind(episode.out_scale, out_scale_);
    rebind(episode.norm_gain, norm_gain_);
    rebind(episode.norm_bias, norm_bias_);
  }
  for (std::size_t l = 0; l < layers_.size(); ++l) episode.synapses[l].refresh_slow_weights();
}

template <class Dynamics, class Rule, class Scalar>
void PlasticCell<Dynamics, Rule, Scalar>::check_owner(std::string_view function,
                                                      const Episode<Scalar>& episode) const {
  if (episode.cell != this) {
    detail::reject(function, "the state or episode",
                   "one that this cell began (initial_state or begin)",
                   episode.cell == nullptr ? "an empty one" : "one of another cell");
  }
  if (!(is_model ? episode.state[0] : episode.out_scale).usable()) {
    detail::reject(function, "the episode", "on its tape",
                   "one whose tape has been cleared: begin a new one");
  }
  if (episode.parameter_count != parameters_.size() ||
      (episode.differentiable && episode.parameters != parameters_.values().data())) {
    detail::reject(function, "the cell's parameters", "those that the state or episode began with",
                   "different ones: begin a new one");
  }
}

}  // namespace plastic
