#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <vector>

namespace plastic {

/// Bump memory in chunks. Rewinding keeps the chunks, so a loop that allocates the same amount
/// every time asks the system for memory in its first iteration only.
class Arena {
 public:
  static constexpr std::size_t alignment = 64;  ///< alignment of every allocation, in bytes

  /// A position in the arena.
  struct Mark {
    std::size_t chunk = 0;  ///< index of the chunk
    std::size_t used = 0;   ///< bytes used in it
  };

  /// Uninitialised memory on a 64-byte boundary, valid until the arena is rewound before it. Asks
  /// the system for a chunk only if those held have no room.
  void* allocate(std::size_t bytes) {
    bytes = (bytes + alignment - 1) / alignment * alignment;
    while (at_.chunk < chunks_.size() && at_.used + bytes > chunks_[at_.chunk].size) {
      at_ = {at_.chunk + 1, 0};
    }
    if (at_.chunk == chunks_.size()) grow(bytes);
    std::byte* place = chunks_[at_.chunk].memory.get() + at_.used;
    at_.used += bytes;
    return place;
  }

  /// The same for `count` values of type T, which are not constructed.
  template <class T>
  T* allocate_array(std::size_t count) {
    return static_cast<T*>(allocate(count * sizeof(T)));
  }

  Mark mark() const { return at_; }       ///< the current position
  void rewind(Mark mark) { at_ = mark; }  ///< forgets what was allocated after it; destroys nothing

  /// Forgets everything, and allocates chunks so that whatever fits into `other` fits here too.
  void reserve_like(const Arena& other) {
    rewind({});
    for (std::size_t k = 0; k < other.chunks_.size(); ++k) {
      if (k == chunks_.size()) chunks_.push_back({nullptr, 0});
      if (chunks_[k].size < other.chunks_[k].size) chunks_[k] = new_chunk(other.chunks_[k].size);
    }
  }

  /// Bytes held, used or not.
  std::size_t capacity() const {
    std::size_t total = 0;
    for (const Chunk& chunk : chunks_) total += chunk.size;
    return total;
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const {
      ::operator delete[](memory, std::align_val_t(alignment));
    }
  };
  struct Chunk {
    std::unique_ptr<std::byte[], Free> memory;
    std::size_t size;
  };

  void grow(std::size_t bytes) {
    constexpr std::size_t first = std::size_t{1} << 16;
    constexpr std::size_t largest = std::size_t{1} << 21;
    const std::size_t doubled = chunks_.empty() ? first : 2 * chunks_.back().size;
    const std::size_t size = std::max(bytes, std::min(doubled, largest));
    chunks_.push_back(new_chunk(size));
  }

  static Chunk new_chunk(std::size_t size) {
    auto* memory = static_cast<std::byte*>(::operator new[](size, std::align_val_t(alignment)));
    return {std::unique_ptr<std::byte[], Free>(memory), size};
  }

  std::vector<Chunk> chunks_;
  Mark at_;
};

}  // namespace plastic
