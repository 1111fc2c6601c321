#include <catch2/catch.hpp>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "support/cells.hpp"
#include "support/errors.hpp"

using namespace plastic;
using namespace plastic::testing;

namespace {

// Rules and cells with a mistake each.
struct Forgetful : AntiHebbian {
  static constexpr std::string_view name = "forgetful";
  template <class Scalar>
  static void propose(RuleStep<Scalar>& step) {
    step.connections[0].change = {step.connections[0].input, step.connections[0].activity, 0};
  }
};

template <int mistake>
struct Mistaken {
  static constexpr std::string_view name = "mistaken";
  static constexpr std::size_t states = 2;
  static Index features(const CellOptions& o) { return mistake == 4 ? o.inputs : o.hidden; }
  static std::vector<LayerShape> layers(const CellOptions& o) {
    return {{"x", o.inputs, o.hidden, 1}, {"h", o.hidden, o.hidden, 1}};
  }
  template <class Scalar>
  static Var<Scalar> advance(CellStep<Scalar>& step, const Var<Scalar>& x) {
    Var<Scalar> h = step.layer(0, x);
    if (mistake != 0) h = h + step.layer(mistake == 5 ? 7 : 1, step.state(0));
    step.activity(0, h);
    if (mistake != 1) step.activity(1, h);
    if (mistake == 2) step.set_state(1, rows(h, 0, 2));
    if (mistake == 6) step.activity(9, h);
    if (mistake == 7) step.set_state(3, h);
    if (mistake == 8) h = step.state(2);
    return mistake == 3 ? rows(h, 0, 4) : mistake == 4 ? x : h;
  }
};

template <class Dynamics, class Rule>
std::string mistake_of() {
  const PlasticCell<Dynamics, Rule, double> cell({.inputs = 3, .hidden = 5, .outputs = 2});
  CellState<double> state = cell.initial_state(2);
  const Matrix<double> x = Matrix<double>::Ones(3, 2);
  const std::string message = rejection([&] { cell.step(state, x); });
  Tape<double> tape;
  Episode<double> episode = cell.begin(tape, 2);
  CHECK(rejection([&] { cell.run(episode, x); }) == message);
  return message;
}

}  // namespace

TEST_CASE("A rule or a cell of one's own hears what it has forgotten", "[rules][own_rules]") {
  CHECK(mistake_of<Leaky, Forgetful>() ==
        "forgetful: the change of layer h must be set in Rule::propose, got an empty one");
  CHECK(mistake_of<Mistaken<0>, Hebbian>() ==
        "mistaken: layer h must be applied in Dynamics::advance, got no call");
  CHECK(mistake_of<Mistaken<1>, Gradient>() ==
        "mistaken: the activity of layer h must be declared in Dynamics::advance, got no call");
  CHECK(mistake_of<Mistaken<2>, None>() == "mistaken: every state must be 5 x 2, got 2 x 2");
  CHECK(mistake_of<Mistaken<3>, None>() ==
        "mistaken: the result of advance must be 5 x 2, got 4 x 2");
  CHECK(mistake_of<Mistaken<4>, None>() == "mistaken: the hidden state must be 5 x 2, got 3 x 2");
  CHECK(mistake_of<Mistaken<5>, None>() ==
        "CellStep::layer: l must be below the number of the cell's layers, got 7");
  CHECK(mistake_of<Mistaken<6>, None>() == "CellStep::activity: l must be below 8, got 9");
  CHECK(mistake_of<Mistaken<7>, None>() ==
        "CellStep::set_state: k must be below the number of the cell's states, got 3");
  CHECK(mistake_of<Mistaken<8>, None>() ==
        "CellStep::state: k must be below the number of the cell's states, got 2");
}
