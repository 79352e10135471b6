// What a warp does alone with half types: a strip of all features of few positions, held in registers as the matrix
// units hold it. Lane l has g = l / 4 and t = l % 4; a strip is blocks of 8 x 8 values, a register each, that hold
// (row g; positions 2 t, 2 t + 1), or (rows 2 t, 2 t + 1; position g) if turned: then they are right factors.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/linear_attention_tile.h"
#include "cuda/mma.h"
#include "cuda/packed.h"

namespace iqazoo::cuda::attention {

constexpr float kLog2E = 1.442695041f;

// 2^x as the GPU's own instruction has it, within 2^-22 of it: far below what half types tell apart.
__device__ __forceinline__ float power_of_two(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2f(x);
#endif
}

__device__ __forceinline__ float elu1_of(float x) { return x > 0.0f ? x + 1.0f : power_of_two(x * kLog2E); }

// A quotient as the GPU's own instructions have it.
__device__ __forceinline__ float quotient(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fdividef(a, b);
#else
  return a / b;
#endif
}

template <int W>
constexpr int kBlocks8 = W / 8;  // blocks of a strip down its features
template <int W>
constexpr int kGroups8 = 8 / kWarps<W>;  // and along its positions

template <int W>
using Strip = uint32_t[kBlocks8<W>][kGroups8<W>];

// place_of_cell of (row + r, column + c), given that of (r, c): two operations where row and column are known when
// compiling. Each is a multiple of 8 and of what r or c spans, so that no bit is in both.
template <typename T, int kBytes>
__device__ __forceinline__ int moved(int place, int row, int column) {
  return (place ^ place_of_cell<T, kBytes>(row, column) % kBytes) + row * kBytes;
}

// Where a lane's bytes lie in swizzled arrays, made once.
template <typename T, int W>
struct Lane {
  static constexpr int kRow = W * sizeof(T);  // bytes of a matrix's row
  int g, t, position;  // `position` is the first of the warp's strip
  int block, pair;     // in a tile: rows that matrix instructions load as blocks; a block's register
  int upright, turned;  // in a matrix: rows of a left factor, and of one that is transposed

  __device__ __forceinline__ Lane() {
    const int lane = threadIdx.x % kLanes, m = lane / 8, line = lane % 8;
    g = lane / 4;
    t = lane % 4;
    position = static_cast<int>(threadIdx.x) / kLanes * kGroups8<W> * 8;
    block = place_of_cell<T, kTileRow>(m / kGroups8<W> * 8 + line, position + m % kGroups8<W> * 8);
    pair = place_of_cell<T, kTileRow>(g, position + 2 * t);
    upright = place_of_cell<T, kRow>(m % 2 * 8 + line, m / 2 * 8);
    turned = place_of_cell<T, kRow>(m / 2 * 8 + line, m % 2 * 8);
  }
};

// The warp's strip of a tile.
template <typename T, int W, bool turned>
__device__ __forceinline__ void load_strip(Strip<W>& strip, const unsigned char* tile, const Lane<T, W>& lane) {
  constexpr int kGroups = kGroups8<W>;
#pragma unroll
  for (int i = 0; i < kBlocks8<W>; i += 4 / kGroups) {
    uint32_t four[4];
    load_matrices<turned>(four, tile + moved<T, kTileRow>(lane.block, 8 * i, 0));
#pragma unroll
    for (int k = 0; k < 4; ++k) strip[i + k / kGroups][k % kGroups] = four[k];
  }
}

// Where a lane's register of block (i, j) lies in a tile, unless the strip is turned.
template <typename T, int W>
__device__ __forceinline__ uint32_t& strip_cell(unsigned char* tile, int i, int j, const Lane<T, W>& lane) {
  return *reinterpret_cast<uint32_t*>(tile + moved<T, kTileRow>(lane.pair, 8 * i, 8 * j));
}

template <typename T, int W>
__device__ __forceinline__ void store_strip(unsigned char* tile, const Strip<W>& strip, const Lane<T, W>& lane) {
#pragma unroll
  for (int i = 0; i < kBlocks8<W>; ++i) {
#pragma unroll
    for (int j = 0; j < kGroups8<W>; ++j) strip_cell<T, W>(tile, i, j, lane) = strip[i][j];
  }
}

// Rows 16 m to 16 m + 15 of the product of a matrix, or of what it is when transposed, and a turned strip: at
// (g; 2 t, 2 t + 1) and (g + 8; 2 t, 2 t + 1) of the positions of each group.
template <typename T, int W, bool transposed>
__device__ __forceinline__ void multiply_strip(float (&sum)[kGroups8<W>][4], const unsigned char* matrix, int m,
                                               const Strip<W>& strip, const Lane<T, W>& lane) {
  constexpr int kRow = Lane<T, W>::kRow;
#pragma unroll
  for (int j = 0; j < kGroups8<W>; ++j) sum[j][0] = sum[j][1] = sum[j][2] = sum[j][3] = 0.0f;
#pragma unroll
  for (int k = 0; k < W; k += 16) {
    uint32_t left[4];
    const int at = transposed ? moved<T, kRow>(lane.turned, k, 16 * m)
                              : moved<T, kRow>(lane.upright, 16 * m, k);
    load_matrices<transposed>(left, matrix + at);
#pragma unroll
    for (int j = 0; j < kGroups8<W>; ++j) multiply_add<T>(sum[j], left, strip[k / 8][j], strip[k / 8 + 1][j]);
  }
}

// Sums over the lanes of one t, in a fixed order.
__device__ __forceinline__ float sum_over_g(float value) {
#pragma unroll
  for (int other = 4; other < kLanes; other *= 2) value += __shfl_xor_sync(~0u, value, other);
  return value;
}

__device__ __forceinline__ float max_over_g(float value) {
#pragma unroll
  for (int other = 4; other < kLanes; other *= 2) value = fmaxf(value, __shfl_xor_sync(~0u, value, other));
  return value;
}

// Over the lanes of one g.
__device__ __forceinline__ float sum_over_t(float value) {
  value += __shfl_xor_sync(~0u, value, 1);
  return value + __shfl_xor_sync(~0u, value, 2);
}

__device__ __forceinline__ float max_over_t(float value) {
  value = fmaxf(value, __shfl_xor_sync(~0u, value, 1));
  return fmaxf(value, __shfl_xor_sync(~0u, value, 2));
}

}  // namespace iqazoo::cuda::attention
