#include "support/cells.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "plastic/tape/functions.hpp"
#include "support/errors.hpp"

namespace plastic {

// A rule that reads the weights backwards, as Oja's rule does.
struct Explaining {
  static constexpr std::string_view name = "explaining";
  static constexpr bool plastic = true;
  template <class Scalar>
  static void propose(RuleStep<Scalar>& step) {
    for (std::size_t l = 0; l < step.connections.size(); ++l) {
      Connection<Scalar>& layer = step.connections[l];
      const Var<Scalar> y = layer.pre_activation;
      layer.change = {layer.input - step.feedback(l, y), y, 0};
    }
  }
};

}  // namespace plastic

using namespace plastic;
using plastic::testing::AntiHebbian;
using plastic::testing::Leaky;
using plastic::testing::rejection;

namespace {

constexpr Index steps = 11;  // past several snapshots of the fast weights

CellOptions small() {
  return {.inputs = 3,
          .hidden = 5,
          .outputs = 2,
          .extra = 2,
          .eta0 = 0.5,
          .decay0 = 0.2,
          .inner_scale = 1,
          .seed = 3};
}

struct Setting {
  std::string name;
  CellOptions options;
};

std::vector<Setting> settings() {
  std::vector<Setting> all;
  const auto add = [&](std::string name, auto change) {
    all.push_back({std::move(name), small()});
    change(all.back().options);
  };
  add("defaults", [](CellOptions&) {});
  add("no modulation", [](CellOptions& o) { o.modulation = false; });
  add("no extra outputs", [](CellOptions& o) { o.extra = 0; });
  add("alpha uniform", [](CellOptions& o) { o.alpha_mode = AlphaMode::uniform; });
  add("alpha neg_uniform", [](CellOptions& o) { o.alpha_mode = AlphaMode::neg_uniform; });
  add("alpha none", [](CellOptions& o) { o.alpha_mode = AlphaMode::none; });
  add("norm clip", [](CellOptions& o) { o.max_norm = 0.05; });
  add("weight clip", [](CellOptions& o) { o.weight_clip = 0.02; });
  add("layer norm", [](CellOptions& o) { o.layer_norm = true; });
  add("random network", [](CellOptions& o) { o.random_network = true; });
  add("inner scale 1/64", [](CellOptions& o) { o.inner_scale = 1.0 / 64; });
  add("copies every 3 steps", [](CellOptions& o) { o.snapshot_interval = 3; });
  add("copies every 4 steps, a decay that cannot be undone", [](CellOptions& o) {
    o.snapshot_interval = 4;
    o.decay0 = 0.6;
  });
  add("no copy but the first", [](CellOptions& o) { o.snapshot_interval = 100; });
  return all;
}

template <class Scalar>
Matrix<Scalar> random_sequence(Index features, Index columns, std::uint64_t seed) {
  Random random({seed, Random::Purpose::test}, 0, 0);
  Matrix<Scalar> m(features, columns);
  for (Index i = 0; i < m.size(); ++i) m.data()[i] = static_cast<Scalar>(random.uniform(-1, 1));
  return m;
}

// A loss that looks at every output and learning rate.
template <class Scalar>
Var<Scalar> loss_of(const CellOutput<Var<Scalar>>& run, const Matrix<Scalar>& target) {
  Tape<Scalar>& tape = run.output.tape();
  return sum(square(run.output - tape.constant(target))) + sum(square(run.eta)) * 3;
}

// Columns of one sample, or of a range of steps.
template <class Scalar>
Matrix<Scalar> sample_of(const Matrix<Scalar>& m, Index sample, Index samples) {
  return m(Eigen::all, Eigen::seqN(sample, m.cols() / samples, samples));
}

bool mentions(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    if (text.find(part) == std::string::npos) return false;
  }
  return true;
}

using DoubleCells = std::tuple<PlasticRNN<Hebbian, double>, PlasticRNN<Gradient, double>,
                               PlasticRNN<None, double>, PlasticLSTM<Hebbian, double>,
                               PlasticLSTM<Gradient, double>, PlasticLSTM<None, double>,
                               PlasticLinear<Hebbian, double>, PlasticLinear<Gradient, double>,
                               PlasticLinear<None, double>, PlasticCell<Leaky, Gradient, double>,
                               PlasticRNN<AntiHebbian, double>, PlasticRNN<Explaining, double>>;

}  // namespace

TEMPLATE_LIST_TEST_CASE("The gradient of a whole episode equals central differences", "[cells]",
                        DoubleCells) {
  using Cell = TestType;
  for (const Setting& setting : settings()) {
    INFO(Cell::cell_name << " " << Cell::rule_name << ", " << setting.name);
    Cell cell(setting.options);
    const Index samples = 2;
    const Matrix<double> inputs = random_sequence<double>(3, steps * samples, 1);
    const Matrix<double> target = random_sequence<double>(2, steps * samples, 2);
    Tape<double> tape;
    const auto loss = [&](Vector<double>* gradients) {
      tape.clear();
      Episode<double> episode = cell.begin(tape, samples, gradients);
      return loss_of(cell.run(episode, inputs, false), target);
    };
    Vector<double> gradients = cell.zero_gradients();
    tape.backward(loss(&gradients));

    Parameters<double>& parameters = cell.parameters();
    for (const ParameterBlock& block : parameters.blocks()) {
      const Index stride = std::max<Index>(1, block.size() / 6);
      for (Index i = 0; i < block.size(); i += stride) {
        double& value = parameters.values()(block.offset + i);
        const double kept = value;
        const auto at = [&](double step) {
          value = kept + step;
          const double result = loss(nullptr).value()(0, 0);
          value = kept;
          return result;
        };
        const double h = 2e-6;
        const double central = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
        const double expected = block.trainable ? central : 0;
        INFO(block.name << "[" << i << "]");
        REQUIRE(std::abs(gradients(block.offset + i) - expected) < 1e-6 * (1 + std::abs(expected)));
      }
    }
  }
}

TEMPLATE_LIST_TEST_CASE("A batch of n equals n batches of one", "[cells]", DoubleCells) {
  using Cell = TestType;
  for (const Setting& setting : settings()) {
    INFO(Cell::cell_name << " " << Cell::rule_name << ", " << setting.name);
    const Cell cell(setting.options);
    const Index samples = 3;
    const Matrix<double> inputs = random_sequence<double>(3, steps * samples, 1);
    const Matrix<double> target = random_sequence<double>(2, steps * samples, 2);
    Tape<double> tape;
    Vector<double> together = cell.zero_gradients();
    Episode<double> episode = cell.begin(tape, samples, &together);
    const auto run = cell.run(episode, inputs);
    const Matrix<double> output = run.output.value();
    tape.backward(loss_of(run, target));

    Vector<double> apart = cell.zero_gradients();
    for (Index s = 0; s < samples; ++s) {
      tape.clear();
      Episode<double> one = cell.begin(tape, 1, &apart);
      const Matrix<double> input = sample_of(inputs, s, samples);
      const auto single = cell.run(one, input);
      REQUIRE((single.output.value() - sample_of(output, s, samples)).cwiseAbs().maxCoeff() <
              1e-12);
      tape.backward(loss_of(single, sample_of(target, s, samples)));
    }
    REQUIRE((together - apart).cwiseAbs().maxCoeff() <
            1e-12 * (1 + together.cwiseAbs().maxCoeff()));
  }
}

TEMPLATE_LIST_TEST_CASE("One call over an episode equals two calls with carried state", "[cells]",
                        DoubleCells) {
  using Cell = TestType;
  for (const Setting& setting : settings()) {
    INFO(Cell::cell_name << " " << Cell::rule_name << ", " << setting.name);
    const Cell cell(setting.options);
    const Index samples = 2;
    const Index first = 4;
    const Matrix<double> inputs = random_sequence<double>(3, steps * samples, 1);
    const Matrix<double> target = random_sequence<double>(2, steps * samples, 2);
    const Matrix<double> early = inputs.leftCols(first * samples);
    const Matrix<double> late = inputs.rightCols((steps - first) * samples);
    const Matrix<double> early_target = target.leftCols(first * samples);
    const Matrix<double> late_target = target.rightCols((steps - first) * samples);

    Tape<double> tape;
    Vector<double> whole = cell.zero_gradients();
    Episode<double> episode = cell.begin(tape, samples, &whole);
    const auto run = cell.run(episode, inputs);
    const Matrix<double> output = run.output.value();
    tape.backward(loss_of(run, target));

    tape.clear();
    Vector<double> halves = cell.zero_gradients();
    Episode<double> again = cell.begin(tape, samples, &halves);
    const auto one = cell.run(again, early);
    const auto two = cell.run(again, late);
    REQUIRE((one.output.value() - output.leftCols(one.output.cols())).cwiseAbs().maxCoeff() <
            1e-12);
    REQUIRE((two.output.value() - output.rightCols(two.output.cols())).cwiseAbs().maxCoeff() <
            1e-12);
    tape.backward(loss_of(one, early_target) + loss_of(two, late_target));
    REQUIRE((whole - halves).cwiseAbs().maxCoeff() < 1e-12 * (1 + whole.cwiseAbs().maxCoeff()));

    SECTION("also through a state that leaves the tape: " + setting.name) {
      Tape<double> other;
      Episode<double> begun = cell.begin(other, samples);
      cell.run(begun, early);
      CellState<double> state = cell.state_of(begun);
      Tape<double> third;
      Vector<double> late_gradients = cell.zero_gradients();
      Episode<double> resumed = cell.begin(third, state, &late_gradients);
      const auto rest = cell.run(resumed, late);
      REQUIRE((rest.output.value() - two.output.value()).cwiseAbs().maxCoeff() < 1e-12);
      third.backward(loss_of(rest, late_target));
      REQUIRE(late_gradients.allFinite());
    }
  }
}

TEMPLATE_LIST_TEST_CASE("Inputs that are temporary are copied", "[cells]", DoubleCells) {
  using Cell = TestType;
  INFO(Cell::cell_name << " " << Cell::rule_name);
  const Cell cell(small());
  const Matrix<double> inputs = random_sequence<double>(3, steps * 2, 1);
  const Matrix<double> target = random_sequence<double>(2, steps * 2, 2);
  const auto gradient = [&](bool temporary) {
    Tape<double> tape;
    Vector<double> gradients = cell.zero_gradients();
    Episode<double> episode = cell.begin(tape, 2, &gradients);
    const Matrix<double> first = inputs.leftCols(8), rest = inputs.rightCols(steps * 2 - 8);
    const auto a = temporary ? cell.run(episode, inputs.leftCols(8)) : cell.run(episode, first);
    const auto b =
        temporary ? cell.run(episode, inputs.rightCols(steps * 2 - 8)) : cell.run(episode, rest);
    tape.backward(loss_of(a, Matrix<double>(target.leftCols(8))) +
                  loss_of(b, Matrix<double>(target.rightCols(steps * 2 - 8))));
    return gradients;
  };
  CHECK((gradient(true).array() == gradient(false).array()).all());
}

TEMPLATE_LIST_TEST_CASE("Stepping without derivatives equals the tape", "[cells]", DoubleCells) {
  using Cell = TestType;
  for (const Setting& setting : settings()) {
    INFO(Cell::cell_name << " " << Cell::rule_name << ", " << setting.name);
    const Cell cell(setting.options);
    const Index samples = 2;
    const Matrix<double> inputs = random_sequence<double>(3, steps * samples, 1);
    Tape<double> tape;
    Episode<double> episode = cell.begin(tape, samples);
    const auto run = cell.run(episode, inputs);
    CellState<double> expected = cell.state_of(episode);

    CellState<double> state = cell.initial_state(samples);
    for (int repetition = 0; repetition < 2; ++repetition) {
      for (Index t = 0; t < steps; ++t) {
        const auto result = cell.step(state, inputs.middleCols(t * samples, samples));
        REQUIRE((result.output - run.output.value().middleCols(t * samples, samples))
                    .cwiseAbs()
                    .maxCoeff() < 1e-14);
        REQUIRE(
            (result.eta - run.eta.value().middleCols(t * samples, samples)).cwiseAbs().maxCoeff() <
            1e-14);
      }
      for (std::size_t k = 0; k < Cell::states; ++k) {
        REQUIRE((state.state(k) - expected.state(k)).cwiseAbs().maxCoeff() < 1e-14);
      }
      if constexpr (Cell::plastic) {
        for (std::size_t l = 0; l < cell.layer_names().size(); ++l) {
          for (Index s = 0; s < samples; ++s) {
            REQUIRE((state.fast_weight(l, s) - expected.fast_weight(l, s)).cwiseAbs().maxCoeff() <
                    1e-14);
            REQUIRE((state.fast_bias(l, s) - expected.fast_bias(l, s)).cwiseAbs().maxCoeff() <
                    1e-14);
          }
        }
      }
      cell.reset(state, samples);
    }
  }
}

TEMPLATE_LIST_TEST_CASE("A state follows the parameters when they change", "[cells]", DoubleCells) {
  using Cell = TestType;
  CellOptions options = small();
  options.hidden = 21;  // more than the outputs: the output layer's passes run across
  Cell cell(options);
  const Index samples = 2;
  const Matrix<double> inputs = random_sequence<double>(3, 2 * steps * samples, 1);
  CellState<double> state = cell.initial_state(samples);
  Matrix<double> first, second, expected;
  cell.run(state, inputs.leftCols(steps * samples), first);

  options.seed = 9;
  Cell changed(options);
  CellState<double> moved = changed.initial_state(samples);
  for (std::size_t k = 0; k < Cell::states; ++k) moved.state(k) = state.state(k);
  CellState<double> looked_at = cell.initial_state(samples),
                    untouched = cell.initial_state(samples);
  cell.run(looked_at, inputs.leftCols(steps * samples), first);
  cell.run(untouched, inputs.leftCols(steps * samples), first);
  cell.parameters().values() = changed.parameters().values();
  if constexpr (Cell::plastic) {
    for (std::size_t l = 0; l < cell.layer_names().size(); ++l) {
      for (Index s = 0; s < samples; ++s) {
        moved.set_fast_weight(l, s, state.fast_weight(l, s));
        moved.set_fast_bias(l, s, state.fast_bias(l, s));
      }
    }
  }
  changed.run(moved, inputs.rightCols(steps * samples), expected);

  SECTION("also when somebody looks at it then") {
    for (std::size_t l = 0; Cell::plastic && l < cell.layer_names().size(); ++l) {
      REQUIRE(looked_at.fast_weight(l, 0).allFinite());
    }
    cell.run(looked_at, inputs.rightCols(steps * samples), first);
    cell.run(untouched, inputs.rightCols(steps * samples), second);
    REQUIRE((first - second).isZero(0));
  }
  SECTION("in a run") {
    cell.run(state, inputs.rightCols(steps * samples), second);
    REQUIRE((second - expected).cwiseAbs().maxCoeff() < 1e-13);
  }
  SECTION("in single steps") {
    for (Index t = 0; t < steps; ++t) {
      const auto result = cell.step(state, inputs.middleCols((steps + t) * samples, samples));
      REQUIRE((result.output - expected.middleCols(t * samples, samples)).cwiseAbs().maxCoeff() <
              1e-13);
    }
  }
}

TEMPLATE_LIST_TEST_CASE("A state follows parameters that have moved to another place", "[cells]",
                        DoubleCells) {
  using Cell = TestType;
  INFO(Cell::cell_name << " " << Cell::rule_name);
  CellOptions options = small();
  options.layer_norm = true;
  Cell cell(options);
  options.seed = 9;
  const Cell other(options);
  const Matrix<double> x = random_sequence<double>(3, 2, 1), y = random_sequence<double>(3, 2, 2);
  const auto output = [&](auto&& change) {
    Cell changing = cell;
    CellState<double> state = changing.initial_state(2);
    changing.step(state, x);
    if constexpr (Cell::plastic) state.fast_weight(0, 0);  // the update with the A of its step
    change(changing);
    return Matrix<double>(changing.step(state, y).output);
  };
  const Vector<double>& values = other.parameters().values();
  const Matrix<double> copied = output([&](Cell& c) { c.parameters().values() = values; });
  CHECK((copied - output([](Cell&) {})).norm() > 1e-6);
  CHECK((output([&](Cell& c) { c.parameters().values() = Vector<double>(values); }) - copied)
            .isZero(0));
  CHECK((output([&](Cell& c) { c = Cell(other); }) - copied).isZero(0));

  Cell moved = cell;
  CellState<double> started = moved.initial_state(2);
  moved.step(started, x);
  moved.parameters().values() = Vector<double>(values);
  Tape<double> own;
  Episode<double> continued = moved.begin(own, started);
  CHECK(moved.run(continued, y).output.value().allFinite());

  options.hidden += 1;
  const std::string message = rejection([&] { output([&](Cell& c) { c = Cell(options); }); });
  if (Cell::states > 0) CHECK(mentions(message, {"the cell's parameters", "different ones"}));

  Tape<double> tape;
  Episode<double> episode = cell.begin(tape, 2);
  cell.parameters().values() = Vector<double>(values);
  CHECK(mentions(rejection([&] { cell.run(episode, x); }),
                 {"the cell's parameters", "different ones"}));
}

TEST_CASE("A state that has been moved from is empty and may be reset", "[cells]") {
  const PlasticLSTM<Gradient, double> cell(small());
  const Matrix<double> x = random_sequence<double>(3, 1, 1);
  CellState<double> state = cell.initial_state(1);
  cell.step(state, x);
  CellState<double> taken = std::move(state);
  const Matrix<double> weight = taken.fast_weight(1, 0);
  CHECK(mentions(rejection([&] { cell.step(state, x); }), {"an empty one"}));
  CHECK(mentions(rejection([&] { state.hidden(); }), {"CellState::state"}));
  CHECK((taken.fast_weight(1, 0) - weight).isZero(0));
  cell.reset(state, 1);
  CellState<double> fresh = cell.initial_state(1);
  CHECK((cell.step(state, x).output - cell.step(fresh, x).output).isZero(0));
}

TEMPLATE_LIST_TEST_CASE("An episode goes on after a sweep over its end, and sweeps again",
                        "[cells]", DoubleCells) {
  using Cell = TestType;
  for (const double weight_clip : {0.0, 0.5}) {
    CellOptions options = small();
    options.weight_clip = weight_clip;
    const Cell cell(options);
    constexpr Index all = 74;
    const Matrix<double> inputs = random_sequence<double>(3, all, 1);
    const auto gradient = [&](bool sweep_between) {
      Tape<double> tape;
      Vector<double> gradients = cell.zero_gradients();
      Episode<double> episode = cell.begin(tape, 1, &gradients);
      std::vector<Var<double>> outputs;
      std::vector<Tape<double>::Position> positions;
      for (Index t = 0; t < all; ++t) {
        positions.push_back(tape.position());
        outputs.push_back(cell.step(episode, tape.constant(inputs.col(t))).output);
        if (sweep_between && t == 33) tape.backward(outputs[33], positions[32]);
      }
      gradients.setZero();
      tape.backward(outputs[31]);
      return gradients;
    };
    const Vector<double> expected = gradient(false);
    REQUIRE(expected.allFinite());
    REQUIRE((gradient(true) - expected).norm() <= 1e-10 * (1 + expected.norm()));
  }
}

TEMPLATE_LIST_TEST_CASE("A dead network has finite values and gradients", "[cells]", DoubleCells) {
  using Cell = TestType;
  for (const bool layer_norm : {false, true}) {
    INFO(Cell::cell_name << " " << Cell::rule_name << ", layer norm " << layer_norm);
    CellOptions options = small();
    options.layer_norm = layer_norm;
    Cell cell(options);
    cell.parameters().values().setZero();
    const Matrix<double> inputs = Matrix<double>::Zero(3, steps);
    Tape<double> tape;
    Vector<double> gradients = cell.zero_gradients();
    Episode<double> episode = cell.begin(tape, 1, &gradients);
    const auto run = cell.run(episode, inputs);
    REQUIRE(run.output.value().isZero(0));
    tape.backward(loss_of(run, Matrix<double>(Matrix<double>::Ones(2, steps))));
    REQUIRE(gradients.allFinite());
    REQUIRE(gradients.cwiseAbs().maxCoeff() > 0);
  }
}

TEMPLATE_LIST_TEST_CASE("An input that is not a number shows in every output from then on",
                        "[cells]", DoubleCells) {
  using Cell = TestType;
  INFO(Cell::cell_name << " " << Cell::rule_name);
  const Cell cell(small());
  constexpr Index samples = 2;
  Matrix<double> inputs = random_sequence<double>(3, steps * samples, 1);
  inputs(1, samples) = std::numeric_limits<double>::quiet_NaN();  // step 1 of sample 0
  CellState<double> state = cell.initial_state(samples);
  Matrix<double> output;
  cell.run(state, inputs, output);
  Tape<double> tape;
  Episode<double> episode = cell.begin(tape, samples);
  const Matrix<double> on_tape = cell.run(episode, inputs).output.value();
  const bool remembers = Cell::states > 0 || Cell::plastic;
  for (Index t = 0; t < steps; ++t) {
    INFO("step " << t);
    const bool poisoned = remembers ? t >= 1 : t == 1;
    CHECK(output.col(t * samples).hasNaN() == poisoned);
    CHECK(on_tape.col(t * samples).hasNaN() == poisoned);
    CHECK(!output.col(t * samples + 1).hasNaN());
    CHECK(!on_tape.col(t * samples + 1).hasNaN());
  }
}

TEMPLATE_TEST_CASE("Float agrees with double", "[cells]", Hebbian, Gradient, None) {
  const CellOptions options = small();
  const PlasticRNN<TestType, float> single(options);
  const PlasticRNN<TestType, double> full(options);
  const Matrix<double> inputs = random_sequence<double>(3, steps * 2, 1);
  CellState<float> single_state = single.initial_state(2);
  CellState<double> full_state = full.initial_state(2);
  Matrix<float> single_output;
  Matrix<double> full_output;
  single.run(single_state, inputs.cast<float>(), single_output);
  full.run(full_state, inputs, full_output);
  REQUIRE((single_output.cast<double>() - full_output).cwiseAbs().maxCoeff() < 1e-4);
}

TEST_CASE("A random network trains all but the slow weights and biases of its layers", "[cells]") {
  CellOptions options = small();
  options.random_network = true;
  options.layer_norm = true;
  const PlasticRNN<Hebbian, float> cell(options);
  for (const ParameterBlock& block : cell.parameters().blocks()) {
    const bool layer = block.name.find("_fc.") != std::string::npos;
    const bool slow = block.name.ends_with(".weight") || block.name.ends_with(".bias");
    INFO(block.name);
    REQUIRE(block.trainable == !(layer && slow));
  }
}

TEST_CASE("Initial weights have the documented spread", "[cells]") {
  const PlasticLSTM<Gradient, double> cell({.inputs = 16, .hidden = 64, .outputs = 1});
  const auto largest = [&](const std::string& name) {
    return cell.parameters().matrix(name).cwiseAbs().maxCoeff();
  };
  const auto close_below = [](double value, double bound) {
    return value <= bound && value > 0.95 * bound;
  };
  REQUIRE(close_below(largest("in_fc.weight"), 1 / std::sqrt(64.0)));
  REQUIRE(close_below(largest("h_fc.weight"), 2 / std::sqrt(256.0)));
  REQUIRE(close_below(largest("i_fc.bias"), 2 / std::sqrt(256.0)));
  REQUIRE(close_below(largest("out_fc.weight"), 1 / std::sqrt(6.0)));
  REQUIRE(close_below(largest("h_fc.weight_alpha"), 1));
  REQUIRE(cell.parameters().matrix("out_scale").isOnes(0));
}

TEST_CASE("Bad settings are refused by name", "[cells]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const auto refused = [](const std::string& name, auto change) {
    CellOptions options = small();
    change(options);
    const std::string message = rejection([&] { PlasticRNN<Hebbian, float> cell(options); });
    INFO(message);
    REQUIRE(mentions(message, {"CellOptions", name, "must be", "got"}));
  };
  refused("inputs", [](CellOptions& o) { o.inputs = 0; });
  refused("hidden", [](CellOptions& o) { o.hidden = -3; });
  refused("outputs", [](CellOptions& o) { o.outputs = 0; });
  refused("extra", [](CellOptions& o) { o.extra = -1; });
  refused("eta0", [&](CellOptions& o) { o.eta0 = nan; });
  refused("decay0", [&](CellOptions& o) { o.decay0 = infinity; });
  refused("max_norm", [](CellOptions& o) { o.max_norm = 0; });
  refused("weight_clip", [](CellOptions& o) { o.weight_clip = -1; });
  refused("weight_clip", [](CellOptions& o) { o.weight_clip = 1e-50; });
  refused("inner_scale", [&](CellOptions& o) { o.inner_scale = nan; });
  refused("alpha_mode", [](CellOptions& o) { o.alpha_mode = static_cast<AlphaMode>(9); });
}

TEST_CASE("Wrong shapes and foreign states are refused with what was expected", "[cells]") {
  const PlasticRNN<Hebbian, double> cell(small());
  const PlasticRNN<Hebbian, double> other(small());
  CellState<double> state = cell.initial_state(2);
  const Matrix<double> narrow = Matrix<double>::Zero(2, 2);
  const Matrix<double> good = Matrix<double>::Zero(3, 2);
  REQUIRE(mentions(rejection([&] { cell.step(state, narrow); }),
                   {"PlasticCell::step", "3 x 2", "2 x 2"}));
  REQUIRE(mentions(rejection([&] { other.step(state, good); }), {"another cell"}));
  CellState<double> empty;
  REQUIRE(mentions(rejection([&] { cell.step(empty, good); }), {"an empty one"}));
  REQUIRE(mentions(rejection([&] { cell.initial_state(0); }), {"samples", "at least 1"}));
  Tape<double> tape;
  Vector<double> wrong = Vector<double>::Zero(3);
  REQUIRE(mentions(rejection([&] { cell.begin(tape, 1, &wrong); }), {"gradients", "got 3"}));
  Episode<double> episode = cell.begin(tape, 2);
  REQUIRE(mentions(rejection([&] { cell.run(episode, Matrix<double>::Zero(3, 5)); }),
                   {"inputs", "3 x (steps * 2)", "3 x 5"}));
  REQUIRE(mentions(rejection([&] { cell.run(episode, Matrix<double>::Zero(3, 0)); }), {"inputs"}));
  Matrix<double> output;
  REQUIRE(
      mentions(rejection([&] { cell.run(state, good, output, &output); }), {"the same one twice"}));
  Tape<double> cleared;
  Episode<double> gone = cell.begin(cleared, 2);
  cleared.clear();
  REQUIRE(mentions(rejection([&] { cell.run(gone, good); }), {"one whose tape has been cleared"}));
  Tape<double> foreign;
  const Var<double> x = foreign.constant(good);
  REQUIRE(mentions(rejection([&] { cell.step(episode, x); }), {"another tape"}));
  REQUIRE(mentions(rejection([&] { state.state(7); }), {"CellState::state"}));
  REQUIRE(mentions(rejection([&] { state.fast_weight(9, 0); }), {"the layer"}));
  REQUIRE(mentions(rejection([&] { state.fast_weight(0, 2); }), {"sample", "got 2"}));
}
