#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "plastic/nn/batch_norm.hpp"
#include "plastic/nn/conv2d.hpp"
#include "plastic/nn/dropout.hpp"
#include "plastic/nn/pool.hpp"
#include "support/errors.hpp"
#include "support/gradcheck.hpp"

using namespace plastic;
using namespace plastic::testing;

namespace {

std::string text(const Conv2dOptions& o) {
  return detail::shape_text(o.input) + ", " + std::to_string(o.filters) + " filters of " +
         std::to_string(o.kernel) + ", stride " + std::to_string(o.stride) + ", padding " +
         std::to_string(o.padding);
}

std::vector<Conv2dOptions> convolutions() {
  return {{.input = {2, 5, 4}, .filters = 3},
          {.input = {3, 6, 7}, .filters = 2, .stride = 2},
          {.input = {1, 4, 4}, .filters = 17, .kernel = 1, .padding = 0},
          {.input = {2, 7, 5}, .filters = 3, .kernel = 5, .stride = 3, .padding = 2},
          {.input = {1, 1, 1}, .filters = 1},
          {.input = {4, 3, 9}, .filters = 5, .kernel = 3, .padding = 0},
          {.input = {2, 2, 2}, .filters = 2, .kernel = 4, .stride = 1, .padding = 3}};
}

// The definition, in double.
Matrix<double> naive_conv2d(const Conv2dOptions& o, const Matrix<double>& x,
                            const Matrix<double>& w, const Matrix<double>& b) {
  const ImageShape out = o.output();
  Matrix<double> y(out.size(), x.cols());
  for (Index n = 0; n < x.cols(); ++n) {
    for (Index f = 0; f < out.channels; ++f) {
      for (Index i = 0; i < out.height; ++i) {
        for (Index j = 0; j < out.width; ++j) {
          double sum = b(f, 0);
          for (Index c = 0; c < o.input.channels; ++c) {
            for (Index a = 0; a < o.kernel; ++a) {
              for (Index e = 0; e < o.kernel; ++e) {
                const Index row = i * o.stride + a - o.padding;
                const Index column = j * o.stride + e - o.padding;
                if (row < 0 || row >= o.input.height || column < 0 || column >= o.input.width) {
                  continue;
                }
                sum += w((c * o.kernel + a) * o.kernel + e, f) *
                       x((c * o.input.height + row) * o.input.width + column, n);
              }
            }
          }
          y((f * out.height + i) * out.width + j, n) = sum;
        }
      }
    }
  }
  return y;
}

}  // namespace

TEMPLATE_TEST_CASE("A convolution agrees with its definition at all sizes",
                   "[nn][image_operations]", float, double) {
  std::vector<Conv2dOptions> all = convolutions();
  all.push_back({.input = {3, 28, 28}, .filters = 33});  // many tiles, the last not full
  all.push_back({.input = {5, 11, 3}, .filters = 49, .stride = 2});
  for (const Conv2dOptions& o : all) {
    for (const Index images : {1, 3}) {
      INFO(text(o) << ", " << images << " images");
      const Matrix<double> x = random_matrix(o.input.size(), images, 1);
      const Matrix<double> w = random_matrix(o.patch(), o.filters, 2);
      const Matrix<double> b = random_matrix(o.filters, 1, 3);
      Tape<TestType> tape;
      const auto xs = tape.constant(x.cast<TestType>());
      const auto ws = tape.constant(w.cast<TestType>());
      const auto y = conv2d(xs, ws, tape.constant(b.cast<TestType>()), o);
      const Matrix<double> expected = naive_conv2d(o, x, w, b);
      const double allowed = rounding<TestType>(4 * static_cast<double>(o.patch()), 1.0);
      CHECK((y.value().template cast<double>() - expected).cwiseAbs().maxCoeff() <= allowed);
      const auto without = conv2d(xs, ws, Var<TestType>(), o);
      const Matrix<double> no_bias = naive_conv2d(o, x, w, Matrix<double>::Zero(o.filters, 1));
      CHECK((without.value().template cast<double>() - no_bias).cwiseAbs().maxCoeff() <= allowed);
    }
  }
}

TEST_CASE("A convolution has the gradient of differences", "[nn][image_operations]") {
  for (const Conv2dOptions& o : convolutions()) {
    INFO(text(o));
    const Matrix<double> x = random_matrix(o.input.size(), 3, 1);
    const Matrix<double> w = random_matrix(o.patch(), o.filters, 2);
    const Matrix<double> b = random_matrix(o.filters, 1, 3);
    check_gradient([&](auto x_, auto w_, auto b_) { return conv2d(x_, w_, b_, o); }, x, w, b);
    check_gradient([&](auto x_, auto w_) { return conv2d(x_, w_, Var<double>(), o); }, x, w);
  }
}

TEMPLATE_TEST_CASE("Operations on images have the same bits with any number of threads",
                   "[nn][image_operations]", float, double) {
  using M = Matrix<TestType>;
  const ImageShape shape{6, 14, 14};
  std::vector<M> first;
  for (const int threads : {1, 2, 5}) {
    Tape<TestType> tape;
    const auto x = tape.variable(random_matrix<TestType>(shape.size(), 9, 1));
    Conv2dOptions o{.input = shape, .filters = 19};
    o.threads = threads;
    const auto w = tape.variable(random_matrix<TestType>(o.patch(), o.filters, 2));
    const auto b = tape.variable(random_matrix<TestType>(o.filters, 1, 3));
    const auto gain = tape.variable(random_matrix<TestType>(o.filters, 1, 4));
    const auto bias = tape.variable(random_matrix<TestType>(o.filters, 1, 5));
    RunningStatistics<TestType> running(o.filters);
    const DropKey key{.stream = {}, .batch = 3, .threads = threads};
    auto y = conv2d(x, w, b, o);
    y = batch_norm(y, gain, bias, running, {.input = o.output(), .slope = 0.1, .threads = threads});
    y = drop_block(dropout(y, 0.1, key), o.output(), 3, 0.2, key);
    y = max_pool(y, {.input = o.output(), .threads = threads});
    y = average_pool(y, {.input = {19, 7, 7}, .window = 7, .stride = 7, .threads = threads});
    tape.backward(square(y));
    const std::vector<M> results{y.value(),      x.adjoint(),    w.adjoint(),  b.adjoint(),
                                 gain.adjoint(), bias.adjoint(), running.mean, running.variance};
    if (first.empty()) first = results;
    for (std::size_t k = 0; k < results.size(); ++k) {
      INFO(threads << " threads, result " << k);
      CHECK((results[k].array() == first[k].array()).all());
    }
  }
}

TEST_CASE("Batch norm has the gradient of differences", "[nn][image_operations]") {
  const ImageShape shape{3, 2, 4};
  const Matrix<double> x = random_matrix(shape.size(), 5, 1), gain = random_matrix(3, 1, 2, 0.5, 2),
                       bias = random_matrix(3, 1, 3);
  for (const bool training : {true, false}) {
    for (const double slope : {1.0, 0.1, 0.0}) {
      INFO("training " << training << ", slope " << slope);
      check_gradient(
          [&](auto x_, auto gain_, auto bias_) {
            RunningStatistics<double> running(3);
            running.mean << 0.1, -0.2, 0.3;
            running.variance << 0.5, 1, 2;
            return batch_norm(x_, gain_, bias_, running,
                              {.input = shape, .training = training, .slope = slope});
          },
          x, gain, bias);
    }
  }
}

TEMPLATE_TEST_CASE("Batch norm follows its definition and keeps running statistics",
                   "[nn][image_operations]", float, double) {
  const ImageShape shape{2, 3, 3};
  const Index images = 4, count = images * shape.pixels();
  const Matrix<double> x = random_matrix(shape.size(), images, 1, -1, 3);
  Tape<TestType> tape;
  RunningStatistics<TestType> running(2);
  const auto xs = tape.constant(x.cast<TestType>());
  const auto gain = tape.constant(Matrix<TestType>::Constant(2, 1, 2));
  const auto bias = tape.constant(Matrix<TestType>::Constant(2, 1, TestType(0.5)));
  const auto y = batch_norm(xs, gain, bias, running, {.input = shape});
  for (Index c = 0; c < 2; ++c) {
    const auto channel = x.middleRows(c * 9, 9).array();
    const double mean = channel.mean();
    const double square = (channel - mean).square().sum();
    const Matrix<double> expected =
        ((channel - mean) / std::sqrt(square / static_cast<double>(count) + 1e-5) * 2 + 0.5)
            .matrix();
    CHECK(
        (y.value().middleRows(c * 9, 9).template cast<double>() - expected).cwiseAbs().maxCoeff() <=
        rounding<TestType>(100, 1.0));
    CHECK(static_cast<double>(running.mean[c]) == Approx(0.1 * mean).epsilon(1e-5));
    CHECK(static_cast<double>(running.variance[c]) ==
          Approx(0.9 + 0.1 * square / static_cast<double>(count - 1)).epsilon(1e-5));
  }
  const auto later = batch_norm(xs, gain, bias, running, {.input = shape, .training = false});
  const double scale = 2 / std::sqrt(static_cast<double>(running.variance[0]) + 1e-5);
  CHECK(static_cast<double>(later.value()(4, 1)) ==
        Approx((x(4, 1) - static_cast<double>(running.mean[0])) * scale + 0.5).epsilon(1e-5));
}

TEST_CASE("Pooling follows its definition and has the gradient of differences",
          "[nn][image_operations]") {
  const ImageShape shape{2, 5, 6};
  const Matrix<double> x = random_matrix(shape.size(), 3, 1);
  for (const PoolOptions& o : {PoolOptions{.input = shape},
                               {.input = shape, .window = 3, .stride = 1},
                               {.input = shape, .window = 5, .stride = 5}}) {
    INFO("window " << o.window << ", stride " << o.stride);
    Tape<double> tape;
    const auto largest = max_pool(tape.constant(x), o), mean = average_pool(tape.constant(x), o);
    const ImageShape out = o.output();
    REQUIRE(largest.rows() == out.size());
    for (Index n = 0; n < 3; ++n) {
      for (Index c = 0; c < 2; ++c) {
        const Matrix<double> channel = x.col(n).segment(c * 30, 30).reshaped(6, 5).transpose();
        for (Index i = 0; i < out.height; ++i) {
          for (Index j = 0; j < out.width; ++j) {
            const auto window = channel.block(i * o.stride, j * o.stride, o.window, o.window);
            const Index at = (c * out.height + i) * out.width + j;
            CHECK(largest.value()(at, n) == window.maxCoeff());
            CHECK(mean.value()(at, n) == Approx(window.mean()));
          }
        }
      }
    }
    check_gradient([&](auto x_) { return max_pool(x_, o); }, x);
    check_gradient([&](auto x_) { return average_pool(x_, o); }, x);
  }
}

TEMPLATE_TEST_CASE("Dropout keeps the mean and drops the share asked for", "[nn][image_operations]",
                   float, double) {
  const ImageShape shape{8, 10, 10};
  const Index images = 50;
  Tape<TestType> tape;
  const auto x = tape.variable(Matrix<TestType>::Ones(shape.size(), images));
  const DropKey key{.stream = {.seed = 5}, .batch = 2};
  const auto share_of_zeros = [](const Var<TestType>& y) {
    return static_cast<double>((y.value().array() == TestType(0)).count()) /
           static_cast<double>(y.value().size());
  };
  const auto y = dropout(x, 0.3, key);
  CHECK(share_of_zeros(y) == Approx(0.3).margin(0.01));
  CHECK(static_cast<double>(y.value().mean()) == Approx(1).margin(0.02));
  CHECK(y.value().maxCoeff() == static_cast<TestType>(1 / 0.7));
  tape.backward(y);
  CHECK((x.adjoint().array() == y.value().array()).all());

  const auto blocks = drop_block(x, shape, 3, 0.2, key);
  CHECK(share_of_zeros(blocks) == Approx(0.18).margin(0.02));  // blocks overlap
  CHECK(static_cast<double>(blocks.value().template cast<double>().mean()) == Approx(1));
  // Every zero lies in a square of zeros.
  const auto channel = blocks.value().col(0).head(100).reshaped(10, 10).eval();
  const auto zero_square = [&](Index i, Index j) {
    return i >= 0 && j >= 0 && i + 3 <= 10 && j + 3 <= 10 && channel.block(i, j, 3, 3).isZero(0);
  };
  for (Index i = 0; i < 10; ++i) {
    for (Index j = 0; j < 10; ++j) {
      if (channel(i, j) != TestType(0)) continue;
      bool covered = false;
      for (Index a = 0; a < 3; ++a) {
        for (Index b = 0; b < 3; ++b) covered = covered || zero_square(i - a, j - b);
      }
      CHECK(covered);
    }
  }
  CHECK((dropout(x, 0, key).value().array() == TestType(1)).all());
  const auto other = dropout(x, 0.3, {.stream = {.seed = 5}, .batch = 3});
  CHECK(!(other.value().array() == y.value().array()).all());
}

TEST_CASE("Operations on images that do not fit throw and say why", "[nn][image_operations]") {
  Tape<double> tape;
  const auto x = tape.variable(random_matrix(8, 2, 1));
  const auto w = tape.variable(random_matrix(18, 3, 1));
  const auto b = tape.variable(random_matrix(3, 1, 1));
  const Conv2dOptions o{.input = {2, 2, 2}, .filters = 3};
  const auto with = [&](auto change) {
    Conv2dOptions changed = o;
    change(changed);
    return rejection([&] { conv2d(x, w, b, changed); });
  };
  CHECK(with([](auto& c) { c.input.width = 3; }) ==
        "conv2d: x must be 12 x images (2 x 2 x 3 each), got 8 x 2");
  CHECK(with([](auto& c) { c.input.channels = 0; }) ==
        "conv2d: the image shape must be one with sides in 1 .. 2^24, got 0 x 2 x 2");
  CHECK(with([](auto& c) { c.filters = 4; }) == "conv2d: weight must be 18 x 4, got 18 x 3");
  CHECK(with([](auto& c) { c.kernel = 5; }) ==
        "conv2d: kernel must be no larger than the padded image, got 5");
  CHECK(with([](auto& c) { c.padding = -1; }) ==
        "conv2d: padding must be in 0 .. kernel - 1, got -1");
  CHECK(with([](auto& c) { c.stride = 0; }) == "conv2d: stride must be at least 1, got 0");
  CHECK(with([](auto& c) { c.threads = 0; }) == "conv2d: threads must be at least 1, got 0");
  CHECK(rejection([&] { conv2d(x, w, w, o); }) == "conv2d: bias must be 3 x 1, got 18 x 3");

  RunningStatistics<double> running(3);
  CHECK(rejection([&] {
          batch_norm(x, b, b, running, {.input = {2, 2, 2}});
        }) == "batch_norm: gain must be 2 x 1, got 3 x 1");
  const auto two = tape.variable(random_matrix(2, 1, 1));
  CHECK(rejection([&] {
          batch_norm(x, two, two, running, {.input = {2, 2, 2}});
        }) == "batch_norm: running.mean must be 2 x 1, got 3 x 1");
  CHECK(rejection([&] {
          max_pool(x, {.input = {2, 2, 2}, .window = 3});
        }) == "max_pool: window must be no larger than the image 2 x 2 x 2, got 3");
  CHECK(rejection([&] {
          average_pool(x, {.input = {2, 2, 2}, .stride = 0});
        }) == "average_pool: stride must be at least 1, got 0");
  CHECK(rejection([&] { dropout(x, 1, {}); }) ==
        "dropout: rate must be a finite number in [0, 0.999], got 1");
  CHECK(rejection([&] {
          drop_block(x, {2, 2, 2}, 3, 0.1, {});
        }) == "drop_block: block must be in 1 .. the image's shorter side, got 3");
  const auto y = max_pool(x, {.input = {2, 2, 2}});
  CHECK(rejection([&] { tape.gradient(sum(y), x); }) ==
        "Tape::gradient: the path to the loss must be free of operations on images, got one that "
        "uses max_pool");
}
