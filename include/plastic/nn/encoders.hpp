#pragma once

#include <memory>

#include "plastic/nn/conv4.hpp"
#include "plastic/nn/r2d2.hpp"
#include "plastic/nn/resnet12.hpp"

namespace plastic {

/// The encoder of a name: conv4, resnet12 or r2d2; `filters` is of conv4 alone. Throws
/// std::invalid_argument on other names, and on images that are too small.
template <class Scalar>
std::unique_ptr<Encoder<Scalar>> make_encoder(std::string_view name, const ImageShape& input,
                                              std::uint64_t seed = 0, Index filters = 64) {
  if (name == "conv4") return std::make_unique<Conv4<Scalar>>(input, seed, filters);
  if (name == "resnet12") return std::make_unique<ResNet12<Scalar>>(input, seed);
  if (name == "r2d2") return std::make_unique<R2D2<Scalar>>(input, seed);
  detail::reject("make_encoder", "name", "conv4, resnet12 or r2d2", name);
}

}  // namespace plastic
