// The maps of queries and keys of float32, applied to a tile in place. A warp takes W / warps rows, a lane the position
// of its number, as a tile has 32 of them.
#pragma once

#include <cmath>

#include "cuda/linear_attention_tile.h"

namespace iqazoo::cuda::attention {

using linear_attention::elu1;
using linear_attention::Map;

static_assert(kPositions<float> == kLanes);

template <int W>
constexpr int kRows = W / kWarps<W>;

// The first row of the thread's warp.
template <int W>
__device__ __forceinline__ int first_row() {
  return thread() / kLanes * kRows<W>;
}

// The lane's value of a row.
__device__ __forceinline__ float& lane_cell(unsigned char* tile, int row) {
  return cell<float>(tile, row, thread() % kLanes);
}

// Floats of room for what warps tell each other about positions.
template <int W>
constexpr int kExchange = kWarps<W> * kPositions<float>;

// All warps' values for the lane's position, put together in their order by `join`.
template <int W, typename Join>
__device__ __forceinline__ float exchange(float* room, float value, Join join) {
  const int lane = thread() % kLanes;
  room[thread() / kLanes * kLanes + lane] = value;
  __syncthreads();
  value = room[lane];
  for (int other = 1; other < kWarps<W>; ++other) value = join(value, room[other * kLanes + lane]);
  return value;
}

// Softmax over features. `room` is [2 * kExchange].
template <int W>
__device__ __forceinline__ void softmax_over_features(unsigned char* tile, int features, float* room) {
  const int row = first_row<W>();
  float x[kRows<W>], top = -INFINITY, sum = 0.0f;
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    x[r] = lane_cell(tile, row + r);
    if (row + r >= features) x[r] = -INFINITY;
    top = fmaxf(top, x[r]);
  }
  top = exchange<W>(room, top, [](float a, float b) { return fmaxf(a, b); });
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    x[r] = expf(x[r] - top);
    sum += x[r];
  }
  sum = 1.0f / exchange<W>(room + kExchange<W>, sum, [](float a, float b) { return a + b; });
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) lane_cell(tile, row + r) = x[r] * sum;
}

// phi of a tile of queries; inverse[n] becomes 1 / (phi(q) . z + epsilon). `room` is [kExchange].
template <int W>
__device__ __forceinline__ void elu1_of_queries(unsigned char* tile, int features, const float* z, float epsilon,
                                                float* room, float* inverse) {
  const int row = first_row<W>();
  float sum = 0.0f;
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    float& x = lane_cell(tile, row + r);
    x = row + r < features ? elu1(x) : 0.0f;
    sum += x * z[row + r];
  }
  sum = exchange<W>(room, sum, [](float a, float b) { return a + b; });
  if (thread() < kLanes) inverse[thread()] = 1.0f / (sum + epsilon);
}

// The map of a tile of queries.
template <int W, Map map>
__device__ __forceinline__ void map_queries(unsigned char* tile, int features, const float* z, float epsilon,
                                            float* room, float* inverse) {
  if constexpr (map == Map::softmax) softmax_over_features<W>(tile, features, room);
  if constexpr (map == Map::elu1) elu1_of_queries<W>(tile, features, z, epsilon, room, inverse);
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

// exp(k - the largest so far of its row), 0 for positions that take no part; decay[row] becomes what earlier sums of
// the row are to be multiplied by.
template <int W>
__device__ __forceinline__ void exp_of_keys(unsigned char* tile, bool taken, RowSums<W>& sums, float* decay) {
  const int row = first_row<W>(), lane = thread() % kLanes;
  bool rises = false;
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) rises |= taken && lane_cell(tile, row + r) > sums.top[r];
  rises = __any_sync(~0u, rises);  // rarely, once many positions were seen
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    const float x = taken ? lane_cell(tile, row + r) : -INFINITY;
    float factor = 1.0f;
    if (rises) {
      float top = fmaxf(sums.top[r], x);
      top = warp_max(top);
      factor = top > sums.top[r] ? expf(sums.top[r] - top) : 1.0f;
      sums.top[r] = top;
      sums.total[r] *= factor;
    }
    if (lane == 0) decay[row + r] = factor;
    const float top = sums.top[r] == -INFINITY ? 0.0f : sums.top[r];  // only -inf so far: exp gives 0, not NaN
    const float weight = expf(x - top);
    sums.total[r] += weight;
    lane_cell(tile, row + r) = weight;
  }
}

// phi of a tile of keys, 0 for positions that take no part.
template <int W>
__device__ __forceinline__ void elu1_of_keys(unsigned char* tile, bool taken, RowSums<W>& sums) {
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    float& x = lane_cell(tile, first_row<W>() + r);
    x = taken ? elu1(x) : 0.0f;
    sums.total[r] += x;
  }
}

// Makes 0 of what takes no part in the rows of a thread's warp.
template <int W>
__device__ __forceinline__ void hide(unsigned char* tile, bool taken) {
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    if (!taken) lane_cell(tile, first_row<W>() + r) = 0.0f;
  }
}

}  // namespace iqazoo::cuda::attention
