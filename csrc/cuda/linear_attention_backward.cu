// The backward pass, which maps queries and keys again: queries and the output's gradient are read once into the
// gradients of the queries and of the context, keys and values once into theirs. What has to move is seven tensors.
// Since sum_n w[n] (dC . v[n]) = dC . C for the weights w of a feature, softmax over positions needs no pass of its own.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "cuda/linear_attention.h"
#include "cuda/linear_attention_maps.h"
#include "cuda/linear_attention_split.h"

namespace iqazoo::cuda {
namespace attention {
namespace {

// A part's sums: the gradient of the context [features][width], and that of elu1's sums over keys [features].
IQAZOO_HD inline int64_t partial_size(int64_t features, int64_t width) { return features * (width + 1); }

// What merging leaves, of a head each: the gradient of the context, what is added to its product with values, and the
// largest magnitude in each of its rows.
struct Merged {
  float *context, *offset, *peak;
};

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

// One block per part of a head. `factor` multiplies context and normalizer as they are loaded.
template <typename T, int W, Map map>
__global__ void __launch_bounds__(kThreads<W>, (kResident<T, W>))
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
    if (map != Map::scale && thread() < kPositions<T>) {
      float dot = 0.0f;
      for (int warp = 0; warp < W / 16; ++warp) dot += room[warp * kPositions<T> + thread()];
      if (map == Map::elu1) dot *= -inverse[thread()] * inverse[thread()];
      dots[thread()] = dot;
    }
    __syncthreads();
    each_two(slope, share.row, position, [&](int d, int n, float& first, float& second) {
      const float2 x = load_two<T>(&cell<T>(tile, d, n));
      if constexpr (map == Map::softmax) {
        first = scale * x.x * (first - dots[n]);
        second = scale * x.y * (second - dots[n + 1]);
      } else if constexpr (map == Map::scale) {
        first *= scale;
        second *= scale;
      } else {  // the slope of elu1 is 1 where its value is above 1, else the value
        const float add = x.x * dots[n] + x.y * dots[n + 1];
        to_z[0] += d < share.row + 8 ? add : 0.0f;  // no array has an index that is not known when compiling
        to_z[1] += d < share.row + 8 ? 0.0f : add;
        first = (x.x > 1.0f ? 1.0f : x.x) * (first * inverse[n] + z[d] * dots[n]);
        second = (x.y > 1.0f ? 1.0f : x.y) * (second * inverse[n + 1] + z[d] * dots[n + 1]);
      }
    });
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
  float* out = partial + blockIdx.x * partial_size(features, width);
  each_two(sums, share.row, column, [&](int d, int e, float first, float second) {
    if (d < features && e < width) out[d * width + e] = first;
    if (d < features && e + 1 < width) out[d * width + e + 1] = second;
  });
  if constexpr (map != Map::elu1) return;
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
    out[features * width + d] = sum;
  }
}

constexpr int kMergeThreads = 128;

// One warp per feature of a head; adds the parts in their order and multiplies them by `factor`.
template <bool softmax>
__global__ void __launch_bounds__(kMergeThreads)
    merge_gradients(const float* partial, const float* context, Merged merged, int64_t rows, int features, int width,
                    int64_t splits, float factor) {
  const int64_t row = blockIdx.x * static_cast<int64_t>(kMergeThreads / kLanes) + threadIdx.x / kLanes;
  if (row >= rows) return;
  const int64_t size = partial_size(features, width), d = row % features;
  const float* parts = partial + row / features * splits * size;
  float dot = 0.0f, peak = 0.0f;
  for (int e = threadIdx.x % kLanes; e < width; e += kLanes) {
    float sum = 0.0f;
#pragma unroll 4
    for (int64_t s = 0; s < splits; ++s) sum += parts[s * size + d * width + e];
    sum *= factor;
    merged.context[row * width + e] = sum;
    if (softmax) dot += sum * context[row * width + e];
    peak = fmaxf(peak, fabsf(sum));
  }
  float offset = -warp_sum(dot);
  peak = warp_max(peak);
  if (!softmax) {
    offset = 0.0f;
    for (int64_t s = 0; s < splits; ++s) offset += parts[s * size + static_cast<int64_t>(features) * width + d];
    offset *= factor;
  }
  if (threadIdx.x % kLanes != 0) return;
  merged.offset[row] = offset;
  merged.peak[row] = peak;
}

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

// The weights of keys, given the log of their features' sums, times kBoost; or phi of keys.
template <typename T, int W, bool softmax>
__device__ __forceinline__ void weigh_keys(unsigned char* tile, const Place<const T>& here, const float* normalizer) {
  bool taken[kFew<T>];
#pragma unroll
  for (int i = 0; i < kFew<T>; ++i) taken[i] = here.takes(first_position<T>() + i);
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    const int row = first_row<W>() + r;
    float x[kFew<T>];
    load_few<T>(tile, row, x);
#pragma unroll
    for (int i = 0; i < kFew<T>; ++i) {
      const float weight = softmax ? kBoost<T> * expf(x[i] - normalizer[row]) : elu1(x[i]);
      x[i] = taken[i] ? weight : 0.0f;
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
    weigh_keys<T, W, softmax>(keys, here, total);
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

struct Scratch {
  float* partial;
  Merged merged;

  Scratch(float* memory, const Sizes& sizes) {
    const int64_t heads = sizes.batch * sizes.heads, rows = heads * sizes.features;
    partial = memory;
    merged.context = partial + heads * splits_of(sizes) * partial_size(sizes.features, sizes.width);
    merged.offset = merged.context + rows * sizes.width;
    merged.peak = merged.offset + rows;
  }
};

template <typename T, int W, bool softmax>
int keys_and_values(const LinearAttentionInputs<T>& in, const LinearAttentionGradients<T>& to, const float* normalizer,
                    const Merged& merged, const Sizes& sizes, cudaStream_t queue) {
  KeysAndValues<T> all;
  all.k = {in.k, sizes.positions, sizes.features, in.mask};
  all.v = {in.v, sizes.positions, sizes.width};
  all.memory_k = {in.memory_k, sizes.columns, sizes.features};
  all.memory_v = {in.memory_v, sizes.columns, sizes.width};
  all.to_k = {to.k, sizes.positions, sizes.features};
  all.to_v = {to.v, sizes.positions, sizes.width};
  all.to_memory_k = {to.memory_k, sizes.columns, sizes.features};
  all.to_memory_v = {to.memory_v, sizes.columns, sizes.width};
  const Split split(sizes, sizes.columns, kPositions<T>);
  if (split.tiles == 0) return cudaSuccess;
  IQAZOO_LAUNCH_SHARED((differentiate_keys<T, W, softmax>), sizes.batch * sizes.heads * split.splits, kThreads<W>,
                       (kKeysShared<T, W>), queue, all, normalizer, merged, split);
  return cudaGetLastError();
}

template <typename T, int W, Map map>
int backward(const LinearAttentionInputs<T>& in, const LinearAttentionGradients<T>& to, const float* context,
             const float* normalizer, float* scratch, const Sizes& sizes, float scale, cudaStream_t queue) {
  constexpr bool softmax = map != Map::elu1;
  const Scratch room(scratch, sizes);
  const Sequence<const T> q(in.q, sizes.positions, sizes.features), grad(to.out, sizes.positions, sizes.width);
  const Sequence<T> to_q(to.q, sizes.positions, sizes.features);
  const Split split(sizes, 0, kPositions<T>);
  const int64_t heads = sizes.batch * sizes.heads, rows = heads * sizes.features;
  if (!fits_a_grid(heads * splits_of(sizes)) || !fits_a_grid(rows)) return cudaErrorInvalidConfiguration;
  const float shrink = shrink_of(sizes, map);
  IQAZOO_LAUNCH_SHARED((differentiate_queries<T, W, map>), heads * split.splits, kThreads<W>,
                       (kQueriesShared<T, W>), queue, q, grad, to_q, context, normalizer, shrink, scale, room.partial,
                       split);
  if (const cudaError_t failed = cudaGetLastError()) return failed;
  IQAZOO_LAUNCH((merge_gradients<softmax>), up(rows, kMergeThreads / kLanes), kMergeThreads, queue, room.partial,
                context, room.merged, rows, static_cast<int>(sizes.features), static_cast<int>(sizes.width),
                split.splits, softmax ? scale : shrink);
  if (const cudaError_t failed = cudaGetLastError()) return failed;
  return keys_and_values<T, W, softmax>(in, to, normalizer, room.merged, sizes, queue);
}

}  // namespace
}  // namespace attention

int64_t linear_attention_backward_scratch(const linear_attention::Sizes& sizes) {
  const int64_t rows = sizes.batch * sizes.heads * sizes.features;
  return rows * (attention::splits_of(sizes) * (sizes.width + 1) + sizes.width + 2);
}

template <typename T>
int linear_attention_backward(const LinearAttentionInputs<T>& inputs, const LinearAttentionGradients<T>& gradients,
                              const float* context, const float* normalizer, float* scratch,
                              const linear_attention::Sizes& sizes, linear_attention::Map map, float scale, int device,
                              void* stream) {
  using attention::Map;
  if (const cudaError_t failed = cudaSetDevice(device)) return failed;
  if (sizes.batch * sizes.heads == 0) return cudaSuccess;
  const auto queue = static_cast<cudaStream_t>(stream);
  return attention::for_width(sizes, [&](auto padded) -> int {
    constexpr int W = decltype(padded)::value;
    const auto run = [&](auto backward) {
      return backward(inputs, gradients, context, normalizer, scratch, sizes, scale, queue);
    };
    if (map == Map::softmax) return run(attention::backward<T, W, Map::softmax>);
    if (map == Map::scale) return run(attention::backward<T, W, Map::scale>);
    return run(attention::backward<T, W, Map::elu1>);
  });
}

#define IQAZOO_INSTANTIATE(T)                                                                                         \
  template int linear_attention_backward(const LinearAttentionInputs<T>&, const LinearAttentionGradients<T>&,        \
                                         const float*, const float*, float*, const linear_attention::Sizes&,         \
                                         linear_attention::Map, float, int, void*);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(bfloat16)
IQAZOO_INSTANTIATE(float16)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cuda
