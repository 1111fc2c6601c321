// A recurrent cell of one's own: a gated recurrent unit, whose weights are plastic under any rule.

#include <iostream>
#include <string_view>
#include <vector>

#include "arguments.hpp"
#include "plastic/plastic.hpp"

using plastic::CellOptions;
using plastic::Index;
using plastic::Var;

// z, r = sigmoid(h_fc(h) + i_fc(x)); n = tanh(i_fc(x) + r h_fc(h)); h' = (1 - z) n + z h, with the
// three gates as blocks of rows of the two layers. Source: Cho et al., EMNLP 2014.
struct Gru {
  static constexpr std::string_view name = "gru";
  static constexpr std::size_t states = 1;
  enum Layers : std::size_t { h_fc, i_fc };

  static Index features(const CellOptions& o) { return o.hidden; }

  // Name, inputs, outputs; slow weights start uniform in +-1 / sqrt(outputs).
  static std::vector<plastic::LayerShape> layers(const CellOptions& o) {
    return {{"h_fc", o.hidden, 3 * o.hidden, 1}, {"i_fc", o.inputs, 3 * o.hidden, 1}};
  }

  template <class Scalar>
  static Var<Scalar> advance(plastic::CellStep<Scalar>& step, const Var<Scalar>& x) {
    const Var<Scalar> h = step.state(0);
    const Var<Scalar> from_h = step.layer(h_fc, h), from_x = step.layer(i_fc, x);
    const Index size = h.rows();
    const auto gate = [&](const Var<Scalar>& all, Index k) { return rows(all, k * size, size); };
    const Var<Scalar> z = sigmoid(gate(from_h, 0) + gate(from_x, 0));
    const Var<Scalar> r = sigmoid(gate(from_h, 1) + gate(from_x, 1));
    const Var<Scalar> n = tanh(gate(from_x, 2) + r * gate(from_h, 2));
    // The Hebbian rule takes these as the layers' outputs.
    const Var<Scalar> activity =
        pad_rows(z, 0, 3 * size) + pad_rows(r, size, 3 * size) + pad_rows(n, 2 * size, 3 * size);
    step.activity(h_fc, activity);
    step.activity(i_fc, activity);
    return n + z * (h - n);
  }
};

int main(int argc, char** argv) {
  const int batches = examples::read_arguments(
      argc, argv,
      "Trains a plastic gated recurrent unit, a user-defined cell, on the cue-reward task.", 1000);
  const plastic::CueReward task;
  plastic::PlasticCell<Gru, plastic::Hebbian, float> net({.inputs = task.inputs(), .hidden = 64});
  plastic::AdamW<float> optimizer(net.parameters());
  plastic::Trainer trainer(net, task, optimizer, {.batches = batches});
  plastic::ProgressBar bar(std::cout, "gru", false);
  trainer.run(bar);
  std::cout << "test loss " << trainer.evaluate({0, plastic::Random::Purpose::test}, 20)
            << " (best without looking at the cue: 0.137)\n";
}
