#pragma once

#include <cmath>
#include <string>

#include "naive.hpp"

namespace bench {

/// Empty if loss and gradient agree with the naive loops', else a sentence. Each block of
/// parameters must agree to `tolerance` of its norm, or of a thousandth of the whole gradient's
/// norm: a gradient is a sum whose small elements carry the rounding of the large ones.
inline std::string compare(const naive::Layout& layout, bool plastic, const naive::Result& got,
                           const naive::Result& expected, double tolerance) {
  if (!(std::abs(got.loss - expected.loss) <= tolerance * std::abs(expected.loss))) {
    return "the loss is " + std::to_string(got.loss) + ", the naive loops' " +
           std::to_string(expected.loss);
  }
  const auto norm = [](const naive::Numbers& x) {
    double sum = 0;
    for (const double value : x) sum += value * value;
    return std::sqrt(sum);
  };
  const double least = 1e-3 * norm(expected.gradient);
  const auto block = [&](const std::string& name, std::size_t first, std::size_t size) {
    double difference = 0, square = 0;
    for (std::size_t i = first; i < first + size; ++i) {
      const double d = got.gradient[i] - expected.gradient[i];
      difference += d * d;
      square += expected.gradient[i] * expected.gradient[i];
    }
    const double error = std::sqrt(difference) / std::max(std::sqrt(square), least);
    if (error <= tolerance) return std::string();
    return "the gradient of " + name + " differs from the naive loops' by " +
           std::to_string(error) + " of its norm; ";
  };
  std::string message;
  const char* names[] = {"in_fc", "h_fc", "i_fc", "out_fc"};
  for (std::size_t l = 0; l < layout.layers.size(); ++l) {
    const naive::Layer& layer = layout.layers[l];
    const std::string name = names[l];
    message += block(name + ".weight", layer.weight, layer.inputs * layer.outputs);
    message += block(name + ".bias", layer.bias, layer.outputs);
    if (!plastic) continue;
    message += block(name + ".weight_alpha", layer.alpha, layer.inputs * layer.outputs);
    message += block(name + ".bias_alpha", layer.bias_alpha, layer.outputs);
  }
  return message + block("out_scale", layout.out_scale, layout.layers.back().outputs);
}

}  // namespace bench
