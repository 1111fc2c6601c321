#pragma once

#include <tuple>
#include <utility>

#include "plastic/cells/linear.hpp"
#include "plastic/cells/lstm.hpp"
#include "plastic/cells/rnn.hpp"
#include "plastic/rules/gradient.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/rules/none.hpp"

namespace plastic::testing {

template <class Scalar>
using CellsOf =
    std::tuple<PlasticRNN<Gradient, Scalar>, PlasticRNN<Hebbian, Scalar>, PlasticRNN<None, Scalar>,
               PlasticLSTM<Gradient, Scalar>, PlasticLSTM<Hebbian, Scalar>,
               PlasticLSTM<None, Scalar>, PlasticLinear<Hebbian, Scalar>>;

/// Cells of every kind that a file names, with float and double.
using AllCells =
    decltype(std::tuple_cat(std::declval<CellsOf<float>>(), std::declval<CellsOf<double>>()));

}  // namespace plastic::testing
