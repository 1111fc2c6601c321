#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plastic/core/random.hpp"

namespace plastic {

/// One named matrix inside the flat vector of a Parameters set.
struct ParameterBlock {
  std::string name;       ///< unique in the set
  Index rows = 0;         ///< outputs, for a layer's weight
  Index cols = 0;         ///< inputs, for a layer's weight
  Index offset = 0;       ///< position of its first value in the flat vector
  bool trainable = true;  ///< false: frozen
  bool vector = false;    ///< whether files hold it with one dimension

  Index size() const { return rows * cols; }  ///< number of values
};

/// The slow parameters of a model: named column-major matrices in one flat vector.
///
/// With one flat vector, gradients, optimizers, clipping and files are operations on vectors of the
/// same layout. Every block starts on a 64-byte boundary of the vector; the gap before the next
/// block holds zeros and stays zero under every optimizer. Only `add` invalidates maps. Copies are
/// deep. Const access is safe from several threads.
template <class Scalar>
class Parameters {
 public:
  /// Appends a block of zeros and returns its number. Throws std::invalid_argument on an empty
  /// shape, one that no memory can hold, or a name already taken. A `vector` has one column.
  Index add(std::string_view name, Index rows, Index cols, bool vector = false) {
    detail::check_positive("Parameters::add", "rows", rows);
    detail::check_positive("Parameters::add", "cols", cols);
    if (contains(name)) detail::reject("Parameters::add", "name", "new", name);
    constexpr Index boundary = 64 / static_cast<Index>(sizeof(Scalar));
    const Index offset = values_.size();
    detail::check_product("Parameters::add", "rows * cols and all blocks before", rows, cols,
                          detail::most_values<Scalar> - offset - boundary);
    const Index padded = (rows * cols + boundary - 1) / boundary * boundary;
    values_.conservativeResize(offset + padded);
    values_.tail(padded).setZero();
    blocks_.push_back({std::string(name), rows, cols, offset, true, vector});
    return static_cast<Index>(blocks_.size()) - 1;
  }

  std::span<const ParameterBlock> blocks() const { return blocks_; }  ///< in the order of `add`
  /// Block `number`. Throws std::invalid_argument if there is none, as every function that takes a
  /// number does.
  const ParameterBlock& block(Index number) const { return blocks_[place(number)]; }

  /// Whether there is a block called `name`.
  bool contains(std::string_view name) const { return position(name) >= 0; }

  /// The number of the block called `name`; throws std::invalid_argument if there is none.
  Index find(std::string_view name) const {
    const Index found = position(name);
    if (found < 0) detail::reject("Parameters::find", "name", "the name of a parameter", name);
    return found;
  }

  /// @{
  /// The values of a block, rows x cols, to be read or written in place. Throws
  /// std::invalid_argument if there is no such block.
  MatrixMap<Scalar> matrix(Index number) { return view(values_, number); }
  ConstMatrixMap<Scalar> matrix(Index number) const { return view(values_, number); }
  MatrixMap<Scalar> matrix(std::string_view name) { return matrix(find(name)); }
  ConstMatrixMap<Scalar> matrix(std::string_view name) const { return matrix(find(name)); }
  /// @}

  /// @{
  /// The block's part, rows x cols, of a vector that has this set's layout, a gradient for example.
  /// Throws std::invalid_argument if there is no such block or the vector has another length.
  MatrixMap<Scalar> view(Vector<Scalar>& flat, Index number) const {
    const ParameterBlock& b = checked_block(flat.size(), number);
    return {flat.data() + b.offset, b.rows, b.cols};
  }
  ConstMatrixMap<Scalar> view(const Vector<Scalar>& flat, Index number) const {
    const ParameterBlock& b = checked_block(flat.size(), number);
    return {flat.data() + b.offset, b.rows, b.cols};
  }
  /// @}

  /// @{
  /// All blocks and the zeros between them; its length is the length of every gradient.
  Vector<Scalar>& values() { return values_; }
  const Vector<Scalar>& values() const { return values_; }
  /// @}
  Index size() const { return values_.size(); }  ///< length of `values()`

  /// Number of learned values: the sum of the sizes of the trainable blocks.
  Index trainable_count() const {
    Index count = 0;
    for (const ParameterBlock& b : blocks_) count += b.trainable ? b.size() : 0;
    return count;
  }

  /// @{
  /// A frozen block keeps its values: optimizers and gradients skip it.
  void freeze(Index number) { blocks_[place(number)].trainable = false; }
  void unfreeze(Index number) { blocks_[place(number)].trainable = true; }
  /// @}

 private:
  Index position(std::string_view name) const {
    const auto found =
        std::find_if(blocks_.begin(), blocks_.end(),
                     [&](const ParameterBlock& block) { return block.name == name; });
    return found == blocks_.end() ? -1 : found - blocks_.begin();
  }

  std::size_t place(Index number) const {
    detail::check_between("Parameters", "the block number", number, 0,
                          static_cast<Index>(blocks_.size()) - 1);
    return static_cast<std::size_t>(number);
  }

  const ParameterBlock& checked_block(Index length, Index number) const {
    if (length != size()) {
      detail::reject("Parameters::view", "the vector's length", std::to_string(size()), length);
    }
    return block(number);
  }

  Vector<Scalar> values_;
  std::vector<ParameterBlock> blocks_;
};

namespace detail {

/// Fills a block with initial weights: calls `draw` for each, with the random numbers that belong
/// to the block's number.
template <class Scalar, class Draw>
void draw_block(Parameters<Scalar>& parameters, Index number, std::uint64_t seed,
                std::uint64_t batch, Draw&& draw) {
  Random random({seed, Random::Purpose::initial_weights}, batch,
                static_cast<std::uint64_t>(number));
  MatrixMap<Scalar> values = parameters.matrix(number);
  std::generate_n(values.data(), values.size(), [&] { return static_cast<Scalar>(draw(random)); });
}

}  // namespace detail
}  // namespace plastic
