// Episodes of different lengths: what lies behind a sample's end changes nothing of it.

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "plastic/cells/compiled.hpp"
#include "plastic/optim/sgd.hpp"
#include "plastic/rules/gradient.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/rules/none.hpp"
#include "plastic/tasks/cue_reward.hpp"
#include "plastic/tasks/sampled_task.hpp"
#include "plastic/tasks/task_mix.hpp"
#include "plastic/train/trainer.hpp"

using namespace plastic;
using Catch::Matchers::Contains;

namespace {

constexpr Index most = 7, inputs = 3, outputs = 2;
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

CellOptions options_with(const CellOptions& change = {}) {
  CellOptions o = change;
  o.inputs = inputs;
  o.hidden = 6;
  o.outputs = outputs;
  o.eta0 = 0.4;
  o.inner_scale = 1;
  o.seed = 5;
  return o;
}

/// Echoes its input a step later, in episodes of 1 to `most` steps; what is behind the end is
/// `behind`.
auto echo(double behind = 0) {
  return SampledTask(
      {.inputs = inputs, .outputs = outputs, .steps = most}, [behind](Random& random, auto e) {
        using Scalar = std::remove_cvref_t<decltype(e.weight(0))>;
        const auto length = 1 + static_cast<Index>(random.below(most));
        for (Index t = 0; t < most; ++t) {
          const auto there = [&](double x) { return static_cast<Scalar>(t < length ? x : behind); };
          for (Index i = 0; i < inputs; ++i) {
            e.input(t)[i] = there(random.uniform(-1, 1));
          }
          e.target(t).setConstant(there(random.uniform(-1, 1)));
          e.weight(t) = there(1 + static_cast<double>(t % 2));
        }
        return length;
      });
}
using Echo = decltype(echo());

/// Fills in lengths and does not say so.
struct Silent : CueReward {
  using CueReward::CueReward;
  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& e) const {
    CueReward::generate(stream, batch, first, samples, e);
    e.lengths.assign(static_cast<std::size_t>(samples), 3);
  }
};

/// Has a weight that is negative.
struct Negative : CueReward {
  using CueReward::CueReward;
  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& e) const {
    CueReward::generate(stream, batch, first, samples, e);
    e.weights(0, 1) = -1;
  }
};

/// Says that its episodes differ in length, and not how.
struct Forgetful : CueReward {
  using CueReward::CueReward;
  static constexpr bool ragged = true;
};

template <class A, class B>
bool same_bits(const A& a, const B& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() && (a.array() == b.array()).all();
}

/// Sample `s` of `n` alone, for its own steps.
Matrix<double> alone(const Matrix<double>& inputs_of_all, Index n, Index s, Index length) {
  Matrix<double> result(inputs_of_all.rows(), length);
  for (Index t = 0; t < length; ++t) result.col(t) = inputs_of_all.col(t * n + s);
  return result;
}

template <class Cell>
void check_same_state(CellState<double>& all, Index s, CellState<double>& one) {
  for (std::size_t k = 0; k < Cell::states; ++k) {
    CHECK(same_bits(all.state(k).col(s), one.state(k).col(0)));
  }
  if constexpr (Cell::plastic) {
    for (std::size_t l = 0; l < 3; ++l) {
      CHECK(same_bits(all.fast_weight(l, s), one.fast_weight(l, 0)));
      CHECK(same_bits(all.fast_bias(l, s), one.fast_bias(l, 0)));
    }
  }
}

}  // namespace

#define ALL_CELLS                                                                            \
  (PlasticRNN<Hebbian, double>), (PlasticRNN<Gradient, double>), (PlasticRNN<None, double>), \
      (PlasticLSTM<Hebbian, double>), (PlasticLSTM<Gradient, double>), (PlasticLSTM<None, double>)

TEMPLATE_TEST_CASE("A sample that ends before the others has the bits of running it alone",
                   "[train][ragged]", ALL_CELLS) {
  const CellOptions change =
      GENERATE(CellOptions{}, CellOptions{.modulation = false},
               CellOptions{.weight_clip = 0.05, .layer_norm = true}, CellOptions{.decay0 = 0.9});
  const TestType cell(options_with(change));
  const std::vector<Index> lengths{5, 2, most, 1, 0};
  const auto n = static_cast<Index>(lengths.size());
  Matrix<double> x = Matrix<double>::Random(inputs, most * n);
  for (Index s = 0; s < n; ++s) {
    for (Index t = lengths[static_cast<std::size_t>(s)]; t < most; ++t) {
      x.col(t * n + s).setConstant(t % 2 == 0 ? not_a_number : 1e300);
    }
  }
  CellState<double> state = cell.initial_state(n);
  Matrix<double> output, eta;
  cell.run(state, x, output, &eta, lengths);

  Tape<double> tape;
  Episode<double> episode = cell.begin(tape, n);
  const auto recorded = cell.run(episode, x, lengths);
  CellState<double> recorded_state = cell.state_of(episode);

  for (Index s = 0; s < n; ++s) {
    const Index length = lengths[static_cast<std::size_t>(s)];
    INFO("sample " << s << " of " << length << " steps");
    CellState<double> one = cell.initial_state(1);
    if (length > 0) {
      Matrix<double> own, own_eta;
      cell.run(one, alone(x, n, s, length), own, &own_eta);
      CHECK(same_bits(alone(output, n, s, length), own));
      CHECK(same_bits(alone(eta, n, s, length), own_eta));
      CHECK(same_bits(alone(recorded.output.value(), n, s, length), own));
    }
    for (Index t = length; t < most; ++t) {
      CHECK(output.col(t * n + s).isZero(0));
      CHECK(eta(0, t * n + s) == 0);
    }
    check_same_state<TestType>(state, s, one);
    check_same_state<TestType>(recorded_state, s, one);
  }
  // And from there both go on alike.
  const Matrix<double> next = Matrix<double>::Random(inputs, n);
  const Matrix<double> got = cell.step(state, next).output;
  CHECK((got - Matrix<double>(cell.step(recorded_state, next).output)).isZero(1e-14));
}

TEMPLATE_TEST_CASE("The gradient of samples of different lengths is the sum of theirs alone",
                   "[train][ragged]", ALL_CELLS) {
  const TestType cell(options_with());
  const std::vector<Index> lengths{3, most, 1, 4};
  const auto n = static_cast<Index>(lengths.size());
  Matrix<double> x = Matrix<double>::Random(inputs, most * n);
  const Matrix<double> target = Matrix<double>::Random(outputs, most * n);
  Vector<double> expected = cell.zero_gradients(), got = expected;
  double loss = 0;
  for (Index s = 0; s < n; ++s) {
    const Index length = lengths[static_cast<std::size_t>(s)];
    Tape<double> tape;
    Episode<double> episode = cell.begin(tape, 1, &expected);
    const Matrix<double> own = alone(x, n, s, length);
    const auto error = cell.run(episode, own).output - tape.constant(alone(target, n, s, length));
    const auto part = sum(square(error));
    tape.backward(part);
    loss += part.value()(0, 0);
    for (Index t = length; t < most; ++t) x.col(t * n + s).setConstant(not_a_number);
  }
  Tape<double> tape;
  Episode<double> episode = cell.begin(tape, n, &got);
  const auto output = cell.run(episode, x, lengths).output;
  Matrix<double> counts(1, x.cols());
  for (Index t = 0; t < most; ++t) {
    for (Index s = 0; s < n; ++s) {
      counts(0, t * n + s) = t < lengths[static_cast<std::size_t>(s)] ? 1 : 0;
    }
  }
  const auto whole =
      sum(sum_features(square(output - tape.constant(target))) * tape.constant(counts));
  tape.backward(whole);
  CHECK(whole.value()(0, 0) == Approx(loss).epsilon(1e-13));
  CHECK(got.allFinite());
  CHECK((got - expected).cwiseAbs().maxCoeff() < 1e-12 * expected.cwiseAbs().maxCoeff());
}

TEMPLATE_TEST_CASE("A trainer's loss and gradient are those of each episode alone, to the bit",
                   "[train][ragged]", ALL_CELLS) {
  constexpr Index batch = 9;
  TestType cell(options_with());
  SGD<double> optimizer(cell.parameters());
  Trainer trainer(cell, echo(), optimizer, {.batch = batch, .seed = 3, .threads = 1, .shard = 1});
  const double loss = trainer.gradient(2);

  // The longest first, as the trainer deals them, each in a lane of its own.
  std::vector<Episodes<double>> episodes(batch);
  std::vector<std::size_t> order(batch);
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (Index s = 0; s < batch; ++s) {
    echo().generate({3, Random::Purpose::training}, 2, s, 1, episodes[static_cast<std::size_t>(s)]);
  }
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    return episodes[a].lengths[0] > episodes[b].lengths[0];
  });
  std::vector<Vector<double>> tree(16);  // lanes at leaves, spread out evenly; empty between them
  double by_hand = 0;
  for (std::size_t lane = 0; lane < order.size(); ++lane) {
    const std::size_t s = order[lane];
    const Index length = episodes[s].lengths[0];
    const Matrix<double> x = episodes[s].inputs.leftCols(length);
    const Matrix<double> target = episodes[s].targets.leftCols(length);
    const Matrix<double> weight = episodes[s].weights.leftCols(length);
    double total = 0;
    for (Index t = 0; t < length; ++t) total += weight(0, t);
    Vector<double> gradient = cell.zero_gradients();
    Tape<double> tape;
    Episode<double> episode = cell.begin(tape, 1, &gradient);
    const auto output = cell.run(episode, x, false).output;
    const auto part = sum(sum_features(square(output - tape.constant(target))) *
                          tape.constant(weight * (1 / (total * (batch * outputs)))));
    tape.backward(part);
    by_hand += part.value()(0, 0);
    tree[lane * tree.size() / order.size()] = gradient;
  }
  while (tree.size() > 1) {
    std::vector<Vector<double>> pairs;
    for (std::size_t k = 0; k < tree.size(); k += 2) {
      pairs.push_back(tree[k].size() == 0 ? tree[k + 1] : tree[k]);
      if (tree[k].size() > 0 && tree[k + 1].size() > 0) pairs.back() += tree[k + 1];
    }
    tree = pairs;
  }
  CHECK(loss == by_hand);
  CHECK(same_bits(trainer.gradients(), tree[0]));
}

TEMPLATE_TEST_CASE("What a task leaves behind the end of an episode changes no bit",
                   "[train][ragged]", ALL_CELLS) {
  const auto train = [](double behind) {
    TestType cell(options_with());
    SGD<double> optimizer(cell.parameters());
    Trainer trainer(cell, echo(behind), optimizer,
                    {.batch = 10, .seed = 3, .threads = 2, .shard = 3});
    for (Index batch = 0; batch < 3; ++batch) trainer.step(batch);
    const Evaluation e = trainer.evaluate_in_detail({1, Random::Purpose::test}, 2);
    return std::tuple(cell.parameters().values(), e.loss, e.measure("query_error").mean(),
                      e.eta_mean());
  };
  const auto clean = train(0), dirty = train(not_a_number);
  CHECK(std::get<0>(clean).allFinite());
  CHECK(clean == dirty);
  CHECK(train(1e300) == clean);
}

TEMPLATE_TEST_CASE("Weights after steps on ragged episodes have the same bits on any threads",
                   "[train][ragged]", (PlasticRNN<Hebbian, float>), (PlasticRNN<Gradient, double>),
                   (PlasticLSTM<None, float>)) {
  using Scalar = typename TestType::ScalarType;
  Vector<Scalar> expected;
  double evaluated = 0;
  for (const int threads : {1, 2, 3}) {
    TestType cell(options_with());
    SGD<Scalar> optimizer(cell.parameters());
    Trainer trainer(cell, echo(), optimizer,
                    {.batch = 37, .seed = 3, .threads = threads, .shard = 2});
    for (Index batch = 0; batch < 5; ++batch) trainer.step(batch);
    const double loss = trainer.evaluate({1, Random::Purpose::test}, 3);
    if (threads == 1) {
      expected = cell.parameters().values();
      evaluated = loss;
    }
    CHECK(same_bits(cell.parameters().values(), expected));
    CHECK(loss == evaluated);
  }
}

TEST_CASE("The gradient of ragged episodes does not depend on the size of the shards",
          "[train][ragged]") {
  PlasticRNN<Gradient, double> cell(options_with());
  SGD<double> optimizer(cell.parameters());
  Vector<double> expected;
  for (const Index shard : {1, 2, 3, 8, 37}) {
    Trainer trainer(cell, echo(), optimizer, {.batch = 37, .threads = 2, .shard = shard});
    trainer.gradient(1);
    if (shard == 1) expected = trainer.gradients();
    CHECK((trainer.gradients() - expected).cwiseAbs().maxCoeff() <
          1e-12 * expected.cwiseAbs().maxCoeff());
  }
}

TEST_CASE("Statistics of eta count the samples that have the step", "[train][ragged]") {
  PlasticRNN<Hebbian, double> cell(options_with({.modulation = false}));
  SGD<double> optimizer(cell.parameters());
  Trainer trainer(cell, echo(), optimizer, {.batch = 50, .threads = 1});
  const Evaluation e = trainer.evaluate_in_detail({1, Random::Purpose::test}, 1);
  REQUIRE(e.eta_mean().size() == most);
  for (const double eta : e.eta_mean()) CHECK(eta == Approx(0.4));
  for (const double deviation : e.eta_deviation()) CHECK(deviation < 1e-7);
}

TEST_CASE("A mix of tasks of which one is ragged has the lengths of the batch's task",
          "[train][ragged]") {
  using Mix = TaskMix<Echo, CueReward>;
  const CueReward cues({.cues = 2, .features = 1, .storage_steps = 2, .recall_steps = 1});
  const Mix mix({{echo(), 1}, {cues, 1}});
  static_assert(is_ragged<Mix, double>);
  for (std::uint64_t batch = 0; batch < 6; ++batch) {
    Episodes<double> e;
    mix.generate({}, batch, 0, 4, e);
    REQUIRE(e.lengths.size() == 4);
    if (mix.part_of({}, batch) == 1) CHECK(e.lengths == std::vector<Index>(4, 3));
  }
  PlasticRNN<Hebbian, double> cell({.inputs = mix.inputs(), .hidden = 4, .outputs = mix.outputs()});
  SGD<double> optimizer(cell.parameters());
  Trainer trainer(cell, mix, optimizer, {.batch = 6, .threads = 1});
  for (Index batch = 0; batch < 6; ++batch) CHECK(std::isfinite(trainer.step(batch)));
}

TEST_CASE("Lengths that an episode does not have are refused by name", "[train][ragged]") {
  PlasticRNN<Hebbian, double> cell(options_with());
  SGD<double> optimizer(cell.parameters());
  for (const Index length : {0, -1, 8}) {
    const SampledTask task({.inputs = inputs, .outputs = outputs, .steps = most},
                           [length](Random&, auto e) {
                             e.weight(0) = 1;
                             return length;
                           });
    Trainer trainer(cell, task, optimizer, {.batch = 2, .threads = 1});
    CHECK_THROWS_WITH(trainer.step(0),
                      "SampledTask: the length that the function returns must be in 1 .. 7, got " +
                          std::to_string(length));
  }
  const Forgetful task({.features = 1});
  PlasticRNN<Hebbian, double> other({.inputs = 3, .hidden = 4});
  SGD<double> descent(other.parameters());
  Trainer trainer(other, task, descent, {.batch = 2, .threads = 1});
  CHECK_THROWS_WITH(trainer.step(0), Contains("Trainer: the task's lengths must be one for each "
                                              "sample, in 1 .. 20, got none"));

  Trainer silent(other, Silent({.features = 1}), descent, {.batch = 2, .threads = 1});
  CHECK_THROWS_WITH(silent.step(0), Contains("the task's lengths must be empty"));
  Trainer negative(other, Negative({.features = 1}), descent, {.batch = 2, .threads = 1});
  CHECK_THROWS_WITH(negative.step(0), "Trainer: a weight of the task must be at least 0, got -1");
  CHECK_THROWS_WITH(ShardPlan(5, 0), Contains("shard"));
  CHECK_THROWS_WITH(ShardPlan(5, 1).deal(std::vector<Index>{1, 2}), Contains("each of 5 samples"));

  CellState<double> state = cell.initial_state(2);
  Matrix<double> x = Matrix<double>::Zero(inputs, 6), y(outputs, 6), eta(1, 6);
  const auto run = [&](const std::vector<Index>& lengths) {
    cell.run(state, {x.data(), inputs, 6}, {y.data(), outputs, 6}, {eta.data(), 1, 6}, lengths);
  };
  CHECK_THROWS_WITH(run({1}), Contains("lengths") && Contains("2 samples, in 0 .. 3"));
  CHECK_THROWS_WITH(run({1, 4}), Contains("lengths"));
  CHECK_THROWS_WITH(run({1, -1}), Contains("lengths"));
  CHECK_NOTHROW(run({0, 3}));
}

TEST_CASE("Samples of like length share a shard and lanes have like work", "[train][ragged]") {
  for (const auto& [batch, shard] : {std::pair<Index, Index>{64, 2}, {37, 3}, {5, 8}, {200, 1}}) {
    ShardPlan plan(batch, shard);
    std::vector<Index> lengths;
    for (Index s = 0; s < batch; ++s) lengths.push_back(10 + (s * 7919) % 191);
    plan.deal(lengths);
    std::vector<Index> seen, loads;
    Index shards = 0, longest = 0, before = 1000;
    for (Index k = 0; k < plan.count(); ++k) {
      Index most_of_shard = 0;
      for (const Index sample : plan.samples(k)) {
        seen.push_back(sample);
        const Index length = lengths[static_cast<std::size_t>(sample)];
        CHECK(length <= before);
        before = length;
        most_of_shard = std::max(most_of_shard, length);
      }
      longest = std::max(longest, most_of_shard * static_cast<Index>(plan.samples(k).size()));
    }
    for (Index lane = 0; lane < plan.lanes(); ++lane) {
      Index load = 0;
      for (const Index k : plan.shards_of(lane)) {
        load += lengths[static_cast<std::size_t>(plan.samples(k).front())] *
                static_cast<Index>(plan.samples(k).size());
        ++shards;
      }
      loads.push_back(load);
    }
    CHECK(shards == plan.count());
    std::ranges::sort(seen);
    std::vector<Index> all(static_cast<std::size_t>(batch));
    std::iota(all.begin(), all.end(), Index{0});
    CHECK(seen == all);
    CHECK(std::ranges::max(loads) - std::ranges::min(loads) <= longest);

    plan.deal(std::vector<Index>(static_cast<std::size_t>(batch), 4));
    Index next = 0;
    for (Index lane = 0; lane < plan.lanes(); ++lane) {
      for (const Index k : plan.shards_of(lane)) {
        CHECK(plan.samples(k).front() == next);
        next += static_cast<Index>(plan.samples(k).size());
      }
    }
    CHECK(next == batch);
  }
}
