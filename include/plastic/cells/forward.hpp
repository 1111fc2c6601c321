#pragma once

/// Forward declarations, for headers that only hold or pass on networks:
///
///     #include "plastic/cells/forward.hpp"
///     class Controller {
///       std::unique_ptr<plastic::PlasticRNN<plastic::Hebbian, float>> net_;
///     };
namespace plastic {

template <class Scalar>
class Tape;
template <class Scalar>
class Var;
template <class Scalar>
class CellState;
template <class Dynamics, class Rule, class Scalar>
class PlasticCell;

struct CellOptions;

struct Rnn;
struct FeatureRnn;
struct Lstm;
struct FeatureLstm;
struct Linear;

struct Hebbian;
struct Gradient;
struct NoPlasticity;
#ifndef None  // a macro of X11's headers
using None = NoPlasticity;
#endif

/// A plastic network of rectified units, h' = relu(h_fc(h) + i_fc(relu(in_fc(x)))), o = out_fc(h');
/// its members are PlasticCell's. Source: Duan et al., ICLR 2023.
template <class Rule, class Scalar>
using PlasticRNN = PlasticCell<Rnn, Rule, Scalar>;

/// The same on another network's features, h' = relu(h_fc(h) + i_fc(x)).
template <class Rule, class Scalar>
using PlasticFeatureRNN = PlasticCell<FeatureRnn, Rule, Scalar>;

/// A plastic long short-term memory, [i f g o] = h_fc(h) + i_fc(relu(in_fc(x))); its members are
/// PlasticCell's. Source: Duan et al., ICLR 2023; Hochreiter, Schmidhuber 1997.
template <class Rule, class Scalar>
using PlasticLSTM = PlasticCell<Lstm, Rule, Scalar>;

/// The same on another network's features, [i f g o] = h_fc(h) + i_fc(x).
template <class Rule, class Scalar>
using PlasticFeatureLSTM = PlasticCell<FeatureLstm, Rule, Scalar>;

/// One plastic layer, o = out_fc(x), without a hidden state; `hidden` of the options is not used.
template <class Rule, class Scalar>
using PlasticLinear = PlasticCell<Linear, Rule, Scalar>;

}  // namespace plastic
