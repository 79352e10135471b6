// Stands in for CUDA's header of the same name where no GPU is at hand: with this folder first on the include path, a
// C++ compiler reads csrc/cuda/*.cu, and run.cpp executes the kernels on the CPU. Only tests use it.
//
// The threads of a block are fibres, run one at a time up to the next barrier or warp collective, in ascending,
// descending or random order (iqazoo_shim_order). So a missing barrier shows: a thread reads what another has not
// written yet, which in shared memory is 0xFF bytes: NaN, or -1. Also found are writes just past a shared array,
// barriers that not all threads reach, and threads that wait at different ones; cudaGetLastError() then returns
// cudaErrorUnknown, and cudaGetErrorString() tells the story.
//
// What it cannot run (PTX, cp.async, __activemask) goes into a function of its own with a host twin; cuda/mma.h has
// those of the matrix units, which exchange what the lanes hold by `gather`:
//
//     __device__ float approximate_exp2(float x) {
//     #ifdef __CUDA_ARCH__
//       float y; asm("ex2.approx.f32 %0, %1;" : "=f"(y) : "f"(x)); return y;
//     #else
//       return exp2f(x);
//     #endif
//     }
#pragma once

#define IQAZOO_SHIM

#include <math.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define __host__
#define __device__
#define __global__
#define __constant__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define IQAZOO_SHIM_VECTORS(T)                                           \
  struct alignas(2 * sizeof(T)) T##2 {                                   \
    T x, y;                                                              \
  };                                                                     \
  struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) T##4 {         \
    T x, y, z, w;                                                        \
  };                                                                     \
  inline T##2 make_##T##2(T x, T y) { return {x, y}; }                   \
  inline T##4 make_##T##4(T x, T y, T z, T w) { return {x, y, z, w}; }
IQAZOO_SHIM_VECTORS(int)
IQAZOO_SHIM_VECTORS(float)
IQAZOO_SHIM_VECTORS(double)
#undef IQAZOO_SHIM_VECTORS

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorUnknown = 999
};
using cudaStream_t = struct CUstream_st*;

cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t error);
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t = nullptr) {
  memset(at, value, bytes);
  return cudaSuccess;
}

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace iqazoo::shim {

// Calls `body` once per thread, each in a fibre of its own; a block has `bytes` of dynamic shared memory.
void launch(dim3 grid, dim3 block, size_t bytes, void (*body)(void*), void* data);

template <typename Body>
void launch(dim3 grid, dim3 block, size_t bytes, Body body) {
  launch(grid, block, bytes, [](void* data) { (*static_cast<Body*>(data))(); }, &body);
}

// The block's dynamic shared memory, with a guard behind it.
unsigned char* dynamic_shared();

// Where in the source a thread waits.
struct Site {
  const char* file;
  int line;
};

void block_barrier(Site site);

// Waits for the warp's other threads in `mask`; returns the value that lane `source` brought, or 0xFF bytes where that
// lane does not take part. `ballot` gets the lanes whose value is not 0.
uint64_t warp_collective(Site site, unsigned mask, uint64_t value, unsigned source, unsigned* ballot = nullptr);

unsigned lane();

// What all 32 lanes of the warp bring, `bytes` each, in their order.
void warp_gather(Site site, const void* mine, size_t bytes, void* all);
constexpr size_t kGathered = 64;  // bytes that a lane may bring

template <typename T>
std::array<T, 32> gather(Site site, const T& mine) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kGathered);
  std::array<T, 32> all;
  warp_gather(site, &mine, sizeof mine, all.data());
  return all;
}

// Fills `bytes` of a shared array with 0xFF, and the guard behind it, when the first thread of a block comes by.
void enter_shared(void* memory, size_t bytes, size_t guard);

// Shared memory, and a guard behind it that no thread may write.
template <typename T, int64_t count>
struct Shared {
  static_assert(std::is_trivial_v<T>, "shared memory has no constructors");
  T values[count];
  unsigned char guard[256];

  T (&enter())[count] {
    enter_shared(values, sizeof values, sizeof guard);
    return values;
  }
};

template <typename T>
T shuffle(Site site, unsigned mask, T value, unsigned source) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "CUDA shuffles 4 or 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = warp_collective(site, mask, bits, source);
  memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace iqazoo::shim

#define IQAZOO_SHARED(T, name, count)                                \
  static ::iqazoo::shim::Shared<T, (count)> iqazoo_shared_##name;    \
  T(&name)[count] = iqazoo_shared_##name.enter()

#define IQAZOO_LAUNCH(kernel, grid, block, stream, ...) \
  ((void)(stream), ::iqazoo::shim::launch(grid, block, 0, [&] { kernel(__VA_ARGS__); }))

#define IQAZOO_DYNAMIC_SHARED(name) unsigned char* const name = ::iqazoo::shim::dynamic_shared()

#define IQAZOO_LAUNCH_SHARED(kernel, grid, block, bytes, stream, ...) \
  ((void)(stream), ::iqazoo::shim::launch(grid, block, bytes, [&] { kernel(__VA_ARGS__); }))

#define IQAZOO_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define IQAZOO_HERE (::iqazoo::shim::Site{file, line})

inline void __syncthreads(IQAZOO_SITE) { ::iqazoo::shim::block_barrier(IQAZOO_HERE); }

inline void __syncwarp(unsigned mask = ~0u, IQAZOO_SITE) {
  ::iqazoo::shim::warp_collective(IQAZOO_HERE, mask, 0, ::iqazoo::shim::lane());
}

// As CUDA defines them: a lane that would read beyond its segment of `width` lanes gets its own value.
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, IQAZOO_SITE) {
  const unsigned segment = ::iqazoo::shim::lane() & ~(width - 1u);
  return ::iqazoo::shim::shuffle(IQAZOO_HERE, mask, value, segment | (source & (width - 1u)));
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int other, int width = warpSize, IQAZOO_SITE) {
  const unsigned lane = ::iqazoo::shim::lane(), source = lane ^ static_cast<unsigned>(other);
  const bool inside = source <= (lane | (width - 1u));
  return ::iqazoo::shim::shuffle(IQAZOO_HERE, mask, value, inside ? source : lane);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, IQAZOO_SITE) {
  const unsigned lane = ::iqazoo::shim::lane();
  const bool inside = (lane & (width - 1u)) + delta < static_cast<unsigned>(width);
  return ::iqazoo::shim::shuffle(IQAZOO_HERE, mask, value, inside ? lane + delta : lane);
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, IQAZOO_SITE) {
  const unsigned lane = ::iqazoo::shim::lane();
  const bool inside = (lane & (width - 1u)) >= delta;
  return ::iqazoo::shim::shuffle(IQAZOO_HERE, mask, value, inside ? lane - delta : lane);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, IQAZOO_SITE) {
  unsigned ballot = 0;
  ::iqazoo::shim::warp_collective(IQAZOO_HERE, mask, predicate != 0, ::iqazoo::shim::lane(), &ballot);
  return ballot;
}

inline int __any_sync(unsigned mask, int predicate, IQAZOO_SITE) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}

inline int __all_sync(unsigned mask, int predicate, IQAZOO_SITE) {
  return __ballot_sync(mask, !predicate, file, line) == 0;
}

#undef IQAZOO_SITE
#undef IQAZOO_HERE

// One fibre runs at a time. A sum of floats by atomics would depend on their order, so there is none.
template <typename T>
T atomicAdd(T* at, T value) {
  static_assert(std::is_integral_v<T>, "no atomics on floating point: results would change from run to run");
  const T before = *at;
  *at += value;
  return before;
}

template <typename T>
T __ldg(const T* at) {
  return *at;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(static_cast<unsigned>(bits)) : 32; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }

// CUDA's own min and max skip NaN like fmin and fmax.
template <typename A, typename B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return fmin(static_cast<T>(a), static_cast<T>(b));
  return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}

template <typename A, typename B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return fmax(static_cast<T>(a), static_cast<T>(b));
  return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}
