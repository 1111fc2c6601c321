#pragma once

#include "plastic/cells/lstm.hpp"
#include "plastic/cells/rnn.hpp"
#include "plastic/rules/gradient.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/rules/none.hpp"

/// The cells that src/compiled_float.cpp and src/compiled_double.cpp compile once, so that files
/// that use them need not compile them. In effect if PLASTIC_COMPILED is defined, as it is by
/// CMake's target plastic::compiled, which also compiles those two files, and those of
/// kernels/compiled.hpp and cells/families.hpp. All files of a program must agree on the
/// instruction set (-march).

#ifdef PLASTIC_COMPILED

namespace plastic {

extern template class PlasticCell<Rnn, Gradient, float>;
extern template class PlasticCell<Rnn, Hebbian, float>;
extern template class PlasticCell<Rnn, NoPlasticity, float>;
extern template class PlasticCell<Lstm, Gradient, float>;
extern template class PlasticCell<Lstm, Hebbian, float>;
extern template class PlasticCell<Lstm, NoPlasticity, float>;

extern template class PlasticCell<Rnn, Gradient, double>;
extern template class PlasticCell<Rnn, Hebbian, double>;
extern template class PlasticCell<Rnn, NoPlasticity, double>;
extern template class PlasticCell<Lstm, Gradient, double>;
extern template class PlasticCell<Lstm, Hebbian, double>;
extern template class PlasticCell<Lstm, NoPlasticity, double>;

}  // namespace plastic

#endif
