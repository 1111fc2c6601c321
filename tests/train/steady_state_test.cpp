#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "plastic/cells/compiled.hpp"
#include "plastic/images/encoder_objective.hpp"
#include "plastic/images/few_shot_objective.hpp"
#include "plastic/images/glyphs.hpp"
#include "plastic/nn/encoders.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/rules/gradient.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/rules/none.hpp"
#include "plastic/tasks/cue_reward.hpp"
#include "plastic/tasks/sampled_task.hpp"
#include "plastic/train/trainer.hpp"
#include "support/allocation_counter.hpp"

// The program's own definitions take precedence over those of the libraries: they count the calls
// and pass them on.

namespace {

std::atomic<int> locks = 0, throws = 0;

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  static auto* const real = next<int(pthread_mutex_t*)>("pthread_mutex_lock");
  ++locks;
  return real(mutex);
}

int pthread_rwlock_wrlock(pthread_rwlock_t* lock) noexcept {
  static auto* const real = next<int(pthread_rwlock_t*)>("pthread_rwlock_wrlock");
  ++locks;
  return real(lock);
}

int pthread_rwlock_rdlock(pthread_rwlock_t* lock) noexcept {
  static auto* const real = next<int(pthread_rwlock_t*)>("pthread_rwlock_rdlock");
  ++locks;
  return real(lock);
}

void* __cxa_allocate_exception(std::size_t size) noexcept {
  static auto* const real = next<void*(std::size_t)>("__cxa_allocate_exception");
  ++throws;
  return real(size);
}

}  // extern "C"

using namespace plastic;
using plastic::testing::AllocationCounter;

using SteadyCells =
    std::tuple<PlasticRNN<Hebbian, float>, PlasticRNN<Gradient, float>, PlasticRNN<None, float>,
               PlasticLSTM<Hebbian, float>, PlasticLSTM<Gradient, float>, PlasticLSTM<None, float>,
               PlasticRNN<Gradient, double>>;

// One thread: the counter sees its own thread only.
TEMPLATE_LIST_TEST_CASE("After the first batch a training step allocates nothing",
                        "[train][steady_state]", SteadyCells) {
  using Cell = TestType;
  using Scalar = typename Cell::ScalarType;
  for (const Index hidden : {9, 130}) {
    for (const bool layer_norm : {false, true}) {
      Cell cell({.inputs = 16, .hidden = hidden, .layer_norm = layer_norm});
      AdamW<Scalar> optimizer(cell.parameters());
      Trainer trainer(cell, CueReward(), optimizer,
                      {.batch = 9, .schedule = CosineSchedule({.warm_up = 2}), .threads = 1});
      trainer.step(0);
      trainer.evaluate({0, Random::Purpose::validation}, 1);
      const AllocationCounter counter;
      trainer.step(1);
      trainer.step(2);
      trainer.evaluate({0, Random::Purpose::validation}, 1);
      const std::size_t allocations = counter.count();
      INFO("hidden " << hidden << ", layer norm " << layer_norm);
      REQUIRE(allocations == 0);
    }
  }
}

namespace {

// In colours, so that every augmentation has something to do.
ImageSet coloured_glyphs() {
  const ImageSet grey = make_glyphs({.classes = 8, .images_per_class = 4, .size = 20});
  ImageSet set{.shape = {3, 20, 20},
               .pixels = {},
               .classes = grey.classes,
               .normalisation = {{0.1, 0.2, 0.3}, {1, 0.5, 1}}};
  for (Index n = 0; n < grey.images(); ++n) {
    for (int divisor = 1; divisor <= 3; ++divisor) {
      for (Index p = 0; p < grey.shape.size(); ++p) {
        set.pixels.push_back(static_cast<std::uint8_t>(grey.image(n)[p] / divisor));
      }
    }
  }
  return set;
}

template <class Objective>
std::size_t allocations_in_steps(Objective& objective, Index batch, int threads = 1) {
  AdamW<float> optimizer(objective.parameters());
  Trainer trainer(objective, optimizer,
                  {.batch = batch, .schedule = CosineSchedule({}), .threads = threads});
  for (Index n = 0; n < 2; ++n) trainer.step(n);  // DropBlock begins with the second batch
  const AllocationCounter counter(AllocationCounter::Threads::all);
  for (Index n = 2; n < 6; ++n) trainer.step(n);
  return counter.count();
}

// Whether a parallel region allocates by itself, as with the runtime of clang.
bool runtime_allocates() {
  const auto run = [] { parallel_for(8, 3, [](Index, int) {}); };
  run();
  const AllocationCounter counter(AllocationCounter::Threads::all);
  run();
  return counter.count() > 0;
}

auto ragged_task() {
  return SampledTask({.inputs = 2, .outputs = 1, .steps = 30}, [](Random& random, auto e) {
    const auto length = 1 + static_cast<Index>(random.below(30));
    e.input(length - 1).setOnes();
    e.weight(length - 1) = 1;
    return length;
  });
}

// A batch of 5 in shards of 2 as a trainer does it, on one thread that takes the place of several:
// shard k is done in the name of thread thread_of(k).
template <class Objective>
class AnyThreads {
  using Scalar = typename Objective::ScalarType;

 public:
  explicit AnyThreads(Objective& objective, int threads) : objective_(objective) {
    objective.open(threads);
    for (const Parameters<Scalar>* set : objective.parameters()) {
      gradients_.push_back(Vector<Scalar>::Zero(set->size()));
    }
  }

  void train(Index batch, int (*thread_of)(Index shard)) {
    const BatchKey key{{1, Random::Purpose::training}, batch, 5, 1};
    const std::span<Vector<Scalar>> all(gradients_);
    std::span<Vector<Scalar>> mine = all;
    if constexpr (requires { Objective::shared_sets; }) mine = all.subspan(Objective::shared_sets);
    if constexpr (requires { objective_.prepare(key, all); }) objective_.prepare(key, all);
    if constexpr (requires { objective_.lengths(); }) plan_.deal(objective_.lengths());
    for (Index k = 0; k < plan_.count(); ++k) {
      objective_.loss({key, plan_.samples(k), thread_of(k), 1}, mine, nullptr);
    }
    objective_.finish(all);
  }

 private:
  Objective& objective_;
  ShardPlan plan_{5, 2};
  std::vector<Vector<Scalar>> gradients_;
};

// After batches that one thread does alone, or of which threads see different sizes of a shard,
// whatever thread may do any shard of them.
template <class Objective>
void check_any_thread(Objective& objective) {
  AnyThreads run(objective, 3);
  for (Index batch = 0; batch < 3; ++batch)
    run.train(batch, [](Index k) { return k == 2 ? 2 : 1; });
  const AllocationCounter counter;
  for (Index batch = 0; batch < 3; ++batch) {
    run.train(batch, [](Index k) { return k == 2 ? 1 : 2; });
    run.train(batch, [](Index) { return 0; });
  }
  const std::size_t allocations = counter.count();
  CHECK(allocations == 0);
}

}  // namespace

TEMPLATE_TEST_CASE("Steps on episodes of different lengths allocate nothing once all were seen",
                   "[train][steady_state]", (PlasticRNN<Hebbian, float>),
                   (PlasticLSTM<Gradient, double>), (PlasticRNN<None, float>)) {
  using Scalar = typename TestType::ScalarType;
  const auto task = ragged_task();
  TestType cell({.inputs = 2, .hidden = 9});
  AdamW<Scalar> optimizer(cell.parameters());
  Trainer trainer(cell, task, optimizer, {.batch = 9, .threads = 1, .shard = 2});
  const auto train = [&] {
    for (Index batch = 0; batch < 5; ++batch) trainer.step(batch);
    trainer.evaluate({0, Random::Purpose::validation}, 5);
  };
  train();
  const AllocationCounter counter;
  train();
  CHECK(counter.count() == 0);
}

TEMPLATE_TEST_CASE("A thread allocates nothing for shards that only other threads have seen",
                   "[train][steady_state]", (PlasticRNN<Hebbian, float>),
                   (PlasticLSTM<Gradient, double>), (PlasticRNN<None, double>)) {
  // Large enough for several chunks of a tape.
  TestType fixed_cell({.inputs = 16, .hidden = 40}), ragged_cell({.inputs = 2, .hidden = 40});
  EpisodeObjective fixed(fixed_cell, CueReward());
  check_any_thread(fixed);
  EpisodeObjective ragged(ragged_cell, ragged_task());
  check_any_thread(ragged);
}

TEMPLATE_TEST_CASE("A thread allocates nothing for images that only other threads have seen",
                   "[train][steady_state]", (PlasticFeatureRNN<Hebbian, float>),
                   (PlasticFeatureLSTM<Gradient, double>)) {
  using Scalar = typename TestType::ScalarType;
  const ImageSet set = coloured_glyphs();
  const FewShotImages episodes(set, {.way = 3});
  ImageClassifier<TestType> model(std::make_unique<Conv4<Scalar>>(set.shape, 1, 5),
                                  {.inputs = 40, .hidden = 33, .outputs = 3});
  FewShotObjective objective(model, {.train = &episodes});
  check_any_thread(objective);
}

TEST_CASE("With several threads a training step allocates nothing either",
          "[train][steady_state]") {
  if (runtime_allocates()) {
    WARN("the OpenMP runtime allocates for every parallel region: nothing to be seen beside it");
    return;
  }
  const ImageSet set = coloured_glyphs();
  const FewShotImages episodes(set, {.way = 3});
  const Augmentation augmentation = Augmentation::for_contrast();
  for (const int threads : {2, 3}) {
    PlasticRNN<Gradient, float> fixed_cell({.inputs = 16, .hidden = 9});
    EpisodeObjective fixed(fixed_cell, CueReward());
    ImageClassifier<PlasticFeatureRNN<Hebbian, float>> model(
        std::make_unique<Conv4<float>>(set.shape, 1, 5),
        {.inputs = 40, .hidden = 33, .outputs = 3});
    FewShotObjective few_shot(model, {.train = &episodes}, {.augmentation = augmentation});
    const auto encoder = make_encoder<float>("conv4", set.shape, 1, 5);
    EncoderObjective<float> contrast(*encoder, set,
                                     {.goal = Pretraining::contrast, .augmentation = augmentation});
    const std::size_t of_fixed = allocations_in_steps(fixed, 33, threads);
    const std::size_t of_few_shot = allocations_in_steps(few_shot, 33, threads);
    const std::size_t of_encoder = allocations_in_steps(contrast, 5, threads);
    INFO(threads << " threads");
    CHECK(of_fixed == 0);
    CHECK(of_few_shot == 0);
    CHECK(of_encoder == 0);
  }
}

TEMPLATE_TEST_CASE("After the first batch a training step on images allocates nothing",
                   "[train][steady_state]", (PlasticFeatureRNN<Hebbian, float>),
                   (PlasticFeatureLSTM<Gradient, float>)) {
  const ImageSet set = coloured_glyphs();
  const FewShotImages episodes(set, {.way = 3});
  for (const bool frozen : {false, true}) {
    for (const Augmentation& augmentation :
         {Augmentation{}, Augmentation::paper(set.shape), Augmentation::for_contrast()}) {
      ImageClassifier<TestType> model(std::make_unique<Conv4<float>>(set.shape, 1, 5),
                                      {.inputs = 40, .hidden = 33, .outputs = 3});
      FewShotObjective objective(
          model, {.train = &episodes},
          {.smoothing = 0.1, .augmentation = augmentation, .frozen = frozen});
      const std::size_t allocations = allocations_in_steps(objective, 9);
      INFO("frozen " << frozen << ", padding " << augmentation.padding << ", blur "
                     << augmentation.blur_chance);
      CHECK(allocations == 0);
    }
  }
}

TEST_CASE("In the steady state a training step of an encoder allocates nothing",
          "[train][steady_state]") {
  const ImageSet set = coloured_glyphs();
  for (const Pretraining goal : {Pretraining::classification, Pretraining::contrast}) {
    const auto check = [&](const std::string& name, Index filters, Index batch) {
      const auto encoder = make_encoder<float>(name, set.shape, 1, filters);
      EncoderObjective<float> objective(
          *encoder, set, {.goal = goal, .augmentation = Augmentation::for_contrast()});
      const std::size_t allocations = allocations_in_steps(objective, batch);
      INFO(name << ", contrast " << (goal == Pretraining::contrast) << ", batch " << batch);
      CHECK(allocations == 0);
    };
    // Products of a few views, and of as many as a batch mostly has.
    check("conv4", 5, 5);
    check("conv4", 5, 128);
    check("r2d2", 4, 2);
    check("resnet12", 4, 2);
  }
}

TEMPLATE_LIST_TEST_CASE("Stepping one agent allocates nothing after the first step",
                        "[train][steady_state]", SteadyCells) {
  using Cell = TestType;
  using Scalar = typename Cell::ScalarType;
  const Cell cell({.inputs = 16, .hidden = 33});
  CellState<Scalar> state = cell.initial_state(1);
  const Matrix<Scalar> x = Matrix<Scalar>::Random(16, 1);
  cell.step(state, x);
  const AllocationCounter counter;
  Scalar sum = 0;
  for (int t = 0; t < 100; ++t) sum += cell.step(state, x).output(0, 0);
  cell.reset(state, 1);
  sum += cell.step(state, x).output(0, 0);
  REQUIRE(counter.count() == 0);
  REQUIRE(std::isfinite(sum));
}

TEST_CASE("Locks and exceptions are counted", "[train][steady_state]") {
  const int locks_before = locks, throws_before = throws;
  std::mutex mutex;
  { const std::lock_guard lock(mutex); }
  std::shared_mutex shared;
  { const std::shared_lock lock(shared); }
  { const std::unique_lock lock(shared); }
  CHECK(locks == locks_before + 3);
  try {
    throw std::runtime_error("counted");
  } catch (const std::runtime_error&) {
  }
  CHECK(throws == throws_before + 1);
}

TEMPLATE_LIST_TEST_CASE("Stepping one agent takes no lock and throws nothing",
                        "[train][steady_state]", SteadyCells) {
  using Cell = TestType;
  using Scalar = typename Cell::ScalarType;
  const Cell cell({.inputs = 16, .hidden = 33});
  CellState<Scalar> state = cell.initial_state(1);
  const Matrix<Scalar> x = Matrix<Scalar>::Random(16, 1);
  const int locks_before = locks, throws_before = throws;
  Scalar sum = 0;
  for (int t = 0; t < 100; ++t) sum += cell.step(state, x).output(0, 0);
  cell.reset(state, 1);
  const int locked = locks - locks_before, thrown = throws - throws_before;
  CHECK(locked == 0);
  CHECK(thrown == 0);
  CHECK(std::isfinite(sum));
}

TEMPLATE_LIST_TEST_CASE("A longer episode does not keep its fast weights of every step",
                        "[train][steady_state]", SteadyCells) {
  using Cell = TestType;
  using Scalar = typename Cell::ScalarType;
  if constexpr (Cell::plastic) {
    const Cell cell({.inputs = 4, .hidden = 128});
    const auto memory = [&](Index steps) {
      Tape<Scalar> tape;
      Vector<Scalar> gradients = cell.zero_gradients();
      Episode<Scalar> episode = cell.begin(tape, 1, &gradients);
      const Matrix<Scalar> inputs = Matrix<Scalar>::Random(4, steps);
      tape.backward(sum(square(cell.run(episode, inputs, false).output)));
      return static_cast<double>(tape.memory());
    };
    double fast = 0;
    for (const ParameterBlock& block : cell.parameters().blocks()) {
      if (block.name.ends_with("_alpha")) fast += static_cast<double>(block.size());
    }
    // What a step does keep are activities, their adjoints and the factors.
    REQUIRE((memory(800) - memory(400)) / 400 < fast * sizeof(Scalar) / 3);
  }
}
