#include "cuda/feature_distance.h"

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "cuda/launch.h"
#include "cuda/reduce.h"

namespace iqazoo::cuda {
namespace {

constexpr int kLanes = 32;
constexpr int kFewWarps = 8, kManyWarps = 16;  // of a block; many where a position has many channels
constexpr int64_t kFewChannels = 128;
constexpr int kMergeThreads = 256;
constexpr int64_t kParts = 2048;  // into which a batch's positions are cut at most, but for one of each image
constexpr int64_t kFewestTiles = 2;
constexpr int kRows = 4;          // positions that a warp takes together where the channels are last

int64_t tiles_of(int64_t positions) { return (positions + kLanes - 1) / kLanes; }

// Tiles of 32 positions, in the order of an image, that one block adds up.
int64_t tiles_each(int64_t batch, int64_t positions) {
  const int64_t parts = batch < kParts ? kParts / (batch > 0 ? batch : 1) : 1;
  const int64_t each = (tiles_of(positions) + parts - 1) / parts;
  return each > kFewestTiles ? each : kFewestTiles;
}

int64_t parts_of(int64_t batch, int64_t positions) {
  const int64_t each = tiles_each(batch, positions);
  return (tiles_of(positions) + each - 1) / each;
}

bool fits_a_grid(int64_t blocks) { return blocks <= INT32_MAX; }

template <typename T>
struct Forward {
  FeaturePair<T> pair;
  const Computed<T>* weight;
  const Computed<T>* at_positions;
  Computed<T>* map;
  Computed<T>* lengths;
  double* values;  // [batch, parts], or null
  double* means;   // [batch, parts, channels], or null
  int64_t parts, each;
};

template <typename T>
struct Backward {
  FeaturePair<T> pair;
  const Computed<T>* of_channels;
  const Computed<T>* at_positions;
  const Computed<T>* lengths;
  T* grad_image;
  T* grad_reference;
};

// The sum over a warp, the same in each of its lanes.
template <typename Sum>
__device__ Sum warp_sum(Sum value) {
  for (int other = kLanes / 2; other > 0; other /= 2) value += __shfl_xor_sync(~0u, value, other);
  return value;
}

template <typename Sum>
struct Two {
  Sum first, second;
};

// Sums over the warps of a block of what each lane brings, in the warps' order: all warps get those of each lane.
template <int warps, typename Sum>
__device__ Two<Sum> over_warps(Sum first, Sum second) {
  IQAZOO_SHARED(Sum, sums, 2 * warps * kLanes);
  const int lane = threadIdx.x % kLanes;
  __syncthreads();  // the sums before these have been read
  sums[threadIdx.x] = first;
  sums[warps * kLanes + threadIdx.x] = second;
  __syncthreads();
  Two<Sum> total = {0, 0};
  for (int warp = 0; warp < warps; ++warp) {
    total.first += sums[warp * kLanes + lane];
    total.second += sums[(warps + warp) * kLanes + lane];
  }
  return total;
}

// One block per part of an image in planes. A lane is a position; warps take the channels in turn, twice, the second
// time from a cache.
template <int warps, typename T>
__global__ void __launch_bounds__(warps* kLanes, 2) forward_planes(Forward<T> call) {
  using C = Computed<T>;
  const FeaturePair<T>& pair = call.pair;
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int64_t b = blockIdx.x / call.parts, part = blockIdx.x % call.parts, positions = pair.positions;
  const T* image = pair.image + b * pair.image_step;
  const T* reference = pair.reference + b * pair.reference_step;
  const int64_t end = (part + 1) * call.each * kLanes;
  double value = 0;
  for (int64_t start = part * call.each * kLanes; start < end && start < positions; start += kLanes) {
    const int64_t p = start + lane;
    const bool valid = p < positions;
    C squares0 = 0, squares1 = 0;
    for (int64_t c = warp; valid && c < pair.channels; c += warps) {
      const C x = wide(image[c * positions + p]), y = wide(reference[c * positions + p]);
      squares0 += x * x;
      squares1 += y * y;
    }
    const Two<C> squares = over_warps<warps>(squares0, squares1);
    const C length0 = std::sqrt(squares.first), length1 = std::sqrt(squares.second);
    if (call.lengths && valid && warp == 0) {
      call.lengths[2 * b * positions + p] = length0;
      call.lengths[(2 * b + 1) * positions + p] = length1;
    }
    const UnitDifference<C> unit(over_length(length0, pair.eps), over_length(length1, pair.eps));
    const C factor = call.at_positions && valid ? call.at_positions[b * positions + p] : C(1);
    C weighted = 0;
    for (int64_t c = warp; c < pair.channels; c += warps) {
      const C u = valid ? unit(wide(image[c * positions + p]), wide(reference[c * positions + p])) : C(0);
      const C square = u * u;
      if (call.weight) weighted += square * call.weight[c];
      if (!call.means) continue;
      const C of_channel = warp_sum(valid ? square * factor : C(0));
      double& mean = call.means[blockIdx.x * pair.channels + c];
      if (lane == 0) mean = start == part * call.each * kLanes ? of_channel : mean + of_channel;
    }
    if (valid) value += weighted;
    if (!call.map) continue;
    const C at_position = over_warps<warps>(weighted, C(0)).first;
    if (valid && warp == 0) call.map[b * positions + p] = at_position;
  }
  if (!call.values) return;
  const double total = block_sum<warps * kLanes>(value);
  if (threadIdx.x == 0) call.values[blockIdx.x] = total;
}

// One block per part of an image with the channels last. A warp takes some positions, a lane every 32nd channel.
template <typename T>
__global__ void __launch_bounds__(kFewWarps* kLanes) forward_rows(Forward<T> call) {
  using C = Computed<T>;
  const FeaturePair<T>& pair = call.pair;
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int64_t b = blockIdx.x / call.parts, part = blockIdx.x % call.parts, channels = pair.channels;
  const T* image = pair.image + b * pair.image_step;
  const T* reference = pair.reference + b * pair.reference_step;
  const int64_t first = part * call.each * kLanes + warp * kRows;
  const int64_t stop = (part + 1) * call.each * kLanes, end = stop < pair.positions ? stop : pair.positions;
  double value = 0;
  bool begun = false;
  for (int64_t start = first; start < stop; start += kFewWarps * kRows) {
    UnitDifference<C> units[kRows];
    C factors[kRows], weighted[kRows];
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      const int64_t p = start + k;
      C squares0 = 0, squares1 = 0;
      for (int64_t c = lane; p < end && c < channels; c += kLanes) {
        const C x = wide(image[p * channels + c]), y = wide(reference[p * channels + c]);
        squares0 += x * x;
        squares1 += y * y;
      }
      const C length0 = std::sqrt(warp_sum(squares0)), length1 = std::sqrt(warp_sum(squares1));
      units[k] = UnitDifference<C>(over_length(length0, pair.eps), over_length(length1, pair.eps));
      factors[k] = p < end && call.at_positions ? call.at_positions[b * pair.positions + p] : C(1);
      weighted[k] = 0;
      if (call.lengths && p < end && lane == 0) {
        call.lengths[2 * b * pair.positions + p] = length0;
        call.lengths[(2 * b + 1) * pair.positions + p] = length1;
      }
    }
    for (int64_t c = lane; c < channels; c += kLanes) {
      C of_channel = 0;
#pragma unroll
      for (int k = 0; k < kRows; ++k) {
        if (start + k >= end) continue;
        const int64_t at = (start + k) * channels + c;
        const C u = units[k](wide(image[at]), wide(reference[at]));
        of_channel += u * u * factors[k];
        if (call.weight) weighted[k] += u * u * call.weight[c];
      }
      if (!call.means) continue;
      double& mean = call.means[(blockIdx.x * int64_t{kFewWarps} + warp) * channels + c];
      mean = begun ? mean + of_channel : of_channel;
    }
    begun = true;
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      value += weighted[k];
      if (!call.map) continue;
      const C at_position = warp_sum(weighted[k]);
      if (start + k < end && lane == 0) call.map[b * pair.positions + start + k] = at_position;
    }
  }
  if (!call.values) return;
  const double total = block_sum<kFewWarps * kLanes>(value);
  if (threadIdx.x == 0) call.values[blockIdx.x] = total;
}

// One block per image.
template <typename T>
__global__ void mean_of_values(const double* values, T* value, int64_t parts, int64_t positions) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < parts; i += kMergeThreads) sum += values[blockIdx.x * parts + i];
  const double total = block_sum<kMergeThreads>(sum);
  if (threadIdx.x == 0) value[blockIdx.x] = static_cast<T>(total / static_cast<double>(positions));
}

// One thread per image and channel.
template <typename T>
__global__ void mean_of_means(const double* partial, T* means, int64_t batch, int64_t channels, int64_t parts,
                              int64_t positions) {
  const int64_t i = blockIdx.x * int64_t{kMergeThreads} + threadIdx.x;
  if (i >= batch * channels) return;
  double total = 0;
  const int64_t start = i / channels * parts * channels + i % channels;
  for (int64_t part = 0; part < parts; ++part) total += partial[start + part * channels];
  means[i] = static_cast<T>(total / static_cast<double>(positions));
}

// What the gradients at one position are made of: of_channels u multiplied by `own`, less f times `radial`.
template <typename C>
struct Slope {
  UnitDifference<C> unit;
  C image_own, reference_own, image_radial, reference_radial;
};

template <typename T>
__device__ UnitDifference<Computed<T>> unit_at(const Backward<T>& call, int64_t b, int64_t p) {
  const Computed<T>* lengths = call.lengths + 2 * b * call.pair.positions + p;
  return UnitDifference<Computed<T>>(over_length(lengths[0], call.pair.eps),
                                     over_length(lengths[call.pair.positions], call.pair.eps));
}

template <typename T>
__device__ Slope<Computed<T>> slope_at(const Backward<T>& call, int64_t b, int64_t p, Two<Computed<T>> dots) {
  using C = Computed<T>;
  const int64_t positions = call.pair.positions;
  const C* lengths = call.lengths + 2 * b * positions + p;
  const C length0 = lengths[0], length1 = lengths[positions];
  const C over0 = over_length(length0, call.pair.eps), over1 = over_length(length1, call.pair.eps);
  const C factor = call.at_positions ? call.at_positions[b * positions + p] : C(1);
  return {UnitDifference<C>(over0, over1), factor * over0, factor * over1,
          factor * radial_part(length0, over0, dots.first), factor * radial_part(length1, over1, dots.second)};
}

// The gradients of one element, at `in` in an image of the maps and at `out` in the gradients.
template <typename T>
__device__ void write_gradients(const Backward<T>& call, const Slope<Computed<T>>& slope, T image, T reference,
                                Computed<T> of_channel, int64_t out) {
  const Computed<T> x = wide(image), y = wide(reference), t = slope.unit(x, y) * of_channel;
  if (call.grad_image) call.grad_image[out] = rounded<T>(t * slope.image_own - x * slope.image_radial);
  if (call.grad_reference) call.grad_reference[out] = rounded<T>(y * slope.reference_radial - t * slope.reference_own);
}

// One block per tile of 32 positions, as forward_planes.
template <int warps, typename T>
__global__ void __launch_bounds__(warps* kLanes) backward_planes(Backward<T> call, int64_t tiles) {
  using C = Computed<T>;
  const FeaturePair<T>& pair = call.pair;
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int64_t b = blockIdx.x / tiles, p = blockIdx.x % tiles * kLanes + lane, positions = pair.positions;
  const bool valid = p < positions;
  const T* image = pair.image + b * pair.image_step + p;
  const T* reference = pair.reference + b * pair.reference_step + p;
  const C* of_channels = call.of_channels + b * pair.channels;
  C dot0 = 0, dot1 = 0;
  if (valid) {
    const UnitDifference<C> unit = unit_at(call, b, p);
    for (int64_t c = warp; c < pair.channels; c += warps) {
      const C x = wide(image[c * positions]), y = wide(reference[c * positions]), t = unit(x, y) * of_channels[c];
      dot0 += t * x;
      dot1 += t * y;
    }
  }
  const Two<C> dots = over_warps<warps>(dot0, dot1);
  if (!valid) return;
  const Slope<C> slope = slope_at(call, b, p, dots);
  for (int64_t c = warp; c < pair.channels; c += warps) {
    const int64_t out = (b * pair.channels + c) * positions + p;
    write_gradients(call, slope, image[c * positions], reference[c * positions], of_channels[c], out);
  }
}

// One warp per position.
template <typename T>
__global__ void __launch_bounds__(kFewWarps* kLanes) backward_rows(Backward<T> call) {
  using C = Computed<T>;
  const FeaturePair<T>& pair = call.pair;
  const int lane = threadIdx.x % kLanes;
  const int64_t index = blockIdx.x * int64_t{kFewWarps} + threadIdx.x / kLanes, channels = pair.channels;
  if (index >= pair.batch * pair.positions) return;
  const int64_t b = index / pair.positions, p = index % pair.positions;
  const T* image = pair.image + b * pair.image_step + p * channels;
  const T* reference = pair.reference + b * pair.reference_step + p * channels;
  const C* of_channels = call.of_channels + b * channels;
  const UnitDifference<C> unit = unit_at(call, b, p);
  C dot0 = 0, dot1 = 0;
  for (int64_t c = lane; c < channels; c += kLanes) {
    const C x = wide(image[c]), y = wide(reference[c]), t = unit(x, y) * of_channels[c];
    dot0 += t * x;
    dot1 += t * y;
  }
  const Two<C> dots = {warp_sum(dot0), warp_sum(dot1)};
  const Slope<C> slope = slope_at(call, b, p, dots);
  for (int64_t c = lane; c < channels; c += kLanes) {
    write_gradients(call, slope, image[c], reference[c], of_channels[c], index * channels + c);
  }
}

template <typename T>
void launch_forward(const Forward<T>& call, int64_t blocks, cudaStream_t queue) {
  if (call.pair.channels_last) {
    IQAZOO_LAUNCH(forward_rows<T>, blocks, kFewWarps * kLanes, queue, call);
  } else if (call.pair.channels <= kFewChannels) {
    IQAZOO_LAUNCH((forward_planes<kFewWarps, T>), blocks, kFewWarps * kLanes, queue, call);
  } else {
    IQAZOO_LAUNCH((forward_planes<kManyWarps, T>), blocks, kManyWarps * kLanes, queue, call);
  }
}

}  // namespace

int64_t feature_distance_partials(int64_t batch, int64_t channels, int64_t positions, bool means) {
  return batch * parts_of(batch, positions) * (1 + (means ? kFewWarps * channels : 0));
}

template <typename T>
int feature_distance(const FeaturePair<T>& pair, const Computed<T>* weight, const Computed<T>* at_positions,
                     Computed<T>* value, Computed<T>* map, Computed<T>* means, Computed<T>* lengths, double* partial,
                     int device, void* stream) {
  if (const cudaError_t failed = cudaSetDevice(device)) return failed;
  const auto queue = static_cast<cudaStream_t>(stream);
  const int64_t parts = parts_of(pair.batch, pair.positions), blocks = pair.batch * parts;
  const int64_t merges = (pair.batch * pair.channels + kMergeThreads - 1) / kMergeThreads;
  if (!fits_a_grid(blocks) || !fits_a_grid(pair.batch) || !fits_a_grid(merges)) return cudaErrorInvalidConfiguration;
  double* part_means = partial + blocks;
  const Forward<T> call{pair,    value || map ? weight : nullptr, at_positions, map, lengths, value ? partial : nullptr,
                        means ? part_means : nullptr,             parts,        tiles_each(pair.batch, pair.positions)};
  if (blocks > 0) {
    launch_forward(call, blocks, queue);
    if (const cudaError_t failed = cudaGetLastError()) return failed;
  }
  if (value && pair.batch > 0) {
    IQAZOO_LAUNCH(mean_of_values, pair.batch, kMergeThreads, queue, partial, value, parts, pair.positions);
    if (const cudaError_t failed = cudaGetLastError()) return failed;
  }
  if (means && merges > 0) {
    const int64_t slices = parts * (pair.channels_last ? kFewWarps : 1);
    IQAZOO_LAUNCH(mean_of_means, merges, kMergeThreads, queue, part_means, means, pair.batch, pair.channels, slices,
                  pair.positions);
  }
  return cudaGetLastError();
}

template <typename T>
int feature_distance_backward(const FeaturePair<T>& pair, const Computed<T>* of_channels,
                              const Computed<T>* at_positions, const Computed<T>* lengths, T* grad_image,
                              T* grad_reference, int device, void* stream) {
  if (const cudaError_t failed = cudaSetDevice(device)) return failed;
  const auto queue = static_cast<cudaStream_t>(stream);
  const Backward<T> call{pair, of_channels, at_positions, lengths, grad_image, grad_reference};
  const int64_t tiles = tiles_of(pair.positions);
  const int64_t blocks =
      pair.channels_last ? (pair.batch * pair.positions + kFewWarps - 1) / kFewWarps : pair.batch * tiles;
  if (!fits_a_grid(blocks)) return cudaErrorInvalidConfiguration;
  if (blocks == 0) return cudaSuccess;
  if (pair.channels_last) {
    IQAZOO_LAUNCH(backward_rows<T>, blocks, kFewWarps * kLanes, queue, call);
  } else if (pair.channels <= kFewChannels) {
    IQAZOO_LAUNCH((backward_planes<kFewWarps, T>), blocks, kFewWarps * kLanes, queue, call, tiles);
  } else {
    IQAZOO_LAUNCH((backward_planes<kManyWarps, T>), blocks, kManyWarps * kLanes, queue, call, tiles);
  }
  return cudaGetLastError();
}

#define IQAZOO_INSTANTIATE(T)                                                                                       \
  template int feature_distance(const FeaturePair<T>&, const Computed<T>*, const Computed<T>*, Computed<T>*,        \
                                Computed<T>*, Computed<T>*, Computed<T>*, double*, int, void*);                     \
  template int feature_distance_backward(const FeaturePair<T>&, const Computed<T>*, const Computed<T>*,             \
                                         const Computed<T>*, T*, T*, int, void*);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
IQAZOO_INSTANTIATE(bfloat16)
IQAZOO_INSTANTIATE(float16)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cuda
