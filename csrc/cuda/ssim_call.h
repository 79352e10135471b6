// What the kernels of SSIM share: their arguments, and the mean over tiles.
#pragma once

#include <cstdint>

#include "common/half.h"
#include "common/ssim.h"
#include "cuda/pixel_pair.h"
#include "cuda/reduce.h"
#include "cuda/window_call.h"
#include "cuda/window_filter.h"

namespace iqazoo::cuda {

using ssim::Reduction;

constexpr int kFastWindow = 11;  // everyone's; its loops are unrolled
constexpr int kMoments = 4;
constexpr int kSumThreads = 512;  // an image of 1920 x 1080 has 3417 tiles

// How many blocks of a kernel a multiprocessor should hold: registers for that many are what the compiler may use.
template <typename T>
constexpr int kBlocks = sizeof(T) == 8 ? 2 : sizeof(T) == 2 ? 4 : 5;

template <typename T>
struct SsimCall {
  const T* x;
  const T* y;
  const uint8_t* counted;  // [batch, rows, columns], which windows count; or null: all
  const int64_t* counts;   // [batch], how many of an image
  Tiling tiling;
  Taps<Computed<T>> taps;
  int channels;
  Computed<T> c1, c2;
  Reduction reduction;

  // Of which image's windows this block's plane takes its share, and which of all results is theirs.
  __device__ const uint8_t* counted_here() const {
    return counted ? counted + tiling.plane() / channels * tiling.results() : nullptr;
  }
  __device__ int64_t result_here() const {
    return reduction == Reduction::kImage ? tiling.plane() / channels : tiling.plane();
  }
  // How many windows a result is the mean of.
  __device__ double windows_of(int64_t result) const {
    const bool image = reduction == Reduction::kImage;
    const int64_t windows = counted ? counts[image ? result : result / channels] : tiling.results();
    return static_cast<double>(image ? channels * windows : windows);
  }
};

// The sums of one block's tile.
struct TileSums {
  double index, structure;
};

// One block per result: the means of its planes' tiles; each is written unless null.
template <typename T>
static __global__ void mean_of_tiles(const __grid_constant__ SsimCall<T> call, const TileSums* partial,
                                     Computed<T>* index, Computed<T>* structure) {
  const int64_t tiles = call.tiling.tiles() *
                        (call.reduction == Reduction::kImage ? call.channels : 1);
  double index_sum = 0, structure_sum = 0;
  for (int64_t i = threadIdx.x; i < tiles; i += kSumThreads) {
    const TileSums sums = partial[blockIdx.x * tiles + i];
    index_sum += sums.index;
    structure_sum += sums.structure;
  }
  const double index_total = block_sum<kSumThreads>(index_sum);
  const double structure_total = block_sum<kSumThreads>(structure_sum);
  if (threadIdx.x != 0) return;
  const double windows = call.windows_of(blockIdx.x);
  if (index) index[blockIdx.x] = static_cast<Computed<T>>(index_total / windows);
  if (structure) structure[blockIdx.x] = static_cast<Computed<T>>(structure_total / windows);
}

// What is subtracted from s = x + y and e = x - y before they are squared.
template <typename C>
struct Pivot {
  C s, e;

  __device__ explicit Pivot(Pair<C> of) : s(of.x + of.y), e(of.x - of.y) {}
};

// What is filtered: s and e less a pivot, and their squares.
template <typename T>
struct SumAndDifference {
  using C = Computed<T>;
  static constexpr bool kFolds = false;

  const PixelPair<T>& pixels;
  Pivot<C> pivot;

  __device__ bool interior(int first, int rows) const { return pixels.interior(first, rows); }

  template <bool interior>
  __device__ void load(int row, C (&value)[kMoments]) const {
    const Pair<C> pixel = pixels.template read<interior>(row);
    value[0] = pixel.x + pixel.y - pivot.s;
    value[1] = pixel.x - pixel.y - pivot.e;
    value[2] = value[0] * value[0];
    value[3] = value[1] * value[1];
  }
};

// The first half of a kernel: a tile's columns are filtered; gives what was subtracted from them.
template <int window, int rows, typename T>
__device__ Pivot<Computed<T>> moments_of_columns(const SsimCall<T>& call, const PixelPair<T>& pixels,
                                                 Four<Computed<T>>* tile) {
  const int first = call.tiling.down() * rows - call.tiling.lead;
  const SumAndDifference<T> source{pixels, Pivot<Computed<T>>(pixels.tile_pivot(first, rows))};
  filter_columns<window, kMoments, rows>(call.tiling, call.taps, source, tile);
  __syncthreads();
  return source.pivot;
}

template <typename T>
SsimCall<T> ssim_call(const T* x, const T* y, const uint8_t* counted, const int64_t* counts, int64_t channels,
                      int64_t height, int64_t width, int window, double sigma, int padding, double c1, double c2,
                      int reduction) {
  using C = Computed<T>;
  const Tiling tiling = windows_tiling(height, width, window, padding, kTileRows<C, kMoments>);
  return {x,  y, counted, counts, tiling, make_taps<C>(window, sigma), static_cast<int>(channels), static_cast<C>(c1),
          static_cast<C>(c2), static_cast<Reduction>(reduction)};
}

}  // namespace iqazoo::cuda
