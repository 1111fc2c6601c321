#include "plastic/core/tensor_file.hpp"

#include <catch2/catch.hpp>
#include <limits>
#include <stdexcept>
#include <vector>

#include "support/errors.hpp"

using namespace plastic;
using namespace plastic::testing;

TEST_CASE("A tensor gives its values in its own type and shape only", "[core][tensor_file]") {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const Tensor tensor = Tensor::from({2, 3}, values.data());
  CHECK(tensor.dtype() == DType::F32);
  CHECK(tensor.size() == 6);
  CHECK(tensor.values<float>()[5] == 6);
  CHECK(
      error_of<std::invalid_argument>([&] { tensor.values<double>(); }) ==
      "Tensor: the type of the tensor must be F64 (double), got F32 (float): read it as that type");
  CHECK_NOTHROW(tensor.expect_shape("x", {2, 3}));
  CHECK(error_of<std::invalid_argument>([&] {
          tensor.expect_shape("x", {3, 2});
        }) == "Tensor: the shape of tensor \"x\" must be [3, 2], got [2, 3]");
  CHECK(error_of<std::invalid_argument>([&] { tensor.expect_shape("x", {}); }) ==
        "Tensor: the shape of tensor \"x\" must be [], got [2, 3]");

  TensorFile file;
  file.tensors["x"] = tensor;
  CHECK(file.values<float>("x", {2, 3}).data() == file.tensor("x").values<float>().data());
  CHECK(error_of<std::invalid_argument>([&] {
          file.values<double>("x", {2, 3});
        }) ==
        "Tensor: the type of tensor \"x\" must be F64 (double), got F32 (float): read it as that "
        "type");
  CHECK(error_of<std::invalid_argument>([&] { file.values<float>("x", {6}); }) ==
        "Tensor: the shape of tensor \"x\" must be [6], got [2, 3]");
  CHECK(error_of<std::invalid_argument>([&] { file.values<float>("y", {6}); }) ==
        "TensorFile: tensor \"y\" must be in the file, got no tensor of that name");
}

TEST_CASE("A tensor starts at zero, takes values in place and refuses impossible shapes",
          "[core][tensor_file]") {
  Tensor tensor(DType::F64, {2});
  CHECK(tensor.values<double>()[1] == 0);
  tensor.values<double>()[1] = 3;
  CHECK(tensor.values<double>()[1] == 3);
  CHECK(Tensor().size() == 0);
  CHECK(Tensor(DType::F32, {}).size() == 1);
  const Index half = Index{1} << 32;
  for (const std::vector<Index>& shape :
       {std::vector<Index>{-1}, std::vector<Index>{0, -1}, std::vector<Index>{half, half},
        std::vector<Index>{std::numeric_limits<Index>::max()}}) {
    CHECK(mentions(error_of<std::invalid_argument>([&] { Tensor(DType::F32, shape); }),
                   "Tensor: shape must be"));
  }
}
