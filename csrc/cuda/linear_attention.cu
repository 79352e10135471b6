// The forward pass: keys and values are read once into partial sums, these merged, queries read once. What has to move
// is q, k, v and the output; sums take 2 E / (s n) of that besides, for n positions of s bytes in a split.
#include "cuda/linear_attention.h"

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "cuda/linear_attention_maps.h"
#include "cuda/linear_attention_products.h"
#include "cuda/linear_attention_split.h"
#include "cuda/linear_attention_strip.h"
#include "cuda/linear_attention_sums.h"

namespace iqazoo::cuda {
namespace attention {
namespace {

template <typename T, int W, bool softmax>
constexpr int kSumShared = 4 * kTileBytes<W> + Sums<T, W, softmax>::kShared;

// Blocks that a multiprocessor is to hold at a time, which bounds their registers: loads of the one hide behind the
// arithmetic of the others.
template <typename T, int W>
constexpr int kResidentParts = kHalf<T> && W == 64 ? 3 : kResidentSums<W>;
template <typename T, int W>
constexpr int kResidentOutput = !kHalf<T> ? kResidentSums<W> : W == 32 ? 6 : W == 64 ? 4 : 2;

// One block per part of a head. There are two tiles of keys and two of values: one is written while another is read.
template <typename T, int W, bool softmax>
__global__ void __launch_bounds__(kThreads<W>, (kResidentParts<T, W>))
    sum_parts(Sequence<const T> k, Sequence<const T> v, Sequence<const T> memory_k, Sequence<const T> memory_v,
              float* partial, Split split) {
  IQAZOO_DYNAMIC_SHARED(shared);
  const Part part(split);
  Sums<T, W, softmax> sums(shared + 4 * kTileBytes<W>);
  int4 next_keys[kPieces<W>], next_values[kPieces<W>];
  const auto fetch_tile = [&](int64_t tile) {
    fetch<T, W>(next_keys, place_of(memory_k, k, split, part, tile, kPositions<T>));
    fetch<T, W>(next_values, place_of(memory_v, v, split, part, tile, kPositions<T>));
  };
  if (part.first < part.last) fetch_tile(part.first);
  for (int64_t tile = part.first; tile < part.last; ++tile) {
    const auto here = place_of(memory_k, k, split, part, tile, kPositions<T>);
    unsigned char* keys = shared + (tile - part.first) % 2 * 2 * kTileBytes<W>;
    unsigned char* values = keys + kTileBytes<W>;
    deposit<T, W>(next_keys, keys, here.along_features);
    deposit<T, W>(next_values, values, (tile < split.memory_tiles ? memory_v : v).along_features);
    if (tile + 1 < part.last) fetch_tile(tile + 1);
    __syncthreads();  // the tile is there, and the last one is read
    sums.add(keys, values, here);
  }
  float* out = partial + blockIdx.x * partial_size(k.features, v.features);
  sums.store(shared, out, k.features, v.features);
}

constexpr int kMergeThreads = 128;

// One warp per feature of a head; adds the parts in their order.
template <bool softmax>
__global__ void __launch_bounds__(kMergeThreads)
    merge_parts(const float* partial, float* context, float* normalizer, int64_t rows, int features, int width,
                int64_t splits) {
  const int64_t row = blockIdx.x * static_cast<int64_t>(kMergeThreads / kLanes) + threadIdx.x / kLanes;
  if (row >= rows) return;
  const int64_t size = partial_size(features, width), d = row % features;
  const float* parts = partial + row / features * splits * size;
  const float *tops = parts + static_cast<int64_t>(features) * width + d, *totals = tops + features;
  float top = -INFINITY, total = 0.0f;
  for (int64_t s = 0; softmax && s < splits; ++s) top = fmaxf(top, tops[s * size]);
  // A part with the largest key as it is, even where that is infinite: infinity less infinity would be NaN.
  const auto weight = [&](int64_t s) {
    return !softmax || tops[s * size] == top ? 1.0f : expf(tops[s * size] - top);
  };
#pragma unroll 4
  for (int64_t s = 0; s < splits; ++s) total += totals[s * size] * weight(s);
  for (int e = threadIdx.x % kLanes; e < width; e += kLanes) {
    float sum = 0.0f;
#pragma unroll 4
    for (int64_t s = 0; s < splits; ++s) sum += parts[s * size + d * width + e] * weight(s);
    context[row * width + e] = softmax ? sum / total : sum;
  }
  if (threadIdx.x % kLanes == 0) normalizer[row] = softmax ? top + logf(total) : total;
}

template <typename T, int W>
constexpr int kOutShared = W * W * sizeof(T) + 2 * kTileBytes<W> +
                           (W + (kHalf<T> ? 0 : 2 * kExchange<W> + kPositions<T>)) * sizeof(float);

// What a block of `write_out` has in shared memory besides tiles: the context as a matrix, elu1's sums over keys, and
// for float32 the inverse of divisors by position and room.
struct Context {
  const unsigned char* matrix;
  float *z, *inverse, *room, epsilon;
};

// A tile of queries becomes one of the output. Of float32.
template <int W, Map map>
__device__ __forceinline__ void answer_in_tiles(unsigned char* tile, int features, float scale,
                                                const Context& context) {
  const Share<W> share;
  const int position = share.part * kPositionGroups<W> * 8;
  map_queries<W, map>(tile, features, context.z, context.epsilon, context.room, context.inverse);
  __syncthreads();
  float result[kPositionGroups<W>][4];
  multiply<W, true>(result, context.matrix, share.row, tile, position);
  __syncthreads();  // the tile is read; from here on it holds the output
  each_two(result, share.row, position, [&](int e, int n, float first, float second) {
    const float left = map == Map::elu1 ? context.inverse[n] : scale;
    const float right = map == Map::elu1 ? context.inverse[n + 1] : scale;
    store_two<float>(&cell<float>(tile, e, n), left * first, right * second);
  });
}

// Maps the warp's strip of queries, turned; factor[j][i] becomes what the output at position 2 t + i of group j has to
// be multiplied by. Softmax divides by the sum of the very values that are multiplied.
template <typename T, int W, Map map>
__device__ __forceinline__ void map_strip(Strip<W>& queries, float (&factor)[kGroups8<W>][2], int features, float scale,
                                          const Context& context, const Lane<T, W>& lane) {
  const int t = lane.t;
#pragma unroll
  for (int j = 0; j < kGroups8<W>; ++j) {
    if constexpr (map == Map::scale) {
      factor[j][0] = factor[j][1] = scale;
    } else if constexpr (map == Map::softmax) {
      float2 x[kBlocks8<W>];
      float top = -INFINITY;
#pragma unroll
      for (int i = 0; i < kBlocks8<W>; ++i) {
        x[i] = unpacked<T>(queries[i][j]);
        if (features < W && 8 * i + 2 * t >= features) x[i].x = -INFINITY;
        if (features < W && 8 * i + 2 * t + 1 >= features) x[i].y = -INFINITY;
        top = fmaxf(top, fmaxf(x[i].x, x[i].y));
      }
      top = max_over_t(top);
#pragma unroll
      for (int i = 0; i < kBlocks8<W>; ++i) {
        queries[i][j] = packed<T>(power_of_two((x[i].x - top) * kLog2E), power_of_two((x[i].y - top) * kLog2E));
      }
      const uint32_t ones[4] = {kOnes<T>, kOnes<T>, kOnes<T>, kOnes<T>};
      float sums[4] = {};
#pragma unroll
      for (int i = 0; i < kBlocks8<W>; i += 2) multiply_add<T>(sums, ones, queries[i][j], queries[i + 1][j]);
      factor[j][0] = quotient(scale, sums[0]);
      factor[j][1] = quotient(scale, sums[1]);
    } else {
      float sum = 0.0f;
#pragma unroll
      for (int i = 0; i < kBlocks8<W>; ++i) {
        const float2 x = unpacked<T>(queries[i][j]);
        const float first = elu1_of(x.x), second = elu1_of(x.y);
        sum += first * context.z[8 * i + 2 * t] + second * context.z[8 * i + 2 * t + 1];
        queries[i][j] = packed<T>(first, second);
      }
      const float inverse = quotient(1.0f, sum_over_t(sum) + context.epsilon);  // of position g; lane 4 g has it
      factor[j][0] = __shfl_sync(~0u, inverse, 8 * t);
      factor[j][1] = __shfl_sync(~0u, inverse, 8 * t + 4);
    }
  }
}

// The same of half types: each warp for its own positions.
template <typename T, int W, Map map>
__device__ __forceinline__ void answer_in_strips(unsigned char* tile, int features, float scale,
                                                 const Context& context, const Lane<T, W>& lane) {
  Strip<W> queries;
  float factor[kGroups8<W>][2];
  load_strip<T, W, true>(queries, tile, lane);
  map_strip<T, W, map>(queries, factor, features, scale, context, lane);
  __syncwarp();  // the strip is read; from here on it holds the output
#pragma unroll
  for (int m = 0; m < W / 16; ++m) {
    float result[kGroups8<W>][4];
    multiply_strip<T, W, true>(result, context.matrix, m, queries, lane);
#pragma unroll
    for (int j = 0; j < kGroups8<W>; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        strip_cell<T, W>(tile, 2 * m + i, j, lane) =
            packed<T>(factor[j][0] * result[j][2 * i], factor[j][1] * result[j][2 * i + 1]);
      }
    }
  }
}

// One block per part of a head. `factor` multiplies the context as it is loaded, `scale` the output.
template <typename T, int W, Map map>
__global__ void __launch_bounds__(kThreads<W>, (kResidentOutput<T, W>))
    write_out(Sequence<const T> q, Sequence<T> out, const float* context, const float* normalizer, float factor,
              float scale, Split split) {
  IQAZOO_DYNAMIC_SHARED(shared);
  unsigned char* matrix = shared + 2 * kTileBytes<W>;
  auto* z = shared_after<float>(matrix, W * W * sizeof(T));
  const Part part(split);
  const Lane<T, W> lane;
  const int64_t features = q.features, width = out.features;
  load_matrix<T, W>(matrix, context + part.head * features * width, q.features, out.features, factor);
  for (int d = threadIdx.x; map == Map::elu1 && d < W; d += kThreads<W>) {
    z[d] = d < features ? factor * normalizer[part.head * features + d] : 0.0f;
  }
  const auto epsilon = factor * static_cast<float>(linear_attention::kEpsilon);
  const Context all{matrix, z, z + W, z + W + kPositions<T>, epsilon};
  int4 next[kPieces<W>];
  const auto place_at = [&](const auto& sequence, int64_t t) {
    return Place(sequence, part.b, part.h, t * kPositions<T>, kPositions<T>);
  };
  if (part.first < part.last) fetch<T, W>(next, place_at(q, part.first));
  for (int64_t t = part.first; t < part.last; ++t) {
    unsigned char* tile = shared + (t - part.first) % 2 * kTileBytes<W>;
    deposit<T, W>(next, tile, q.along_features);
    if (t + 1 < part.last) fetch<T, W>(next, place_at(q, t + 1));
    __syncthreads();  // the tile is there, and the last one is stored
    if constexpr (kHalf<T>) {
      answer_in_strips<T, W, map>(tile, q.features, scale, all, lane);
    } else {
      answer_in_tiles<W, map>(tile, q.features, scale, all);
    }
    __syncthreads();
    store<T, W>(tile, place_at(out, t));
  }
}

template <typename T, int W, bool softmax>
int sum_context(const LinearAttentionInputs<T>& in, float* context, float* normalizer, float* partial,
                const Sizes& sizes, cudaStream_t queue) {
  const Sequence<const T> k(in.k, sizes.positions, sizes.features, in.mask), v(in.v, sizes.positions, sizes.width);
  const Sequence<const T> memory_k(in.memory_k, sizes.columns, sizes.features);
  const Sequence<const T> memory_v(in.memory_v, sizes.columns, sizes.width);
  const Split split(sizes, sizes.columns, kPositions<T>, sum_splits_of(sizes));
  const int64_t heads = sizes.batch * sizes.heads, rows = heads * sizes.features;
  if (!fits_a_grid(heads * split.splits) || !fits_a_grid(rows)) return cudaErrorInvalidConfiguration;
  IQAZOO_LAUNCH_SHARED((sum_parts<T, W, softmax>), heads * split.splits, kThreads<W>, (kSumShared<T, W, softmax>),
                       queue, k, v, memory_k, memory_v, partial, split);
  if (const cudaError_t failed = cudaGetLastError()) return failed;
  IQAZOO_LAUNCH((merge_parts<softmax>), up(rows, kMergeThreads / kLanes), kMergeThreads, queue, partial, context,
                normalizer, rows, static_cast<int>(sizes.features), static_cast<int>(sizes.width), split.splits);
  return cudaGetLastError();
}

template <typename T, int W, Map map>
int forward(const LinearAttentionInputs<T>& in, const View<T>& out, float* context, float* normalizer, float* scratch,
            const Sizes& sizes, float scale, cudaStream_t queue) {
  constexpr bool softmax = map != Map::elu1;
  if (const int failed = sum_context<T, W, softmax>(in, context, normalizer, scratch, sizes, queue)) return failed;
  const Sequence<const T> q(in.q, sizes.positions, sizes.features);
  const Sequence<T> to(out, sizes.positions, sizes.width);
  const Split split(sizes, 0, kPositions<T>, splits_of(sizes, kResidentOutput<T, W>));
  if (split.tiles == 0) return cudaSuccess;
  if (!fits_a_grid(sizes.batch * sizes.heads * split.splits)) return cudaErrorInvalidConfiguration;
  IQAZOO_LAUNCH_SHARED((write_out<T, W, map>), sizes.batch * sizes.heads * split.splits, kThreads<W>,
                       (kOutShared<T, W>), queue, q, to, context, normalizer, shrink_of(sizes, map), scale, split);
  return cudaGetLastError();
}

}  // namespace
}  // namespace attention

int64_t linear_attention_forward_scratch(const linear_attention::Sizes& sizes) {
  const int64_t size = attention::partial_size(sizes.features, sizes.width);
  return sizes.batch * sizes.heads * attention::sum_splits_of(sizes) * size;
}

template <typename T>
int linear_attention_forward(const LinearAttentionInputs<T>& inputs, const linear_attention::View<T>& out,
                             float* context, float* normalizer, float* scratch, const linear_attention::Sizes& sizes,
                             linear_attention::Map map, float scale, int device, void* stream) {
  using attention::Map;
  if (const cudaError_t failed = cudaSetDevice(device)) return failed;
  if (sizes.batch * sizes.heads == 0) return cudaSuccess;
  const auto queue = static_cast<cudaStream_t>(stream);
  return attention::for_width(sizes, [&](auto width) -> int {
    constexpr int W = decltype(width)::value;
    const auto run = [&](auto forward) {
      return forward(inputs, out, context, normalizer, scratch, sizes, scale, queue);
    };
    if (map == Map::softmax) return run(attention::forward<T, W, Map::softmax>);
    if (map == Map::scale) return run(attention::forward<T, W, Map::scale>);
    return run(attention::forward<T, W, Map::elu1>);
  });
}

#define IQAZOO_INSTANTIATE(T)                                                                                     \
  template int linear_attention_forward(const LinearAttentionInputs<T>&, const linear_attention::View<T>&, float*, \
                                        float*, float*, const linear_attention::Sizes&, linear_attention::Map,     \
                                        float, int, void*);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(bfloat16)
IQAZOO_INSTANTIATE(float16)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cuda
