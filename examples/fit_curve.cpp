// The tape alone: a network with one hidden layer learns a sine wave.

#include <iomanip>
#include <iostream>

#include "arguments.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/tape/functions.hpp"

int main(int argc, char** argv) {
  using namespace plastic;
  examples::read_arguments(argc, argv, "Fits a curve with a small network, by the tape alone.");

  // 200 points of y = sin(3 x) on [-1, 1].
  const Matrix<double> x = Eigen::RowVectorXd::LinSpaced(200, -1, 1);
  const Matrix<double> y = (3 * x.array()).sin();

  // Parameters: a hidden layer of 20 tanh units, and the output.
  Parameters<double> parameters;
  const Index w1 = parameters.add("w1", 20, 1), b1 = parameters.add("b1", 20, 1);
  const Index w2 = parameters.add("w2", 1, 20), b2 = parameters.add("b2", 1, 1);
  parameters.matrix(w1).col(0).setLinSpaced(-3, 3);
  parameters.matrix(b1).col(0).setLinSpaced(2, -2);
  AdamW<double> optimizer(parameters, {.learning_rate = 0.01});

  Tape<double> tape;
  Vector<double> gradients(parameters.size());
  std::cout << "step   mean squared error\n" << std::scientific << std::setprecision(2);
  for (int step = 0; step <= 2000; ++step) {
    tape.clear();
    gradients.setZero();
    const auto on_tape = [&](Index number) {
      auto gradient = parameters.view(gradients, number);
      return tape.borrow(parameters.matrix(number).data(), gradient.rows(), gradient.cols(),
                         gradient.data());
    };
    const auto hidden = tanh(matmul(on_tape(w1), tape.constant(x)) + on_tape(b1));
    const auto fit = matmul(on_tape(w2), hidden) + on_tape(b2);
    const auto loss = mean_squared_error(fit, tape.constant(y));
    tape.backward(loss);
    optimizer.step(parameters, gradients);
    if (step % 250 == 0) std::cout << std::setw(4) << step << "   " << loss.value() << "\n";
  }
}
