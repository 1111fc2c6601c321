#include "plastic/mpi/communicator.hpp"
#include "plastic/plastic.hpp"

int main() {
  return plastic::on_all_ranks("consumer_mpi", [](plastic::Communicator* ranks) {
    const plastic::CueReward task;
    plastic::PlasticRNN<plastic::Hebbian, float> net(
        {.inputs = task.inputs(), .hidden = 5, .outputs = task.outputs()});
    plastic::AdamW<float> optimizer(net.parameters());
    plastic::Trainer trainer(net, task, optimizer, {.batch = 4, .communicator = ranks});
    return trainer.step(0) > 0 ? 0 : 1;
  });
}
