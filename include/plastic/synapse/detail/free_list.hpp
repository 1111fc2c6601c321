#pragma once

#include <algorithm>
#include <cstddef>

#include "plastic/core/types.hpp"
#include "plastic/tape/arena.hpp"

namespace plastic::detail {

/// Uninitialised blocks of one size from an arena. Freed ones are used again first; they are linked
/// through their first bytes.
template <class Scalar>
class FreeList {
 public:
  /// A block of `count` values, always the same number.
  Scalar* allocate(Arena& arena, Index count) {
    if (first_ == nullptr) {
      const std::size_t bytes = sizeof(Scalar) * static_cast<std::size_t>(count);
      return static_cast<Scalar*>(arena.allocate(std::max(bytes, sizeof first_)));
    }
    Scalar* block = first_;
    std::copy_n(reinterpret_cast<const char*>(block), sizeof first_,
                reinterpret_cast<char*>(&first_));
    return block;
  }

  void free(Scalar* block) {
    std::copy_n(reinterpret_cast<const char*>(&first_), sizeof first_,
                reinterpret_cast<char*>(block));
    first_ = block;
  }

 private:
  Scalar* first_ = nullptr;
};

}  // namespace plastic::detail
