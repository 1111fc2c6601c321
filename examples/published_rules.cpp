// Networks of the literature, each with a fast-weight rule of its own: made, trained, saved, loaded
// and stepped.

#include <iomanip>
#include <iostream>

#include "arguments.hpp"
#include "plastic/io/model_file.hpp"
#include "plastic/plastic.hpp"
using namespace plastic;

namespace {

// Differentiable plasticity completes patterns of bits.
void trace(Index batches) {
  const PatternCompletion task({.bits = 50, .patterns = 2, .rounds = 1, .presentation_steps = 3});
  TraceClampRNN<float> net({.inputs = 50, .hidden = 51, .outputs = 50, .form = TraceForm::oja});
  AdamW<float> optimizer(net.parameters(), {.learning_rate = 3e-4});
  Trainer trainer(net, task, optimizer, {.batch = 16, .batches = batches, .validation_batches = 4});
  trainer.run(ProgressBar(std::cout, "trace", false));
  save("trace.safetensors", net);

  const auto same = load<TraceClampRNN<float>>("trace.safetensors");
  auto state = same.initial_state(1);
  const Matrix<float> x = Matrix<float>::Ones(50, 1);
  same.step(state, x);
  const auto [output, eta] = same.step(state, x);
  std::cout << "output " << output(0, 0) << ", eta " << eta << ", H has norm "
            << state.matrix(0, 0).norm() << "\n";
}

// The network says itself how fast its trace changes.
void modulated(Index batches) {
  const CueReward task;
  ModulatedRNN<float> net({.inputs = task.inputs(), .hidden = 64, .outputs = 1});
  AdamW<float> optimizer(net.parameters());
  Trainer trainer(net, task, optimizer, {.batch = 16, .batches = batches, .validation_batches = 4});
  trainer.run(ProgressBar(std::cout, "modulated", false));
  save("modulated.safetensors", net);

  const auto same = load<ModulatedRNN<float>>("modulated.safetensors");
  auto state = same.initial_state(1);
  const Matrix<float> x = Matrix<float>::Ones(task.inputs(), 1);
  same.step(state, x);
  const auto [output, m] = same.step(state, x);
  std::cout << "output " << output << ", modulator " << m << ", A o H has norm "
            << same.added_weight(state, 0, 0).norm() << "\n";
}

// A modulator that comes late lets in what was active before it.
void retroactive(Index batches) {
  const CueReward task;
  RetroactiveRNN<float> net({.inputs = task.inputs(), .hidden = 64, .outputs = 1, .eta = 0.1});
  AdamW<float> optimizer(net.parameters());
  Trainer trainer(net, task, optimizer, {.batch = 16, .batches = batches, .validation_batches = 4});
  trainer.run(ProgressBar(std::cout, "retroactive", false));
  save("retroactive.safetensors", net);

  const auto same = load<RetroactiveRNN<float>>("retroactive.safetensors");
  auto state = same.initial_state(1);
  const Matrix<float> x = Matrix<float>::Ones(task.inputs(), 1);
  same.step(state, x);
  const auto [output, m] = same.step(state, x);
  std::cout << "output " << output << ", modulator " << m << ", E has norm "
            << state.matrix(RetroactiveRnn::eligibility, 0).norm() << "\n";
}

// Fast weights that attend to the recent past name the digit that came with a letter.
void fast_weights(Index batches) {
  const AssociativeRetrieval task;
  FastWeightsRNN<float> net({.inputs = task.inputs(), .hidden = 50, .outputs = task.outputs()});
  AdamW<float> optimizer(net.parameters());
  Trainer trainer(net, task, CrossEntropy(), optimizer,
                  {.batch = 16, .batches = batches, .validation_batches = 4});
  trainer.run(ProgressBar(std::cout, "fast_weights", false));
  save("fast_weights.safetensors", net);

  const auto same = load<FastWeightsRNN<float>>("fast_weights.safetensors");
  auto state = same.initial_state(1);
  const Matrix<float> x = Matrix<float>::Ones(task.inputs(), 1);
  same.step(state, x);
  const auto [output, eta] = same.step(state, x);
  std::cout << "logits " << output.transpose() << ", eta " << eta << ", w has norm "
            << state.matrix(0, 0).norm() << "\n";
}

// The delta rule stores values under keys, and corrects them where a key comes again.
void delta(Index batches) {
  const KeyValueRetrieval task({.keys = 8});
  DeltaNet<float> net({.inputs = task.inputs(),
                       .hidden = 32,
                       .outputs = task.outputs(),
                       .feature = DeltaFeature::dpfp});
  AdamW<float> optimizer(net.parameters(), {.learning_rate = 3e-3});
  Trainer trainer(net, task, CrossEntropy(), optimizer,
                  {.batch = 16, .batches = batches, .validation_batches = 4});
  trainer.run(ProgressBar(std::cout, "delta", false));
  save("delta.safetensors", net);

  const auto same = load<DeltaNet<float>>("delta.safetensors");
  auto state = same.initial_state(1);
  const Matrix<float> x = Matrix<float>::Ones(task.inputs(), 1);
  same.step(state, x);
  const auto [output, beta] = same.step(state, x);
  std::cout << "logits " << output.transpose() << ", beta " << beta << ", w has norm "
            << state.matrix(0, 0).norm() << "\n";
}

// Synapses with a decay and a rate each.
void stpn(Index batches) {
  const AssociativeRetrieval task;
  StpnRNN<float> net({.inputs = task.inputs(), .hidden = 11, .outputs = task.outputs()});
  AdamW<float> optimizer(net.parameters());
  Trainer trainer(net, task, CrossEntropy(), optimizer,
                  {.batch = 16, .batches = batches, .validation_batches = 4});
  trainer.run(ProgressBar(std::cout, "stpn", false));
  save("stpn.safetensors", net);

  const auto same = load<StpnRNN<float>>("stpn.safetensors");
  auto state = same.initial_state(1);
  const Matrix<float> x = Matrix<float>::Ones(task.inputs(), 1);
  same.step(state, x);
  const auto output = same.step(state, x).output;
  std::cout << "logits " << output.transpose() << ", w of h_fc has norm "
            << state.matrix(StpnRnn::h_fast, 0).norm() << "\n";
}

// Hebbian coefficients of every synapse: evolved in the paper, here trained.
void abcd(Index batches) {
  const CueReward task;
  AbcdRNN<float> net({.inputs = task.inputs(), .hidden = 64, .outputs = 1});
  for (const char* name : {"eta", "A", "B", "C", "D"}) {  // standard normal is much for 20 steps
    net.parameters().matrix(std::string("rule.h_fc.") + name) *= 0.1F;
  }
  AdamW<float> optimizer(net.parameters());
  Trainer trainer(net, task, optimizer, {.batch = 16, .batches = batches, .validation_batches = 4});
  trainer.run(ProgressBar(std::cout, "abcd", false));
  save("abcd.safetensors", net);

  const auto same = load<AbcdRNN<float>>("abcd.safetensors");
  auto state = same.initial_state(1);
  const Matrix<float> x = Matrix<float>::Ones(task.inputs(), 1);
  same.step(state, x);
  const auto output = same.step(state, x).output;
  std::cout << "output " << output << ", w has norm " << state.matrix(0, 0).norm() << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  const int batches = examples::read_arguments(
      argc, argv,
      "Trains a small network with each of the published rules trace, modulated, retroactive,\n"
      "fast_weights, delta, stpn and abcd. Writes RULE.safetensors for each.",
      400);
  std::cout << std::setprecision(4);
  for (auto* rule : {trace, modulated, retroactive, fast_weights, delta, stpn, abcd}) rule(batches);
}
