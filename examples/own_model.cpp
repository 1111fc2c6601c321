// A network of one's own whose rule has a learned parameter: every neuron has a rate of its own, by
// which its fast weights follow the activity, and gradient descent sets these rates.

#include <iostream>
#include <span>
#include <string_view>
#include <vector>

#include "arguments.hpp"
#include "plastic/plastic.hpp"
using namespace plastic;

// e = relu(i_fc(x)), h' = tanh(e (W + H) + b), o = out_fc(h');
// H' = (1 - eta) o H + eta o (e^T h').
struct Associator {
  using Options = CellOptions;
  static constexpr std::string_view name = "associator";
  static constexpr bool plastic = true;
  static constexpr std::size_t states = 1, derived = 0;

  static std::vector<LayerShape> layers(const Options& o) {  // name, inputs, outputs
    const Index n = o.hidden;
    return {{"i_fc", o.inputs, n}, {"h_fc", n, n}, {"out_fc", n, o.outputs}};
  }
  static std::vector<BlockShape> blocks(const Options& o) {  // name, rows, columns, start
    return {{"rule.eta", o.hidden, 0, Start::constant(o.eta0)}};
  }
  static std::vector<MatrixShape> matrices(const Options& o) {  // layer, name, inputs, outputs
    return {{"h_fc", "weight", o.hidden, o.hidden}};
  }

  template <class S>
  static CellOutput<Var<S>> advance(ModelStep<S>& step, const Options&, const Var<S>& x) {
    const Var<S> e = relu(step.layer(0, x));
    const Var<S> h = tanh(step.layer(1, e) + step.read(0, e));
    const Var<S> eta = broadcast(step.block(0), h.rows(), h.cols());
    const MatrixTerm<S> term{.pre = e, .post = h * eta};
    step.write(0, {.keep = 1 - eta, .terms = std::span(&term, 1)});
    step.set_state(0, h);
    return {step.layer(2, h), rows(eta, 0, 1)};  // the prediction, and a rate to report
  }
};

static_assert(CellModel<Associator>);

int main(int argc, char** argv) {
  const int batches = examples::read_arguments(
      argc, argv,
      "Trains a user-defined network, whose rule has learned rates, on the cue-reward task.", 2000);
  const CueReward task;
  PlasticCell<Associator, Associator, float> net({.inputs = task.inputs(), .hidden = 64});
  AdamW<float> optimizer(net.parameters(), {.learning_rate = 3e-3});
  Trainer trainer(net, task, optimizer, {.batches = batches});
  ProgressBar bar(std::cout, "associator", false);
  trainer.run(bar);
  const auto eta = net.parameters().matrix("rule.eta");
  std::cout << "rates from " << eta.minCoeff() << " to " << eta.maxCoeff() << "; test loss "
            << trainer.evaluate({0, Random::Purpose::test}, 20)
            << " (best without looking at the cue: 0.137)\n";
}
