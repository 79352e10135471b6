// A window of 11 takes 92 multiply-adds of float for each pixel (44 along a column, of which a tile's halo makes 48,
// and 44 along a row), and 8 bytes: on an H100 or H200 the arithmetic is the longer of the two, so registers and shared
// memory are used to keep other instructions few. Per window, 17 bytes go into shared memory and 36 come back.
#include "cuda/ssim.h"

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/launch.h"
#include "cuda/ssim_call.h"

namespace iqazoo::cuda {
namespace {

// Both images at half the size.
template <typename T>
struct Pooled {
  T* x;
  T* y;
  int shift_y, shift_x;
  bool replicate;
};

// The mean of the block of 2 x 2 pixels that starts at (row, column); one before the border may not be there.
template <typename T>
__device__ T pooled_pixel(const T* image, int row, int column, int64_t width, bool replicate) {
  Computed<T> sum = 0;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int i = row + k / 2, j = column + k % 2;
    if (!replicate && (i < 0 || j < 0)) continue;
    sum += wide(image[(i < 0 ? 0 : i) * width + (j < 0 ? 0 : j)]);
  }
  return rounded<T>(sum / 4);
}

// This tile's share of the pooled images: the plane's are dealt out to its tiles, as near as can be to those whose
// pixels they average, so that these are in cache.
template <typename T>
__device__ void pool(const SsimCall<T>& call, const Pooled<T>& pooled) {
  const Tiling& tiling = call.tiling;
  const int64_t height = (tiling.height + pooled.shift_y) / 2, width = (tiling.width + pooled.shift_x) / 2;
  const auto top = static_cast<int>(tiling.down() * height / tiling.tiles_down);
  const auto bottom = static_cast<int>((tiling.down() + 1) * height / tiling.tiles_down);
  const auto left = static_cast<int>(tiling.across() * width / tiling.tiles_across);
  const auto right = static_cast<int>((tiling.across() + 1) * width / tiling.tiles_across);
  const int64_t from = tiling.plane() * tiling.height * tiling.width, to = tiling.plane() * height * width;
  for (int i = top; i < bottom; ++i) {
    for (int j = left + static_cast<int>(threadIdx.x); j < right; j += kColumns) {
      const int row = 2 * i - pooled.shift_y, column = 2 * j - pooled.shift_x;
      const int64_t at = to + i * width + j;
      pooled.x[at] = pooled_pixel(call.x + from, row, column, tiling.width, pooled.replicate);
      pooled.y[at] = pooled_pixel(call.y + from, row, column, tiling.width, pooled.replicate);
    }
  }
}

// Adds what windows give. A thread meets a few of each only: no more than its own type can add up.
template <typename C>
struct Adder {
  ssim::Constants<C> constants;
  const uint8_t* counted;
  int64_t columns;
  C index = 0, structure = 0;

  __device__ void operator()(int i, int j, int count, const C (&sum)[kMoments][kRun]) {
    const bool all = count == kRun && !counted;  // nearly always, and then there is no branch in the loop
#pragma unroll
    for (int r = 0; all && r < kRun; ++r) add(sum[0][r], sum[1][r], sum[2][r], sum[3][r]);
#pragma unroll
    for (int r = 0; r < kRun; ++r) {
      if (all || r >= count || (counted && !counted[i * columns + j + r])) continue;
      add(sum[0][r], sum[1][r], sum[2][r], sum[3][r]);
    }
  }

  __device__ void add(C s, C e, C ss, C ee) {
    const ssim::Terms<C> here = ssim::terms(ssim::quotients<C>({s, e, ss, ee}, constants));
    index += here.index;
    structure += here.structure;
  }
};

template <typename C>
struct Writer {
  ssim::Constants<C> constants;
  C* index;  // of this plane
  C* structure;
  int64_t columns;

  __device__ void operator()(int i, int j, const C (&sum)[kMoments]) {
    const ssim::Terms<C> here = ssim::terms(ssim::quotients({sum[0], sum[1], sum[2], sum[3]}, constants));
    if (index) index[i * columns + j] = here.index;
    if (structure) structure[i * columns + j] = here.structure;
  }
};

// One block per tile.
template <int window, typename T>
__global__ void __launch_bounds__(kColumns, kBlocks<T>)
    sum_tiles(const __grid_constant__ SsimCall<T> call, const __grid_constant__ Pooled<T> pooled, TileSums* partial) {
  using C = Computed<T>;
  constexpr int rows = kTileRows<C, kMoments>;
  IQAZOO_SHARED(Four<C>, tile, kMoments * rows * kPitch / 4);
  if (pooled.x) pool(call, pooled);
  const PixelPair<T> pixels(call.tiling, call.taps.size, call.x, call.y);
  const Pivot<C> pivot = moments_of_columns<window, rows>(call, pixels, tile);
  Adder<C> adder{{pivot.s, pivot.e, call.c1, call.c2}, call.counted_here(), call.tiling.columns};
  filter_rows<window, kMoments, rows>(call.tiling, call.taps, tile, adder);
  const double index = block_sum<kColumns>(static_cast<double>(adder.index));
  const double structure = block_sum<kColumns>(static_cast<double>(adder.structure));
  if (threadIdx.x == 0) partial[call.tiling.tile()] = {index, structure};
}

// One block per tile.
template <int window, typename T>
__global__ void __launch_bounds__(kColumns, kBlocks<T>)
    write_tiles(const __grid_constant__ SsimCall<T> call, Computed<T>* index, Computed<T>* structure) {
  using C = Computed<T>;
  constexpr int rows = kTileRows<C, kMoments>;
  IQAZOO_SHARED(Four<C>, tile, kMoments * rows * kPitch / 4);
  const PixelPair<T> pixels(call.tiling, call.taps.size, call.x, call.y);
  const Pivot<C> pivot = moments_of_columns<window, rows>(call, pixels, tile);
  const int64_t plane = call.tiling.plane() * call.tiling.results();
  Writer<C> writer{{pivot.s, pivot.e, call.c1, call.c2},
                   index ? index + plane : nullptr,
                   structure ? structure + plane : nullptr,
                   call.tiling.columns};
  filter_rows_for_writing<window, kMoments, rows, false>(call.tiling, call.taps, tile, writer);
}

template <int window, typename T>
int launch_forward(SsimCall<T> call, const Pooled<T>& pooled, Computed<T>* index, Computed<T>* structure,
                   TileSums* partial, int64_t batch, cudaStream_t queue) {
  const int64_t planes = batch * call.channels;
  const bool map = call.reduction == Reduction::kMap;
  const int failed = in_turn(planes, planes, [&](int64_t first, int64_t count) {
    call.tiling.first_plane = first;
    const dim3 grid = grid_of(call.tiling, count);
    if (map) {
      IQAZOO_LAUNCH((write_tiles<window, T>), grid, kColumns, queue, call, index, structure);
    } else {
      IQAZOO_LAUNCH((sum_tiles<window, T>), grid, kColumns, queue, call, pooled, partial);
    }
    return cudaGetLastError();
  });
  if (failed || map) return failed;
  const int64_t results = call.reduction == Reduction::kImage ? batch : planes;
  if (results == 0) return cudaSuccess;
  IQAZOO_LAUNCH(mean_of_tiles<T>, results, kSumThreads, queue, call, partial, index, structure);
  return cudaGetLastError();
}

}  // namespace

int64_t ssim_partials(int64_t planes, int64_t height, int64_t width, int window, int padding) {
  // The lowest tiles, those of double, are the most.
  return 2 * planes * windows_tiling(height, width, window, padding, kTileRows<double, kMoments>).tiles();
}

template <typename T>
int ssim_forward(const T* x, const T* y, const uint8_t* counted, const int64_t* counts, Computed<T>* index,
                 Computed<T>* structure, T* pooled_x, T* pooled_y, double* partial, int64_t batch, int64_t channels,
                 int64_t height, int64_t width, int window, double sigma, int padding, double c1, double c2,
                 int reduction, int shift_y, int shift_x, bool replicate, int device, void* stream) {
  if (const cudaError_t failed = cudaSetDevice(device)) return failed;
  if (!fits(batch * channels, height, width, window)) return cudaErrorInvalidValue;
  const SsimCall<T> call =
      ssim_call(x, y, counted, counts, channels, height, width, window, sigma, padding, c1, c2, reduction);
  if (!fits_a_grid(call.tiling)) return cudaErrorInvalidConfiguration;
  const Pooled<T> pooled{pooled_x, pooled_y, shift_y, shift_x, replicate};
  const auto sums = reinterpret_cast<TileSums*>(partial);
  const auto queue = static_cast<cudaStream_t>(stream);
  if (window == kFastWindow) return launch_forward<kFastWindow>(call, pooled, index, structure, sums, batch, queue);
  return launch_forward<0>(call, pooled, index, structure, sums, batch, queue);
}

#define IQAZOO_INSTANTIATE(T)                                                                                       \
  template int ssim_forward(const T*, const T*, const uint8_t*, const int64_t*, Computed<T>*, Computed<T>*, T*, T*, \
                            double*, int64_t, int64_t, int64_t, int64_t, int, double, int, double, double, int, int, \
                            int, bool, int, void*);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
IQAZOO_INSTANTIATE(bfloat16)
IQAZOO_INSTANTIATE(float16)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cuda
