#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "plastic/core/settings.hpp"

namespace plastic {

/// Type of the values of a tensor: float or double.
enum class DType { F32, F64 };

/// F32 for float, F64 for double; anything else does not compile.
template <class Scalar>
constexpr DType dtype_of() {
  static_assert(std::same_as<Scalar, float> || std::same_as<Scalar, double>,
                "a tensor holds values of type float or double");
  return std::same_as<Scalar, float> ? DType::F32 : DType::F64;
}

namespace detail {

inline std::string dtype_text(DType dtype) {
  return dtype == DType::F32 ? "F32 (float)" : "F64 (double)";
}

inline std::size_t dtype_width(DType dtype) {
  return dtype == DType::F32 ? sizeof(float) : sizeof(double);
}

inline std::string shape_text(std::span<const Index> shape) {
  std::string text = "[";
  for (const Index size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

inline std::string tensor_text(std::string_view name) {
  return name.empty() ? "the tensor" : "tensor \"" + std::string(name) + "\"";
}

// The product of the sizes; nullopt where one is negative or 8 bytes per value exceed an Index.
inline std::optional<Index> value_count(std::span<const Index> shape) {
  const auto negative = [](Index size) { return size < 0; };
  if (std::any_of(shape.begin(), shape.end(), negative)) return std::nullopt;
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  Index count = 1;
  for (const Index size : shape) {
    if (size > std::numeric_limits<Index>::max() / 8 / count) return std::nullopt;
    count *= size;
  }
  return count;
}

}  // namespace detail

/// Values of one type in one shape, row-major. The shape [] holds one value; a size of 0 means
/// none.
///
/// Copies are deep. Const access is safe from several threads.
class Tensor {
 public:
  /// A tensor without values: shape [0], type F32.
  Tensor() : Tensor(DType::F32, {0}) {}

  /// A tensor of zeros. Throws std::invalid_argument on a negative size or more values than memory
  /// can have.
  Tensor(DType dtype, std::vector<Index> shape) : shape_(std::move(shape)) {
    const std::optional<Index> count = detail::value_count(shape_);
    if (!count) {
      detail::reject("Tensor", "shape", "sizes of at least 0 with a product that fits in memory",
                     detail::shape_text(shape_));
    }
    if (dtype == DType::F64) values_.emplace<std::vector<double>>();
    std::visit([&](auto& values) { values.resize(static_cast<std::size_t>(*count)); }, values_);
  }

  /// Copies as many values from `values` as the shape says. Throws std::invalid_argument as the
  /// constructor does.
  template <class Scalar>
  static Tensor from(std::vector<Index> shape, const Scalar* values) {
    Tensor tensor(dtype_of<Scalar>(), std::move(shape));
    std::copy_n(values, tensor.size(), tensor.values<Scalar>().begin());
    return tensor;
  }

  /// Type of the values.
  DType dtype() const {
    return std::holds_alternative<std::vector<float>>(values_) ? DType::F32 : DType::F64;
  }
  const std::vector<Index>& shape() const { return shape_; }  ///< sizes, outermost first

  /// Number of values.
  Index size() const { return static_cast<Index>(bytes().size() / detail::dtype_width(dtype())); }

  /// @{
  /// The values, to read or to write in place. Throws std::invalid_argument if the tensor is not of
  /// type Scalar: nothing is ever converted.
  template <class Scalar>
  std::span<const Scalar> values() const {
    expect_type<Scalar>("");
    return *std::get_if<std::vector<Scalar>>(&values_);
  }
  template <class Scalar>
  std::span<Scalar> values() {
    expect_type<Scalar>("");
    return *std::get_if<std::vector<Scalar>>(&values_);
  }
  /// @}

  /// @{
  /// The memory of the values, to read or to write in place.
  std::span<const std::byte> bytes() const {
    return std::visit([](const auto& values) { return std::as_bytes(std::span(values)); }, values_);
  }
  std::span<std::byte> bytes() {
    return std::visit([](auto& values) { return std::as_writable_bytes(std::span(values)); },
                      values_);
  }
  /// @}

  /// Throws std::invalid_argument, calling the tensor `name`, if its values have another type.
  template <class Scalar>
  void expect_type(std::string_view name) const {
    if (dtype() != dtype_of<Scalar>()) {
      detail::reject("Tensor", "the type of " + detail::tensor_text(name),
                     detail::dtype_text(dtype_of<Scalar>()),
                     detail::dtype_text(dtype()) + ": read it as that type");
    }
  }

  /// Throws std::invalid_argument, calling the tensor `name`, if it has another shape.
  void expect_shape(std::string_view name, const std::vector<Index>& shape) const {
    if (shape_ != shape) {
      detail::reject("Tensor", "the shape of " + detail::tensor_text(name),
                     detail::shape_text(shape), detail::shape_text(shape_));
    }
  }

 private:
  std::vector<Index> shape_;
  std::variant<std::vector<float>, std::vector<double>> values_;
};

/// A tensor of a type that nothing here computes with, such as integers or half precision: its
/// bytes as they are in the file.
struct OtherTensor {
  std::string dtype;             ///< name of the type in the format: I64, BF16, ...
  std::vector<Index> shape;      ///< sizes, outermost first
  std::vector<std::byte> bytes;  ///< little-endian, row-major
};

/// Contents of a safetensors file: named tensors, and strings that describe them.
struct TensorFile {
  Settings metadata = {};                          ///< strings by name: __metadata__ in the file
  std::map<std::string, Tensor> tensors = {};      ///< by name
  std::map<std::string, OtherTensor> others = {};  ///< tensors of all other types, by name

  /// Throws std::invalid_argument if there is no tensor of that name, or if its type is neither F32
  /// nor F64.
  const Tensor& tensor(std::string_view name) const {
    const auto found = tensors.find(std::string(name));
    if (found != tensors.end()) return found->second;
    const auto other = others.find(std::string(name));
    if (other == others.end()) {
      detail::reject("TensorFile", detail::tensor_text(name), "in the file",
                     "no tensor of that name");
    }
    detail::reject("TensorFile", "the type of " + detail::tensor_text(name), "F32 or F64",
                   other->second.dtype);
  }

  /// The values of the tensor `name`, row-major. Throws std::invalid_argument if there is none, or
  /// if it has another type or shape.
  template <class Scalar>
  std::span<const Scalar> values(std::string_view name, const std::vector<Index>& shape) const {
    const Tensor& found = tensor(name);
    found.expect_type<Scalar>(name);
    found.expect_shape(name, shape);
    return found.values<Scalar>();
  }

  /// @{
  /// Sets a column, or reads one; throws as `values` does.
  template <class Scalar>
  void set_vector(const std::string& name, const Vector<Scalar>& column) {
    tensors[name] = Tensor::from<Scalar>({column.size()}, column.data());
  }
  template <class Scalar>
  Vector<Scalar> vector(std::string_view name, Index size) const {
    const std::span<const Scalar> found = values<Scalar>(name, {size});
    return Eigen::Map<const Vector<Scalar>>(found.data(), size);
  }
  /// @}
};

}  // namespace plastic
