#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "model.hpp"

namespace bench {

/// A 3 x 3 convolution with a padding of one pixel over a batch of square images.
struct ConvCase {
  int batch = 64;
  int channels = 64;
  int size = 32;
  int filters = 64;
  int threads = 1;

  std::string name(const std::string& kind) const {
    return kind + "/batch:" + std::to_string(batch) + "/channels:" + std::to_string(channels) +
           "/size:" + std::to_string(size) + "/filters:" + std::to_string(filters) +
           "/threads:" + std::to_string(threads);
  }
  std::size_t input_size() const { return count(channels, size * size); }
  std::size_t output_size() const { return count(filters, size * size); }
  std::size_t weight_size() const { return count(filters, channels * 9); }
  Work work(bool backward) const {
    const double products = static_cast<double>(weight_size()) * size * size * batch;
    return {.flops = (backward ? 4 : 2) * products};
  }

 private:
  static std::size_t count(int a, int b) {
    return static_cast<std::size_t>(a) * static_cast<std::size_t>(b);
  }
};

inline std::vector<ConvCase> conv_cases(int all_threads) {
  std::vector<ConvCase> list;
  for (const int threads : {1, all_threads}) {
    if (threads > 1 || list.empty()) list.push_back({.threads = threads});
  }
  return list;
}

/// Images [batch][channels][row][column], filters [filters][channels][3][3] and an adjoint of the
/// output, uniform in [-1, 1), always the same.
struct ConvData {
  std::vector<float> x, weight, dy;

  explicit ConvData(const ConvCase& c) {
    std::mt19937 random(1);
    const auto batch = static_cast<std::size_t>(c.batch);
    for (auto [values, size] : {std::pair{&x, batch * c.input_size()},
                                {&weight, c.weight_size()},
                                {&dy, batch * c.output_size()}}) {
      values->resize(size);
      for (float& v : *values) {
        v = static_cast<float>(static_cast<double>(random()) / 2147483648.0 - 1);
      }
    }
  }
};

/// Output and adjoints.
struct ConvResult {
  std::vector<float> y, dx, dweight;
};

/// Empty if the result agrees with naive loops in double, else a sentence.
inline std::string compare(const ConvCase& c, const ConvData& data, const ConvResult& got) {
  std::vector<double> y(data.dy.size()), dx(data.x.size()), dw(data.weight.size());
  const auto at = [&](auto& v, int n, int channels, int channel, int i, int j) -> auto& {
    return v[((static_cast<std::size_t>(n) * static_cast<std::size_t>(channels) +
               static_cast<std::size_t>(channel)) *
                  static_cast<std::size_t>(c.size) +
              static_cast<std::size_t>(i)) *
                 static_cast<std::size_t>(c.size) +
             static_cast<std::size_t>(j)];
  };
  for (int f = 0; f < c.filters; ++f) {
    for (int channel = 0; channel < c.channels; ++channel) {
      for (int a = 0; a < 9; ++a) {
        const auto k =
            static_cast<std::size_t>(f * c.channels + channel) * 9 + static_cast<std::size_t>(a);
        const double w = static_cast<double>(data.weight[k]);
        for (int n = 0; n < c.batch; ++n) {
          for (int i = 0; i < c.size; ++i) {
            const int row = i + a / 3 - 1;
            if (row < 0 || row >= c.size) continue;
            for (int j = 0; j < c.size; ++j) {
              const int column = j + a % 3 - 1;
              if (column < 0 || column >= c.size) continue;
              const double x = static_cast<double>(at(data.x, n, c.channels, channel, row, column));
              const double dy = static_cast<double>(at(data.dy, n, c.filters, f, i, j));
              at(y, n, c.filters, f, i, j) += w * x;
              at(dx, n, c.channels, channel, row, column) += w * dy;
              dw[k] += x * dy;
            }
          }
        }
      }
    }
  }
  const auto differs = [](const std::vector<float>& a, const std::vector<double>& b) {
    if (a.empty()) return false;
    double difference = 0, square = 0;
    for (std::size_t i = 0; i < b.size(); ++i) {
      difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
      square += b[i] * b[i];
    }
    return !(difference <= 1e-10 * square);
  };
  std::string wrong;
  if (differs(got.y, y)) wrong += " output";
  if (differs(got.dx, dx)) wrong += " input adjoint";
  if (differs(got.dweight, dw)) wrong += " weight adjoint";
  return wrong.empty() ? wrong : "not those of the naive loops:" + wrong;
}

/// The size at which a case is verified.
inline ConvCase verified_size(ConvCase c) {
  c.batch = std::min(c.batch, 3);
  return c;
}

}  // namespace bench
