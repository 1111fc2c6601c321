// A plastic network in a control loop. It balances a pole with a motor whose strength and sense,
// and the pole's length, are new in every run and change in the middle of it. The slow weights are
// trained by gradient descent through the simulated pole; each run must find out anew which way the
// motor turns. The trained network then steers poles step by step, as in a robot, beside two that
// do not change while they run: the same network with its fast weights held at zero, and a plain
// one that was trained in the same way.

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <iomanip>
#include <iostream>
#include <string>
#include <vector>

#include "arguments.hpp"
#include "plastic/plastic.hpp"

namespace {

using plastic::Index;
using plastic::Matrix;
using plastic::Random;
using plastic::Var;

constexpr float dt = 0.05f;  // seconds
constexpr Index steps = 80;  // steps of a run
constexpr Index seen = 3;    // angle, speed, last command

struct Plant {
  float gain;  // angular acceleration at full command, rad/s^2, of either sign
  float pull;  // gravity over length, 1/s^2
};

// A run: two plants, and the step at which the second one replaces the first.
struct Course {
  Plant before, after;
  Index change;
  float theta, omega;  // at the start: angle from upright in rad, rad/s

  const Plant& plant(Index t) const { return t < change ? before : after; }
};

Course draw_course(Random::Purpose purpose, Index batch, Index sample) {
  Random random({1, purpose}, static_cast<std::uint64_t>(batch),
                static_cast<std::uint64_t>(sample));
  const auto plant = [&](double sense) {
    const double gain = sense * random.uniform(6, 14);
    return Plant{static_cast<float>(gain), static_cast<float>(9.8 / random.uniform(0.8, 1.5))};
  };
  const double sense = random.below(2) == 0 ? 1 : -1;
  const Plant before = plant(sense);
  const Plant after = plant(random.below(4) == 0 ? sense : -sense);
  const auto change = Index{20} + random.below(40);
  return {before, after, change, static_cast<float>(random.uniform(-0.3, 0.3)),
          static_cast<float>(random.uniform(-0.3, 0.3))};
}

// One step of the pole, for numbers or on the tape.
template <class T>
void move(T& theta, T& omega, const T& command, const T& gain, const T& pull) {
  using std::sin;
  omega = omega + (pull * sin(theta) + gain * command) * dt;
  theta = theta + omega * dt;
}

// Mean cost of a batch of runs; adds its gradient to `gradients`.
template <class Net>
double cost(const Net& net, plastic::Tape<float>& tape, Index batch,
            plastic::Vector<float>& gradients) {
  constexpr Index runs = 64;
  std::vector<Course> courses;
  Matrix<float> theta0(1, runs), omega0(1, runs);
  for (Index s = 0; s < runs; ++s) {
    courses.push_back(draw_course(Random::Purpose::training, batch, s));
    theta0(0, s) = courses.back().theta;
    omega0(0, s) = courses.back().omega;
  }
  tape.clear();
  auto episode = net.begin(tape, runs, &gradients);
  Var<float> theta = tape.constant(theta0), omega = tape.constant(omega0);
  Var<float> command = tape.constant(Matrix<float>::Zero(1, runs)), total;
  for (Index t = 0; t < steps; ++t) {
    Matrix<float> gain(1, runs), pull(1, runs);
    for (Index s = 0; s < runs; ++s) {
      const Plant& plant = courses[static_cast<std::size_t>(s)].plant(t);
      gain(0, s) = plant.gain;
      pull(0, s) = plant.pull;
    }
    const Var<float> x =
        pad_rows(theta * 3, 0, seen) + pad_rows(omega, 1, seen) + pad_rows(command, 2, seen);
    command = tanh(net.step(episode, x, t + 1 < steps).output);
    move(theta, omega, command, tape.constant(gain), tape.constant(pull));
    // A pole that has fallen stays down: its gradients would grow without end.
    omega = clamp(omega, -6, 6);
    theta = clamp(theta, -1.2, 1.2);
    const Var<float> now =
        mean(square(theta) + square(omega) * 0.02 + square(command) * 0.002) / steps;
    total = total.empty() ? now : total + now;
  }
  tape.backward(total);
  return static_cast<double>(total.value()(0, 0));
}

template <class Net>
void train(Net& net, const std::string& name, Index batches) {
  plastic::AdamW<float> optimizer(net.parameters(), {.learning_rate = 2e-3});
  plastic::Tape<float> tape;
  double recent = 0;
  for (Index batch = 0; batch < batches; ++batch) {
    plastic::Vector<float> gradients = net.zero_gradients();
    recent += cost(net, tape, batch, gradients);
    plastic::clip_gradient_norm(gradients, 1);
    optimizer.step(net.parameters(), gradients);
    if ((batch + 1) % 500 != 0) continue;
    std::cout << name << "  batch " << batch + 1 << "/" << batches << "  cost "
              << std::setprecision(3) << recent / 500 << std::endl;
    recent = 0;
  }
}

// One step of the loop as it would run on a robot: what was measured goes in, a command comes out.
// After its first step a state allocates nothing, takes no lock and throws nothing.
template <class Net>
float steer(const Net& net, plastic::CellState<float>& state, Matrix<float>& x, float theta,
            float omega, float last) {
  x << 3 * theta, omega, last;
  return std::tanh(net.step(state, x).output(0, 0));
}

struct Flight {
  std::vector<float> angles;
  bool up = true;  // the pole never fell to the horizontal
};

// A run with a trained network; how long each step took goes to `microseconds`, if given.
template <class Net>
Flight run(const Net& net, const Course& course, std::vector<double>* microseconds = nullptr) {
  using Clock = std::chrono::steady_clock;
  plastic::CellState<float> state = net.initial_state(1);
  Matrix<float> x(seen, 1);
  Flight flight;
  float theta = course.theta, omega = course.omega, command = 0;
  for (Index t = 0; t < steps; ++t) {
    const Clock::time_point begin = Clock::now();
    command = steer(net, state, x, theta, omega, command);
    const std::chrono::duration<double, std::micro> taken = Clock::now() - begin;
    if (microseconds != nullptr && t > 0) microseconds->push_back(taken.count());
    const Plant& plant = course.plant(t);
    move(theta, omega, command, plant.gain, plant.pull);
    flight.angles.push_back(theta);
    flight.up = flight.up && std::abs(theta) < 1.57f;
  }
  return flight;
}

void print_histogram(std::vector<double> microseconds) {
  std::sort(microseconds.begin(), microseconds.end());
  const auto quantile = [&](double q) {
    return microseconds[static_cast<std::size_t>(q * static_cast<double>(microseconds.size() - 1))];
  };
  std::cout << "\n"
            << std::fixed << std::setprecision(1) << "Time per step: median " << quantile(0.5)
            << " us, 99% " << quantile(0.99) << " us, 99.9% " << quantile(0.999) << " us, longest "
            << quantile(1) << " us\n"
            << std::defaultfloat << std::setprecision(6);
  const auto begin = microseconds.begin();
  for (double low = 1; low < quantile(1); low *= 2) {
    const auto count = std::lower_bound(begin, microseconds.end(), 2 * low) -
                       std::lower_bound(begin, microseconds.end(), low == 1 ? 0 : low);
    const double share = static_cast<double>(count) / static_cast<double>(microseconds.size());
    std::cout << std::setw(6) << low << " .. " << std::setw(5) << 2 * low << " us " << std::setw(8)
              << count << " " << std::string(static_cast<std::size_t>(50 * share), '#') << "\n";
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Index batches = examples::read_arguments(
      argc, argv,
      "Trains a plastic and a plain network to balance a pole while the motor and\n"
      "the pole change, lets both balance new poles, and measures the time per step.",
      2000);
  const plastic::CellOptions options{.inputs = seen, .hidden = 48, .inner_scale = 1};
  plastic::PlasticRNN<plastic::Gradient, float> net(options);
  plastic::PlasticRNN<plastic::None, float> plain(options);
  train(net, "plastic", batches);
  train(plain, "plain", batches);

  // The same slow weights, and fast weights that stay at zero.
  plastic::CellOptions frozen_options = options;
  frozen_options.eta0 = frozen_options.decay0 = 0;
  plastic::PlasticRNN<plastic::Gradient, float> frozen(frozen_options);
  frozen.parameters().values() = net.parameters().values();

  const auto course_of = [](int k) { return draw_course(Random::Purpose::test, 0, k); };
  const Course first = course_of(0);
  const std::vector<float> angles = run(net, first).angles, others = run(plain, first).angles;
  std::cout << "\nOne run: the angle in degrees with the plastic and with the plain network\n";
  for (Index t = 4; t < steps; t += 5) {
    const auto degrees = [&](const std::vector<float>& all) {
      constexpr float turn = 6.2831853f;  // a pole that fell may have gone round
      return std::lround(360 / turn * std::remainder(all[static_cast<std::size_t>(t)], turn));
    };
    std::cout << std::setw(6) << static_cast<float>(t + 1) * dt << " s" << std::setw(8)
              << degrees(angles) << std::setw(8) << degrees(others)
              << (first.change <= t && first.change > t - 5 ? "   the plant has changed" : "")
              << "\n";
  }

  constexpr int runs = 1000;
  std::vector<double> microseconds;
  std::array<int, 3> up{};
  for (int k = 0; k < runs; ++k) {
    const Course course = course_of(k);
    up[0] += run(net, course, &microseconds).up ? 1 : 0;
    up[1] += run(frozen, course).up ? 1 : 0;
    up[2] += run(plain, course).up ? 1 : 0;
  }
  std::cout << std::fixed << std::setprecision(1) << "\nThe pole stayed up in\n"
            << std::setw(6) << 100.0 * up[0] / runs << "% of the runs with the plastic network\n"
            << std::setw(6) << 100.0 * up[1] / runs << "% with its fast weights held at zero\n"
            << std::setw(6) << 100.0 * up[2] / runs
            << "% with a plain network of as many units, trained in the same way\n";
  print_histogram(microseconds);
}
