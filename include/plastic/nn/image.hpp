#pragma once

#include <array>
#include <string_view>

#include "plastic/tape/operation.hpp"

namespace plastic {

/// Size of an image. A batch of them is a matrix (channels * height * width) x images: each column
/// holds one image, channel after channel, row after row (NCHW). A column is thus the flattened
/// image.
struct ImageShape {
  Index channels = 1;  ///< values of a pixel
  Index height = 1;    ///< rows of pixels
  Index width = 1;     ///< columns of pixels

  Index pixels() const { return height * width; }     ///< pixels of one channel
  Index size() const { return channels * pixels(); }  ///< values of an image
  /// Whether all three sides are equal.
  bool operator==(const ImageShape&) const = default;
};

namespace detail {

inline std::string shape_text(const ImageShape& s) {
  return std::to_string(s.channels) + " x " + std::to_string(s.height) + " x " +
         std::to_string(s.width);
}

/// Throws std::invalid_argument unless x holds images of this shape.
template <class Scalar>
void check_images(std::string_view function, const Var<Scalar>& x, const ImageShape& shape) {
  constexpr Index most = Index{1} << 24;
  for (const Index side : {shape.channels, shape.height, shape.width}) {
    if (side < 1 || side > most) {
      reject(function, "the image shape", "one with sides in 1 .. 2^24", shape_text(shape));
    }
  }
  if (x.rows() != shape.size()) {
    reject(function, "x",
           std::to_string(shape.size()) + " x images (" + shape_text(shape) + " each)",
           shape_text(x.rows(), x.cols()));
  }
}

/// An operation on images: differentiable once.
template <class Scalar, std::size_t N>
class ImageNode : public NodeWithParents<Scalar, std::array<Node<Scalar>*, N>> {
 public:
  void record(Tape<Scalar>&) override {
    reject("Tape::gradient", "the path to the loss", "free of operations on images",
           "one that uses " + std::string(name_));
  }

 protected:
  ImageNode(std::string_view name, const std::array<Node<Scalar>*, N>& parents)
      : ImageNode::NodeWithParents(parents), name_(name) {}
  ~ImageNode() = default;

 private:
  std::string_view name_;
};

}  // namespace detail
}  // namespace plastic
