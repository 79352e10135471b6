// The gradient of the queries, and that of the context in parts: reads queries and the output's gradient once.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/linear_attention_maps.h"
#include "cuda/linear_attention_split.h"

namespace iqazoo::cuda::attention {

// A part's sums: the gradient of the context [features][width], and that of elu1's sums over keys [features].
IQAZOO_HD inline int64_t gradient_size(int64_t features, int64_t width) { return features * (width + 1); }

template <typename T, int W>
constexpr int kQueriesShared = W * W * sizeof(T) + 2 * kTileBytes<W> +
                               (2 * kExchange<T, W> + W + 2 * kPositions<T>) * sizeof(float);

// The sums over features of x * slope, by position: a warp's 16 rows in shared memory, all rows in `dots`.
template <typename T, int W>
__device__ __forceinline__ void dot_over_features(unsigned char* tile, const float (&slope)[kPositionGroups<T, W>][4],
                                                  const Share<W>& share, int position, float* room) {
  const int lane = thread() % kLanes, row = share.row + lane / 4;
#pragma unroll
  for (int j = 0; j < kPositionGroups<T, W>; ++j) {
    const int n = position + 8 * j + lane % 4 * 2;
    const float2 upper = load_two<T>(&cell<T>(tile, row, n)), lower = load_two<T>(&cell<T>(tile, row + 8, n));
    float first = upper.x * slope[j][0] + lower.x * slope[j][2];
    float second = upper.y * slope[j][1] + lower.y * slope[j][3];
#pragma unroll
    for (int other = 4; other < kLanes; other *= 2) {
      first += __shfl_xor_sync(~0u, first, other);
      second += __shfl_xor_sync(~0u, second, other);
    }
    if (lane >= 4) continue;
    room[share.row / 16 * kPositions<T> + n] = first;
    room[share.row / 16 * kPositions<T> + n + 1] = second;
  }
}

// Multiplies a tile's rows by one factor for each position.
template <typename T, int W>
__device__ __forceinline__ void scale_positions(unsigned char* tile, const float* factor) {
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    float x[kFew<T>];
    load_few<T>(tile, first_row<W>() + r, x);
#pragma unroll
    for (int i = 0; i < kFew<T>; ++i) x[i] *= factor[first_position<T>() + i];
    store_few<T>(tile, first_row<W>() + r, x);
  }
}

// Adds the warps' sums, in their order, for each position; elu1's become the gradient of its divisor.
template <typename T, int W, Map map>
__device__ __forceinline__ void join_dots(const float* room, const float* inverse, float* dots) {
  const int n = thread();
  if (n >= kPositions<T>) return;
  float dot = 0.0f;
  for (int warp = 0; warp < W / 16; ++warp) dot += room[warp * kPositions<T> + n];
  if (map == Map::elu1) dot *= -inverse[n] * inverse[n];
  dots[n] = dot;
}

// The slopes of mapped queries become those of queries; `to_z` takes up a lane's share of the gradient of z, of its
// upper and its lower row.
template <typename T, int W, Map map>
__device__ __forceinline__ void to_queries(float (&slope)[kPositionGroups<T, W>][4], unsigned char* tile, int row,
                                           int position, float scale, const float* z, const float* dots,
                                           const float* inverse, float (&to_z)[2]) {
  each_two(slope, row, position, [&](int d, int n, float& first, float& second) {
    const float2 x = load_two<T>(&cell<T>(tile, d, n));
    if constexpr (map == Map::softmax) {
      first = scale * x.x * (first - dots[n]);
      second = scale * x.y * (second - dots[n + 1]);
    } else if constexpr (map == Map::scale) {
      first *= scale;
      second *= scale;
    } else {  // the slope of elu1 is 1 where its value is above 1, else the value
      const float add = x.x * dots[n] + x.y * dots[n + 1];
      to_z[0] += d < row + 8 ? add : 0.0f;  // no array has an index that is not known when compiling
      to_z[1] += d < row + 8 ? 0.0f : add;
      first = (x.x > 1.0f ? 1.0f : x.x) * (first * inverse[n] + z[d] * dots[n]);
      second = (x.y > 1.0f ? 1.0f : x.y) * (second * inverse[n + 1] + z[d] * dots[n + 1]);
    }
  });
}

// Adds the lanes' and the warps' shares of the gradient of z, in a fixed order.
template <int W>
__device__ __forceinline__ void store_z(float (&to_z)[2], const Share<W>& share, float* room, float* out,
                                        int features) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    to_z[i] += __shfl_xor_sync(~0u, to_z[i], 1);
    to_z[i] += __shfl_xor_sync(~0u, to_z[i], 2);
    if (thread() % 4 == 0) room[share.part * W + share.row + thread() % kLanes / 4 + 8 * i] = to_z[i];
  }
  __syncthreads();
  for (int d = threadIdx.x; d < features; d += kThreads<W>) {
    float sum = room[d];
    for (int other = 1; other < Share<W>::kParts; ++other) sum += room[other * W + d];
    out[d] = sum;
  }
}

// Three blocks of width 64 would leave too few registers for the sums.
template <typename T, int W>
constexpr int kResidentQueries = W == 64 ? 2 : kResident<T, W>;

// One block per part of a head. `factor` multiplies context and normalizer as they are loaded.
template <typename T, int W, Map map>
__global__ void __launch_bounds__(kThreads<W>, (kResidentQueries<T, W>))
    differentiate_queries(Sequence<const T> q, Sequence<const T> grad, Sequence<T> to, const float* context,
                          const float* normalizer, float factor, float scale, float* partial, Split split) {
  IQAZOO_DYNAMIC_SHARED(shared);
  unsigned char *tile = shared, *incoming = tile + kTileBytes<W>, *matrix = incoming + kTileBytes<W>;
  auto* room = shared_after<float>(matrix, W * W * sizeof(T));
  float *z = room + 2 * kExchange<T, W>, *inverse = z + W, *dots = inverse + kPositions<T>;
  const Part part(split);
  const Share<W> share;
  const int position = share.part * kPositionGroups<T, W> * 8, column = share.part * kColumnGroups<W> * 8;
  const int64_t features = q.features, width = grad.features;
  load_matrix<T, W>(matrix, context + part.head * features * width, q.features, grad.features, factor);
  for (int d = threadIdx.x; map == Map::elu1 && d < W; d += kThreads<W>) {
    z[d] = d < features ? factor * normalizer[part.head * features + d] : 0.0f;
  }
  float sums[kColumnGroups<W>][4] = {}, to_z[2] = {};
  int4 next[kPieces<W>], next_incoming[kPieces<W>];
  const auto place_at = [&](const auto& sequence, int64_t t) {
    return Place(sequence, part.b, part.h, t * kPositions<T>, kPositions<T>);
  };
  const auto fetch_tile = [&](int64_t t) {
    fetch<T, W>(next, place_at(q, t));
    fetch<T, W>(next_incoming, place_at(grad, t));
  };
  if (part.first < part.last) fetch_tile(part.first);
  for (int64_t t = part.first; t < part.last; ++t) {
    __syncthreads();
    deposit<T, W>(next, tile, q.along_features);
    deposit<T, W>(next_incoming, incoming, grad.along_features);
    if (t + 1 < part.last) fetch_tile(t + 1);
    __syncthreads();
    const auto epsilon = factor * static_cast<float>(linear_attention::kEpsilon);
    map_queries<T, W, map>(tile, q.features, z, epsilon, room, inverse);
    __syncthreads();
    float slope[kPositionGroups<T, W>][4];
    multiply<T, W, false>(slope, matrix, share.row, incoming, position);
    if constexpr (map != Map::scale) dot_over_features<T, W>(tile, slope, share, position, room);
    __syncthreads();
    if constexpr (map != Map::scale) join_dots<T, W, map>(room, inverse, dots);
    __syncthreads();
    to_queries<T, W, map>(slope, tile, share.row, position, scale, z, dots, inverse, to_z);
    if constexpr (map == Map::elu1) {  // the divided queries are below 1 / z, which half types hold
      __syncthreads();
      scale_positions<T, W>(tile, inverse);
      __syncthreads();
    }
    add_over_positions<T>(sums, tile, share.row, incoming, column);
    __syncthreads();  // the tile is read; from here on it holds the gradient
    each_two(slope, share.row, position, [&](int d, int n, float first, float second) {
      store_two<T>(&cell<T>(tile, d, n), first, second);
    });
    __syncthreads();
    store<T, W>(tile, place_at(to, t));
  }
  float* out = partial + blockIdx.x * gradient_size(features, width);
  each_two(sums, share.row, column, [&](int d, int e, float first, float second) {
    if (d < features && e < width) out[d * width + e] = first;
    if (d < features && e + 1 < width) out[d * width + e + 1] = second;
  });
  if constexpr (map != Map::elu1) return;
  store_z<W>(to_z, share, room, out + features * width, q.features);
}

}  // namespace iqazoo::cuda::attention
