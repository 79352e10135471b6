// What csrc/shim promises, by itself: kernels with known results, and kernels whose mistakes it must tell of.
// nvcc compiles this too, since the launch macros must serve both.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "cuda/launch.h"

extern "C" void iqazoo_shim_order(int order, unsigned seed);

namespace {

constexpr unsigned kAll = 0xffffffffu;

template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
  for (int other = 16; other > 0; other /= 2) value += __shfl_xor_sync(kAll, value, other);
  return value;
}

// Two shared arrays, of the kernel and of a template; sums[0 .. warps) hold the warps' sums.
template <typename T, int kThreads>
__global__ void __launch_bounds__(kThreads) block_sums(const T* __restrict__ in, T* __restrict__ out) {
  IQAZOO_SHARED(T, sums, kThreads / 32);
  IQAZOO_SHARED(int, count, 1);
  if (threadIdx.x == 0) count[0] = 0;
  __syncthreads();
  const T sum = warp_sum(in[blockIdx.x * blockDim.x + threadIdx.x]);
  if (threadIdx.x % warpSize == 0) {
    sums[threadIdx.x / warpSize] = sum;
    atomicAdd(&count[0], 1);
  }
  __syncthreads();
  if (threadIdx.x >= 32) return;
  T total = threadIdx.x < kThreads / 32 ? sums[threadIdx.x] : T(0);
  for (int delta = 16; delta > 0; delta /= 2) total += __shfl_down_sync(kAll, total, delta);
  if (threadIdx.x == 0) out[blockIdx.x] = count[0] == kThreads / 32 ? total : T(-1);
}

__global__ void collectives(int* out) {
  const int lane = threadIdx.x;
  int* mine = out + 8 * lane;
  mine[0] = __shfl_sync(kAll, lane, 5);
  mine[1] = __shfl_up_sync(kAll, lane, 3);
  mine[2] = __shfl_down_sync(kAll, lane, 3);
  mine[3] = __shfl_xor_sync(kAll, lane, 1, 8);
  mine[4] = __shfl_sync(kAll, lane, 2, 8);
  mine[5] = static_cast<int>(__ballot_sync(kAll, lane % 2));
  mine[6] = __any_sync(kAll, lane == 31) + 2 * __any_sync(kAll, lane == 32);
  mine[7] = __all_sync(kAll, lane < 32) + 2 * __all_sync(kAll, lane < 31);
  __syncwarp();
}

__global__ void coordinates(int* out) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  out[y * gridDim.x * blockDim.x + x] = y * 100 + x;
}

__global__ void halves_of_a_warp(int* out) {
  const unsigned mask = threadIdx.x < 16 ? 0xffffu : 0xffff0000u;
  if (threadIdx.x < 16) {
    out[threadIdx.x] = __shfl_xor_sync(mask, static_cast<int>(threadIdx.x), 1);
  } else {
    out[threadIdx.x] = __shfl_xor_sync(mask, static_cast<int>(threadIdx.x), 2);
  }
}

__global__ void a_lane_that_is_not_there(float* out) { out[threadIdx.x] = __shfl_xor_sync(kAll, 1.0f, 16); }

__global__ void some_end_early(int* out) {
  if (threadIdx.x == 3) return;
  __syncthreads();
  out[0] = 1;
}

__global__ void two_barriers(int* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    out[0] = 1;
    __syncthreads();
  }
}

__global__ void a_warp_torn_apart(int* out) {
  if (threadIdx.x < 16) out[0] = __shfl_xor_sync(kAll, 1, 1);
  __syncthreads();
}

__global__ void not_in_its_mask(int* out) { out[0] = __shfl_xor_sync(1u, 1, 1); }

__global__ void past_a_shared_array(int* out) {
  IQAZOO_SHARED(int, values, 4);
  values[threadIdx.x] = 1;
  out[0] = 1;
}

int failures = 0;

void expect(bool right, const char* what) {
  if (right) return;
  printf("wrong: %s\n", what);
  ++failures;
}

void expect_error(const char* words, const char* what) {
  const char* error = cudaGetErrorString(cudaGetLastError());
  if (strstr(error, words)) return;
  printf("wrong: %s: expected an error with '%s', got '%s'\n", what, words, error);
  ++failures;
}

template <typename T>
void check_sums() {
  std::vector<T> in(3 * 128), out(3);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<T>(i);
  IQAZOO_LAUNCH((block_sums<T, 128>), 3, 128, nullptr, in.data(), out.data());
  for (int b = 0; b < 3; ++b) expect(out[b] == 128 * (128 * b) + 127 * 64, "block_sums");
}

void check_collectives() {
  std::vector<int> out(32 * 8);
  IQAZOO_LAUNCH(collectives, 1, 32, nullptr, out.data());
  for (int lane = 0; lane < 32; ++lane) {
    const int want[8] = {5,          lane < 3 ? lane : lane - 3, lane > 28 ? lane : lane + 3, lane ^ 1,
                         (lane & ~7) + 2, static_cast<int>(0xaaaaaaaau), 1, 1};
    expect(!memcmp(want, &out[8 * lane], sizeof want), "collectives");
  }
  IQAZOO_LAUNCH(halves_of_a_warp, 1, 32, nullptr, out.data());
  for (int lane = 0; lane < 32; ++lane) expect(out[lane] == (lane ^ (lane < 16 ? 1 : 2)), "halves_of_a_warp");
  std::vector<float> lanes(24);
  IQAZOO_LAUNCH(a_lane_that_is_not_there, 1, 24, nullptr, lanes.data());
  for (int lane = 0; lane < 24; ++lane) expect(std::isnan(lanes[lane]) == (lane >= 8 && lane < 16), "a missing lane");
  expect_error("no error", "collectives");
}

void check_coordinates() {
  std::vector<int> out(6 * 15);
  IQAZOO_LAUNCH(coordinates, dim3(2, 3), dim3(3, 5), nullptr, out.data());
  for (int y = 0; y < 15; ++y) {
    for (int x = 0; x < 6; ++x) expect(out[y * 6 + x] == y * 100 + x, "coordinates");
  }
}

void check_errors() {
  int out = 0;
  IQAZOO_LAUNCH(some_end_early, 2, 64, nullptr, &out);
  expect_error("1 threads have ended; 63 threads wait at", "some_end_early");
  IQAZOO_LAUNCH(two_barriers, 1, 64, nullptr, &out);
  expect_error("deadlock in block (0, 0, 0)", "two_barriers");
  IQAZOO_LAUNCH(a_warp_torn_apart, 1, 32, nullptr, &out);
  expect_error("deadlock", "a_warp_torn_apart");
  IQAZOO_LAUNCH(not_in_its_mask, 1, 2, nullptr, &out);
  expect_error("not in the mask", "not_in_its_mask");
  IQAZOO_LAUNCH(past_a_shared_array, 1, 5, nullptr, &out);
  expect_error("past the end of a shared array", "past_a_shared_array");
  IQAZOO_LAUNCH(some_end_early, 1, 1025, nullptr, &out);
  expect_error("invalid configuration", "a block too large");
  IQAZOO_LAUNCH(some_end_early, 0, 32, nullptr, &out);
  expect_error("invalid configuration", "an empty grid");
  expect_error("no error", "an error is told once");
}

}  // namespace

int main() {
  for (int order = 0; order < 3; ++order) {
    iqazoo_shim_order(order, 5);
    check_sums<float>();
    check_sums<double>();
    check_collectives();
    check_coordinates();
    check_errors();
  }
  return failures != 0;
}
