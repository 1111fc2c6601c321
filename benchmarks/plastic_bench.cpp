// Step throughput of the library, and of the bare passes that bound it (limit.cpp). Names:
//   train_step/CELL/RULE/hidden:H/batch:B/steps:T/threads:N   forward, backward, clip, AdamW
//   forward/...                                               the same episodes, no derivatives
//   cell_step/...                                             one step of one sample
//   activity/KIND/...                                         forward and backward of networks
//                                                             whose units are alive, dead,
//                                                             alternating or trained
//   limit/train_step/... and limit/forward/...                forward and backward alone
//   conv2d/forward/... and conv2d/backward/...                a convolution and its adjoints
//   fading/... and kept/...                                   fast weights that decay to nothing
//                                                             over a long episode, or do not decay
// each followed by /real_time. Every result is compared with naive loops in double before it is
// timed.

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <plastic/nn/conv2d.hpp>
#include <plastic/plastic.hpp>
#include <random>
#include <utility>
#include <vector>

#include "conv.hpp"
#include "harness.hpp"
#include "limit.hpp"
#include "naive.hpp"
#include "roofline.hpp"
#include "verify.hpp"

namespace {

using namespace bench;
using plastic::Index;

// Tolerance for single precision; the largest differences measured are below a tenth of it.
constexpr double tolerance = 1e-3;

// Hands out episodes that were drawn before.
class Prepared {
 public:
  Prepared(const Data& data, int steps) : data_(&data), steps_(steps) {}

  Index inputs() const { return Case::inputs; }
  Index outputs() const { return Case::outputs; }
  Index steps() const { return steps_; }

  template <class Scalar>
  void generate(const plastic::Random::Stream&, std::uint64_t, Index first, Index samples,
                plastic::Episodes<Scalar>& episodes) const {
    episodes.inputs.resize(Case::inputs, steps_ * samples);
    episodes.targets.resize(Case::outputs, steps_ * samples);
    episodes.weights.setOnes(1, steps_ * samples);
    for (Index s = 0; s < samples; ++s) {
      for (Index t = 0; t < steps_; ++t) {
        const auto at = static_cast<std::size_t>((first + s) * steps_ + t);
        std::copy_n(data_->inputs.data() + at * Case::inputs, Case::inputs,
                    episodes.inputs.col(t * samples + s).data());
        std::copy_n(data_->targets.data() + at * Case::outputs, Case::outputs,
                    episodes.targets.col(t * samples + s).data());
      }
    }
  }

 private:
  const Data* data_;
  Index steps_;
};

static_assert(plastic::Task<Prepared, float>);

plastic::CellOptions cell_options(const Case& c) {
  // An inner scale at which the gradient rule's changes are large enough for the norm clip.
  return {.inputs = Case::inputs,
          .hidden = c.hidden,
          .outputs = Case::outputs,
          .extra = Case::extra,
          .inner_scale = 1,
          .seed = 1};
}

naive::Settings naive_settings(const Case& c) {
  naive::Settings s;
  s.lstm = c.lstm;
  s.rule = c.rule;
  s.hidden = static_cast<std::size_t>(c.hidden);
  s.inner_scale = 1;
  return s;
}

// Blocks without the gaps between them: the order of the blocks is that of naive::Layout.
naive::Numbers packed(const plastic::Parameters<float>& parameters,
                      const plastic::Vector<float>& flat) {
  naive::Numbers result;
  for (const plastic::ParameterBlock& block : parameters.blocks()) {
    for (Index i = 0; i < block.size(); ++i) {
      result.push_back(static_cast<double>(flat[block.offset + i]));
    }
  }
  return result;
}

naive::Result naive_result(const Case& c, const naive::Settings& settings,
                           const naive::Numbers& parameters, const Data& data) {
  return naive::Network(settings, parameters)
      .run(data.inputs, data.targets, static_cast<std::size_t>(c.batch),
           static_cast<std::size_t>(c.steps));
}

// A cell in training, with everything that it needs.
template <class Cell>
struct Training {
  explicit Training(const Case& c)
      : data(c),
        cell(cell_options(c)),
        adamw(cell.parameters()),
        trainer(cell, Prepared(data, c.steps), adamw,
                {.batch = c.batch, .validation_every = 0, .threads = c.threads}) {}

  double evaluate() { return trainer.evaluate({0, plastic::Random::Purpose::validation}, 1); }

  Data data;
  Cell cell;
  plastic::AdamW<float> adamw;
  plastic::Trainer<plastic::EpisodeObjective<Cell, Prepared>, plastic::AdamW<float>> trainer;
};

// `change` prepares the network before it is verified or timed.
template <class Cell>
std::string verify_training(
    const Case& full, bool backward,
    const std::function<void(Training<Cell>&)>& change = [](auto&) {}) {
  const Case c = verified_size(full);
  Training<Cell> training(c);
  change(training);
  const naive::Numbers parameters =
      packed(training.cell.parameters(), training.cell.parameters().values());
  const naive::Settings settings = naive_settings(c);
  const naive::Result expected = naive_result(c, settings, parameters, training.data);
  naive::Result got = expected;
  if (backward) {
    got.loss = training.trainer.gradient(0);
    got.gradient = packed(training.cell.parameters(), training.trainer.gradients());
  } else {
    got.loss = training.evaluate();
  }
  return compare(naive::Layout(settings), Cell::plastic, got, expected, tolerance);
}

template <class Cell>
void add_training(const Case& c, bool backward) {
  register_benchmark(backward ? "train_step" : "forward", c, backward, benchmark::kMillisecond,
                     {.verify = [=] { return verify_training<Cell>(c, backward); },
                      .prepare = [=]() -> std::function<void()> {
                        auto training = std::make_shared<Training<Cell>>(c);
                        if (backward) return [training] { training->trainer.step(0); };
                        return [training] { training->evaluate(); };
                      }});
}

// Forward and backward of a network whose hidden units are all alive or all dead, whose input layer
// is alive in every other step only, or that has been trained.
template <class Cell>
void add_activities(const Case& c) {
  using Change = std::function<void(Training<Cell>&)>;
  const auto move_biases = [](float by) -> Change {
    return [by](Training<Cell>& training) {
      plastic::Parameters<float>& parameters = training.cell.parameters();
      for (const char* bias : {"in_fc.bias", "h_fc.bias", "i_fc.bias"}) {
        parameters.matrix(bias).array() += by;
      }
    };
  };
  const Change alternate = [](Training<Cell>& training) {
    plastic::MatrixMap<float> weight = training.cell.parameters().matrix("in_fc.weight");
    weight.setZero();
    weight.col(0).setConstant(-4);
    training.cell.parameters().matrix("in_fc.bias").setConstant(2);
    for (std::size_t column = 0; column * Case::inputs < training.data.inputs.size(); ++column) {
      training.data.inputs[column * Case::inputs] = column % 2 == 0 ? 0.f : 1.f;
    }
  };
  const Change train = [](Training<Cell>& training) {
    for (int batch = 0; batch < 300; ++batch) training.trainer.step(0);
  };
  struct Kind {
    std::string name;
    Change change;
  };
  const std::vector<Kind> kinds{{"alive", move_biases(3)},
                                {"dead", move_biases(-3)},
                                {"alternating", alternate},
                                {"trained", train}};
  for (const Kind& kind : kinds) {
    const Change change = kind.change;
    register_benchmark("activity/" + kind.name, c, true, benchmark::kMillisecond,
                       {.verify = [=] { return verify_training<Cell>(c, true, change); },
                        .prepare = [=]() -> std::function<void()> {
                          auto training = std::make_shared<Training<Cell>>(c);
                          change(*training);
                          return [training] { training->trainer.gradient(0); };
                        }});
  }
}

// Episodes of 10 to 200 steps, or all of their mean length.
template <class Cell>
struct RaggedTraining {
  static constexpr Index shortest = 10, longest = 200;

  static auto task(bool ragged) {
    return plastic::SampledTask(
        {.inputs = Case::inputs, .outputs = Case::outputs, .steps = longest},
        [ragged](plastic::Random& random, auto e) {
          const auto drawn = shortest + Index{random.below(longest - shortest + 1)};
          const Index length = ragged ? drawn : (shortest + longest) / 2;
          for (Index t = 0; t < length; ++t) {
            for (Index i = 0; i < Case::inputs; ++i) {
              e.input(t)[i] = static_cast<float>(random.uniform());
            }
            e.target(t)[0] = static_cast<float>(random.uniform(-1, 1));
            e.weight(t) = 1;
          }
          return length;
        });
  }
  using TaskType = decltype(task(true));

  RaggedTraining(const Case& c, bool ragged, Index shard = 0)
      : cell(cell_options(c)),
        adamw(cell.parameters()),
        trainer(cell, task(ragged), adamw,
                {.batch = c.batch, .validation_every = 0, .threads = c.threads, .shard = shard}) {}

  Cell cell;
  plastic::AdamW<float> adamw;
  plastic::Trainer<plastic::EpisodeObjective<Cell, TaskType>, plastic::AdamW<float>> trainer;
  Index batch = 0;
};

// Every episode alone gives the same gradient.
template <class Cell>
std::string verify_ragged(const Case& c, bool ragged) {
  RaggedTraining<Cell> together(c, ragged), alone(c, ragged, 1);
  together.trainer.gradient(0);
  alone.trainer.gradient(0);
  const auto& expected = alone.trainer.gradients();
  const double error =
      static_cast<double>((together.trainer.gradients() - expected).norm() / expected.norm());
  return error < tolerance ? "" : "the gradient is off by " + std::to_string(error);
}

template <class Cell>
void add_ragged(Case c) {
  c.steps = static_cast<int>(RaggedTraining<Cell>::shortest + RaggedTraining<Cell>::longest) / 2;
  for (const int threads : {1, omp_get_num_procs()}) {
    c.threads = threads;
    for (const bool ragged : {true, false}) {
      register_benchmark(ragged ? "train_ragged" : "train_equal", c, true, benchmark::kMillisecond,
                         {.verify = [=] { return verify_ragged<Cell>(c, ragged); },
                          .prepare = [=]() -> std::function<void()> {
                            auto run = std::make_shared<RaggedTraining<Cell>>(c, ragged);
                            return [run] { run->trainer.step(run->batch++); };
                          }});
    }
  }
}

// One sample, step by step.
template <class Cell>
struct Stepping {
  explicit Stepping(const Case& c)
      : data(c), cell(cell_options(c)), state(cell.initial_state(1)), steps(c.steps) {}

  float step() {
    using Column = Eigen::Map<const plastic::Matrix<float>>;
    const float* x = data.inputs.data() + at * Case::inputs;
    at = (at + 1) % static_cast<std::size_t>(steps);
    return cell.step(state, Column(x, Case::inputs, 1)).output(0, 0);
  }

  Data data;
  Cell cell;
  plastic::CellState<float> state;
  int steps;
  std::size_t at = 0;
};

template <class Cell>
std::string verify_stepping(const Case& c) {
  Stepping<Cell> stepping(c);
  const naive::Numbers parameters =
      packed(stepping.cell.parameters(), stepping.cell.parameters().values());
  const naive::Result expected = naive_result(c, naive_settings(c), parameters, stepping.data);
  for (const double output : expected.output) {
    const double got = static_cast<double>(stepping.step());
    if (!(std::abs(got - output) <= tolerance * (1 + std::abs(output)))) {
      return "the output is " + std::to_string(got) + ", the naive loops' " +
             std::to_string(output);
    }
  }
  return {};
}

// Nanoseconds of single steps: the median and the 99.9th percentile.
template <class Cell>
std::pair<double, double> single_steps(const Case& c) {
  using Clock = std::chrono::steady_clock;
  constexpr std::size_t most = 200'000, least = 2'000;
  constexpr std::chrono::seconds enough(10);
  Stepping<Cell> stepping(c);
  for (int i = 0; i < 100; ++i) stepping.step();
  std::vector<float> times;
  times.reserve(most);
  const Clock::time_point begin = Clock::now();
  Clock::time_point last = begin;
  while (times.size() < least || (times.size() < most && last - begin < enough)) {
    benchmark::DoNotOptimize(stepping.step());
    const Clock::time_point now = Clock::now();
    times.push_back(std::chrono::duration<float, std::nano>(now - last).count());
    last = now;
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times[times.size() - 1 - times.size() / 1000]};
}

template <class Cell>
void add_stepping(Case c) {
  c.batch = c.steps = c.threads = 1;
  Case shown = c;
  shown.steps = 20;  // steps with different inputs
  auto quantiles = std::make_shared<std::optional<std::pair<double, double>>>();
  register_benchmark("cell_step", c, false, benchmark::kMicrosecond,
                     {.verify = [=] { return verify_stepping<Cell>(shown); },
                      .prepare = [=]() -> std::function<void()> {
                        auto stepping = std::make_shared<Stepping<Cell>>(shown);
                        return [stepping] { benchmark::DoNotOptimize(stepping->step()); };
                      },
                      .report =
                          [=](benchmark::State& state) {
                            if (!*quantiles) *quantiles = single_steps<Cell>(shown);
                            state.counters["median_ns"] = (*quantiles)->first;
                            state.counters["p99.9_ns"] = (*quantiles)->second;
                          }});
}

// An episode whose fast weights only decay, and their adjoint too: they begin at 1e-3 and are never
// written, and the loss looks at the last step.
template <class Cell>
struct Fading {
  Fading(const Case& c, bool fades)
      : cell({.inputs = Case::inputs,
              .hidden = c.hidden,
              .modulation = false,
              .eta0 = 0,
              .decay0 = fades ? 0.1 : 0,
              .seed = 1}),
        start(cell.initial_state(1)),
        inputs(plastic::Matrix<float>::Random(Case::inputs, c.steps)),
        gradients(cell.zero_gradients()) {
    for (std::size_t l = 0; l < cell.layer_names().size(); ++l) {
      const plastic::Matrix<float> weight = start.fast_weight(l, 0);
      start.set_fast_weight(l, 0,
                            plastic::Matrix<float>::Constant(weight.rows(), weight.cols(), 1e-3f));
    }
  }

  void episode() {
    tape.clear();
    gradients.setZero();
    auto episode = cell.begin(tape, start, &gradients);
    const auto result = cell.run(episode, inputs);
    plastic::Matrix<float> last = plastic::Matrix<float>::Zero(1, inputs.cols());
    last(0, inputs.cols() - 1) = 1;
    tape.backward(plastic::sum(result.output * tape.constant(last)));
    last_weight = episode.synapses[0].fast_weight(0)(0, 0);
  }

  Cell cell;
  plastic::CellState<float> start;
  plastic::Matrix<float> inputs;
  plastic::Vector<float> gradients;
  plastic::Tape<float> tape;
  float last_weight = 1;
};

template <class Cell>
void add_fading(Case c) {
  c.batch = c.threads = 1;
  c.steps = 2000;
  for (const bool fades : {true, false}) {
    register_benchmark(
        fades ? "fading" : "kept", c, true, benchmark::kMillisecond,
        {.verify =
             [=] {
               Fading<Cell> fading(c, fades);
               fading.episode();
               const float w = fading.last_weight;
               const bool right = fades ? std::abs(w) < 1e-30f : w == 1e-3f;
               return right && fading.gradients.allFinite() ? "" : "the fast weights are wrong";
             },
         .prepare = [=]() -> std::function<void()> {
           auto fading = std::make_shared<Fading<Cell>>(c, fades);
           return [fading] { fading->episode(); };
         }});
  }
}

// The limit's network, trained: no biases, no modulation, and an out_scale of 1. After these
// batches 43 to 45% of the hidden units of an RNN are alive, 53% at the start.
template <class Cell>
naive::Numbers limit_parameters(const Case& full) {
  Case c = full;
  c.batch = 16;
  c.steps = 20;
  c.threads = omp_get_num_procs();
  Training<Cell> training(c);
  plastic::Parameters<float>& parameters = training.cell.parameters();
  for (Index k = 0; k < static_cast<Index>(parameters.blocks().size()); ++k) {
    const std::string& name = parameters.blocks()[static_cast<std::size_t>(k)].name;
    const bool bias = name.find("bias") != std::string::npos;
    if (!bias && name.find("out_scale") == std::string::npos) continue;
    parameters.matrix(name).setConstant(bias ? 0.f : 1.f);
    parameters.freeze(k);
  }
  for (int batch = 0; batch < 100; ++batch) training.trainer.step(0);
  return packed(parameters, parameters.values());
}

std::string verify_limit(const Case& full, bool backward, const naive::Numbers& parameters) {
  const Case c = verified_size(full);
  const Data data(c);
  const naive::Settings settings = limit_settings(c);
  const naive::Layout layout(settings);
  naive::Result expected = naive_result(c, settings, parameters, data);
  for (const naive::Layer& layer : layout.layers) {
    for (std::size_t j = 0; j < layer.outputs; ++j) {
      expected.gradient[layer.bias + j] = expected.gradient[layer.bias_alpha + j] = 0;
    }
  }
  std::fill(expected.gradient.begin() + static_cast<std::ptrdiff_t>(layout.out_scale),
            expected.gradient.end(), 0.0);
  const auto limit = make_limit(c, parameters);
  naive::Result got = expected;
  if (backward) {
    const double loss = limit->train_step(data);
    got = limit->result();
    got.loss = loss;
    const auto wrong = [&](double a, double b) { return !(std::abs(a - b) <= 0.01 * std::abs(b)); };
    if (wrong(got.rate, expected.rate) || wrong(got.decay, expected.decay)) {
      return "the derivatives by the rates differ from the naive loops'";
    }
  } else {
    got.loss = limit->forward(data);
  }
  return compare(layout, true, got, expected, tolerance);
}

template <class Cell>
void add_limit(const Case& c, bool backward) {
  auto parameters = std::make_shared<naive::Numbers>();
  auto limit = std::make_shared<std::shared_ptr<Limit>>();
  auto throughput = std::make_shared<std::optional<Throughput>>();
  register_benchmark(backward ? "limit/train_step" : "limit/forward", c, backward,
                     benchmark::kMillisecond,
                     {.verify =
                          [=] {
                            *parameters = limit_parameters<Cell>(c);
                            return verify_limit(c, backward, *parameters);
                          },
                      .prepare = [=]() -> std::function<void()> {
                        *limit = make_limit(c, *parameters);
                        auto data = std::make_shared<Data>(c);
                        if (backward) return [=] { (*limit)->train_step(*data); };
                        return [=] { (*limit)->forward(*data); };
                      },
                      .report =
                          [=](benchmark::State& state) {
                            // v, A, W, and G and dA too.
                            const int arrays = backward ? 5 : 3;
                            if (!*throughput) *throughput = measure_throughput(c.threads);
                            const Throughput& measured = **throughput;
                            state.counters["roofline_ms"] =
                                1e-6 * roofline((*limit)->walked(), (*limit)->weights(), arrays,
                                                c.threads, measured);
                            state.counters["multiply_add_ns"] = measured.multiply_add;
                            for (std::size_t k = 0; k < measured.levels.size(); ++k) {
                              const std::string level = "level" + std::to_string(k + 1);
                              state.counters[level + "_read_ns"] = measured.levels[k].read;
                              state.counters[level + "_update_ns"] = measured.levels[k].update;
                            }
                          }});
}

// A convolution on a tape.
struct Convolving {
  explicit Convolving(const ConvCase& c) : convolution(c), data(c) {
    options.input = {c.channels, c.size, c.size};
    options.filters = c.filters;
    options.threads = c.threads;
    result.dx.resize(data.x.size());
    result.dweight.resize(data.weight.size());
  }

  void forward() {
    tape.clear();
    const ConvCase& c = convolution;
    const auto x = tape.borrow(data.x.data(), options.input.size(), c.batch, result.dx.data());
    const auto weight =
        tape.borrow(data.weight.data(), options.patch(), c.filters, result.dweight.data());
    y = plastic::conv2d(x, weight, plastic::Var<float>(), options);
    swept = tape.position();
  }
  void backward() {
    tape.rewind(swept);
    tape.seed(y, plastic::ConstMatrixMap<float>(data.dy.data(), y.rows(), y.cols()));
    tape.sweep(swept, {});
  }

  ConvCase convolution;
  ConvData data;
  ConvResult result;
  plastic::Conv2dOptions options;
  plastic::Tape<float> tape;
  plastic::Var<float> y;
  plastic::Tape<float>::Position swept;
};

std::string verify_convolution(const ConvCase& full) {
  const ConvCase c = verified_size(full);
  Convolving convolving(c);
  convolving.forward();
  convolving.backward();
  convolving.result.y.assign(convolving.y.value().data(),
                             convolving.y.value().data() + convolving.y.value().size());
  return compare(c, convolving.data, convolving.result);
}

void add_convolutions() {
  for (const ConvCase& c : conv_cases(omp_get_num_procs())) {
    for (const bool backward : {false, true}) {
      register_benchmark(c.name(backward ? "conv2d/backward" : "conv2d/forward"), c.work(backward),
                         c.batch, benchmark::kMillisecond,
                         {.verify = [=] { return verify_convolution(c); },
                          .prepare = [=]() -> std::function<void()> {
                            auto convolving = std::make_shared<Convolving>(c);
                            convolving->forward();
                            if (backward) return [convolving] { convolving->backward(); };
                            return [convolving] { convolving->forward(); };
                          }});
    }
  }
}

template <class Cell>
void add_cell(Rule rule, bool sweep) {
  const bool lstm = Cell::cell_name == plastic::Lstm::name;
  for (const bool backward : {true, false}) {
    for (const Case& c : cases(lstm, rule, sweep, omp_get_num_procs())) {
      add_training<Cell>(c, backward);
      if constexpr (Cell::plastic) add_limit<Cell>(c, backward);
    }
  }
  for (const int hidden : {64, 128, 256, 512, 1024}) {
    if (sweep || hidden == 128) {
      add_stepping<Cell>({.lstm = lstm, .rule = rule, .hidden = hidden});
    }
  }
}

void add_all(bool sweep) {
  add_fading<plastic::PlasticRNN<plastic::Hebbian, float>>({.rule = Rule::hebbian});
  add_ragged<plastic::PlasticRNN<plastic::Hebbian, float>>({.rule = Rule::hebbian});
  add_ragged<plastic::PlasticRNN<plastic::Gradient, float>>({.rule = Rule::gradient});
  const int threads = omp_get_num_procs();
  add_activities<plastic::PlasticRNN<plastic::Gradient, float>>(
      {.rule = Rule::gradient, .threads = threads});
  add_activities<plastic::PlasticRNN<plastic::Hebbian, float>>(
      {.rule = Rule::hebbian, .threads = threads});
  add_activities<plastic::PlasticLSTM<plastic::Gradient, float>>(
      {.lstm = true, .rule = Rule::gradient, .threads = threads});
  add_cell<plastic::PlasticRNN<plastic::Gradient, float>>(Rule::gradient, sweep);
  add_cell<plastic::PlasticRNN<plastic::Hebbian, float>>(Rule::hebbian, sweep);
  add_cell<plastic::PlasticRNN<plastic::None, float>>(Rule::none, sweep);
  add_cell<plastic::PlasticLSTM<plastic::Gradient, float>>(Rule::gradient, sweep);
  add_cell<plastic::PlasticLSTM<plastic::Hebbian, float>>(Rule::hebbian, sweep);
  add_cell<plastic::PlasticLSTM<plastic::None, float>>(Rule::none, sweep);
  add_convolutions();
}

}  // namespace

int main(int argc, char** argv) { return run_main(argc, argv, add_all); }
