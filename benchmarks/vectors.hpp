#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

/// Vector registers of the widest kind that the program is compiled for, and memory for them.
namespace bench {

#if defined(__AVX512F__)
constexpr std::size_t lanes = 16;
#elif defined(__AVX__)
constexpr std::size_t lanes = 8;
#else
constexpr std::size_t lanes = 4;
#endif

// A vector register; the compilers spell out the operations on it.
typedef float Vec __attribute__((vector_size(lanes * sizeof(float))));

inline Vec load(const float* from) {
  Vec v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
inline void store(float* to, const Vec& v) { std::memcpy(to, &v, sizeof v); }
inline void add_to(float* to, const Vec& v) { store(to, load(to) + v); }
inline Vec splat(float x) { return Vec{} + x; }
inline float sum(const Vec& v) {
  typedef float Four __attribute__((vector_size(16)));
  Four four{};
  for (std::size_t i = 0; i < lanes; i += 4) {
    Four part;
    std::memcpy(&part, reinterpret_cast<const char*>(&v) + i * sizeof(float), sizeof part);
    four += part;
  }
  return (four[0] + four[2]) + (four[1] + four[3]);
}

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size) : size_(size) {
    const std::size_t bytes = (size * sizeof(float) + 63) / 64 * 64;
    data_.reset(static_cast<float*>(std::aligned_alloc(64, bytes + 64)));
    if (!data_) throw std::bad_alloc();
    clear();
  }
  operator float*() const { return data_.get(); }
  std::size_t size() const { return size_; }
  void clear() { std::memset(data_.get(), 0, size_ * sizeof(float)); }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float[], Free> data_;
  std::size_t size_ = 0;
};

}  // namespace bench
