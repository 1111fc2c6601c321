// An environment of one's own: a bandit. Of two arms one pays often and one seldom; which is which
// is new in every episode. Plastic networks and a plain one learn to find the better arm by trial.

#include <iomanip>
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include "arguments.hpp"
#include "plastic/plastic.hpp"
using namespace plastic;

class Bandit {
 public:
  struct State {
    Index better = 0;  // arm that pays with probability 0.9; the other pays with 0.1
  };
  static constexpr bool feedback = true;  // the network sees the last reward and the last action

  Index observations() const { return 0; }  // and nothing else
  Index actions() const { return 2; }
  Index steps() const { return 40; }

  void reset(State& state, Random& random) const { state.better = random.below(2); }
  EnvironmentStep step(State& state, Index action, Random& random) const {
    const double pays = action == state.better ? 0.9 : 0.1;
    return {random.uniform() < pays ? 1.0 : 0.0, false};  // the reward; never done before the end
  }
  void observe(const State&, std::span<double>) const {}
};

static_assert(Environment<Bandit>);

// Share of better arms over the last half of the pulls.
template <class Cell>
double share_of_better_arms(const Cell& net) {
  std::vector<Index> samples(1000);
  for (std::size_t k = 0; k < samples.size(); ++k) samples[k] = static_cast<Index>(k);
  Actor actor(net, Bandit());
  actor.begin({1, Random::Purpose::test}, 0, samples);
  double better = 0, pulls = 0;
  while (actor.step()) {
    const EnvironmentBatch<Bandit>& episodes = actor.episodes();
    if (episodes.time() <= 20) continue;
    for (Index s = 0; s < episodes.samples(); ++s) {
      better += episodes.action(s) == episodes.state(s).better ? 1 : 0;
      ++pulls;
    }
  }
  return better / pulls;
}

template <class Cell>
void train(const std::string& name, int batches) {
  const Bandit bandit;
  Cell net({.inputs = environment_inputs(bandit),  // last reward, last action
            .hidden = 32,
            .outputs = policy_outputs(bandit)});  // a logit for each arm, and the value
  PolicyObjective objective(net, bandit, {.gamma = 0.9, .entropy_bonus = 0.03});
  AdamW<float> optimizer(net.parameters(), {.learning_rate = 1e-3});
  Trainer trainer(
      objective, optimizer,
      {.batch = 32, .batches = batches, .validation_every = 250, .validation_batches = 8});
  ProgressBar bar(std::cout, name, false);
  trainer.run(bar);
  std::cout << name << ": better arm in " << std::setprecision(3) << 100 * share_of_better_arms(net)
            << "% of the last 20 of 40 pulls\n";
}

int main(int argc, char** argv) {
  const int batches = examples::read_arguments(
      argc, argv, "Trains two plastic networks and a plain one on a two-armed bandit.", 1000);
  train<PlasticRNN<Hebbian, float>>("plastic", batches);
  train<ModulatedRNN<float>>("modulated", batches);
  train<PlasticRNN<None, float>>("plain", batches);
}
