#include <iostream>

#include "other.hpp"
#include "plastic/plastic.hpp"
#include "plastic/version.hpp"

static_assert(PLASTIC_VERSION_MAJOR == 0);

int main() {
  plastic::PlasticLSTM<plastic::Gradient, float> net({.inputs = 16, .hidden = 8});
  const double loss = loss_of(net);
  const double stepped = step_elsewhere();
  std::cout << "plastic " << plastic::version << ": loss " << loss << ", output " << stepped
            << "\n";
  return loss > 0 && loss < 10 ? 0 : 1;
}
