// The cells of cells/compiled.hpp in float.

#include "plastic/cells/compiled.hpp"

namespace plastic {

template class PlasticCell<Rnn, Gradient, float>;
template class PlasticCell<Rnn, Hebbian, float>;
template class PlasticCell<Rnn, NoPlasticity, float>;
template class PlasticCell<Lstm, Gradient, float>;
template class PlasticCell<Lstm, Hebbian, float>;
template class PlasticCell<Lstm, NoPlasticity, float>;

}  // namespace plastic
