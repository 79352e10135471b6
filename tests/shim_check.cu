// What csrc/shim promises, by itself: kernels with known results, and kernels whose mistakes it must tell of.
// nvcc compiles this too, since the launch macros must serve both.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "cuda/launch.h"
#include "cuda/mma.h"

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

// Each thread reads what its right neighbour wrote into `count` floats.
__global__ void dynamic_neighbours(float* out, int count) {
  IQAZOO_DYNAMIC_SHARED(bytes);
  auto* values = reinterpret_cast<float*>(bytes);
  values[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = values[(threadIdx.x + 1) % count];
}

__global__ void past_dynamic_memory() {
  IQAZOO_DYNAMIC_SHARED(bytes);
  bytes[threadIdx.x] = 0;
}

// The fragments of four 8 x 8 matrices in shared memory; row r of matrix m is [m][r].
template <bool transposed>
__global__ void fragments(uint32_t* out) {
  IQAZOO_SHARED(uint16_t, matrices, 4 * 8 * 8);
  for (int i = threadIdx.x; i < 4 * 8 * 8; i += 32) matrices[i] = static_cast<uint16_t>(i);
  __syncwarp();
  uint32_t parts[4];
  iqazoo::cuda::load_matrices<transposed>(parts, &matrices[8 * threadIdx.x]);
  for (int m = 0; m < 4; ++m) out[4 * threadIdx.x + m] = parts[m];
}

// sum += a b for a [16][16], b [16][8], sum [16][8], each lane gathering its fragments from global memory.
template <typename T>
__global__ void product(const T* a, const T* b, float* sum) {
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  const auto two = [](T low, T high) { return low.bits | uint32_t{high.bits} << 16; };
  const auto left = [&](int row, int k) { return two(a[row * 16 + k], a[row * 16 + k + 1]); };
  const auto right = [&](int k) { return two(b[k * 8 + g], b[(k + 1) * 8 + g]); };
  const uint32_t parts[4] = {left(g, 2 * t), left(g + 8, 2 * t), left(g, 2 * t + 8), left(g + 8, 2 * t + 8)};
  float mine[4];
  for (int i = 0; i < 4; ++i) mine[i] = sum[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  iqazoo::cuda::multiply_add<T>(mine, parts, right(2 * t), right(2 * t + 8));
  for (int i = 0; i < 4; ++i) sum[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = mine[i];
}

__global__ void a_product_without_a_lane(float* out) {
  float sum[4] = {};
  const uint32_t zeros[4] = {};
  if (threadIdx.x == 7) return;
  iqazoo::cuda::multiply_add<iqazoo::float16>(sum, zeros, 0, 0);
  out[0] = sum[0];
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

void check_dynamic_memory() {
  std::vector<float> out(64);
  IQAZOO_LAUNCH_SHARED(dynamic_neighbours, 2, 64, 64 * sizeof(float), nullptr, out.data(), 64);
  for (int i = 0; i < 64; ++i) expect(out[i] == (i + 1) % 64, "dynamic_neighbours");
  expect_error("no error", "dynamic_neighbours");
  IQAZOO_LAUNCH_SHARED(past_dynamic_memory, 1, 33, 32, nullptr);
  expect_error("past the end of a shared array", "past_dynamic_memory");
  IQAZOO_LAUNCH_SHARED(past_dynamic_memory, 1, 32, 1 << 20, nullptr);
  expect_error("invalid configuration", "more shared memory than there is");
}

void check_fragments() {
  std::vector<uint32_t> out(32 * 4);
  const auto two = [](int low, int high) { return static_cast<uint32_t>(low | high << 16); };
  IQAZOO_LAUNCH((fragments<false>), 1, 32, nullptr, out.data());
  for (int i = 0; i < 32 * 4; ++i) {
    const int start = i % 4 * 64 + i / 16 * 8 + i / 4 % 4 * 2;
    expect(out[i] == two(start, start + 1), "fragments");
  }
  IQAZOO_LAUNCH((fragments<true>), 1, 32, nullptr, out.data());
  for (int i = 0; i < 32 * 4; ++i) {
    const int start = i % 4 * 64 + i / 4 % 4 * 16 + i / 16;
    expect(out[i] == two(start, start + 8), "transposed fragments");
  }
}

template <typename T>
void check_product() {
  std::vector<T> a(16 * 16), b(16 * 8);
  std::vector<float> sum(16 * 8, 3.0f);
  for (int i = 0; i < 16 * 16; ++i) a[i] = iqazoo::from_float<T>(static_cast<float>(i * 7 % 11 - 5));
  for (int i = 0; i < 16 * 8; ++i) b[i] = iqazoo::from_float<T>(static_cast<float>(i * 5 % 13 - 6));
  IQAZOO_LAUNCH(product<T>, 1, 32, nullptr, a.data(), b.data(), sum.data());
  for (int i = 0; i < 16 * 8; ++i) {
    float want = 3.0f;
    for (int k = 0; k < 16; ++k) want += to_float(a[i / 8 * 16 + k]) * to_float(b[k * 8 + i % 8]);
    expect(sum[i] == want, "product");
  }
}

void check_matrices() {
  check_fragments();
  check_product<iqazoo::bfloat16>();
  check_product<iqazoo::float16>();
  expect_error("no error", "matrices");
  float out = 0;
  IQAZOO_LAUNCH(a_product_without_a_lane, 1, 32, nullptr, &out);
  expect_error("without all lanes", "a_product_without_a_lane");
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
    check_dynamic_memory();
    check_matrices();
    check_errors();
  }
  return failures != 0;
}
