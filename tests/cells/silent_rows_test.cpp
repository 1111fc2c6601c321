#include <array>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "plastic/cells/compiled.hpp"
#include "plastic/plastic.hpp"
#include "support/gradcheck.hpp"

using namespace plastic;
using namespace plastic::testing;

// Passes over fast weights leave out rows whose input is 0, where relu made the input. A
// user-defined relu does not declare that it drops the adjoint there, so all its rows take part;
// both must give the same result.

namespace {

template <class Derived>
auto positive(const Eigen::ArrayBase<Derived>& x) {
  using Scalar = typename Derived::Scalar;
  return (x.derived() > Scalar(0)).template cast<Scalar>();
}
template <class Scalar>
Var<Scalar> positive(const Var<Scalar>& x) {
  return step(x);
}

struct OwnRelu {
  [[maybe_unused]] static constexpr std::string_view name = "own_relu";
  static constexpr bool elementwise = true;
  template <class X>
  auto value(const X& x) const {
    return x.cwiseMax(typename X::Scalar(0));
  }
  auto adjoint(Argument<0>, const auto& dy, const auto&, const auto& x) const {
    return dy * positive(x);
  }
};

template <bool Silent, class Scalar>
Var<Scalar> activation(const Var<Scalar>& x) {
  if constexpr (Silent) {
    return relu(x);
  } else {
    return apply(OwnRelu{}, x);
  }
}

/// Which units are alive at a step.
enum class Activity { mixed, all_alive, all_dead, alternating, waking, one_unit };

constexpr std::array<Activity, 6> activities{Activity::mixed,    Activity::all_alive,
                                             Activity::all_dead, Activity::alternating,
                                             Activity::waking,   Activity::one_unit};

/// Numbers before the activation, inputs x samples.
template <class Scalar>
Matrix<Scalar> before_activation(Activity activity, Index inputs, Index samples, Index t,
                                 Index steps) {
  Matrix<Scalar> z = random_matrix<Scalar>(inputs, samples, 100 + static_cast<std::uint64_t>(t));
  const auto set = [&](bool alive) {
    z = alive ? Matrix<Scalar>(z.cwiseAbs().array() + Scalar(0.1)) : Matrix<Scalar>(-z.cwiseAbs());
  };
  if (activity == Activity::all_alive) set(true);
  if (activity == Activity::all_dead) set(false);
  if (activity == Activity::alternating) set(t % 2 == 0);
  if (activity == Activity::waking) set(t > steps / 2);
  if (activity == Activity::one_unit) {
    set(false);
    z.row(t % inputs).setOnes();
  }
  return z;
}

struct Shape {
  Index inputs, outputs, samples;
  double clip;
};

/// Everything that an episode of one layer computes, and all adjoints, one under the other.
template <bool Silent, class Scalar>
Vector<Scalar> layer_episode(Activity activity, const Shape& shape, bool inner, bool twice) {
  constexpr Index steps = 70;  // beyond the 64th update
  const auto [inputs, outputs, samples, clip] = shape;
  Tape<Scalar> tape;
  std::vector<Var<Scalar>> variables;
  const auto variable = [&](const Matrix<Scalar>& value) {
    variables.push_back(tape.variable(value));
    return variables.back();
  };
  const SlowWeights<Scalar> slow{variable(random_matrix<Scalar>(outputs, inputs, 1)),
                                 variable(random_matrix<Scalar>(outputs, 1, 2)),
                                 variable(random_matrix<Scalar>(outputs, inputs, 3)),
                                 variable(random_matrix<Scalar>(outputs, 1, 4))};
  Synapse<Scalar> synapse(tape, slow, {.samples = samples, .weight_clip = clip});
  std::vector<Var<Scalar>> results;
  Var<Scalar> loss;
  for (Index t = 0; t < steps; ++t) {
    const auto seed = static_cast<std::uint64_t>(1000 + 10 * t);
    const Var<Scalar> z = variable(before_activation<Scalar>(activity, inputs, samples, t, steps));
    const Var<Scalar> x = activation<Silent>(z);
    const Var<Scalar> y = synapse.read(x);
    results.push_back(y);
    if (twice) results.push_back(synapse.read(x * 0.5));
    Var<Scalar> post = tanh(y);
    if (inner) {
      results.push_back(tape.gradient(sum(square(y)) * 0.1, z));
      post = post + matmul(tape.constant(random_matrix<Scalar>(outputs, inputs, 5, -0.1, 0.1)),
                           results.back());
    }
    if (t + 1 == steps) break;
    synapse.write({x, post, 1}, variable(random_matrix<Scalar>(1, samples, seed, -0.02, 0.05)),
                  variable(random_matrix<Scalar>(1, samples, seed + 1, 0, 0.3)));
  }
  for (std::size_t k = 0; k < results.size(); ++k) {
    const Var<Scalar>& y = results[k];
    const Var<Scalar> term =
        sum(square(y) + y * tape.constant(random_matrix<Scalar>(y.rows(), y.cols(), 60 + k)));
    loss = loss.empty() ? term : loss + term;
  }
  tape.backward(loss);
  std::vector<Scalar> all;
  const auto add = [&](const auto& m) { all.insert(all.end(), m.data(), m.data() + m.size()); };
  for (const Var<Scalar>& y : results) add(y.value());
  for (const Var<Scalar>& v : variables) add(v.adjoint());
  for (Index s = 0; s < samples; ++s) add(synapse.fast_weight(s));
  return Eigen::Map<Vector<Scalar>>(all.data(), static_cast<Index>(all.size()));
}

template <bool Silent>
struct OwnRnn {
  static constexpr std::string_view name = "own_rnn";
  static constexpr std::size_t states = 1;
  static Index features(const CellOptions& o) { return o.hidden; }
  static std::vector<LayerShape> layers(const CellOptions& o) { return Rnn::layers(o); }
  template <class Scalar>
  static Var<Scalar> advance(CellStep<Scalar>& step, const Var<Scalar>& x) {
    const Var<Scalar> e = activation<Silent>(step.layer(Rnn::in_fc, x));
    step.activity(Rnn::in_fc, e);
    const Var<Scalar> h =
        activation<Silent>(step.layer(Rnn::h_fc, step.state(0)) + step.layer(Rnn::i_fc, e));
    step.activity(Rnn::h_fc, h);
    step.activity(Rnn::i_fc, h);
    return h;
  }
};

template <bool Silent>
struct OwnLstm {
  static constexpr std::string_view name = "own_lstm";
  static constexpr std::size_t states = 2;
  static Index features(const CellOptions& o) { return o.hidden; }
  static std::vector<LayerShape> layers(const CellOptions& o) { return Lstm::layers(o); }
  template <class Scalar>
  static Var<Scalar> advance(CellStep<Scalar>& step, const Var<Scalar>& x) {
    const Var<Scalar> e = activation<Silent>(step.layer(Lstm::in_fc, x));
    step.activity(Lstm::in_fc, e);
    return detail::lstm_step(step, Lstm::h_fc, Lstm::i_fc, e);
  }
};

/// Output, eta and gradient of ragged episodes, and the outputs of a run without a tape.
template <template <bool> class Dynamics, bool Silent, class Rule>
Vector<double> cell_episode(const CellOptions& options, double threshold) {
  PlasticCell<Dynamics<Silent>, Rule, double> cell(options);
  // Biases decide how many units are alive.
  cell.parameters().matrix(cell.parameters().find("in_fc.bias")).array() += threshold;
  constexpr Index steps = 70, samples = 3;
  const Matrix<double> inputs = random_matrix(options.inputs, steps * samples, 7);
  const std::vector<Index> lengths{steps, 40, 55};
  Tape<double> tape;
  Vector<double> gradient = cell.zero_gradients();
  auto episode = cell.begin(tape, samples, &gradient);
  const auto result = cell.run(episode, inputs, lengths);
  tape.backward(sum(square(result.output)) + sum(square(result.eta)) * 3);
  CellState<double> state = cell.initial_state(samples);
  Matrix<double> output;
  cell.run(state, inputs, output, nullptr, lengths);
  Vector<double> all(2 * output.size() + result.eta.value().size() + gradient.size());
  all << output.reshaped(), result.output.value().reshaped(), result.eta.value().reshaped(),
      gradient;
  return all;
}

template <class Scalar>
double difference(const Vector<Scalar>& a, const Vector<Scalar>& b) {
  REQUIRE(a.size() == b.size());
  REQUIRE(a.allFinite());
  return static_cast<double>((a - b).cwiseAbs().maxCoeff() / (1 + b.cwiseAbs().maxCoeff()));
}

}  // namespace

TEMPLATE_TEST_CASE("A layer whose silent rows take no part computes what all its rows compute",
                   "[cells][silent_rows]", float, double) {
  for (const Activity activity : activities) {
    for (const Shape& shape :
         {Shape{20, 5, 1, 0}, Shape{5, 20, 3, 0}, Shape{37, 130, 2, 0}, Shape{5, 20, 2, 0.3}}) {
      for (const bool inner : {false, true}) {
        for (const bool twice : {false, true}) {
          INFO("activity " << static_cast<int>(activity) << ", " << shape.inputs << " to "
                           << shape.outputs << ", clip " << shape.clip << ", inner gradient "
                           << inner << ", read twice " << twice);
          const auto some = layer_episode<true, TestType>(activity, shape, inner, twice);
          const auto all = layer_episode<false, TestType>(activity, shape, inner, twice);
          CHECK(difference(some, all) < rounding<TestType>(2000, 1));
        }
      }
    }
  }
}

TEMPLATE_TEST_CASE("A cell whose silent rows take no part computes what all its rows compute",
                   "[cells][silent_rows]", Hebbian, Gradient) {
  std::vector<CellOptions> settings;
  const auto add = [&](auto&& change) {
    CellOptions options{.inputs = 3,
                        .hidden = 19,
                        .outputs = 2,
                        .extra = 2,
                        .eta0 = 0.5,
                        .decay0 = 0.1,
                        .inner_scale = 1,
                        .seed = 3};
    change(options);
    settings.push_back(options);
  };
  add([](CellOptions&) {});
  add([](CellOptions& o) { o.modulation = false; });
  add([](CellOptions& o) { o.alpha_mode = AlphaMode::none; });
  add([](CellOptions& o) { o.weight_clip = 0.02; });
  add([](CellOptions& o) { o.layer_norm = true; });
  add([](CellOptions& o) { o.random_network = true; });
  add([](CellOptions& o) { o.snapshot_interval = 3; });
  add([](CellOptions& o) { o.decay0 = 0; });
  add([](CellOptions& o) { o.decay0 = 0.6; });
  add([](CellOptions& o) { o.decay0 = 1; });
  for (std::size_t k = 0; k < settings.size(); ++k) {
    for (const double threshold : {0.0, 3.0, -3.0}) {
      INFO("setting " << k << ", biases moved by " << threshold);
      const CellOptions& options = settings[k];
      CHECK(difference(cell_episode<OwnRnn, true, TestType>(options, threshold),
                       cell_episode<OwnRnn, false, TestType>(options, threshold)) < 1e-10);
      CHECK(difference(cell_episode<OwnLstm, true, TestType>(options, threshold),
                       cell_episode<OwnLstm, false, TestType>(options, threshold)) < 1e-10);
    }
  }
}

TEMPLATE_TEST_CASE("A gradient in the output of relu itself is whole, also where it is 0",
                   "[cells][silent_rows]", float, double) {
  const auto run = [](auto silent) {
    Tape<TestType> tape;
    const SlowWeights<TestType> slow{tape.variable(random_matrix<TestType>(4, 6, 1)),
                                     tape.variable(random_matrix<TestType>(4, 1, 2)),
                                     {},
                                     {}};
    Synapse<TestType> synapse(tape, slow, {.samples = 2});
    const auto z = tape.variable(random_matrix<TestType>(6, 2, 3));
    const auto x = activation<silent()>(z);
    const auto g = tape.gradient(sum(square(synapse.read(x))), x);
    tape.backward(sum(square(g)));
    Vector<TestType> all(g.value().size() + slow.weight.value().size());
    all << g.value().reshaped(), slow.weight.adjoint().reshaped();
    return all;
  };
  const Vector<TestType> some = run(std::true_type{});
  CHECK(difference(some, run(std::false_type{})) < rounding<TestType>(100, 1));
  CHECK((some.head(12).array() != TestType(0)).all());
}

TEST_CASE("A choice between two matrices keeps it that zeros are silent", "[cells][silent_rows]") {
  Tape<double> tape;
  const auto z = tape.variable(random_matrix(3, 2, 1));
  const auto mask = tape.constant(Matrix<double>::Ones(1, 2));
  const auto zero = tape.constant(Matrix<double>::Zero(3, 2));
  CHECK(relu(z).node().zeros_are_silent());
  CHECK(zero.node().zeros_are_silent());
  CHECK(select(mask, relu(z), zero).node().zeros_are_silent());
  CHECK_FALSE(select(mask, relu(z), z).node().zeros_are_silent());
  CHECK_FALSE(z.node().zeros_are_silent());
  CHECK_FALSE(tanh(z).node().zeros_are_silent());
  CHECK_FALSE(leaky_relu(z, 0.1).node().zeros_are_silent());
  CHECK_FALSE(apply(OwnRelu{}, z).node().zeros_are_silent());
}
