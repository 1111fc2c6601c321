// An operation of one's own on the tape: y = x sigmoid(x), with the adjoint written by hand and
// differentiable as often as one likes.

#include <algorithm>
#include <cmath>
#include <iostream>
#include <string_view>

#include "arguments.hpp"
#include "plastic/plastic.hpp"

using plastic::Var;

struct Swish {
  static constexpr std::string_view name = "swish";
  static constexpr bool elementwise = true;  // sees arrays, not matrices

  auto value(const auto& x) const { return x / (1 + exp(-x)); }

  // dy times the derivative s + y (1 - s), s = 1 / (1 + exp(-x)). The same formula is evaluated in
  // a sweep and recorded by Tape::gradient.
  auto adjoint(plastic::Argument<0>, const auto& dy, const auto& y, const auto& x) const {
    return dy * ((1 + y * exp(-x)) / (1 + exp(-x)));
  }
};

template <class Scalar>
Var<Scalar> swish(const Var<Scalar>& x) {
  return apply(Swish{}, x);
}

int main(int argc, char** argv) {
  examples::read_arguments(argc, argv,
                           "Differentiates swish, a user-defined operation, once and twice.");
  plastic::Tape<double> tape;
  const Var<double> x = tape.variable(plastic::Vector<double>::LinSpaced(5, -2, 2));
  const Var<double> first = tape.gradient(sum(swish(x)), x);
  tape.backward(sum(first));  // the second derivative

  const auto difference = [](const auto& f, double at) {
    constexpr double step = 1e-4;
    return (f(at + step) - f(at - step)) / (2 * step);
  };
  const auto f = [](double at) { return at / (1 + std::exp(-at)); };
  const auto df = [&](double at) { return difference(f, at); };
  double worst = 0;
  for (plastic::Index i = 0; i < x.rows(); ++i) {
    const double at = x.value()(i, 0);
    worst = std::max(worst, std::abs(first.value()(i, 0) - df(at)));
    worst = std::max(worst, std::abs(x.adjoint()(i, 0) - difference(df, at)));
    std::cout << "x " << at << "  swish' " << first.value()(i, 0) << "  swish'' "
              << x.adjoint()(i, 0) << "\n";
  }
  std::cout << "largest difference from central differences: " << worst << "\n";
  return worst < 1e-6 ? 0 : 1;
}
