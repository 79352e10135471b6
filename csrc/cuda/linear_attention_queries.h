// The gradient of the queries, and that of the context in parts: reads queries and the output's gradient once.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/linear_attention_maps.h"
#include "cuda/linear_attention_products.h"
#include "cuda/linear_attention_split.h"
#include "cuda/linear_attention_strip.h"

namespace iqazoo::cuda::attention {

// A part's sums: the gradient of the context [features][width], and that of elu1's sums over keys [features].
IQAZOO_HD inline int64_t gradient_size(int64_t features, int64_t width) { return features * (width + 1); }

// Tiles of queries and of the output's gradient, in turns: one is written while another is read. More than 99 KiB of
// shared memory a block is what smaller GPUs do not have.
template <typename T, int W>
constexpr int kTurns = kHalf<T> && W < 128 ? 2 : 1;
template <typename T, int W>
constexpr int kQueryTiles = 2 * kTurns<T, W> + kHalf<T>;  // one more is for the gradient
template <typename T, int W>
constexpr int kQueriesShared = W * W * sizeof(T) + kQueryTiles<T, W> * kTileBytes<W> +
                               (W + (kHalf<T> ? 0 : 2 * kExchange<W> + 2 * kPositions<T>)) * sizeof(float);

// The sums over features of x * slope, by position: a warp's 16 rows in shared memory, all rows in `dots`.
template <int W>
__device__ __forceinline__ void dot_over_features(unsigned char* tile, const float (&slope)[kPositionGroups<W>][4],
                                                  const Share<W>& share, int position, float* room) {
  const int lane = thread() % kLanes, row = share.row + lane / 4;
#pragma unroll
  for (int j = 0; j < kPositionGroups<W>; ++j) {
    const int n = position + 8 * j + lane % 4 * 2;
    const float2 upper = load_two(&cell<float>(tile, row, n)), lower = load_two(&cell<float>(tile, row + 8, n));
    float first = upper.x * slope[j][0] + lower.x * slope[j][2];
    float second = upper.y * slope[j][1] + lower.y * slope[j][3];
#pragma unroll
    for (int other = 4; other < kLanes; other *= 2) {
      first += __shfl_xor_sync(~0u, first, other);
      second += __shfl_xor_sync(~0u, second, other);
    }
    if (lane >= 4) continue;
    room[share.row / 16 * kPositions<float> + n] = first;
    room[share.row / 16 * kPositions<float> + n + 1] = second;
  }
}

// Multiplies a tile's rows by one factor for each position.
template <int W>
__device__ __forceinline__ void scale_positions(unsigned char* tile, const float* factor) {
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) lane_cell(tile, first_row<W>() + r) *= factor[thread() % kLanes];
}

// Adds the warps' sums, in their order, for each position; elu1's become the gradient of its divisor.
template <int W, Map map>
__device__ __forceinline__ void join_dots(const float* room, const float* inverse, float* dots) {
  const int n = thread();
  if (n >= kPositions<float>) return;
  float dot = 0.0f;
  for (int warp = 0; warp < W / 16; ++warp) dot += room[warp * kPositions<float> + n];
  if (map == Map::elu1) dot *= -inverse[n] * inverse[n];
  dots[n] = dot;
}

// The slopes of mapped queries become those of queries; `to_z` takes up a lane's share of the gradient of z, of its
// upper and its lower row.
template <int W, Map map>
__device__ __forceinline__ void to_queries(float (&slope)[kPositionGroups<W>][4], unsigned char* tile, int row,
                                           int position, float scale, const float* z, const float* dots,
                                           const float* inverse, float (&to_z)[2]) {
  each_two(slope, row, position, [&](int d, int n, float& first, float& second) {
    const float2 x = load_two(&cell<float>(tile, d, n));
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

// What a block of `differentiate_queries` has in shared memory besides tiles: the context as a matrix, elu1's sums over
// keys, and for float32 the inverse of divisors and dot products, by position, and room.
struct QueryContext {
  const unsigned char* matrix;
  float *z, *inverse, *dots, *room, epsilon;
};

// A tile of queries becomes one of their gradient; `sums` take up the gradient of the context, of this thread's share,
// and `to_z` that of z. Of float32.
template <int W, Map map>
__device__ __forceinline__ void differentiate_in_tiles(unsigned char* tile, const unsigned char* incoming, int features,
                                                       float scale, const QueryContext& context,
                                                       float (&sums)[kColumnGroups<W>][4], float (&to_z)[2]) {
  const Share<W> share;
  const int position = share.part * kPositionGroups<W> * 8, column = share.part * kColumnGroups<W> * 8;
  map_queries<W, map>(tile, features, context.z, context.epsilon, context.room, context.inverse);
  __syncthreads();
  float slope[kPositionGroups<W>][4];
  multiply<W, false>(slope, context.matrix, share.row, incoming, position);
  if constexpr (map != Map::scale) dot_over_features<W>(tile, slope, share, position, context.room);
  __syncthreads();
  if constexpr (map != Map::scale) join_dots<W, map>(context.room, context.inverse, context.dots);
  __syncthreads();
  to_queries<W, map>(slope, tile, share.row, position, scale, context.z, context.dots, context.inverse, to_z);
  if constexpr (map == Map::elu1) {  // the divided queries are below 1 / z
    __syncthreads();
    scale_positions<W>(tile, context.inverse);
    __syncthreads();
  }
  add_over_positions<float>(sums, tile, share.row, incoming, column);
  __syncthreads();  // the tile is read; from here on it holds the gradient
  each_two(slope, share.row, position, [&](int d, int n, float first, float second) {
    store_two<float>(&cell<float>(tile, d, n), first, second);
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

// Softmax over features of the warp's strip of queries.
template <typename T, int W>
__device__ __forceinline__ void softmax_of_strip(Strip<W>& queries, int features, int g) {
#pragma unroll
  for (int j = 0; j < kGroups8<W>; ++j) {
    float2 x[kBlocks8<W>], top = make_float2(-INFINITY, -INFINITY), sum = make_float2(0.0f, 0.0f);
#pragma unroll
    for (int i = 0; i < kBlocks8<W>; ++i) {
      x[i] = unpacked<T>(queries[i][j]);
      if (features < W && 8 * i + g >= features) x[i] = make_float2(-INFINITY, -INFINITY);
      top.x = fmaxf(top.x, x[i].x), top.y = fmaxf(top.y, x[i].y);
    }
    top.x = max_over_g(top.x), top.y = max_over_g(top.y);
#pragma unroll
    for (int i = 0; i < kBlocks8<W>; ++i) {
      x[i].x = power_of_two((x[i].x - top.x) * kLog2E);
      x[i].y = power_of_two((x[i].y - top.y) * kLog2E);
      sum.x += x[i].x, sum.y += x[i].y;
    }
    const float left = quotient(1.0f, sum_over_g(sum.x)), right = quotient(1.0f, sum_over_g(sum.y));
#pragma unroll
    for (int i = 0; i < kBlocks8<W>; ++i) queries[i][j] = packed<T>(left * x[i].x, right * x[i].y);
  }
}

// The gradient of the warp's strip of queries, into `slopes`. The tile's strip becomes the mapped queries, divided
// under elu1, whose gradient of z `to_z` takes up: of the lane's features 8 i + g.
template <typename T, int W, Map map>
__device__ __forceinline__ void differentiate_in_strips(unsigned char* tile, const unsigned char* incoming,
                                                        unsigned char* slopes, int features, float scale,
                                                        const QueryContext& context, float (&to_z)[kBlocks8<W>],
                                                        const Lane<T, W>& lane) {
  constexpr int kGroups = kGroups8<W>;
  const int g = lane.g;
  Strip<W> queries, right;
  load_strip<T, W, false>(queries, tile, lane);
  load_strip<T, W, true>(right, incoming, lane);
  if constexpr (map == Map::softmax) softmax_of_strip<T, W>(queries, features, g);
  float slope[W / 16][kGroups][4];  // of mapped queries
#pragma unroll
  for (int m = 0; m < W / 16; ++m) multiply_strip<T, W, false>(slope[m], context.matrix, m, right, lane);
#pragma unroll
  for (int j = 0; j < kGroups; ++j) {
    float2 dot = make_float2(0.0f, 0.0f), divisor = make_float2(0.0f, 0.0f);
#pragma unroll
    for (int i = 0; i < kBlocks8<W> && map != Map::scale; ++i) {
      float2 x = unpacked<T>(queries[i][j]);
      if constexpr (map == Map::elu1) {
        const float z = context.z[8 * i + g];
        x = make_float2(elu1_of(x.x), elu1_of(x.y));
        queries[i][j] = packed<T>(x.x, x.y);
        divisor.x += x.x * z, divisor.y += x.y * z;
      }
      dot.x += x.x * slope[i / 2][j][i % 2 * 2], dot.y += x.y * slope[i / 2][j][i % 2 * 2 + 1];
    }
    if constexpr (map != Map::scale) dot.x = sum_over_g(dot.x), dot.y = sum_over_g(dot.y);
    if constexpr (map == Map::elu1) {
      divisor.x = quotient(1.0f, sum_over_g(divisor.x) + context.epsilon);
      divisor.y = quotient(1.0f, sum_over_g(divisor.y) + context.epsilon);
      dot.x *= -divisor.x * divisor.x, dot.y *= -divisor.y * divisor.y;
    }
#pragma unroll
    for (int i = 0; i < kBlocks8<W>; ++i) {
      const float2 x = unpacked<T>(queries[i][j]);
      float &first = slope[i / 2][j][i % 2 * 2], &second = slope[i / 2][j][i % 2 * 2 + 1];
      if constexpr (map == Map::softmax) {
        first = scale * x.x * (first - dot.x);
        second = scale * x.y * (second - dot.y);
      } else if constexpr (map == Map::scale) {
        first *= scale;
        second *= scale;
      } else {  // the slope of elu1 is 1 where its value is above 1, else the value
        const float z = context.z[8 * i + g];
        to_z[i] += x.x * dot.x + x.y * dot.y;
        first = (x.x > 1.0f ? 1.0f : x.x) * (first * divisor.x + z * dot.x);
        second = (x.y > 1.0f ? 1.0f : x.y) * (second * divisor.y + z * dot.y);
        queries[i][j] = packed<T>(x.x * divisor.x, x.y * divisor.y);  // below 1 / z
      }
      strip_cell<T, W>(slopes, i, j, lane) = packed<T>(first, second);
    }
  }
  if constexpr (map == Map::scale) return;  // the tile is as it must be
  __syncwarp();  // the strip is read
  store_strip<T, W>(tile, queries, lane);
}

// The same as store_z, of what strips took up.
template <int W>
__device__ __forceinline__ void store_z_of_strips(const float (&to_z)[kBlocks8<W>], float* room, float* out,
                                                  int features) {
  const int warp = thread() / kLanes, g = thread() % kLanes / 4;
#pragma unroll
  for (int i = 0; i < kBlocks8<W>; ++i) {
    const float sum = sum_over_t(to_z[i]);
    if (thread() % 4 == 0) room[warp * W + 8 * i + g] = sum;
  }
  __syncthreads();
  for (int d = threadIdx.x; d < features; d += kThreads<W>) {
    float sum = room[d];
    for (int other = 1; other < kWarps<W>; ++other) sum += room[other * W + d];
    out[d] = sum;
  }
}

// One block per part of a head. `factor` multiplies context and normalizer as they are loaded.
template <typename T, int W, Map map>
__global__ void __launch_bounds__(kThreads<W>, (kResidentSums<W>))
    differentiate_queries(Sequence<const T> q, Sequence<const T> grad, Sequence<T> to, const float* context,
                          const float* normalizer, float factor, float scale, float* partial, Split split) {
  IQAZOO_DYNAMIC_SHARED(shared);
  unsigned char *matrix = shared + kQueryTiles<T, W> * kTileBytes<W>, *slopes = matrix - kTileBytes<W>;
  auto* z = shared_after<float>(matrix, W * W * sizeof(T));
  const Part part(split);
  const Share<W> share;
  const Lane<T, W> lane;
  const int column = share.part * kColumnGroups<W> * 8;
  const int64_t features = q.features, width = grad.features;
  load_matrix<T, W>(matrix, context + part.head * features * width, q.features, grad.features, factor);
  for (int d = threadIdx.x; map == Map::elu1 && d < W; d += kThreads<W>) {
    z[d] = d < features ? factor * normalizer[part.head * features + d] : 0.0f;
  }
  const auto epsilon = factor * static_cast<float>(linear_attention::kEpsilon);
  const QueryContext all{matrix, z, z + W, z + W + kPositions<T>, z + W + 2 * kPositions<T>, epsilon};
  float sums[kColumnGroups<W>][4] = {}, to_z[kHalf<T> ? kBlocks8<W> : 2] = {};
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
    unsigned char* tile = shared + (t - part.first) % kTurns<T, W> * 2 * kTileBytes<W>;
    unsigned char* incoming = tile + kTileBytes<W>;
    if constexpr (kTurns<T, W> == 1) __syncthreads();  // the last tiles are read
    deposit<T, W>(next, tile, q.along_features);
    deposit<T, W>(next_incoming, incoming, grad.along_features);
    if (t + 1 < part.last) fetch_tile(t + 1);
    __syncthreads();
    if constexpr (kHalf<T>) {
      differentiate_in_strips<T, W, map>(tile, incoming, slopes, q.features, scale, all, to_z, lane);
      __syncthreads();
      add_over_positions<T>(sums, tile, share.row, incoming, column);
      store<T, W>(slopes, place_at(to, t));
    } else {
      differentiate_in_tiles<W, map>(tile, incoming, q.features, scale, all, sums, to_z);
      __syncthreads();
      store<T, W>(tile, place_at(to, t));
    }
  }
  float* out = partial + blockIdx.x * gradient_size(features, width);
  each_two(sums, share.row, column, [&](int d, int e, float first, float second) {
    if (d < features && e < width) out[d * width + e] = first;
    if (d < features && e + 1 < width) out[d * width + e + 1] = second;
  });
  if constexpr (map != Map::elu1) return;
  __syncthreads();  // the tiles are read; from here on they are room
  if constexpr (kHalf<T>) {
    store_z_of_strips<W>(to_z, shared_after<float>(shared, 0), out + features * width, q.features);
  } else {
    store_z<W>(to_z, share, all.room, out + features * width, q.features);
  }
}

}  // namespace iqazoo::cuda::attention
