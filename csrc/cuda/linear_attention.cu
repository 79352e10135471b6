// The forward pass: keys and values are read once into partial sums, these merged, queries read once. What has to move
// is q, k, v and the output; sums take 2 E / (s n) of that besides, for n positions of s bytes in a split.
#include "cuda/linear_attention.h"

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "cuda/linear_attention_maps.h"
#include "cuda/linear_attention_split.h"

namespace iqazoo::cuda {
namespace attention {
namespace {

// The sums of one part: context [features][width], the largest key of each feature, and the total of its weights.
IQAZOO_HD inline int64_t partial_size(int64_t features, int64_t width) { return features * (width + 2); }

template <typename T, int W>
constexpr int kSumShared = 2 * kTileBytes<W> + W * sizeof(float);

// One block per part of a head.
template <typename T, int W, bool softmax>
__global__ void __launch_bounds__(kThreads<W>, (kResident<T, W>))
    sum_parts(Sequence<const T> k, Sequence<const T> v, Sequence<const T> memory_k, Sequence<const T> memory_v,
              float* partial, Split split) {
  IQAZOO_DYNAMIC_SHARED(shared);
  unsigned char *keys = shared, *values = shared + kTileBytes<W>;
  auto* decay = shared_after<float>(shared, 2 * kTileBytes<W>);
  const Part part(split);
  const Share<W> share;
  const int column = share.part * kColumnGroups<W> * 8;
  RowSums<W> sums;
  float context[kColumnGroups<W>][4] = {};
  int4 next_keys[kPieces<W>], next_values[kPieces<W>];
  const auto fetch_tile = [&](int64_t tile) {
    fetch<T, W>(next_keys, place_of(memory_k, k, split, part, tile, kPositions<T>));
    fetch<T, W>(next_values, place_of(memory_v, v, split, part, tile, kPositions<T>));
  };
  if (part.first < part.last) fetch_tile(part.first);
  for (int64_t tile = part.first; tile < part.last; ++tile) {
    const auto here = place_of(memory_k, k, split, part, tile, kPositions<T>);
    const bool early = tile < split.memory_tiles;
    __syncthreads();
    deposit<T, W>(next_keys, keys, here.along_features);
    deposit<T, W>(next_values, values, (early ? memory_v : v).along_features);
    if (tile + 1 < part.last) fetch_tile(tile + 1);
    bool taken[kFew<T>];
#pragma unroll
    for (int i = 0; i < kFew<T>; ++i) taken[i] = here.takes(first_position<T>() + i);
    __syncthreads();
    if constexpr (softmax) {
      exp_of_keys<T, W>(keys, taken, sums, decay);
    } else {
      elu1_of_keys<T, W>(keys, taken, sums);
    }
    if (here.mask) hide<T, W>(values, taken);
    __syncthreads();
    if constexpr (softmax) {
      const float upper = decay[share.row + thread() % kLanes / 4];
      const float lower = decay[share.row + thread() % kLanes / 4 + 8];
#pragma unroll
      for (int j = 0; j < kColumnGroups<W>; ++j) {
        context[j][0] *= upper;
        context[j][1] *= upper;
        context[j][2] *= lower;
        context[j][3] *= lower;
      }
    }
    add_over_positions<T>(context, keys, share.row, values, column);
  }
  const int64_t features = k.features, width = v.features;
  float* out = partial + blockIdx.x * partial_size(features, width);
  each_two(context, share.row, column, [&](int d, int e, float first, float second) {
    if (d < features && e < width) out[d * width + e] = first;
    if (d < features && e + 1 < width) out[d * width + e + 1] = second;
  });
#pragma unroll
  for (int r = 0; r < kRows<W>; ++r) {
    const float total = warp_sum(sums.total[r]);
    const int d = first_row<W>() + r;
    if (threadIdx.x % kLanes != 0 || d >= features) continue;
    out[features * width + d] = sums.top[r];
    out[features * (width + 1) + d] = total;
  }
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
constexpr int kOutShared = W * W * sizeof(T) + kTileBytes<W> +
                           (2 * kExchange<T, W> + W + kPositions<T>) * sizeof(float);

// One block per part of a head. `factor` multiplies the context as it is loaded, `scale` the output.
template <typename T, int W, Map map>
__global__ void __launch_bounds__(kThreads<W>, (kResident<T, W>))
    write_out(Sequence<const T> q, Sequence<T> out, const float* context, const float* normalizer, float factor,
              float scale, Split split) {
  IQAZOO_DYNAMIC_SHARED(shared);
  unsigned char* tile = shared;
  unsigned char* matrix = shared + kTileBytes<W>;
  auto* room = shared_after<float>(matrix, W * W * sizeof(T));
  float *z = room + 2 * kExchange<T, W>, *inverse = z + W;
  const Part part(split);
  const Share<W> share;
  const int position = share.part * kPositionGroups<T, W> * 8;
  const int64_t features = q.features, width = out.features;
  load_matrix<T, W>(matrix, context + part.head * features * width, q.features, out.features, factor);
  for (int d = threadIdx.x; map == Map::elu1 && d < W; d += kThreads<W>) {
    z[d] = d < features ? factor * normalizer[part.head * features + d] : 0.0f;
  }
  int4 next[kPieces<W>];
  const auto place_at = [&](const auto& sequence, int64_t t) {
    return Place(sequence, part.b, part.h, t * kPositions<T>, kPositions<T>);
  };
  if (part.first < part.last) fetch<T, W>(next, place_at(q, part.first));
  for (int64_t t = part.first; t < part.last; ++t) {
    __syncthreads();
    deposit<T, W>(next, tile, q.along_features);
    if (t + 1 < part.last) fetch<T, W>(next, place_at(q, t + 1));
    __syncthreads();
    const auto epsilon = factor * static_cast<float>(linear_attention::kEpsilon);
    map_queries<T, W, map>(tile, q.features, z, epsilon, room, inverse);
    __syncthreads();
    float result[kPositionGroups<T, W>][4];
    multiply<T, W, true>(result, matrix, share.row, tile, position);
    __syncthreads();  // the tile is read; from here on it holds the output
    each_two(result, share.row, position, [&](int e, int n, float first, float second) {
      const float left = map == Map::elu1 ? inverse[n] : scale, right = map == Map::elu1 ? inverse[n + 1] : scale;
      store_two<T>(&cell<T>(tile, e, n), left * first, right * second);
    });
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
  const Split split(sizes, sizes.columns, kPositions<T>);
  const int64_t heads = sizes.batch * sizes.heads, rows = heads * sizes.features;
  if (!fits_a_grid(heads * split.splits) || !fits_a_grid(rows)) return cudaErrorInvalidConfiguration;
  IQAZOO_LAUNCH_SHARED((sum_parts<T, W, softmax>), heads * split.splits, kThreads<W>, (kSumShared<T, W>), queue, k, v,
                       memory_k, memory_v, partial, split);
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
  const Split split(sizes, 0, kPositions<T>);
  if (split.tiles == 0) return cudaSuccess;
  IQAZOO_LAUNCH_SHARED((write_out<T, W, map>), sizes.batch * sizes.heads * split.splits, kThreads<W>,
                       (kOutShared<T, W>), queue, q, to, context, normalizer, shrink_of(sizes, map), scale, split);
  return cudaGetLastError();
}

}  // namespace
}  // namespace attention

int64_t linear_attention_forward_scratch(const linear_attention::Sizes& sizes) {
  const int64_t size = attention::partial_size(sizes.features, sizes.width);
  return sizes.batch * sizes.heads * attention::splits_of(sizes) * size;
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
