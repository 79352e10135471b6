// The maps of queries and keys, applied to a tile in place. A warp takes W / warps rows, a lane few positions of each.
#pragma once

#include <cmath>

#include "cuda/linear_attention_tile.h"

namespace iqazoo::cuda::attention {

using linear_attention::elu1;
using linear_attention::Map;

template <int W>
constexpr int kRows = W / kWarps<W>;

// The first row of the thread's warp, and the first of its lane's positions.
template <int W>
__device__ __forceinline__ int first_row() {
  return thread() / kLanes * kRows<W>;
}

template <typename T>
__device__ __forceinline__ int first_position() {
  return thread() % kLanes * kFew<T>;
}

// Room for what warps tell each other about positions: [warps][positions of a tile].
template <typename T, int W>
constexpr int kExchange = kWarps<W> * kPositions<T>;

// Each lane's values for its positions from all warps, put together in their order by `join`.
template <typename T, int W, typename Join>
__device__ __forceinline__ void exchange(float* room, float (&values)[kFew<T>], Join join) {
  const int warp = thread() / kLanes, n = first_position<T>();
#pragma unroll
  for (int i = 0; i < kFew<T>; ++i) room[warp * kPositions<T> + n + i] = values[i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kFew<T>; ++i) {
    values[i] = room[n + i];
    for (int other = 1; other < kWarps<W>; ++other) values[i] = join(values[i], room[other * kPositions<T> + n + i]);
  }
}

// Softmax over features. `room` is [2 * kExchange].
template <typename T, int W>
__device__ __forceinline__ void softmax_over_features(unsigned char* tile, int features, float* room) {
  const int row = first_row<W>();
  float x[kRows<W>][kFew<T>], top[kFew<T>], sum[kFew<T>];
#pragma unroll
  for (int i = 0; i < kFew<T>; ++i) top[i] = -INFINITY, sum[i] = 0.0f;
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    load_few<T>(tile, row + r, x[r]);
#pragma unroll
    for (int i = 0; i < kFew<T>; ++i) {
      if (row + r >= features) x[r][i] = -INFINITY;
      top[i] = fmaxf(top[i], x[r][i]);
    }
  }
  exchange<T, W>(room, top, [](float a, float b) { return fmaxf(a, b); });
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
#pragma unroll
    for (int i = 0; i < kFew<T>; ++i) {
      x[r][i] = expf(x[r][i] - top[i]);
      sum[i] += x[r][i];
    }
  }
  exchange<T, W>(room + kExchange<T, W>, sum, [](float a, float b) { return a + b; });
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
#pragma unroll
    for (int i = 0; i < kFew<T>; ++i) x[r][i] /= sum[i];
    store_few<T>(tile, row + r, x[r]);
  }
}

// phi of a tile of queries; inverse[n] becomes 1 / (phi(q) . z + epsilon). `room` is [kExchange].
template <typename T, int W>
__device__ __forceinline__ void elu1_of_queries(unsigned char* tile, int features, const float* z, float epsilon,
                                                float* room, float* inverse) {
  const int row = first_row<W>();
  float sum[kFew<T>] = {};
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    float x[kFew<T>];
    load_few<T>(tile, row + r, x);
#pragma unroll
    for (int i = 0; i < kFew<T>; ++i) {
      x[i] = row + r < features ? elu1(x[i]) : 0.0f;
      sum[i] += x[i] * z[row + r];
    }
    store_few<T>(tile, row + r, x);
  }
  exchange<T, W>(room, sum, [](float a, float b) { return a + b; });
  if (thread() >= kLanes) return;
#pragma unroll
  for (int i = 0; i < kFew<T>; ++i) inverse[first_position<T>() + i] = 1.0f / (sum[i] + epsilon);
}

// The map of a tile of queries.
template <typename T, int W, Map map>
__device__ __forceinline__ void map_queries(unsigned char* tile, int features, const float* z, float epsilon,
                                            float* room, float* inverse) {
  if constexpr (map == Map::softmax) softmax_over_features<T, W>(tile, features, room);
  if constexpr (map == Map::elu1) elu1_of_queries<T, W>(tile, features, z, epsilon, room, inverse);
}

// The running sums over a row's positions, of the rows of a thread's warp. `total` is of the lane's own positions.
template <int W>
struct RowSums {
  float top[kRows<W>], total[kRows<W>];

  __device__ __forceinline__ RowSums() {
#pragma unroll
    for (int r = 0; r < kRows<W>; ++r) top[r] = -INFINITY, total[r] = 0.0f;
  }
};

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int other = 16; other > 0; other /= 2) value = fmaxf(value, __shfl_xor_sync(~0u, value, other));
  return value;
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int other = 16; other > 0; other /= 2) value += __shfl_xor_sync(~0u, value, other);
  return value;
}

// x, or -inf for positions that take no part.
template <typename T>
__device__ __forceinline__ void load_taken(const unsigned char* tile, int row, const bool (&taken)[kFew<T>],
                                           float (&x)[kFew<T>]) {
  load_few<T>(tile, row, x);
#pragma unroll
  for (int i = 0; i < kFew<T>; ++i) x[i] = taken[i] ? x[i] : -INFINITY;
}

// exp(k - the largest so far of its row); decay[row] becomes what earlier sums of the row are to be multiplied by.
template <typename T, int W>
__device__ __forceinline__ void exp_of_keys(unsigned char* tile, const bool (&taken)[kFew<T>], RowSums<W>& sums,
                                            float* decay) {
  const int row = first_row<W>(), lane = thread() % kLanes;
  float x[kFew<T>];
  bool rises = false;
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    load_taken<T>(tile, row + r, taken, x);
#pragma unroll
    for (int i = 0; i < kFew<T>; ++i) rises |= x[i] > sums.top[r];
  }
  rises = __any_sync(~0u, rises);  // rarely, once many positions were seen
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    load_taken<T>(tile, row + r, taken, x);
    float factor = 1.0f;
    if (rises) {
      float top = sums.top[r];
#pragma unroll
      for (int i = 0; i < kFew<T>; ++i) top = fmaxf(top, x[i]);
      top = warp_max(top);
      factor = top > sums.top[r] ? expf(sums.top[r] - top) : 1.0f;
      sums.top[r] = top;
      sums.total[r] *= factor;
    }
    if (lane == 0) decay[row + r] = factor;
    const float top = sums.top[r] == -INFINITY ? 0.0f : sums.top[r];  // only -inf so far: exp gives 0, not NaN
#pragma unroll
    for (int i = 0; i < kFew<T>; ++i) {
      x[i] = expf(x[i] - top);
      sums.total[r] += x[i];
    }
    store_few<T>(tile, row + r, x);
  }
}

// phi of a tile of keys, 0 for positions that take no part.
template <typename T, int W>
__device__ __forceinline__ void elu1_of_keys(unsigned char* tile, const bool (&taken)[kFew<T>], RowSums<W>& sums) {
  const int row = first_row<W>();
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    float x[kFew<T>];
    load_few<T>(tile, row + r, x);
#pragma unroll
    for (int i = 0; i < kFew<T>; ++i) {
      x[i] = taken[i] ? elu1(x[i]) : 0.0f;
      sums.total[r] += x[i];
    }
    store_few<T>(tile, row + r, x);
  }
}

// Makes 0 of what takes no part in the rows of a thread's warp.
template <typename T, int W>
__device__ __forceinline__ void hide(unsigned char* tile, const bool (&taken)[kFew<T>]) {
  const int row = first_row<W>();
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    float x[kFew<T>];
    load_few<T>(tile, row + r, x);
#pragma unroll
    for (int i = 0; i < kFew<T>; ++i) x[i] = taken[i] ? x[i] : 0.0f;
    store_few<T>(tile, row + r, x);
  }
}

}  // namespace iqazoo::cuda::attention
