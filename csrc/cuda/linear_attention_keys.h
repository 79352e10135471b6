// The gradients of keys and values, given that of the context: reads keys and values once.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/linear_attention_maps.h"
#include "cuda/linear_attention_split.h"

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
constexpr float kBoost = kNarrow<T> ? 16384.0f : 1.0f;

// The exponent of the power of two above the largest of a head's peaks.
__device__ __forceinline__ int exponent_of(const float* peaks, int features) {
  float peak = 0.0f;
  for (int d = 0; d < features; ++d) peak = fmaxf(peak, peaks[d]);
  int exponent = 0;
  if (peak > 0.0f && peak < INFINITY) frexpf(peak, &exponent);
  return min(max(exponent, -100), 100);
}

template <typename T, int W>
constexpr int kKeysShared = W * W * sizeof(T) + 2 * kTileBytes<W> + 2 * W * sizeof(float);

// The weights of keys, given the log of their features' sums, times kBoost; or phi of keys. Of all keys: what takes no
// part is left out when gradients are written.
template <typename T, int W, bool softmax>
__device__ __forceinline__ void weigh_keys(unsigned char* tile, const float* normalizer) {
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    const int row = first_row<W>() + r;
    float x[kFew<T>];
    load_few<T>(tile, row, x);
#pragma unroll
    for (int i = 0; i < kFew<T>; ++i) {
      x[i] = softmax ? kBoost<T> * expf(x[i] - normalizer[row]) : elu1(x[i]);
    }
    store_few<T>(tile, row, x);
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

// One block per part of a head.
template <typename T, int W, bool softmax>
__global__ void __launch_bounds__(kThreads<W>, (kResident<T, W>))
    differentiate_keys(KeysAndValues<T> all, const float* normalizer, Merged merged, Split split) {
  IQAZOO_DYNAMIC_SHARED(shared);
  unsigned char *keys = shared, *values = keys + kTileBytes<W>, *matrix = values + kTileBytes<W>;
  auto* offset = shared_after<float>(matrix, W * W * sizeof(T));
  float* total = offset + W;
  const Part part(split);
  const Share<W> share;
  const int position = share.part * kPositionGroups<T, W> * 8;
  const int64_t features = all.k.features, width = all.v.features;
  const int exponent = kNarrow<T> ? exponent_of(merged.peak + part.head * features, all.k.features) : 0;
  const float undo = ldexpf(1.0f, exponent), undo_weighted = undo / (softmax ? kBoost<T> : 1.0f);
  load_matrix<T, W>(matrix, merged.context + part.head * features * width, all.k.features, all.v.features,
                    ldexpf(1.0f, -exponent));
  for (int d = threadIdx.x; d < W; d += kThreads<W>) {
    offset[d] = d < features ? merged.offset[part.head * features + d] : 0.0f;
    total[d] = d < features ? normalizer[part.head * features + d] : 0.0f;
  }
  int4 next_keys[kPieces<W>], next_values[kPieces<W>];
  const auto fetch_tile = [&](int64_t t) {
    fetch<T, W>(next_keys, place_of(all.memory_k, all.k, split, part, t, kPositions<T>));
    fetch<T, W>(next_values, place_of(all.memory_v, all.v, split, part, t, kPositions<T>));
  };
  if (part.first < part.last) fetch_tile(part.first);
  for (int64_t t = part.first; t < part.last; ++t) {
    const bool early = t < split.memory_tiles;
    const auto here = place_of(all.memory_k, all.k, split, part, t, kPositions<T>);
    __syncthreads();
    deposit<T, W>(next_keys, keys, here.along_features);
    deposit<T, W>(next_values, values, (early ? all.memory_v : all.v).along_features);
    if (t + 1 < part.last) fetch_tile(t + 1);
    __syncthreads();
    weigh_keys<T, W, softmax>(keys, total);
    __syncthreads();
    float to_keys[kPositionGroups<T, W>][4], to_values[kPositionGroups<T, W>][4];
    multiply<T, W, false>(to_keys, matrix, share.row, values, position);
    multiply<T, W, true>(to_values, matrix, share.row, keys, position);
    __syncthreads();  // the tiles are read; from here on they hold the gradients
    each_two(to_keys, share.row, position, [&](int d, int n, float first, float second) {
      T* at = &cell<T>(keys, d, n);
      const float2 weight = load_two<T>(at);
      float left = weight.x / kBoost<T>, right = weight.y / kBoost<T>;
      if constexpr (!softmax) {  // the slope of elu1 is 1 where its value is above 1, else the value
        left = weight.x > 1.0f ? 1.0f : weight.x;
        right = weight.y > 1.0f ? 1.0f : weight.y;
      }
      first = left * (undo * first + offset[d]);
      second = right * (undo * second + offset[d]);
      if (here.mask) {  // even where the gradient of the others is NaN
        if (!here.takes(n)) first = 0.0f;
        if (!here.takes(n + 1)) second = 0.0f;
      }
      store_two<T>(at, first, second);
    });
    each_two(to_values, share.row, position, [&](int e, int n, float first, float second) {
      if (here.mask) {
        if (!here.takes(n)) first = 0.0f;
        if (!here.takes(n + 1)) second = 0.0f;
      }
      store_two<T>(&cell<T>(values, e, n), undo_weighted * first, undo_weighted * second);
    });
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
