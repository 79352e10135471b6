// A warp's share of products of tiles: 16 rows, and columns in groups of 8: lane l holds, of group j, (g, 2 t),
// (g, 2 t + 1), (g + 8, 2 t) and (g + 8, 2 t + 1), g = l / 4, t = l % 4. There the matrix units put them for half types;
// float32 takes plain fused multiply-adds.
#pragma once

#include "cuda/linear_attention_tile.h"
#include "cuda/mma.h"

namespace iqazoo::cuda::attention {

// Which rows and which part of the columns a warp has, of W rows.
template <int W>
struct Share {
  static constexpr int kParts = kWarps<W> / (W / 16);  // of the columns
  int row, part;

  __device__ __forceinline__ Share() {
    const int warp = thread() / kLanes;
    row = warp % (W / 16) * 16;
    part = warp / (W / 16);
  }
};

template <int W>
constexpr int kColumnGroups = W / 8 / Share<W>::kParts;
template <int W>
constexpr int kPositionGroups = kPositions<float> / 8 / Share<W>::kParts;

__device__ __forceinline__ float dot(float4 a, float4 b, float sum) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

// sum[j] += over the positions of a tile, a[row ..][n] b[column + 8 j ..][n].
template <typename T, int kGroups>
__device__ __forceinline__ void add_over_positions(float (&sum)[kGroups][4], const unsigned char* a, int row,
                                                   const unsigned char* b, int column) {
  const int lane = thread() % kLanes;
  if constexpr (std::is_same_v<T, float>) {
    const int g = lane / 4, t = lane % 4;
#pragma unroll 2
    for (int n = 0; n < kPositions<T>; n += 4) {
      const float4 upper = *static_cast<const float4*>(piece_at<T, kTileRow>(a, row + g, n));
      const float4 lower = *static_cast<const float4*>(piece_at<T, kTileRow>(a, row + g + 8, n));
#pragma unroll
      for (int j = 0; j < kGroups; ++j) {
        const int left = column + 8 * j + 2 * t;
        const float4 first = *static_cast<const float4*>(piece_at<T, kTileRow>(b, left, n));
        const float4 second = *static_cast<const float4*>(piece_at<T, kTileRow>(b, left + 1, n));
        sum[j][0] = dot(upper, first, sum[j][0]);
        sum[j][1] = dot(upper, second, sum[j][1]);
        sum[j][2] = dot(lower, first, sum[j][2]);
        sum[j][3] = dot(lower, second, sum[j][3]);
      }
    }
  } else {
    const int matrix = lane / 8, line = lane % 8;
#pragma unroll(kGroups > 8 ? 1 : kGroups > 4 ? 2 : 4)  // so many sums leave no registers for what is loaded early
    for (int n = 0; n < kPositions<T>; n += 16) {
      uint32_t left[4];
      load_matrices<false>(left, piece_at<T, kTileRow>(a, row + matrix % 2 * 8 + line, n + matrix / 2 * 8));
#pragma unroll
      for (int j = 0; j < kGroups; j += 2) {
        uint32_t right[4];
        const int below = column + 8 * j + matrix / 2 * 8 + line;
        load_matrices<false>(right, piece_at<T, kTileRow>(b, below, n + matrix % 2 * 8));
        multiply_add<T>(sum[j], left, right[0], right[1]);
        multiply_add<T>(sum[j + 1], left, right[2], right[3]);
      }
    }
  }
}

// Of float32: sum[j] = over k, matrix[row ..][k] x[k][position + 8 j ..], or of matrix[k][row ..] where it is
// transposed.
template <int W, bool transposed, int kGroups>
__device__ __forceinline__ void multiply(float (&sum)[kGroups][4], const unsigned char* matrix, int row,
                                         const unsigned char* x, int position) {
  constexpr int kRow = W * sizeof(float);
  const int lane = thread() % kLanes;
#pragma unroll
  for (int j = 0; j < kGroups; ++j) sum[j][0] = sum[j][1] = sum[j][2] = sum[j][3] = 0.0f;
  const int g = lane / 4, t = lane % 4;
#pragma unroll 4
  for (int k = 0; k < W; ++k) {
    const int upper_row = transposed ? k : row + g, upper_column = transposed ? row + g : k;
    const int lower_row = transposed ? k : row + g + 8, lower_column = transposed ? row + g + 8 : k;
    const float upper = *static_cast<const float*>(piece_at<float, kRow>(matrix, upper_row, upper_column));
    const float lower = *static_cast<const float*>(piece_at<float, kRow>(matrix, lower_row, lower_column));
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      const float2 two = load_two(piece_at<float, kTileRow>(x, k, position + 8 * j + 2 * t));
      sum[j][0] = fmaf(upper, two.x, sum[j][0]);
      sum[j][1] = fmaf(upper, two.y, sum[j][1]);
      sum[j][2] = fmaf(lower, two.x, sum[j][2]);
      sum[j][3] = fmaf(lower, two.y, sum[j][3]);
    }
  }
}

// Calls `visit(row, column, first, second)` for a lane's values side by side: sum[j][2 i], sum[j][2 i + 1].
template <int kGroups, typename Visit>
__device__ __forceinline__ void each_two(float (&sum)[kGroups][4], int row, int column, Visit visit) {
  const int lane = thread() % kLanes;
#pragma unroll
  for (int j = 0; j < kGroups; ++j) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      visit(row + lane / 4 + 8 * i, column + 8 * j + lane % 4 * 2, sum[j][2 * i], sum[j][2 * i + 1]);
    }
  }
}

}  // namespace iqazoo::cuda::attention
