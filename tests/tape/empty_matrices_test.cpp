// Matrices without rows or columns, as a mask or a split leaves them: every operation gives a
// result of the right shape and adjoints of zero entries, or throws std::invalid_argument. Nothing
// divides by zero or reads what is not there.

#include <array>
#include <catch2/catch.hpp>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "plastic/nn/batch_norm.hpp"
#include "plastic/nn/conv2d.hpp"
#include "plastic/nn/dense.hpp"
#include "plastic/nn/dropout.hpp"
#include "plastic/nn/pool.hpp"
#include "plastic/plastic.hpp"

namespace {

using namespace plastic;

template <class Scalar>
struct Operation {
  std::string name;
  std::function<Var<Scalar>(const Var<Scalar>&)> call;
  // Shape of the result, from the shape of the argument.
  std::function<std::pair<Index, Index>(Index, Index)> shape;
};

template <class Scalar>
std::vector<Operation<Scalar>> operations() {
  using V = Var<Scalar>;
  const auto same = [](Index r, Index c) { return std::pair(r, c); };
  const auto one = [](Index, Index) { return std::pair<Index, Index>(1, 1); };
  const auto row = [](Index, Index c) { return std::pair<Index, Index>(1, c); };
  const auto column = [](Index r, Index) { return std::pair<Index, Index>(r, 1); };
  const auto with_one = [](const V& x) {
    return x.tape().constant(Matrix<Scalar>::Ones(x.rows(), x.cols()));
  };
  return {
      {"exp", [](const V& x) { return exp(x); }, same},
      {"log", [](const V& x) { return log(x); }, same},
      {"sqrt", [](const V& x) { return sqrt(x); }, same},
      {"square", [](const V& x) { return square(x); }, same},
      {"sin", [](const V& x) { return sin(x); }, same},
      {"cos", [](const V& x) { return cos(x); }, same},
      {"tanh", [](const V& x) { return tanh(x); }, same},
      {"sigmoid", [](const V& x) { return sigmoid(x); }, same},
      {"softplus", [](const V& x) { return softplus(x); }, same},
      {"relu", [](const V& x) { return relu(x); }, same},
      {"leaky_relu", [](const V& x) { return leaky_relu(x, 0.1); }, same},
      {"step", [](const V& x) { return step(x); }, same},
      {"is_between", [](const V& x) { return is_between(x, 0, 1); }, same},
      {"abs", [](const V& x) { return abs(x); }, same},
      {"pow", [](const V& x) { return pow(x, 3); }, same},
      {"clamp", [](const V& x) { return clamp(x, 0, 1); }, same},
      {"-x", [](const V& x) { return -x; }, same},
      {"x + x", [](const V& x) { return x + x; }, same},
      {"x - 1", [](const V& x) { return x - 1; }, same},
      {"2 * x", [](const V& x) { return 2 * x; }, same},
      {"1 / x", [](const V& x) { return 1 / x; }, same},
      {"x * x", [](const V& x) { return x * x; }, same},
      {"x / x", [](const V& x) { return x / x; }, same},
      {"x + row", [](const V& x) { return x + sum_features(x); }, same},
      {"x * column", [](const V& x) { return x * sum_samples(x); }, same},
      {"sum", [](const V& x) { return sum(x); }, one},
      {"sum_features", [](const V& x) { return sum_features(x); }, row},
      {"sum_samples", [](const V& x) { return sum_samples(x); }, column},
      {"mean", [](const V& x) { return mean(x); }, one},
      {"log_sum_exp", [](const V& x) { return log_sum_exp(x); }, row},
      {"softmax", [](const V& x) { return softmax(x); }, same},
      {"log_softmax", [](const V& x) { return log_softmax(x); }, same},
      {"mean_squared_error", [=](const V& x) { return mean_squared_error(x, with_one(x)); }, one},
      {"cross_entropy", [=](const V& x) { return cross_entropy(x, with_one(x)); }, one},
      {"cross_entropy, smoothed", [=](const V& x) { return cross_entropy(x, with_one(x), 0.1); },
       one},
      {"binary_cross_entropy", [=](const V& x) { return binary_cross_entropy(x, with_one(x)); },
       one},
      {"layer_norm",
       [](const V& x) {
         const V gain = x.tape().constant(Matrix<Scalar>::Ones(x.rows(), 1));
         return layer_norm(x, gain, gain);
       },
       same},
      {"matmul with its transpose", [](const V& x) { return matmul(x, transpose(x)); },
       [](Index r, Index) { return std::pair(r, r); }},
      {"matmul of its transpose", [](const V& x) { return matmul(transpose(x), x); },
       [](Index, Index c) { return std::pair(c, c); }},
      {"transpose", [](const V& x) { return transpose(x); },
       [](Index r, Index c) { return std::pair(c, r); }},
      {"rows, none", [](const V& x) { return rows(x, 0, 0); },
       [](Index, Index c) { return std::pair<Index, Index>(0, c); }},
      {"rows, all", [](const V& x) { return rows(x, 0, x.rows()); }, same},
      {"rows, too many", [](const V& x) { return rows(x, 0, x.rows() + 1); }, same},
      {"columns, none", [](const V& x) { return columns(x, 0, 0); },
       [](Index r, Index) { return std::pair<Index, Index>(r, 0); }},
      {"columns, all", [](const V& x) { return columns(x, 0, x.cols()); }, same},
      {"columns, too many", [](const V& x) { return columns(x, 0, x.cols() + 1); }, same},
      {"columns, chosen", [](const V& x) { return columns(x, std::span<const Index>()); },
       [](Index r, Index) { return std::pair<Index, Index>(r, 0); }},
      {"columns, one that is not there",
       [](const V& x) {
         const std::array<Index, 1> which{x.cols()};
         return columns(x, std::span<const Index>(which));
       },
       same},
      {"time_steps", [](const V& x) { return time_steps(x, 1, 0, x.cols()); }, same},
      {"time_steps of no sample", [](const V& x) { return time_steps(x, 0, 0, 1); }, same},
      {"concatenate_samples",
       [](const V& x) {
         const std::array<V, 2> parts{x, x};
         return concatenate_samples(std::span<const V>(parts));
       },
       [](Index r, Index c) { return std::pair(r, 2 * c); }},
      {"concatenate_samples of nothing",
       [](const V&) { return concatenate_samples(std::span<const V>()); }, same},
      {"select",
       [=](const V& x) {
         return select(x.tape().constant(Matrix<Scalar>::Ones(1, x.cols())), x, with_one(x));
       },
       same},
      {"dropout", [](const V& x) { return dropout(x, 0.5, {}); }, same},
      {"drop_block",
       [](const V& x) {
         return drop_block(x, {1, 1, 3}, 1, 0.5, {});
       },
       same},
      {"max_pool",
       [](const V& x) {
         return max_pool(x, {.input = {1, 1, 3}, .window = 1, .stride = 1});
       },
       same},
      {"average_pool",
       [](const V& x) {
         return average_pool(x, {.input = {1, 1, 3}, .window = 1, .stride = 1});
       },
       same},
      {"conv2d",
       [](const V& x) {
         const auto constant = [&](Index r, Index c) {
           return x.tape().constant(Matrix<Scalar>::Ones(r, c));
         };
         return conv2d(x, constant(1, 1), constant(1, 1),
                       {.input = {1, 1, 3}, .filters = 1, .kernel = 1, .padding = 0});
       },
       same},
  };
}

}  // namespace

TEMPLATE_TEST_CASE("An operation on an empty matrix has an empty result or is refused",
                   "[tape][empty_matrices]", float, double) {
  const std::array<std::pair<Index, Index>, 3> shapes{{{3, 0}, {0, 3}, {0, 0}}};
  int results = 0;
  for (const auto& [row_count, column_count] : shapes) {
    for (const Operation<TestType>& operation : operations<TestType>()) {
      INFO(operation.name << " of " << row_count << " x " << column_count);
      Tape<TestType> tape;
      const auto x = tape.variable(Matrix<TestType>(row_count, column_count));
      try {
        const auto y = operation.call(x);
        const auto [r, c] = operation.shape(row_count, column_count);
        CHECK(y.rows() == r);
        CHECK(y.cols() == c);
        CHECK(y.value().allFinite());
        tape.backward(sum(y));
        CHECK(x.adjoint().size() == 0);
        ++results;
      } catch (const std::invalid_argument& error) {
        CHECK(std::string(error.what()).find("must") != std::string::npos);
      }
    }
  }
  // Most have an obvious result, so it would be wrong to refuse them all.
  CHECK(results > 100);
}

TEMPLATE_TEST_CASE("An operation on an empty matrix can be differentiated twice",
                   "[tape][empty_matrices]", float, double) {
  for (const Operation<TestType>& operation : operations<TestType>()) {
    INFO(operation.name);
    Tape<TestType> tape;
    const auto x = tape.variable(Matrix<TestType>(3, 0));
    try {
      const auto y = sum(operation.call(x));
      const auto gradient = tape.gradient(y, x);
      CHECK(gradient.rows() == 3);
      CHECK(gradient.cols() == 0);
    } catch (const std::invalid_argument& error) {
      CHECK(std::string(error.what()).find("must") != std::string::npos);
    }
  }
}
