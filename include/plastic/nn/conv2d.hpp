#pragma once

#include <algorithm>

#include "plastic/core/parallel.hpp"
#include "plastic/kernels/matrix_products.hpp"
#include "plastic/nn/image.hpp"

namespace plastic {

/// Settings of conv2d.
struct Conv2dOptions {
  ImageShape input = {};  ///< shape of each image
  Index filters = 1;      ///< channels of the output
  Index kernel = 3;       ///< rows and columns of a filter
  Index stride = 1;       ///< pixels between two positions of a filter
  Index padding = 1;      ///< rows and columns of zeros around an image, less than the kernel
  int threads = 1;        ///< threads to use; the result does not depend on it

  /// Shape of each result: `filters` channels; each side is (n + 2 padding - kernel) / stride + 1,
  /// rounded down.
  ImageShape output() const {
    const auto size = [&](Index n) { return (n + 2 * padding - kernel) / stride + 1; };
    return {filters, size(input.height), size(input.width)};
  }
  /// Number of values that enter one output: rows of the weight.
  Index patch() const { return input.channels * kernel * kernel; }
};

namespace detail {

/// Work on images as matrix products over tiles of output pixels, counted over all images.
///
/// A tile is lowered: patches[k][p] is the k-th input value of pixel p. Then
///   y[f][p]         = sum_k patches[k][p] W[f][k]
///   d patches[k][p] = sum_f dy[f][p] W[f][k]
///   dW[k][f]       += sum_p dy[p][f] patches[k][p]
/// with products whose left side is contiguous and as wide as a block of the product kernel, so
/// that nothing is packed again. A tile that is not full computes zeros.
template <class Scalar>
class Convolution {
 public:
  static constexpr Index tile = 3 * kernels::lanes<Scalar>;

  Convolution(const Conv2dOptions& options, Index images)
      : o_(options), out_(options.output()), images_(images) {}

  Index tiles() const { return (images_ * out_.pixels() + tile - 1) / tile; }

  /// Number of scalars in one thread's workspace.
  Index scratch() const { return tile * (o_.patch() + o_.filters); }

  /// Writes y of the tile's pixels, or adds it to what is there. weight: patch x filters; bias:
  /// filters, or nullptr.
  void forward(Index number, const Scalar* x, const Scalar* weight, const Scalar* bias, bool adds,
               Scalar* y, Scalar* scratch) const {
    Scalar* patches = scratch;
    Scalar* sums = scratch + tile * o_.patch();
    lower(range(number), x, patches);
    for (Index f = 0; f < o_.filters; ++f) {
      std::fill_n(sums + f * tile, tile, bias != nullptr ? bias[f] : Scalar(0));
    }
    kernels::add_product<Scalar>(sums, patches, {weight, 1, o_.patch()}, tile, o_.patch(),
                                 o_.filters);
    for_each_output(range(number), [&](Index place, Index f, Index at, Index n) {
      const Scalar* from = sums + f * tile + at;
      Scalar* to = y + place;
      if (adds) {
        for (Index i = 0; i < n; ++i) to[i] += from[i];
      } else {
        std::copy_n(from, n, to);
      }
    });
  }

  /// Adds the tile's part of the weight's adjoint to weight_sum [patch][filters] and of the bias's
  /// to bias_sum [filters].
  void add_weight_adjoint(Index number, const Scalar* x, const Scalar* dy, Scalar* weight_sum,
                          Scalar* bias_sum, Scalar* scratch) const {
    const Range pixels = range(number);
    Scalar* patches = scratch;
    Scalar* by_pixel = scratch + tile * o_.patch();
    lower(pixels, x, patches);
    for_each_output(pixels, [&](Index place, Index f, Index at, Index n) {
      for (Index i = 0; i < n; ++i) by_pixel[(at + i) * o_.filters + f] = dy[place + i];
    });
    if (weight_sum != nullptr) {
      kernels::add_product<Scalar>(weight_sum, by_pixel, {patches, 1, tile}, o_.filters,
                                   pixels.count, o_.patch());
    }
    if (bias_sum != nullptr) {
      for (Index p = 0; p < pixels.count; ++p) {
        for (Index f = 0; f < o_.filters; ++f) bias_sum[f] += by_pixel[p * o_.filters + f];
      }
    }
  }

  /// Number of images whose adjoints are computed together: enough for tiles that are nearly all
  /// full.
  Index group() const { return (8 * tile + out_.pixels() - 1) / out_.pixels(); }
  Index groups() const { return (images_ + group() - 1) / group(); }

  /// Adds the adjoint of the images of a group to dx.
  void add_input_adjoint(Index number, const Scalar* weight, const Scalar* dy, Scalar* dx,
                         Scalar* scratch) const {
    Scalar* patches = scratch;
    Scalar* by_filter = scratch + tile * o_.patch();
    const Index end = std::min(images_, (number + 1) * group()) * out_.pixels();
    for (Index first = number * group() * out_.pixels(); first < end; first += tile) {
      const Range pixels{first, std::min(tile, end - first)};
      if (pixels.count < tile) std::fill_n(by_filter, tile * o_.filters, Scalar(0));
      for_each_output(pixels, [&](Index place, Index f, Index at, Index n) {
        std::copy_n(dy + place, n, by_filter + f * tile + at);
      });
      std::fill_n(patches, tile * o_.patch(), Scalar(0));
      kernels::add_product<Scalar>(patches, by_filter, {weight, o_.patch(), 1}, tile, o_.filters,
                                   o_.patch());
      // The adjoint of lowering.
      for_each_run(pixels, [&](Index place, Index image, Index from, Index last, Index) {
        for (Index p = from; p < last; ++p) dx[image + p * o_.stride] += patches[place + p];
      });
    }
  }

 private:
  /// Number of output pixels, over all images.
  struct Range {
    Index first, count;
  };
  Range range(Index number) const {
    return {number * tile, std::min(tile, images_ * out_.pixels() - number * tile)};
  }

  /// Calls f(run, first pixel in it, offset in the range, count) for the parts of a range, each in
  /// a different run of `size` pixels.
  template <class F>
  static void for_each_part(Range pixels, Index size, F&& f) {
    for (Index at = 0; at < pixels.count;) {
      const Index pixel = (pixels.first + at) % size;
      const Index n = std::min(pixels.count - at, size - pixel);
      f((pixels.first + at) / size, pixel, at, n);
      at += n;
    }
  }

  /// Calls f(offset in y, filter, offset in the range, count) for each filter's part of each image.
  template <class F>
  void for_each_output(Range pixels, F&& f) const {
    for_each_part(pixels, out_.pixels(), [&](Index image, Index pixel, Index at, Index n) {
      for (Index k = 0; k < o_.filters; ++k) {
        f((image * o_.filters + k) * out_.pixels() + pixel, k, at, n);
      }
    });
  }

  /// The range of the i < count for which the input column column + i * stride is inside the image.
  std::pair<Index, Index> columns_inside(Index column, Index count) const {
    const Index first = column >= 0 ? 0 : (-column + o_.stride - 1) / o_.stride;
    const Index last = column >= o_.input.width
                           ? 0
                           : std::min(count, (o_.input.width - 1 - column) / o_.stride + 1);
    return {std::min(first, count), std::max(last, std::min(first, count))};
  }

  /// Calls f(offset in the patches, offset in the images, first, last, count) for `count` pixels of
  /// a row of each value of a patch, of which those in [first, last) are inside the image.
  template <class F>
  void for_each_run(Range pixels, F&& f) const {
    for_each_part(pixels, out_.pixels(), [&](Index image, Index pixel, Index at, Index n) {
      for_each_part({pixel, n}, out_.width, [&](Index i, Index j, Index at_row, Index count) {
        const Index y0 = i * o_.stride - o_.padding, x0 = j * o_.stride - o_.padding;
        Index place = at + at_row;
        for (Index c = 0; c < o_.input.channels; ++c) {
          for (Index y = y0; y < y0 + o_.kernel; ++y) {
            const Index row = image * o_.input.size() + c * o_.input.pixels() + y * o_.input.width;
            for (Index x = x0; x < x0 + o_.kernel; ++x, place += tile) {
              const bool outside = y < 0 || y >= o_.input.height;
              const auto [first, last] =
                  outside ? std::pair(Index{0}, Index{0}) : columns_inside(x, count);
              f(place, row + x, first, last, count);
            }
          }
        }
      });
    });
  }

  void lower(Range pixels, const Scalar* x, Scalar* patches) const {
    if (pixels.count < tile) std::fill_n(patches, tile * o_.patch(), Scalar(0));
    for_each_run(pixels, [&](Index place, Index image, Index first, Index last, Index count) {
      Scalar* to = patches + place;
      std::fill_n(to, first, Scalar(0));
      if (o_.stride == 1) {
        std::copy_n(x + image + first, last - first, to + first);
      } else {
        for (Index p = first; p < last; ++p) to[p] = x[image + p * o_.stride];
      }
      std::fill_n(to + last, count - last, Scalar(0));
    });
  }

  Conv2dOptions o_;
  ImageShape out_;
  Index images_;
};

template <class Scalar>
class Conv2dNode final : public ImageNode<Scalar, 3> {
 public:
  // The bias may be missing: its parent is then the weight, and nothing is added to it.
  Conv2dNode(const std::array<Node<Scalar>*, 3>& parents, bool has_bias, const Conv2dOptions& o,
             Scalar* scratch)
      : ImageNode<Scalar, 3>("conv2d", parents), has_bias_(has_bias), o_(o), scratch_(scratch) {}

  void evaluate() {
    const Convolution<Scalar> convolution(o_, this->cols);
    parallel_for(convolution.tiles(), o_.threads, [&](Index number, int thread) {
      convolution.forward(number, x().value, weight().value, has_bias_ ? bias().value : nullptr,
                          false, this->value, scratch_ + thread * convolution.scratch());
    });
  }

  void propagate(Tape<Scalar>& tape) override {
    const Convolution<Scalar> convolution(o_, this->cols);
    if (x().needs_adjoint && o_.stride == 1) {
      add_input_adjoint(tape);
    } else if (x().needs_adjoint) {
      Scalar* dx = tape.open_adjoint(x()).data();
      parallel_for(convolution.groups(), o_.threads, [&](Index group, int thread) {
        convolution.add_input_adjoint(group, weight().value, this->adjoint, dx,
                                      scratch_ + thread * convolution.scratch());
      });
    }
    add_weight_adjoint(tape, convolution);
  }

 private:
  /// With a stride of 1 the adjoint of the input is a convolution too, of dy with the filters
  /// flipped:
  ///   dx[c, i, j] = sum_{f, a, b} W[f, c, kernel - 1 - a, kernel - 1 - b]
  ///                               dy[f, i + a - (kernel - 1 - padding), ...]
  /// It gathers where the adjoint of lowering scatters: both adjoints take 58 ms rather than 81.
  void add_input_adjoint(Tape<Scalar>& tape) {
    const Index channels = o_.input.channels, window = o_.kernel * o_.kernel;
    const Conv2dOptions turned{.input = o_.output(),
                               .filters = channels,
                               .kernel = o_.kernel,
                               .stride = 1,
                               .padding = o_.kernel - 1 - o_.padding};
    Scalar* dx = tape.open_adjoint(x()).data();
    const Convolution<Scalar> convolution(turned, this->cols);
    const Arena::Mark mark = tape.arena().mark();
    Scalar* filters = tape.allocate(turned.patch() * channels);
    for (Index f = 0; f < o_.filters; ++f) {
      for (Index c = 0; c < channels; ++c) {
        const Scalar* from = weight().value + (f * channels + c) * window;
        std::reverse_copy(from, from + window, filters + (c * o_.filters + f) * window);
      }
    }
    Scalar* scratch = tape.allocate(o_.threads * convolution.scratch());
    parallel_for(convolution.tiles(), o_.threads, [&](Index number, int thread) {
      convolution.forward(number, this->adjoint, filters, nullptr, true, dx,
                          scratch + thread * convolution.scratch());
    });
    tape.arena().rewind(mark);
  }

  void add_weight_adjoint(Tape<Scalar>& tape, const Convolution<Scalar>& convolution) {
    const bool learns_bias = has_bias_ && bias().needs_adjoint;
    if (!weight().needs_adjoint && !learns_bias) return;
    if (weight().needs_adjoint) tape.open_adjoint(weight());
    if (learns_bias) tape.open_adjoint(bias());
    // A fixed number of sums, added in a fixed order: the same bits with any number of threads.
    const Index weights = o_.patch() * o_.filters;
    const Index lanes = std::clamp<Index>((Index{1} << 22) / weights, 4, 16);
    const Index size = weights + o_.filters;
    const Arena::Mark mark = tape.arena().mark();
    Scalar* sums = tape.allocate(lanes * size);
    const Index tiles = convolution.tiles();
    parallel_for(lanes, o_.threads, [&](Index lane, int thread) {
      Scalar* sum = sums + lane * size;
      std::fill_n(sum, size, Scalar(0));
      for (Index t = lane * tiles / lanes; t < (lane + 1) * tiles / lanes; ++t) {
        convolution.add_weight_adjoint(
            t, x().value, this->adjoint, weight().needs_adjoint ? sum : nullptr,
            learns_bias ? sum + weights : nullptr, scratch_ + thread * convolution.scratch());
      }
    });
    for (Index lane = 1; lane < lanes; ++lane) {
      MatrixMap<Scalar>(sums, size, 1) += MatrixMap<Scalar>(sums + lane * size, size, 1);
    }
    if (weight().needs_adjoint) {
      weight().adjoint_map() += ConstMatrixMap<Scalar>(sums, o_.filters, o_.patch()).transpose();
    }
    if (learns_bias) {
      bias().adjoint_map() += ConstMatrixMap<Scalar>(sums + weights, o_.filters, 1);
    }
    tape.arena().rewind(mark);
  }

  Node<Scalar>& x() const { return this->parent(0); }
  Node<Scalar>& weight() const { return this->parent(1); }
  Node<Scalar>& bias() const { return this->parent(2); }

  bool has_bias_;
  Conv2dOptions o_;
  Scalar* scratch_;
};

}  // namespace detail

/// y[f, i, j] = sum_{c, a, b} W[f, c, a, b] x[c, i stride + a - padding, j stride + b - padding]
/// + bias[f] of each image, zeros outside of it (a cross-correlation, as in PyTorch).
///
/// x: input.size() x images; weight: (channels * kernel * kernel) x filters, in memory [filters]
/// [channels][kernel][kernel]; bias: filters x 1, or empty; y: output().size() x images.
/// Differentiable once in all three. Runs on `threads` threads, with the same bits on any number of
/// them. Memory of its own: a tile per thread, and 4 to 16 copies of the weight during a sweep.
/// Throws std::invalid_argument on options or shapes that do not fit.
template <class Scalar>
Var<Scalar> conv2d(const Var<Scalar>& x, const Var<Scalar>& weight, const Var<Scalar>& bias,
                   const Conv2dOptions& options) {
  constexpr std::string_view here = "conv2d";
  detail::check_images(here, x, options.input);
  detail::check_positive(here, "filters", options.filters);
  detail::check_positive(here, "kernel", options.kernel);
  detail::check_positive(here, "stride", options.stride);
  detail::check_positive(here, "threads", options.threads);
  if (options.padding < 0 || options.padding >= options.kernel) {
    detail::reject(here, "padding", "in 0 .. kernel - 1", options.padding);
  }
  if (options.kernel > std::min(options.input.height, options.input.width) + 2 * options.padding) {
    detail::reject(here, "kernel", "no larger than the padded image", options.kernel);
  }
  Tape<Scalar>& tape = x.tape();
  tape.check_on_this_tape(here, weight);
  detail::check_shape(here, "weight", weight, options.patch(), options.filters);
  const bool has_bias = !bias.empty();
  if (has_bias) {
    tape.check_on_this_tape(here, bias);
    detail::check_shape(here, "bias", bias, options.filters, 1);
  }
  const detail::Convolution<Scalar> convolution(options, x.cols());
  Scalar* scratch = tape.allocate(options.threads * convolution.scratch());
  auto* node = tape.template emplace_result<detail::Conv2dNode<Scalar>>(
      options.output().size(), x.cols(),
      std::array{&x.node(), &weight.node(), has_bias ? &bias.node() : &weight.node()}, has_bias,
      options, scratch);
  node->evaluate();
  return {&tape, node};
}

}  // namespace plastic
