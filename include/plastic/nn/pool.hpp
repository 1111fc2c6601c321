#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "plastic/core/parallel.hpp"
#include "plastic/nn/image.hpp"

namespace plastic {

/// Settings of max_pool and average_pool.
struct PoolOptions {
  ImageShape input = {};  ///< shape of each image
  Index window = 2;       ///< rows and columns of a window
  Index stride = 2;       ///< pixels from one window to the next
  int threads = 1;        ///< threads to use; the result does not depend on it

  /// Shape of each result. Windows lie inside the image: rows and columns left over at its end are
  /// ignored.
  ImageShape output() const {
    return {input.channels, (input.height - window) / stride + 1,
            (input.width - window) / stride + 1};
  }
};

namespace detail {

/// Calls f(output index, first input index of its window) for the outputs of some images, each
/// image on one thread.
template <class F>
void for_each_window(const PoolOptions& o, Index images, F&& f) {
  const ImageShape out = o.output();
  parallel_for(images, o.threads, [&](Index n, int) {
    Index at = n * out.size();
    for (Index c = 0; c < out.channels; ++c) {
      for (Index i = 0; i < out.height; ++i) {
        const Index row = n * o.input.size() + c * o.input.pixels() + i * o.stride * o.input.width;
        for (Index j = 0; j < out.width; ++j) f(at++, row + j * o.stride);
      }
    }
  });
}

/// Calls f(input index) for every input of a window.
template <class F>
void for_each_place(const PoolOptions& o, Index first, F&& f) {
  for (Index i = 0; i < o.window; ++i) {
    for (Index j = 0; j < o.window; ++j) f(first + i * o.input.width + j);
  }
}

template <class Scalar>
class MaxPoolNode final : public ImageNode<Scalar, 1> {
 public:
  MaxPoolNode(Node<Scalar>* x, const PoolOptions& o)
      : ImageNode<Scalar, 1>("max_pool", {x}), o_(o) {}

  void evaluate(Tape<Scalar>& tape) {
    const auto outputs = static_cast<std::size_t>(this->rows * this->cols);
    taken_ = tape.arena().template allocate_array<std::int32_t>(outputs);
    const Scalar* x = this->parent(0).value;
    for_each_window(o_, this->cols, [&](Index at, Index first) {
      Index best = first;
      for_each_place(o_, first, [&](Index place) {
        if (x[place] > x[best] || std::isnan(x[place])) best = place;
      });
      this->value[at] = x[best];
      taken_[at] = static_cast<std::int32_t>(best - first);
    });
  }

  void propagate(Tape<Scalar>& tape) override {
    Scalar* dx = tape.open_adjoint(this->parent(0)).data();
    for_each_window(o_, this->cols,
                    [&](Index at, Index first) { dx[first + taken_[at]] += this->adjoint[at]; });
  }

 private:
  PoolOptions o_;
  std::int32_t* taken_ = nullptr;  // position of each output's input in its window
};

template <class Scalar>
class AveragePoolNode final : public ImageNode<Scalar, 1> {
 public:
  AveragePoolNode(Node<Scalar>* x, const PoolOptions& o)
      : ImageNode<Scalar, 1>("average_pool", {x}), o_(o) {}

  void evaluate(Tape<Scalar>&) {
    const Scalar* x = this->parent(0).value;
    for_each_window(o_, this->cols, [&](Index at, Index first) {
      Scalar sum = 0;
      for_each_place(o_, first, [&](Index place) { sum += x[place]; });
      this->value[at] = sum * share();
    });
  }

  void propagate(Tape<Scalar>& tape) override {
    Scalar* dx = tape.open_adjoint(this->parent(0)).data();
    for_each_window(o_, this->cols, [&](Index at, Index first) {
      const Scalar dy = this->adjoint[at] * share();
      for_each_place(o_, first, [&](Index place) { dx[place] += dy; });
    });
  }

 private:
  Scalar share() const { return Scalar(1) / static_cast<Scalar>(o_.window * o_.window); }

  PoolOptions o_;
};

template <class PoolNode, class Scalar>
Var<Scalar> pool(std::string_view here, const Var<Scalar>& x, const PoolOptions& o) {
  check_images(here, x, o.input);
  check_positive(here, "window", o.window);
  check_positive(here, "stride", o.stride);
  check_positive(here, "threads", o.threads);
  if (o.window > std::min(o.input.height, o.input.width)) {
    reject(here, "window", "no larger than the image " + shape_text(o.input), o.window);
  }
  Tape<Scalar>& tape = x.tape();
  auto* node = tape.template emplace_result<PoolNode>(o.output().size(), x.cols(), &x.node(), o);
  node->evaluate(tape);
  return {&tape, node};
}

}  // namespace detail

/// The largest value of each window, which also receives the adjoint. Among equal values the first
/// counts; NaN propagates. x: input.size() x images; y: output().size() x images. Differentiable
/// once. Throws std::invalid_argument on options or shapes that do not fit.
template <class Scalar>
Var<Scalar> max_pool(const Var<Scalar>& x, const PoolOptions& options) {
  return detail::pool<detail::MaxPoolNode<Scalar>>("max_pool", x, options);
}

/// The mean of each window. x: input.size() x images; y: output().size() x images. Differentiable
/// once. Throws std::invalid_argument on options or shapes that do not fit.
template <class Scalar>
Var<Scalar> average_pool(const Var<Scalar>& x, const PoolOptions& options) {
  return detail::pool<detail::AveragePoolNode<Scalar>>("average_pool", x, options);
}

}  // namespace plastic
