#pragma once

#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "plastic/cells/compiled.hpp"
#include "plastic/cells/linear.hpp"
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

/// The smallest rule and cell that a user can write outside the library.
struct AntiHebbian {
  static constexpr std::string_view name = "anti_hebbian";
  static constexpr bool plastic = true;
  template <class Scalar>
  static void propose(RuleStep<Scalar>& step) {
    for (Connection<Scalar>& layer : step.connections) {
      layer.change = {layer.input, -layer.activity, 1};
    }
  }
};

struct Leaky {
  static constexpr std::string_view name = "leaky";
  static constexpr std::size_t states = 1;
  static Index features(const CellOptions& o) { return o.hidden; }
  static std::vector<LayerShape> layers(const CellOptions& o) {
    return {{"x", o.inputs, o.hidden, 1}, {"h", o.hidden, o.hidden, 1}};
  }
  template <class Scalar>
  static Var<Scalar> advance(CellStep<Scalar>& step, const Var<Scalar>& x) {
    const Var<Scalar> drive = tanh(step.layer(0, x) + step.layer(1, step.state(0)));
    step.activity(0, drive);
    step.activity(1, drive);
    return step.state(0) * 0.5 + drive * 0.5;
  }
};

}  // namespace plastic::testing
