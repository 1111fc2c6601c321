#pragma once

#include <cmath>
#include <cstdint>

#include "plastic/core/settings.hpp"
#include "plastic/tasks/episodes.hpp"

namespace plastic {

/// Families of functions that few-shot regression draws from.
enum class RegressionFunction { linear, mlp };

/// Settings of FewShotRegression.
struct FewShotRegressionOptions {
  RegressionFunction function = RegressionFunction::linear;  ///< family of the functions to learn
  Index variables = 0;  ///< inputs of the function; 0: as in the paper, 12 for linear, 6 for mlp
  Index support = 20;   ///< k, points shown with their value
  Index queries = 20;   ///< points shown without their value
  double noise = 0.1;   ///< standard deviation of the noise on a shown value
};

/// Few-shot regression: learn a new function from k noisy points, then predict it at others.
///
/// Points x are uniform in [-1, 1]^n. f is new in each episode: `linear`, w.x + b with all of w, b
/// uniform in +-1/sqrt(n); or `mlp`, v.tanh(W x + c) + d with two hidden units, W and c uniform in
/// +-1/sqrt(n), v and d in +-1/sqrt(2). y is f(x), shifted and scaled to mean 0 and sample standard
/// deviation 1 over all points of the episode.
///
///     steps         input 0 .. n-1   input n             input n+1   target
///     0 .. k-1      x                y + Gaussian noise  1           y
///     k .. end      x                0                   0           y
///
/// All steps count in the loss; the latter are the queries. Source: Duan, Jia, Li, Zhong, Ma,
/// "Hebbian and Gradient-based Plasticity Enables Robust Memory and Rapid Learning in RNNs", ICLR
/// 2023. Const and safe from several threads.
class FewShotRegression {
 public:
  /// Throws std::invalid_argument if a count is not in [1, 2^31), the noise is negative or not
  /// finite, or the function is not a value of RegressionFunction.
  explicit FewShotRegression(const FewShotRegressionOptions& options = {}) : options_(options) {
    constexpr auto here = "FewShotRegression";
    if (options.variables == 0) {
      options_.variables = options.function == RegressionFunction::linear ? 12 : 6;
    }
    detail::check_count(here, "variables", options_.variables);
    detail::check_count(here, "support", options.support);
    detail::check_count(here, "queries", options.queries);
    detail::check_range(here, "noise", options.noise, 0);
    if (options.function != RegressionFunction::linear &&
        options.function != RegressionFunction::mlp) {
      detail::reject(here, "function", "a value of RegressionFunction",
                     static_cast<int>(options.function));
    }
  }

  /// Options with the number of variables resolved.
  const FewShotRegressionOptions& options() const { return options_; }

  /// Name and options, for a checkpoint.
  Settings settings() const {
    return {{"name", "few_shot_regression"},
            {"function", detail::number_text(static_cast<int>(options_.function))},
            {"variables", detail::number_text(options_.variables)},
            {"support", detail::number_text(options_.support)},
            {"queries", detail::number_text(options_.queries)},
            {"noise", detail::number_text(options_.noise)}};
  }

  Index inputs() const { return options_.variables + 2; }  ///< a point, its value, "value shown"
  Index outputs() const { return 1; }                      ///< the value
  Index steps() const { return options_.support + options_.queries; }  ///< points of an episode

  /// See Task. Values are drawn in double and rounded to Scalar. Throws std::invalid_argument
  /// unless samples >= 1, 0 <= first, first + samples <= 2^32 and batch < 2^56.
  template <class Scalar>
  void generate(const Random::Stream& stream, std::uint64_t batch, Index first, Index samples,
                Episodes<Scalar>& episodes) const {
    detail::check_samples("FewShotRegression::generate", first, samples);
    detail::resize(episodes, inputs(), outputs(), steps(), options_.queries, samples);
    detail::for_each_sample(stream, batch, first, samples, [&](const Random& random, Index s) {
      fill(random, s, samples, episodes);
    });
  }

 private:
  // f at the point that `point` draws; `function` draws the coefficients, the same in every call.
  // x(i) takes the coordinates.
  template <class Store>
  double evaluate(Random function, Random& point, Store&& x) const {
    const Index n = options_.variables;
    const double k = 1 / std::sqrt(static_cast<double>(n));
    if (options_.function == RegressionFunction::linear) {
      double value = function.uniform(-k, k);
      for (Index i = 0; i < n; ++i) value += function.uniform(-k, k) * x(i, point.uniform(-1, 1));
      return value;
    }
    double first = function.uniform(-k, k), second = function.uniform(-k, k);
    for (Index i = 0; i < n; ++i) {
      const double coordinate = x(i, point.uniform(-1, 1));
      first += function.uniform(-k, k) * coordinate;
      second += function.uniform(-k, k) * coordinate;
    }
    const double out = 1 / std::sqrt(2.0);
    const double bias = function.uniform(-out, out);
    const double first_weight = function.uniform(-out, out);
    return bias + first_weight * std::tanh(first) + function.uniform(-out, out) * std::tanh(second);
  }

  // The coefficients are drawn again for every point, and the points for both passes: storing them
  // in double would take memory that `episodes` does not have.
  template <class Scalar>
  void fill(const Random& function, Index s, Index samples, Episodes<Scalar>& episodes) const {
    const Index n = options_.variables;
    constexpr std::uint64_t words = 2;  // words per uniform number
    Random points = function;
    points.skip(words * static_cast<std::uint64_t>(2 * n + 5));  // more than either function draws
    const Random first_point = points;
    double mean = 0, square = 0;
    for (Index t = 0; t < steps(); ++t) {
      // Welford's: no cancellation where f is nearly constant.
      const double y = evaluate(function, points, [](Index, double x) { return x; });
      const double delta = y - mean;
      mean += delta / static_cast<double>(t + 1);
      square += delta * (y - mean);
    }
    const double deviation = std::sqrt(square / static_cast<double>(steps() - 1));
    const double scale = deviation > 0 ? 1 / deviation : 0;

    Random noise = points;  // continues where the points end
    points = first_point;
    for (Index t = 0; t < steps(); ++t) {
      const Index column = t * samples + s;
      const double value = evaluate(function, points, [&](Index i, double x) {
        episodes.inputs(i, column) = static_cast<Scalar>(x);
        return x;
      });
      const double y = (value - mean) * scale;
      const bool shown = t < options_.support;
      episodes.inputs(n, column) =
          shown ? static_cast<Scalar>(y + options_.noise * noise.normal()) : Scalar(0);
      episodes.inputs(n + 1, column) = shown ? Scalar(1) : Scalar(0);
      episodes.targets(0, column) = static_cast<Scalar>(y);
    }
  }

  FewShotRegressionOptions options_;
};

static_assert(Task<FewShotRegression, float> && Task<FewShotRegression, double>);

}  // namespace plastic
