#include <iostream>

#include "plastic/plastic.hpp"
using namespace plastic;
struct Remember {  // a number is shown in the first step and asked for in the last
  Index inputs() const { return 2; }  // the number, and "what was it?"
  Index outputs() const { return 1; }
  Index steps() const { return 10; }

  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<float>& episodes) const {
    episodes.set_zero(inputs(), outputs(), steps(), samples);
    for (Index s = 0; s < samples; ++s) {  // column t * samples + s is step t of sample s
      Random random(stream, batch, static_cast<std::uint64_t>(first + s));
      const Index last = (steps() - 1) * samples + s;
      episodes.inputs(0, s) = episodes.targets(0, last) = static_cast<float>(random.uniform(-1, 1));
      episodes.inputs(1, last) = episodes.weights(0, last) = 1;  // only this step counts
    }
  }
};

int main() {
  PlasticLSTM<Gradient, float> net({.inputs = 2, .hidden = 32, .outputs = 1});
  AdamW<float> optimizer(net.parameters());
  Trainer trainer(net, Remember(), optimizer, {.batch = 64});
  for (int batch = 0; batch <= 1000; ++batch) {
    const double loss = trainer.step(batch);
    if (batch % 100 == 0) std::cout << "batch " << batch << "  loss " << loss << "\n";
  }
}
