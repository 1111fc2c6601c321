#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "plastic/nn/batch_norm.hpp"
#include "plastic/nn/conv2d.hpp"
#include "plastic/nn/dropout.hpp"
#include "plastic/nn/pool.hpp"
#include "plastic/tape/borrow.hpp"

namespace plastic {

/// How an encoder runs on one batch of images.
struct EncoderPass {
  bool training = false;   ///< whether to use batch statistics and dropout, not running statistics
  std::uint64_t seed = 0;  ///< seed of dropout
  Index batch = 0;         ///< number of the batch: for dropout, and for rates that grow
  int threads = 1;         ///< threads to use; the result does not depend on it
};

/// A convolutional network from images to features, made of blocks of convolution and batch norm.
///
/// It has slow weights only, `parameters()`, and batch norm's running statistics. `encode` puts all
/// images of a batch through every layer in turn, on the pass's threads.
template <class Scalar>
class Encoder {
 public:
  virtual ~Encoder() = default;
  /// Name in files, as `make_encoder` takes it.
  virtual std::string_view name() const = 0;

  const ImageShape& input() const { return input_; }  ///< shape of each image
  Index features() const { return features_; }        ///< rows of the result of `encode`
  Index filters() const { return filters_; }          ///< filters of the first convolution
  /// @{
  /// The slow parameters: BLOCK.conv.weight, BLOCK.norm.weight and BLOCK.norm.bias of every block.
  Parameters<Scalar>& parameters() { return parameters_; }
  const Parameters<Scalar>& parameters() const { return parameters_; }
  /// @}

  /// @{
  /// Running statistics of each batch norm, in the order of `statistics_names`.
  std::vector<RunningStatistics<Scalar>>& statistics() { return statistics_; }
  const std::vector<RunningStatistics<Scalar>>& statistics() const { return statistics_; }
  /// @}
  /// BLOCK.norm for every block.
  const std::vector<std::string>& statistics_names() const { return statistics_names_; }

  /// All that training changes: the parameters, then mean and variance of each batch norm.
  std::vector<Vector<Scalar>*> state() {
    std::vector<Vector<Scalar>*> all{&parameters_.values()};
    for (RunningStatistics<Scalar>& s : statistics_) {
      all.push_back(&s.mean);
      all.push_back(&s.variance);
    }
    return all;
  }

  /// images: input().size() x images; returns features() x images. Sweeps add to `gradients`, of
  /// the layout of `parameters()` (nullptr: the parameters are constants). In training it changes
  /// the running statistics. Differentiable once. One call at a time: it uses the pass's threads
  /// itself. Throws std::invalid_argument on other shapes.
  Var<Scalar> encode(const Var<Scalar>& images, const EncoderPass& pass,
                     Vector<Scalar>* gradients = nullptr) {
    detail::check_images("Encoder::encode", images, input_);
    detail::check_positive("Encoder::encode", "threads", pass.threads);
    if (gradients != nullptr && gradients->size() != parameters_.size()) {
      detail::reject("Encoder::encode", "gradients",
                     "a vector of length " + std::to_string(parameters_.size()), gradients->size());
    }
    drops_ = 0;
    return run(images, {pass, gradients});
  }

 protected:
  /// A pass, and the place where its gradients go.
  struct Run {
    EncoderPass pass;           ///< the pass that `encode` got
    Vector<Scalar>* gradients;  ///< likewise; may be nullptr
  };

  /// A convolution without bias and the batch norm after it.
  struct Block {
    Conv2dOptions conv;      ///< except the threads, which are the pass's
    Index weight;            ///< number of the convolution's weight among the parameters
    Index gain;              ///< number of batch norm's gain
    Index bias;              ///< number of batch norm's bias
    std::size_t statistics;  ///< number of its running statistics
  };

  /// An encoder of images of this shape, without blocks.
  explicit Encoder(const ImageShape& input) : input_(input) {}

  /// The features of images whose shape has been checked, features() x images.
  virtual Var<Scalar> run(const Var<Scalar>& images, const Run& run) = 0;

  /// Adds the parameters and statistics of a block whose output has the size of its input. Weights
  /// start normal with variance 2 / (filters kernel^2). Source: He et al., "Delving deep
  /// into rectifiers", ICCV 2015, by fan-out.
  Block add_block(const std::string& name, const ImageShape& input, Index filters, Index kernel,
                  std::uint64_t seed) {
    const Conv2dOptions conv{
        .input = input, .filters = filters, .kernel = kernel, .padding = kernel / 2};
    const Block block{.conv = conv,
                      .weight = parameters_.add(name + ".conv.weight", conv.patch(), filters),
                      .gain = parameters_.add(name + ".norm.weight", filters, 1),
                      .bias = parameters_.add(name + ".norm.bias", filters, 1),
                      .statistics = statistics_.size()};
    const double deviation = std::sqrt(2 / static_cast<double>(filters * kernel * kernel));
    detail::draw_block(parameters_, block.weight, seed, 0,
                       [&](Random& random) { return deviation * random.normal(); });
    parameters_.matrix(block.gain).setOnes();
    if (statistics_.empty()) filters_ = filters;
    statistics_.emplace_back(filters);
    statistics_names_.push_back(name + ".norm");
    return block;
  }

  /// act(batch_norm(conv(x))); slope as in BatchNormOptions.
  Var<Scalar> apply(const Block& block, const Var<Scalar>& x, double slope, const Run& run) {
    Tape<Scalar>& tape = x.tape();
    const auto parameter = [&](Index number) {
      return borrow(tape, parameters_, number, run.gradients);
    };
    Conv2dOptions conv = block.conv;
    conv.threads = run.pass.threads;
    const Var<Scalar> y = conv2d(x, parameter(block.weight), Var<Scalar>(), conv);
    return batch_norm(y, parameter(block.gain), parameter(block.bias),
                      statistics_[block.statistics],
                      {.input = conv.output(),
                       .training = run.pass.training,
                       .slope = slope,
                       .threads = run.pass.threads});
  }

  /// The random numbers of the next dropout of this pass.
  DropKey next_drop(const Run& run) {
    constexpr std::uint32_t first_purpose = 128;  // the library's other purposes are below
    const auto purpose = static_cast<Random::Purpose>(first_purpose + drops_++);
    return {.stream = {run.pass.seed, purpose},
            .batch = static_cast<std::uint64_t>(run.pass.batch),
            .threads = run.pass.threads};
  }

  /// A 2x2 pool over images of this shape.
  static PoolOptions halving(const ImageShape& shape, const Run& run) {
    return {.input = shape, .window = 2, .stride = 2, .threads = run.pass.threads};
  }
  /// The shape after it.
  static ImageShape halved(const ImageShape& shape) { return PoolOptions{.input = shape}.output(); }

  /// Throws std::invalid_argument if an image cannot be halved `times` times.
  static void check_halvings(std::string_view here, const ImageShape& input, int times) {
    const Index least = Index{1} << times;
    if (input.channels < 1 || std::min(input.height, input.width) < least) {
      detail::reject(here, "input",
                     "an image of at least " + std::to_string(least) + " rows and columns",
                     detail::shape_text(input));
    }
  }

  void set_features(Index features) { features_ = features; }  ///< rows of the result of `run`

 private:
  ImageShape input_;
  Index features_ = 0;
  Index filters_ = 0;
  Parameters<Scalar> parameters_;
  std::vector<RunningStatistics<Scalar>> statistics_;
  std::vector<std::string> statistics_names_;
  std::uint32_t drops_ = 0;  // dropouts so far in this pass
};

}  // namespace plastic
