// The gradients of keys and values, given that of the context: reads keys and values once.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/linear_attention_maps.h"
#include "cuda/linear_attention_products.h"
#include "cuda/linear_attention_split.h"
#include "cuda/linear_attention_strip.h"

namespace iqazoo::cuda::attention {

// What merging leaves, of a head each: the gradient of the context, what is added to its product with values, and the
// largest magnitude in each of its rows.
struct Merged {
  float *context, *offset, *peak;
};

// float16 has too little range for the gradient of a context, a sum over positions, and for their weights: a power of
// two brings the one below 1 and another the weights, which are up to 1, near its largest number.
template <typename T>
constexpr bool kNarrow = std::is_same_v<T, float16>;
template <typename T>
constexpr int kBoostExponent = kNarrow<T> ? 14 : 0;
template <typename T>
constexpr float kBoost = 1 << kBoostExponent<T>;

// The exponent of the power of two above the largest of a head's peaks.
__device__ __forceinline__ int exponent_of(const float* peaks, int features) {
  float peak = 0.0f;
  for (int d = 0; d < features; ++d) peak = fmaxf(peak, peaks[d]);
  int exponent = 0;
  if (peak > 0.0f && peak < INFINITY) frexpf(peak, &exponent);
  return min(max(exponent, -100), 100);
}

// Tiles of keys and of values in turns, where even smaller GPUs have the shared memory.
template <typename T>
constexpr int kKeyTurns = kHalf<T> ? 2 : 1;
template <typename T, int W>
constexpr int kKeysShared = W * W * sizeof(T) + 2 * kKeyTurns<T> * kTileBytes<W> + 2 * W * sizeof(float);

// What the blocks of `differentiate_keys` share: the gradient of the context as a matrix, what is added to its product
// with values, the normalizer, and what undoes the powers of two.
struct KeyContext {
  const unsigned char* matrix;
  const float *offset, *normalizer;
  float undo, undo_weighted;
};

// The weights of keys, given the log of their features' sums; or phi of keys. Of all keys: what takes no part is left
// out when gradients are written.
template <int W, bool softmax>
__device__ __forceinline__ void weigh_keys(unsigned char* tile, const float* normalizer) {
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    float& x = lane_cell(tile, first_row<W>() + r);
    x = softmax ? expf(x - normalizer[first_row<W>() + r]) : elu1(x);
  }
}

// The slope of keys, given their weights and that of the weights. That of elu1 is 1 where its value is above 1, else
// the value.
template <bool softmax>
__device__ __forceinline__ float slope_of_key(float weight, float slope) {
  return (!softmax && weight > 1.0f ? 1.0f : weight) * slope;
}

// Tiles of keys and values become those of their gradients. Of float32.
template <int W, bool softmax>
__device__ __forceinline__ void differentiate_in_tiles(unsigned char* keys, unsigned char* values,
                                                       const Place<const float>& here, const KeyContext& context) {
  const Share<W> share;
  const int position = share.part * kPositionGroups<W> * 8;
  weigh_keys<W, softmax>(keys, context.normalizer);
  __syncthreads();
  float to_keys[kPositionGroups<W>][4], to_values[kPositionGroups<W>][4];
  multiply<W, false>(to_keys, context.matrix, share.row, values, position);
  multiply<W, true>(to_values, context.matrix, share.row, keys, position);
  __syncthreads();  // the tiles are read; from here on they hold the gradients
  each_two(to_keys, share.row, position, [&](int d, int n, float first, float second) {
    float* at = &cell<float>(keys, d, n);
    const float2 weight = load_two(at);
    first = slope_of_key<softmax>(weight.x, first + context.offset[d]);
    second = slope_of_key<softmax>(weight.y, second + context.offset[d]);
    if (here.mask) {  // even where the gradient of the others is NaN
      if (!here.takes(n)) first = 0.0f;
      if (!here.takes(n + 1)) second = 0.0f;
    }
    store_two<float>(at, first, second);
  });
  each_two(to_values, share.row, position, [&](int e, int n, float first, float second) {
    if (here.mask) {
      if (!here.takes(n)) first = 0.0f;
      if (!here.takes(n + 1)) second = 0.0f;
    }
    store_two<float>(&cell<float>(values, e, n), first, second);
  });
}

// The same of half types, each warp of its own positions. Weights are times kBoost.
template <typename T, int W, bool softmax>
__device__ __forceinline__ void differentiate_in_strips(unsigned char* keys, unsigned char* values,
                                                        const Place<const T>& here, const KeyContext& context,
                                                        const Lane<T, W>& lane) {
  constexpr int kGroups = kGroups8<W>;
  const int g = lane.g;
  uint32_t keep[kGroups];
#pragma unroll
  for (int j = 0; j < kGroups; ++j) {
    keep[j] = ~0u;
    if (!here.mask) continue;
    const int n = lane.position + 8 * j + 2 * lane.t;
    keep[j] = (here.takes(n) ? 0xffffu : 0u) | (here.takes(n + 1) ? 0xffff0000u : 0u);
  }
  Strip<W> weights, right;
  load_strip<T, W, false>(weights, keys, lane);
#pragma unroll
  for (int i = 0; i < kBlocks8<W>; ++i) {
    const float shift = context.normalizer[8 * i + g];
    const auto weight = [&](float x) {
      return softmax ? power_of_two(fmaf(x - shift, kLog2E, kBoostExponent<T>)) : elu1_of(x);
    };
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      const float2 x = unpacked<T>(weights[i][j]);
      weights[i][j] = packed<T>(weight(x.x), weight(x.y));
    }
  }
  __syncwarp();  // the strip is read; for a while it holds the weights
  store_strip<T, W>(keys, weights, lane);
  __syncwarp();
  load_strip<T, W, true>(right, keys, lane);
  __syncwarp();  // from here on it holds the gradient
  {
    Strip<W> of_values;
    load_strip<T, W, true>(of_values, values, lane);
#pragma unroll
    for (int m = 0; m < W / 16; ++m) {
      float slope[kGroups][4];
      multiply_strip<T, W, false>(slope, context.matrix, m, of_values, lane);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float offset = context.offset[16 * m + 8 * i + g];
#pragma unroll
        for (int j = 0; j < kGroups; ++j) {
          const float2 weight = unpacked<T>(weights[2 * m + i][j]);
          constexpr float unboost = softmax ? 1.0f / kBoost<T> : 1.0f;
          const float first = slope_of_key<softmax>(unboost * weight.x, context.undo * slope[j][2 * i] + offset);
          const float second = slope_of_key<softmax>(unboost * weight.y, context.undo * slope[j][2 * i + 1] + offset);
          // Hidden positions have none, even where the gradient of the others is NaN.
          strip_cell<T, W>(keys, 2 * m + i, j, lane) = packed<T>(first, second) & keep[j];
        }
      }
    }
  }
  __syncwarp();  // the values are read, too
#pragma unroll
  for (int m = 0; m < W / 16; ++m) {
    float slope[kGroups][4];
    multiply_strip<T, W, true>(slope, context.matrix, m, right, lane);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < kGroups; ++j) {
        const float first = context.undo_weighted * slope[j][2 * i];
        const float second = context.undo_weighted * slope[j][2 * i + 1];
        strip_cell<T, W>(values, 2 * m + i, j, lane) = packed<T>(first, second) & keep[j];
      }
    }
  }
}

// The tile as floats.
template <typename T>
__device__ __forceinline__ void store_wide(unsigned char* tile, const Place<float>& to, int threads) {
  for (int i = thread(); i < to.count * to.features; i += threads) {
    const int n = i / to.features, d = i % to.features;
    to.data[n * to.position + d * to.feature] = wide(cell<T>(tile, d, n));
  }
}

template <typename T>
struct KeysAndValues {
  Sequence<const T> k, v, memory_k, memory_v;
  Sequence<T> to_k, to_v;
  Sequence<float> to_memory_k, to_memory_v;
};

// Blocks that a multiprocessor is to hold at a time.
template <typename T, int W>
constexpr int kResidentKeys = !kHalf<T> ? kResidentSums<W> : W == 32 ? 5 : W == 64 ? 3 : 1;

// One block per part of a head.
template <typename T, int W, bool softmax>
__global__ void __launch_bounds__(kThreads<W>, (kResidentKeys<T, W>))
    differentiate_keys(KeysAndValues<T> all, const float* normalizer, Merged merged, Split split) {
  IQAZOO_DYNAMIC_SHARED(shared);
  unsigned char* matrix = shared + 2 * kKeyTurns<T> * kTileBytes<W>;
  auto* offset = shared_after<float>(matrix, W * W * sizeof(T));
  float* total = offset + W;
  const Part part(split);
  const Lane<T, W> lane;
  const int64_t features = all.k.features, width = all.v.features;
  const int exponent = kNarrow<T> ? exponent_of(merged.peak + part.head * features, all.k.features) : 0;
  const float undo = ldexpf(1.0f, exponent), undo_weighted = undo / (softmax ? kBoost<T> : 1.0f);
  load_matrix<T, W>(matrix, merged.context + part.head * features * width, all.k.features, all.v.features,
                    ldexpf(1.0f, -exponent));
  for (int d = threadIdx.x; d < W; d += kThreads<W>) {
    offset[d] = d < features ? merged.offset[part.head * features + d] : 0.0f;
    total[d] = d < features ? normalizer[part.head * features + d] : 0.0f;
  }
  const KeyContext context{matrix, offset, total, undo, undo_weighted};
  int4 next_keys[kPieces<W>], next_values[kPieces<W>];
  const auto fetch_tile = [&](int64_t t) {
    fetch<T, W>(next_keys, place_of(all.memory_k, all.k, split, part, t, kPositions<T>));
    fetch<T, W>(next_values, place_of(all.memory_v, all.v, split, part, t, kPositions<T>));
  };
  if (part.first < part.last) fetch_tile(part.first);
  for (int64_t t = part.first; t < part.last; ++t) {
    const bool early = t < split.memory_tiles;
    const auto here = place_of(all.memory_k, all.k, split, part, t, kPositions<T>);
    unsigned char* keys = shared + (t - part.first) % kKeyTurns<T> * 2 * kTileBytes<W>;
    unsigned char* values = keys + kTileBytes<W>;
    if constexpr (kKeyTurns<T> == 1) __syncthreads();  // the last tiles are stored
    deposit<T, W>(next_keys, keys, here.along_features);
    deposit<T, W>(next_values, values, (early ? all.memory_v : all.v).along_features);
    if (t + 1 < part.last) fetch_tile(t + 1);
    __syncthreads();
    if constexpr (kHalf<T>) {
      differentiate_in_strips<T, W, softmax>(keys, values, here, context, lane);
    } else {
      differentiate_in_tiles<W, softmax>(keys, values, here, context);
    }
    __syncthreads();
    if (early) {
      store_wide<T>(keys, Place(all.to_memory_k, part.b, part.h, t * kPositions<T>, kPositions<T>), kThreads<W>);
      store_wide<T>(values, Place(all.to_memory_v, part.b, part.h, t * kPositions<T>, kPositions<T>), kThreads<W>);
      continue;
    }
    const int64_t first = (t - split.memory_tiles) * kPositions<T>;
    store<T, W>(keys, Place(all.to_k, part.b, part.h, first, kPositions<T>));
    store<T, W>(values, Place(all.to_v, part.b, part.h, first, kPositions<T>));
  }
}

}  // namespace iqazoo::cuda::attention
