// The cells of cells/compiled.hpp in double.

#include "plastic/cells/compiled.hpp"

namespace plastic {

template class PlasticCell<Rnn, Gradient, double>;
template class PlasticCell<Rnn, Hebbian, double>;
template class PlasticCell<Rnn, NoPlasticity, double>;
template class PlasticCell<Lstm, Gradient, double>;
template class PlasticCell<Lstm, Hebbian, double>;
template class PlasticCell<Lstm, NoPlasticity, double>;

}  // namespace plastic
