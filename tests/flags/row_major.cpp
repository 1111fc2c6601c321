// Compiled with EIGEN_DEFAULT_TO_ROW_MAJOR: a sample's output and gradient are the same in a batch
// of two as alone, and those that a program without it has.

#include <cmath>
#include <cstdio>

#include "plastic/plastic.hpp"

namespace {

using namespace plastic;

int failures = 0;

void check(bool right, const char* what) {
  if (!right) std::printf("wrong: %s\n", what);
  failures += right ? 0 : 1;
}

template <class Net>
void check_cell(const char* name) {
  Net net({.inputs = 3, .hidden = 8, .outputs = 2, .layer_norm = true});
  Matrix<double> two(3, 8), one(3, 4);
  for (Index k = 0; k < two.size(); ++k) two.data()[k] = std::sin(static_cast<double>(k));
  for (Index t = 0; t < 4; ++t) one.col(t) = two.col(2 * t);
  const auto run = [&](const Matrix<double>& inputs, Index samples, Vector<double>& gradients) {
    Tape<double> tape;
    gradients = net.zero_gradients();
    auto episode = net.begin(tape, samples, &gradients);
    const auto result = net.run(episode, inputs);
    Matrix<double> first = Matrix<double>::Zero(1, inputs.cols());
    for (Index t = 0; t < 4; ++t) first(0, t * samples) = 1;
    tape.backward(sum(square(result.output) * tape.constant(first)));
    Matrix<double> output(2, 4);
    for (Index t = 0; t < 4; ++t) output.col(t) = result.output.value().col(t * samples);
    return output;
  };
  Vector<double> gradient_of_two, gradient;
  const Matrix<double> output_of_two = run(two, 2, gradient_of_two);
  const Matrix<double> output = run(one, 1, gradient);
  check((output_of_two - output).cwiseAbs().maxCoeff() < 1e-12, name);
  check((gradient_of_two - gradient).cwiseAbs().maxCoeff() < 1e-12, name);
  // A weight's memory has all weights of an input together.
  const auto weight = net.parameters().matrix("in_fc.weight");
  check(&weight(1, 0) == &weight(0, 0) + 1, "the order of a weight");
}

}  // namespace

int main() {
  check_cell<PlasticRNN<Hebbian, double>>("RNN, Hebbian");
  check_cell<PlasticRNN<Gradient, double>>("RNN, gradient");
  check_cell<PlasticLSTM<Gradient, double>>("LSTM, gradient");
  Tape<double> tape;
  const auto x = tape.variable((Matrix<double>(2, 3) << 1, 2, 3, 4, 5, 6).finished());
  const auto y = softmax(matmul(transpose(x), x));
  check(std::abs(y.value().sum() - 3) < 1e-12 && y.value()(0, 1) != y.value()(1, 0), "softmax");
  const auto chosen = columns(select(relu(x - 2), x, -x), 1, 2);
  check(chosen.value() == (Matrix<double>(2, 2) << -2, 3, 5, 6).finished(), "select");
  return failures;
}
