#include "plastic/train/losses.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "plastic/cells/compiled.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/tasks/sampled_task.hpp"
#include "plastic/train/csv_log.hpp"
#include "plastic/train/early_stopping.hpp"
#include "plastic/train/progress_bar.hpp"
#include "plastic/train/trainer.hpp"
#include "support/files.hpp"

using namespace plastic;
using Catch::Matchers::Contains;

namespace {

constexpr Index classes = 4, columns = 5;

struct Numbers {
  Matrix<double> output = 3 * Matrix<double>::Random(classes, columns);
  Matrix<double> target = (Matrix<double>::Random(classes, columns).array() + 1) / 2;
  Matrix<double> weight = (Matrix<double>::Random(1, columns).array() + 1) / 2;
};

template <class L>
double value_of(const L& loss, const Numbers& n) {
  Tape<double> tape;
  return loss(tape, tape.constant(n.output), tape.constant(n.target), tape.constant(n.weight))
      .value()(0, 0);
}

/// The loss equals `by_hand(output, target)` of every column, weighted, and its adjoint its slope.
template <class L>
void check_loss(
    const L& loss,
    const std::function<double(const Vector<double>&, const Vector<double>&)>& by_hand) {
  Numbers n;
  n.weight(0, 2) = 0;
  double expected = 0;
  for (Index j = 0; j < columns; ++j) {
    expected += n.weight(0, j) * by_hand(n.output.col(j), n.target.col(j));
  }
  CHECK(value_of(loss, n) == Approx(expected).epsilon(1e-12));
  Tape<double> tape;
  const auto output = tape.variable(n.output);
  tape.backward(loss(tape, output, tape.constant(n.target), tape.constant(n.weight)));
  for (Index i = 0; i < n.output.size(); ++i) {
    const double h = 1e-5, kept = n.output.data()[i];
    n.output.data()[i] = kept + h;
    const double above = value_of(loss, n);
    n.output.data()[i] = kept - h;
    const double below = value_of(loss, n);
    n.output.data()[i] = kept;
    CHECK(output.adjoint().data()[i] == Approx((above - below) / (2 * h)).margin(1e-9));
  }
}

double log_sum_exp_of(const Vector<double>& x) {
  return x.maxCoeff() + std::log((x.array() - x.maxCoeff()).exp().sum());
}

/// Four-way choice: which of the inputs was largest in the first step.
const auto choice = [](Random& random, auto e) {
  Index largest = 0;
  for (Index i = 0; i < classes; ++i) {
    e.input(0)[i] = static_cast<std::remove_cvref_t<decltype(e.input(0)[i])>>(random.uniform());
    if (e.input(0)[i] > e.input(0)[largest]) largest = i;
  }
  e.target(1)[largest] = 1;
  e.weight(1) = 1;
};

template <class L>
Evaluation trained(L loss, const std::vector<TrainingCallback*>& callbacks = {}) {
  const SampledTask task({.inputs = classes, .outputs = classes, .steps = 2}, choice);
  PlasticRNN<Hebbian, float> net({.inputs = classes, .hidden = 16, .outputs = classes});
  AdamW<float> optimizer(net.parameters(), {.learning_rate = 5e-3});
  Trainer trainer(net, task, loss, optimizer,
                  {.batch = 32, .batches = 400, .validation_batches = 2, .threads = 1});
  trainer.run(callbacks);
  return trainer.evaluate_in_detail({0, Random::Purpose::test}, 20);
}

}  // namespace

TEST_CASE("Squared error is the sum of squares, with its adjoint", "[train][losses]") {
  check_loss(SquaredError(), [](const auto& y, const auto& t) { return (y - t).squaredNorm(); });
  CHECK(SquaredError::terms(3) == 3);
}

TEST_CASE("Cross-entropy is right for targets of any sum, smoothed or not", "[train][losses]") {
  for (const double smoothing : {0.0, 0.3, 1.0}) {
    check_loss(CrossEntropy{smoothing}, [=](const auto& y, const auto& t) {
      const Vector<double> log_p = y.array() - log_sum_exp_of(y);
      return -(1 - smoothing) * t.dot(log_p) - smoothing / classes * t.sum() * log_p.sum();
    });
  }
  CHECK(CrossEntropy::terms(3) == 1);
}

TEST_CASE("Binary cross-entropy is that of every output", "[train][losses]") {
  check_loss(BinaryCrossEntropy(), [](const auto& y, const auto& t) {
    double sum = 0;
    for (Index k = 0; k < classes; ++k) {
      const double p = 1 / (1 + std::exp(-y[k]));
      sum -= t[k] * std::log(p) + (1 - t[k]) * std::log(1 - p);
    }
    return sum;
  });
  Numbers far;
  far.output.setConstant(1000);
  far.target.setOnes();
  CHECK(value_of(BinaryCrossEntropy(), far) == 0);
}

TEST_CASE("A loss of one's own is any function of output, target and weight", "[train][losses]") {
  const auto absolute = [](auto&, auto output, auto target, auto weight) {
    return sum(sum_features(abs(output - target)) * weight);
  };
  check_loss(OwnLoss(absolute),
             [](const auto& y, const auto& t) { return (y - t).template lpNorm<1>(); });
  const auto pinball = [](Tape<float>&, Var<float> output, Var<float> target, Var<float> weight) {
    const auto error = target - output;
    return sum(sum_features(relu(error) * 0.9 + relu(-error) * 0.1) * weight);
  };
  CHECK(trained(pinball).loss < 0.2);  // the best constant leaves 0.3
  const auto matrix = [](auto&, auto output, auto, auto) { return output; };
  CHECK_THROWS_WITH(trained(matrix), Contains("the loss must be 1 x 1"));
}

TEST_CASE("Measures count what the outputs are worth", "[train][losses]") {
  Matrix<float> output(3, 2), target(3, 2);
  output << 0.1f, 2, 0.5f, 1, -1, 3;
  target << 0, 0, 1, 0, 0, 1;
  Evaluation squared(SquaredError::measures), accuracy(CrossEntropy::measures),
      binary(BinaryCrossEntropy::measures);
  for (Index j = 0; j < 2; ++j) {
    SquaredError{.bound = 1.5}.measure(output.col(j), target.col(j), squared);
    CrossEntropy().measure(output.col(j), target.col(j), accuracy);
    BinaryCrossEntropy().measure(output.col(j), target.col(j), binary);
  }
  CHECK(squared.measure("query_error").mean() ==
        Approx((0.01 + 0.25 + 1 + 4 + 1 + 4) / 6).epsilon(1e-6));
  CHECK(squared.measure("within_bound").mean() == 0.5);
  CHECK(accuracy.measure("accuracy").mean() == 1);
  CHECK(binary.measure("accuracy").mean() == 0.5);
  CHECK(binary.measure("accuracy").count == 6);
  CHECK(binary.measure("accuracy").half_width() == Approx(1.96 * std::sqrt(0.25 / 6)));
}

TEST_CASE("A network learns to classify, and bar and log show its accuracy", "[train][losses]") {
  const plastic::testing::Folder folder;
  std::ostringstream stream;
  ProgressBar bar(stream, "choice", false);
  CsvLog log(folder / "log.csv");
  const Evaluation test = trained(CrossEntropy(), {&bar, &log});
  CHECK(test.measure("accuracy").mean() > 0.9);
  CHECK(test.loss < 0.4);
  CHECK_THAT(stream.str(), Contains("accuracy "));
  const std::string text = plastic::testing::content(folder / "log.csv");
  CHECK_THAT(
      text, Catch::Matchers::StartsWith("batch,train_loss,validation_loss,seconds,accuracy\n200,"));
  CHECK(trained(BinaryCrossEntropy()).measure("accuracy").mean() > 0.9);
}

TEST_CASE("Early stopping waits for its patience, and ends at its target", "[train][losses]") {
  const auto ended = [](const EarlyStoppingOptions& options, const std::vector<double>& losses) {
    EarlyStopping stop(options);
    int count = 0;
    for (const double loss : losses) {
      if (stop.wants_stop()) break;
      stop.on_validation({.validation_loss = loss});
      ++count;
    }
    return stop.wants_stop() ? count : -count;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(ended({.patience = 2}, {3, 2, 2, 1, 1, nan, 0.5}) == 6);
  CHECK(ended({.patience = 2}, {3, 2, 1, 0.5}) == -4);
  CHECK(ended({.patience = 0}, {1, 1, 1, 1}) == -4);
  CHECK(ended({.patience = 2, .min_delta = 0.5}, {3, 2.9, 2.4, 2.3, 2.2}) == 5);
  CHECK(ended({.patience = 9, .target = 1}, {3, 2, 1, 0.5}) == 3);
  CHECK_THROWS_WITH(EarlyStopping({.patience = -1}), Contains("patience"));
  CHECK_THROWS_WITH(EarlyStopping({.min_delta = nan}), Contains("min_delta"));
  CHECK_THROWS_WITH(EarlyStopping({.target = nan}), Contains("target"));
}
