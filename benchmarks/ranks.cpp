// What several ranks cost: ping-pong between two of them, and training steps with the share of time
// that goes into communication. Alone it measures the same steps of one process:
//
//   plastic_bench_ranks RULE HIDDEN BATCH THREADS [STEPS]
//   mpirun -n 2 plastic_bench_ranks RULE HIDDEN BATCH THREADS [STEPS]

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "plastic/cells/rnn.hpp"
#include "plastic/mpi/communicator.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/rules/gradient.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/tasks/cue_reward.hpp"
#include "plastic/train/trainer.hpp"

namespace {

using namespace plastic;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Another communicator, with the time that its exchanges take.
class Timed : public Communicator {
 public:
  explicit Timed(Communicator& other) : other_(other) {}
  int rank() const override { return other_.rank(); }
  int ranks() const override { return other_.ranks(); }
  int threads() const override { return other_.threads(); }
  void exchange(int other, std::span<const std::byte> send, std::span<std::byte> receive) override {
    const auto begin = Clock::now();
    other_.exchange(other, send, receive);
    seconds += seconds_since(begin);
    bytes = std::max(bytes, send.size());
  }
  void broadcast(std::span<std::byte> all) override {
    const auto begin = Clock::now();
    other_.broadcast(all);
    seconds += seconds_since(begin);
  }

  double seconds = 0;
  std::size_t bytes = 0;

 private:
  Communicator& other_;
};

// Exchanges in both directions at once, as training makes them.
void ping_pong(Communicator& ranks) {
  for (const std::size_t size : {8UL, 4096UL, 65536UL, 1UL << 19, 1UL << 22}) {
    std::vector<std::byte> send(size), receive(size);
    std::vector<double> times;
    const int count = size < 100000 ? 2000 : 200;
    for (int k = 0; k < count; ++k) {
      const auto begin = Clock::now();
      if (ranks.rank() < 2) ranks.exchange(1 - ranks.rank(), send, receive);
      times.push_back(seconds_since(begin));
    }
    if (ranks.rank() == 0) {
      const double time = median(times);
      std::printf("exchange of %8zu bytes: %9.2f us, %6.2f GB/s each way\n", size, 1e6 * time,
                  1e-9 * static_cast<double>(size) / time);
    }
  }
}

template <class Rule>
void steps(Communicator* ranks, Index hidden, Index batch, int threads, Index count) {
  const CueReward task;
  PlasticRNN<Rule, float> cell(
      {.inputs = task.inputs(), .hidden = hidden, .outputs = task.outputs()});
  AdamW<float> optimizer(cell.parameters());
  std::unique_ptr<Timed> timed;
  if (ranks != nullptr) timed = std::make_unique<Timed>(*ranks);
  Trainer trainer(cell, task, optimizer,
                  {.batch = batch, .threads = threads, .shard = 2, .communicator = timed.get()});
  for (Index k = 0; k < 5; ++k) trainer.step(k);
  std::vector<double> times, exchanges;
  for (Index k = 0; k < count; ++k) {
    if (timed) timed->seconds = 0;
    const auto begin = Clock::now();
    trainer.step(5 + k);
    times.push_back(seconds_since(begin));
    exchanges.push_back(timed ? timed->seconds : 0);
  }
  if (timed && timed->rank() > 0) return;
  const int of = timed ? timed->ranks() : 1;
  const double fastest = *std::min_element(times.begin(), times.end());
  std::printf(
      "%s, hidden %ld, batch %ld: %d ranks x %d threads: step %.3f ms (fastest %.3f), "
      "exchanges %.3f ms (fastest %.3f) of %zu bytes\n",
      std::string(Rule::name).c_str(), static_cast<long>(hidden), static_cast<long>(batch), of,
      trainer.options().threads, 1e3 * median(times), 1e3 * fastest, 1e3 * median(exchanges),
      1e3 * *std::min_element(exchanges.begin(), exchanges.end()), timed ? timed->bytes : 0);
}

}  // namespace

int main(int argc, char** argv) {
  return on_all_ranks("plastic_bench_ranks", [&](Communicator* ranks) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    const Index hidden = std::stol(words.at(1)), batch = std::stol(words.at(2));
    const int threads = std::stoi(words.at(3));
    const Index count = words.size() > 4 ? std::stol(words[4]) : 50;
    if (detail::is_divided(ranks)) ping_pong(*ranks);
    if (words[0] == "hebbian") {
      steps<Hebbian>(ranks, hidden, batch, threads, count);
    } else {
      steps<Gradient>(ranks, hidden, batch, threads, count);
    }
    return 0;
  });
}
