// One training run on several ranks; the ranks are threads here, and processes in tests/mpi.

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "plastic/cells/compiled.hpp"
#include "plastic/images/encoder_objective.hpp"
#include "plastic/images/few_shot_objective.hpp"
#include "plastic/images/glyphs.hpp"
#include "plastic/io/checkpoint.hpp"
#include "plastic/nn/encoders.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/optim/sgd.hpp"
#include "plastic/rules/gradient.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/rules/none.hpp"
#include "plastic/tasks/cue_reward.hpp"
#include "plastic/tasks/sampled_task.hpp"
#include "plastic/train/csv_log.hpp"
#include "plastic/train/keep_best.hpp"
#include "plastic/train/trainer.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"
#include "support/thread_ranks.hpp"

namespace {

using namespace plastic;
using namespace plastic::testing;

// Everything that must be the same, as bytes.
class Bits {
 public:
  template <class Dense>
  void add(const Dense& dense) {
    text_.append(reinterpret_cast<const char*>(dense.data()),
                 static_cast<std::size_t>(dense.size()) * sizeof(*dense.data()));
  }
  void add(double number) { text_.append(reinterpret_cast<const char*>(&number), sizeof(number)); }
  void add(const Evaluation& evaluation) {
    add(evaluation.loss);
    for (const Measure& measure : evaluation.measures()) {
      add(measure.sum);
      add(measure.count);
      add(measure.square);
    }
    add(evaluation.eta_mean());
    add(evaluation.eta_deviation());
  }
  bool operator==(const Bits&) const = default;

 private:
  std::string text_;
};

// What f(communicator) returns on each of several ranks is what it returns with nullptr.
template <class F>
void check_same_on(std::initializer_list<int> counts, F&& f) {
  const Bits alone = f(nullptr);
  for (const int ranks : counts) {
    INFO(ranks << " ranks");
    std::vector<Bits> got(static_cast<std::size_t>(ranks));
    on_threads(ranks,
               [&](Communicator& own) { got[static_cast<std::size_t>(own.rank())] = f(&own); });
    CHECK(std::count(got.begin(), got.end(), alone) == ranks);
  }
}

CueReward small_task() {
  return CueReward({.cues = 3, .features = 4, .storage_steps = 4, .recall_steps = 3});
}

CellOptions cell_for(const auto& task) {
  return {
      .inputs = task.inputs(), .hidden = 9, .outputs = task.outputs(), .inner_scale = 1, .seed = 4};
}

// Echoes its input a step later, in episodes of 1 to 9 steps.
auto echo() {
  return SampledTask({.inputs = 3, .outputs = 2, .steps = 9}, [](Random& random, auto e) {
    using Scalar = std::remove_cvref_t<decltype(e.weight(0))>;
    const auto length = 1 + static_cast<Index>(random.below(9));
    for (Index t = 0; t < length; ++t) {
      for (Index i = 0; i < 3; ++i) e.input(t)[i] = static_cast<Scalar>(random.uniform(-1, 1));
      e.target(t).setConstant(static_cast<Scalar>(random.uniform(-1, 1)));
      e.weight(t) = 1;
    }
    return length;
  });
}

// Counts what it hears, and ends the run after some batches.
class Listener : public TrainingCallback {
 public:
  explicit Listener(Index last = 1000) : last_(last) {}
  void on_batch(const Progress& now) override {
    ++heard;
    batch_ = now.batch;
  }
  void on_validation(const Progress&) override { ++heard; }
  void on_end(const Progress&) override { ++heard; }
  bool wants_stop() const override { return batch_ >= last_; }

  int heard = 0;

 private:
  Index last_, batch_ = 0;
};

// An objective of somebody who has not heard of ranks.
struct Shared {
  using ScalarType = double;
  static constexpr std::size_t shared_sets = 1;
  std::vector<Parameters<double>*> parameters() { return {&set}; }
  double loss(const Shard&, std::span<Vector<double>>, Evaluation*) { return 0; }
  Parameters<double> set;
};

template <class Cell, class TaskType>
Bits trained(const TaskType& task, const TrainerOptions& options) {
  Cell cell(cell_for(task));
  AdamW<typename Cell::ScalarType> optimizer(cell.parameters(), {.learning_rate = 1e-2});
  Trainer trainer(cell, task, optimizer, options);
  Bits bits;
  for (Index batch = 0; batch < 4; ++batch) {
    bits.add(trainer.step(batch));
    bits.add(trainer.gradients());
  }
  bits.add(cell.parameters().values());
  bits.add(trainer.evaluate({8, Random::Purpose::validation}, 3));
  bits.add(trainer.evaluate_in_detail({8, Random::Purpose::test}, 2));
  return bits;
}

}  // namespace

TEMPLATE_TEST_CASE("Training has the same bits on any number of ranks, with any number of threads",
                   "[train][ranks]", (PlasticRNN<Hebbian, float>), (PlasticRNN<Gradient, double>),
                   (PlasticRNN<None, float>), (PlasticLSTM<Gradient, float>),
                   (PlasticLSTM<Hebbian, float>)) {
  // 19 shards: more than lanes, and the last one is not full. 5: fewer lanes than ranks.
  for (const Index batch : {37, 9}) {
    check_same_on({1, 2, 4, 8, 16}, [&](Communicator* own) {
      const int threads = own == nullptr ? 2 : own->ranks() == 2 ? 3 : 1;
      return trained<TestType>(
          small_task(),
          {.batch = batch, .seed = 8, .threads = threads, .shard = 2, .communicator = own});
    });
  }
}

TEST_CASE("Episodes of different lengths are divided likewise on all ranks", "[train][ranks]") {
  check_same_on({2, 4, 16}, [&](Communicator* own) {
    return trained<PlasticRNN<Hebbian, double>>(
        echo(), {.batch = 37, .seed = 8, .threads = 2, .shard = 2, .communicator = own});
  });
}

TEST_CASE("A batch of one shard is not divided, and needs no message", "[train][ranks]") {
  check_same_on({2, 4}, [&](Communicator* own) {
    return trained<PlasticRNN<Hebbian, float>>(
        small_task(), {.batch = 5, .seed = 8, .threads = 1, .shard = 5, .communicator = own});
  });
  const int sent = on_threads(4, [&](Communicator& own) {
    const CueReward task = small_task();
    PlasticRNN<Hebbian, float> cell(cell_for(task));
    SGD<float> optimizer(cell.parameters());
    Trainer trainer(cell, task, optimizer,
                    {.batch = 5, .threads = 1, .shard = 5, .communicator = &own});
    trainer.step(0);
  });
  CHECK(sent == 0);
}

TEST_CASE("Lanes are summed in pairs of pairs", "[train][ranks]") {
  // 1 and a half of its last bit: one such half is rounded off, and two together are not.
  std::map<Index, float> sums;
  for (const Index lanes : {1, 2, 3, 4, 5, 7, 16}) {
    const auto number = [](Index lane) { return lane == 0 ? 1.F : 0x1p-24F; };
    Parameters<float> set;
    set.add("x", 300, 1);
    const std::array<Parameters<float>*, 1> sets{&set};
    std::vector<Vector<float>> sum{Vector<float>::Zero(set.size())};
    const ShardPlan plan(lanes, 1);
    Lanes<float> all(plan, sets);
    all.gradient(plan, 2, sum, [&](Index shard, int, std::span<Vector<float>> gradients) {
      gradients[0].array() += number(shard);
      return 0.0;
    });
    CHECK((sum[0].array() == sum[0][0]).all());
    sums[lanes] = sum[0][0];
  }
  CHECK(sums[1] == 1);
  CHECK(sums[2] == 1);
  CHECK(sums[3] == 1);  // leaves 0, 5 and 10: the first two meet below the third
  CHECK(sums[4] == 1 + 0x1p-23F);
  CHECK(sums[5] == 1 + 0x1p-23F);  // leaves 0, 3, 6, 9, 12
  CHECK(sums[7] == 1 + 2 * 0x1p-23F);
  CHECK(sums[16] == 1 + 7 * 0x1p-23F);
  const ShardPlan five(5, 1);
  std::vector<Index> at;
  for (Index leaf = 0; leaf <= ShardPlan::leaves; ++leaf) at.push_back(five.lane_at(leaf));
  CHECK(at == std::vector<Index>{0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 5});
}

TEST_CASE("Only rank 0 tells its callbacks, and ends the run of all", "[train][ranks]") {
  check_same_on({2, 4}, [&](Communicator* own) {
    const CueReward task = small_task();
    PlasticRNN<Hebbian, float> cell(cell_for(task));
    AdamW<float> optimizer(cell.parameters());
    Trainer trainer(cell, task, optimizer,
                    {.batch = 8,
                     .batches = 20,
                     .validation_every = 3,
                     .validation_batches = 2,
                     .threads = 1,
                     .shard = 1,
                     .communicator = own});
    Listener listener(7);
    KeepBest<float> keep(cell.parameters());
    const Progress end = trainer.run(listener, keep);
    const bool first = own == nullptr || own->rank() == 0;
    // Catch's checks are for one thread.
    if (listener.heard != (first ? 7 + 3 + 1 : 0) || keep.found() != first || end.batch != 7) {
      throw std::logic_error("callbacks");
    }
    Bits bits;
    bits.add(cell.parameters().values());
    bits.add(end.validation_loss);
    bits.add(end.train_loss);
    // An evaluation is of the weights of rank 0.
    if (first) keep.restore();
    bits.add(trainer.evaluate({8, Random::Purpose::test}, 2));
    bits.add(cell.parameters().values());
    return bits;
  });
}

TEST_CASE("A run goes on from its checkpoint on another number of ranks", "[train][ranks]") {
  const auto run = [](Communicator* own, const fs::path& folder, Index last) {
    const CueReward task = small_task();
    // What only rank 0 reads from the file reaches the others.
    const bool first = own == nullptr || own->rank() == 0;
    CellOptions options = cell_for(task);
    PlasticLSTM<Gradient, float> cell(options);
    if (!first) cell.parameters().values().setZero();
    AdamW<float> optimizer(cell.parameters());
    Trainer trainer(cell, task, optimizer,
                    {.batch = 10,
                     .batches = 12,
                     .validation_every = 5,
                     .validation_batches = 2,
                     .threads = 1,
                     .shard = 1,
                     .communicator = own});
    Listener listener(last);
    KeepBest<float> keep(cell.parameters());
    CsvLog log(folder / "log.csv");
    Checkpoint checkpoint(folder / "checkpoint");
    const Progress end = trainer.run(keep, log, checkpoint, listener);
    Bits bits;
    bits.add(cell.parameters().values());
    bits.add(optimizer.moments()[0]);
    bits.add(optimizer.moments()[1]);
    bits.add(end.validation_loss);
    bits.add(static_cast<double>(end.batch));
    return bits;
  };
  const Folder folder;
  run(nullptr, folder.path(), 5);
  fs::copy(folder / "checkpoint", folder / "middle");
  check_same_on({1, 2, 8}, [&](Communicator* own) {
    if (own == nullptr || own->rank() == 0) {
      fs::copy_file(folder / "middle", folder / "checkpoint", fs::copy_options::overwrite_existing);
    }
    return run(own, folder.path(), 1000);
  });
  // From eight ranks to none.
  const Folder other;
  on_threads(8, [&](Communicator& own) { run(&own, other.path(), 5); });
  CHECK(run(nullptr, other.path(), 1000) == run(nullptr, folder.path(), 1000));
}

TEST_CASE("What one rank throws ends all with its message", "[train][ranks]") {
  const auto refused = [&](int ranks, const auto& change) {
    return rejection([&] {
      on_threads(ranks, [&](Communicator& own) {
        const CueReward task = small_task();
        TrainerOptions options{.batch = 16, .batches = 3, .threads = 1, .communicator = &own};
        if (own.rank() == 1) change(options);
        PlasticRNN<Hebbian, float> cell(cell_for(task));
        SGD<float> optimizer(cell.parameters());
        Trainer trainer(cell, task, optimizer, options);
        trainer.run();
      });
    });
  };
  CHECK(refused(2, [](auto&) {}) == "no error");
  CHECK(refused(2, [](auto& o) { o.seed = 9; }) ==
        "Trainer::run: \"training.seed\" on rank 1 must be 0, as on rank 0, got 9");
  CHECK(refused(2, [](auto& o) { o.batches = 4; }) ==
        "Trainer::run: \"batches\" on rank 1 must be 3, as on rank 0, got 4");
  CHECK(refused(3, [](auto&) {}) ==
        "TrainerOptions: the number of ranks must be 1, 2, 4, 8 or 16, got 3");
  CHECK(refused(32, [](auto&) {}) ==
        "TrainerOptions: the number of ranks must be 1, 2, 4, 8 or 16, got 32");
}

TEST_CASE("Images: encoder, head and cell have the same bits on any number of ranks",
          "[train][ranks]") {
  using Cell = PlasticCell<FeatureLstm, Gradient, float>;
  const ImageSet set = make_glyphs({.classes = 12, .images_per_class = 6, .size = 16, .seed = 3});
  const FewShotImages episodes(set, {.way = 3, .shot = 2, .queries = 1});
  const bool frozen = GENERATE(false, true);
  check_same_on({2, 4}, [&](Communicator* own) {
    ImageClassifier<Cell> model(
        std::make_unique<Conv4<float>>(set.shape, 1, 3),
        {.inputs = 7, .hidden = 7, .outputs = 3, .extra = 2, .inner_scale = 1, .seed = 1});
    FewShotObjective objective(model, {.train = &episodes, .validation = &episodes},
                               {.augmentation = {.padding = 2, .flip = true}, .frozen = frozen});
    AdamW<float> optimizer(objective.parameters());
    Trainer trainer(objective, optimizer,
                    {.batch = 6,
                     .batches = 3,
                     .validation_every = 2,
                     .validation_batches = 1,
                     .threads = 1,
                     .shard = 1,
                     .communicator = own});
    const Progress end = trainer.run();
    Bits bits;
    for (const Vector<float>* values : model.state()) bits.add(*values);
    bits.add(end.validation_loss);
    bits.add(end.train_loss);
    bits.add(trainer.evaluate({}, 2));
    return bits;
  });
}

TEST_CASE("An encoder trained alone has the same bits on any number of ranks", "[train][ranks]") {
  const ImageSet set = make_glyphs({.classes = 12, .images_per_class = 6, .size = 16, .seed = 3});
  check_same_on({2, 4}, [&](Communicator* own) {
    Conv4<float> encoder(set.shape, 1, 3);
    EncoderObjective<float> objective(encoder, set);
    AdamW<float> optimizer(objective.parameters());
    Trainer trainer(
        objective, optimizer,
        {.batch = 12, .batches = 2, .validation_every = 0, .threads = 1, .communicator = own});
    trainer.run();
    Bits bits;
    for (const Vector<float>* values : encoder.state()) bits.add(*values);
    return bits;
  });
}

TEST_CASE("An objective that several ranks cannot divide is refused", "[train][ranks]") {
  const auto make = [](Communicator* own) {
    Shared objective;
    objective.set.add("x", 2, 1);
    SGD<double> optimizer(objective.set);
    Trainer trainer(objective, optimizer, {.batch = 4, .threads = 1, .communicator = own});
  };
  CHECK_NOTHROW(make(nullptr));
  CHECK(rejection([&] { on_threads(2, [&](Communicator& own) { make(&own); }); }) ==
        "Trainer: an objective with shared_sets that several ranks divide must be one with "
        "left_by_loss(), got one without");
}
