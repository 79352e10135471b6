// The backward pass, which maps queries and keys again: queries and the output's gradient are read once into the
// gradients of the queries and of the context, keys and values once into theirs. What has to move is seven tensors.
// Since sum_n w[n] (dC . v[n]) = dC . C for the weights w of a feature, softmax over positions needs no further pass.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "cuda/linear_attention.h"
#include "cuda/linear_attention_keys.h"
#include "cuda/linear_attention_queries.h"

namespace iqazoo::cuda {
namespace attention {
namespace {

constexpr int kMergeThreads = 128;

// One warp per feature of a head; adds the parts in their order and multiplies them by `factor`.
template <bool softmax>
__global__ void __launch_bounds__(kMergeThreads)
    merge_gradients(const float* partial, const float* context, Merged merged, int64_t rows, int features, int width,
                    int64_t splits, float factor) {
  const int64_t row = blockIdx.x * static_cast<int64_t>(kMergeThreads / kLanes) + threadIdx.x / kLanes;
  if (row >= rows) return;
  const int64_t size = gradient_size(features, width), d = row % features;
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

struct Scratch {
  float* partial;
  Merged merged;

  Scratch(float* memory, const Sizes& sizes) {
    const int64_t heads = sizes.batch * sizes.heads, rows = heads * sizes.features;
    partial = memory;
    merged.context = partial + heads * sum_splits_of(sizes) * gradient_size(sizes.features, sizes.width);
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
  const Split split(sizes, sizes.columns, kPositions<T>, splits_of(sizes, kResidentKeys<T, W>));
  if (split.tiles == 0) return cudaSuccess;
  if (!fits_a_grid(sizes.batch * sizes.heads * split.splits)) return cudaErrorInvalidConfiguration;
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
  const Split split(sizes, 0, kPositions<T>, sum_splits_of(sizes));
  const int64_t heads = sizes.batch * sizes.heads, rows = heads * sizes.features;
  if (!fits_a_grid(heads * split.splits) || !fits_a_grid(rows)) return cudaErrorInvalidConfiguration;
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
  return rows * (attention::sum_splits_of(sizes) * (sizes.width + 1) + sizes.width + 2);
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
