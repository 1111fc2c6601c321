#include "support/allocation_counter.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

// clang's thread sanitizer defines all forms of operator new and allows no others; instead it
// reports every allocation.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PLASTIC_TEST_HOOKED
#include <sanitizer/allocator_interface.h>
#endif
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define PLASTIC_TEST_SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PLASTIC_TEST_SANITIZED
#endif

// A static program, which has PLASTIC_TEST_STATIC, cannot define its own malloc.
#if defined(__GLIBC__) && !defined(PLASTIC_TEST_SANITIZED) && !defined(PLASTIC_TEST_STATIC)
#define PLASTIC_TEST_MALLOC
#endif

namespace {

thread_local bool counting = false;
std::atomic<bool> counting_all = false;
std::atomic<std::size_t> allocations = 0;

void count_one() noexcept {
  if (counting || counting_all) ++allocations;
}

#ifdef PLASTIC_TEST_HOOKED
const int hooked = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t) { count_one(); }, [](const volatile void*) {});
#else
void* allocate(std::size_t bytes) noexcept {
  count_one();
  return std::malloc(bytes == 0 ? 1 : bytes);
}

void* allocate(std::size_t bytes, std::align_val_t alignment) noexcept {
  count_one();
  const auto step = static_cast<std::size_t>(alignment);
  const std::size_t size = bytes == 0 ? step : (bytes + step - 1) / step * step;
#ifdef _WIN32
  return _aligned_malloc(size, step);
#else
  return std::aligned_alloc(step, size);
#endif
}

void free_aligned(void* memory) noexcept {
#ifdef _WIN32
  _aligned_free(memory);
#else
  std::free(memory);
#endif
}

void* checked(void* memory) {
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
#endif

}  // namespace

namespace plastic::testing {

AllocationCounter::AllocationCounter(Threads threads) {
  allocations = 0;
  counting = threads == Threads::this_one;
  counting_all = threads == Threads::all;
}
AllocationCounter::~AllocationCounter() { counting = counting_all = false; }
std::size_t AllocationCounter::count() const { return allocations; }

bool AllocationCounter::sees_malloc() {
#ifdef PLASTIC_TEST_HOOKED
  return hooked != 0;
#elif defined(PLASTIC_TEST_MALLOC)
  return true;
#else
  return false;
#endif
}

}  // namespace plastic::testing

#ifdef PLASTIC_TEST_MALLOC
extern "C" {
void* __libc_malloc(std::size_t bytes);
void* __libc_realloc(void* memory, std::size_t bytes);

void* malloc(std::size_t bytes) noexcept {
  count_one();
  return __libc_malloc(bytes);
}
void* realloc(void* memory, std::size_t bytes) noexcept {
  count_one();
  return __libc_realloc(memory, bytes);
}
}
#endif

#ifndef PLASTIC_TEST_HOOKED
// All forms: a sanitizer adds its own versions of those that are missing, and the two kinds do not
// mix.
void* operator new(std::size_t n) { return checked(allocate(n)); }
void* operator new[](std::size_t n) { return checked(allocate(n)); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return allocate(n); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return allocate(n); }
void* operator new(std::size_t n, std::align_val_t a) { return checked(allocate(n, a)); }
void* operator new[](std::size_t n, std::align_val_t a) { return checked(allocate(n, a)); }
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return allocate(n, a);
}
void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return allocate(n, a);
}

void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { free_aligned(p); }
void operator delete[](void* p, std::align_val_t) noexcept { free_aligned(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { free_aligned(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { free_aligned(p); }
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { free_aligned(p); }
void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept {
  free_aligned(p);
}
#endif
