#include "cuda/windowed_moments.h"

#include <cuda_runtime.h>

#include <cstdint>

#include "common/ssim.h"
#include "cuda/launch.h"
#include "cuda/pixel_pair.h"
#include "cuda/window_call.h"
#include "cuda/window_filter.h"

namespace iqazoo::cuda {
namespace {

constexpr int kFastWindow = 11;
constexpr int kMoments = 5;
constexpr int kGathered = 3;  // maps

// How many blocks a multiprocessor should hold: registers for that many are what the compiler may use.
template <typename T>
constexpr int kBlocks = sizeof(Computed<T>) == 8 ? 2 : 4;
template <typename T>
constexpr int kGatherBlocks = sizeof(Computed<T>) == 8 ? 2 : 3;  // three maps at once want more

template <typename T>
struct MomentsCall {
  const T* x;
  const T* y;
  Tiling tiling;
  Taps<Computed<T>> taps;
  int stride;
  int64_t stored_rows, stored_columns;  // of each result

  __device__ bool wanted(int i, int j) const { return i % stride == 0 && j % stride == 0; }
  __device__ int64_t place_of(int i, int j) const {
    return (tiling.plane() * stored_rows + i / stride) * stored_columns + j / stride;
  }
};

// The first `channels` of x, y, x^2, y^2 and x y, all less a pivot.
template <typename T, int channels>
struct Products {
  using C = Computed<T>;
  static constexpr bool kFolds = false;

  const PixelPair<T>& pixels;
  Pair<C> pivot;

  __device__ bool interior(int first, int rows) const { return pixels.interior(first, rows); }

  template <bool interior>
  __device__ void load(int row, C (&value)[channels]) const {
    const Pair<C> pixel = pixels.template read<interior>(row);
    value[0] = pixel.x - pivot.x;
    value[1] = pixel.y - pivot.y;
    if constexpr (channels == kMoments) {
      value[2] = value[0] * value[0];
      value[3] = value[1] * value[1];
      value[4] = value[0] * value[1];
    }
  }
};

template <typename T>
struct Results {
  Computed<T>* mean_x;
  Computed<T>* mean_y;
  Computed<T>* var_x;
  Computed<T>* var_y;
  Computed<T>* cov;
};

template <typename T>
struct MomentsWriter {
  using C = Computed<T>;
  const MomentsCall<T>& call;
  const Results<T>& results;
  Pair<C> pivot;

  __device__ void operator()(int i, int j, const C (&mean)[kMoments]) {
    if (!call.wanted(i, j)) return;
    const int64_t at = call.place_of(i, j);
    results.mean_x[at] = mean[0] + pivot.x;
    results.mean_y[at] = mean[1] + pivot.y;
    results.var_x[at] = ssim::not_negative(mean[2] - mean[0] * mean[0]);
    results.var_y[at] = ssim::not_negative(mean[3] - mean[1] * mean[1]);
    results.cov[at] = mean[4] - mean[0] * mean[1];
  }
};

// One block per tile of windows.
template <int window, typename T>
__global__ void __launch_bounds__(kColumns, kBlocks<T>)
    write_moments(const __grid_constant__ MomentsCall<T> call, const __grid_constant__ Results<T> results) {
  using C = Computed<T>;
  constexpr int rows = kTileRows<C, kMoments>;
  IQAZOO_SHARED(Four<C>, tile, kMoments * rows * kPitch / 4);
  const PixelPair<T> pixels(call.tiling, call.taps.size, call.x, call.y);
  const Pair<C> pivot = pixels.tile_pivot(call.tiling.down() * rows - call.tiling.lead, rows);
  filter_columns<window, kMoments, rows>(call.tiling, call.taps, Products<T, kMoments>{pixels, pivot}, tile);
  __syncthreads();
  MomentsWriter<T> writer{call, results, pivot};
  filter_rows_for_writing<window, kMoments, rows, false>(call.tiling, call.taps, tile, writer);
}

template <typename T>
struct Incoming {
  const Computed<T>* mean_x;
  const Computed<T>* mean_y;
  const Computed<T>* var_x;
  const Computed<T>* var_y;
  const Computed<T>* cov;
};

// With gradients m by the mean, v by the variance of x and c by the covariance,
//     d / dx = sum over windows of w (m + 2 v (x - mean_x) + c (y - mean_y))
// and what does not depend on the pixel is the window's part; means, x and y are less a pivot, the plane's.
template <typename T>
struct PartWriter {
  using C = Computed<T>;
  const MomentsCall<T>& call;
  const Incoming<T>& incoming;
  Pair<C> shift;
  C* part_x;
  C* part_y;

  __device__ void operator()(int i, int j, const C (&mean)[2]) {
    if (!call.wanted(i, j)) return;
    const int64_t at = call.place_of(i, j);
    const C x = mean[0] + shift.x, y = mean[1] + shift.y, by_cov = incoming.cov[at];
    part_x[at] = incoming.mean_x[at] - 2 * incoming.var_x[at] * x - by_cov * y;
    part_y[at] = incoming.mean_y[at] - 2 * incoming.var_y[at] * y - by_cov * x;
  }
};

// One block per tile of windows.
template <int window, typename T>
__global__ void __launch_bounds__(kColumns, kBlocks<T>)
    write_parts(const __grid_constant__ MomentsCall<T> call, const __grid_constant__ Incoming<T> incoming,
                Computed<T>* part_x, Computed<T>* part_y) {
  using C = Computed<T>;
  constexpr int rows = kTileRows<C, 2>;
  IQAZOO_SHARED(Four<C>, tile, 2 * rows * kPitch / 4);
  const PixelPair<T> pixels(call.tiling, call.taps.size, call.x, call.y);
  const Pair<C> plane = pixels.plane_pivot();
  const Pair<C> pivot = pixels.tile_pivot(call.tiling.down() * rows - call.tiling.lead, rows);
  filter_columns<window, 2, rows>(call.tiling, call.taps, Products<T, 2>{pixels, pivot}, tile);
  __syncthreads();
  PartWriter<T> writer{call, incoming, {pivot.x - plane.x, pivot.y - plane.y}, part_x, part_y};
  filter_rows_for_writing<window, 2, rows, false>(call.tiling, call.taps, tile, writer);
}

// The gradient by one image, whose variance's gradient is the first map; call.x is that image, call.y the other.
template <typename T>
struct GradientWriter {
  using C = Computed<T>;
  const MomentsCall<T>& call;
  Pair<C> pivot;
  T* gradient;

  __device__ void operator()(int i, int j, const C (&sum)[kGathered]) {
    const int64_t at = (call.tiling.plane() * call.tiling.rows + i) * call.tiling.columns + j;
    const C x = wide(call.x[at]) - pivot.x, y = wide(call.y[at]) - pivot.y;
    gradient[at] = rounded<T>(2 * x * sum[0] + y * sum[1] + sum[2]);
  }
};

// One block per tile of pixels; call.tiling is that of pixels.
template <int window, bool strided, typename T>
__global__ void __launch_bounds__(kColumns, kGatherBlocks<T>)
    gather_parts(const __grid_constant__ MomentsCall<T> call, const Computed<T>* by_var, const Computed<T>* by_cov,
                 const Computed<T>* part, T* gradient) {
  using C = Computed<T>;
  constexpr int rows = kTileRows<C, kGathered>;
  IQAZOO_SHARED(Four<C>, tile, kGathered * rows * kPitch / 4);
  auto source = maps_here<C, kGathered, strided>(call.tiling, call.taps.size, call.stride);
  const int64_t plane = call.tiling.plane() * call.stored_rows * call.stored_columns;
  source.map[0] = by_var + plane;
  source.map[1] = by_cov + plane;
  source.map[2] = part + plane;
  Tiling pixels = call.tiling;  // their planes, for the pivot that write_parts subtracted
  pixels.height = call.tiling.rows;
  pixels.width = call.tiling.columns;
  GradientWriter<T> writer{call, PixelPair<T>(pixels, call.taps.size, call.x, call.y).plane_pivot(), gradient};
  filter_columns<window, kGathered, rows>(call.tiling, call.taps, source, tile);
  __syncthreads();
  filter_rows_for_writing<window, kGathered, rows, true>(call.tiling, call.taps, tile, writer);
}

template <typename T>
MomentsCall<T> moments_call(const T* x, const T* y, int64_t height, int64_t width, int window, double sigma, int stride,
                            int padding, int tile_rows) {
  const Tiling tiling = windows_tiling(height, width, window, padding, tile_rows);
  return {x, y, tiling, make_taps<Computed<T>>(window, sigma), stride, (tiling.rows - 1) / stride + 1,
          (tiling.columns - 1) / stride + 1};
}

// What each of the two images gets; `call` is that of write_parts with x and y in its order.
template <int window, typename T>
int launch_gather(const MomentsCall<T>& call, const Computed<T>* by_var, const Computed<T>* by_cov,
                  const Computed<T>* part, T* gradient, int64_t planes, cudaStream_t queue) {
  MomentsCall<T> back = call;
  back.tiling = pixels_tiling(call.tiling, call.taps.size, kTileRows<Computed<T>, kGathered>);
  if (!fits_a_grid(back.tiling)) return cudaErrorInvalidConfiguration;
  return in_turn(planes, planes, [&](int64_t first, int64_t count) {
    back.tiling.first_plane = first;
    const dim3 grid = grid_of(back.tiling, count);
    // Mirrored pixels and gaps between windows take the general loops.
    if (call.stride > 1) {
      IQAZOO_LAUNCH((gather_parts<0, true, T>), grid, kColumns, queue, back, by_var, by_cov, part, gradient);
    } else if (call.tiling.padding == Padding::kReflect) {
      IQAZOO_LAUNCH((gather_parts<0, false, T>), grid, kColumns, queue, back, by_var, by_cov, part, gradient);
    } else {
      IQAZOO_LAUNCH((gather_parts<window, false, T>), grid, kColumns, queue, back, by_var, by_cov, part, gradient);
    }
    return cudaGetLastError();
  });
}

template <int window, typename T>
int launch_backward(MomentsCall<T> call, const Incoming<T>& incoming, T* grad_x, T* grad_y, Computed<T>* parts,
                    int64_t planes, cudaStream_t queue) {
  if (!fits_a_grid(call.tiling)) return cudaErrorInvalidConfiguration;
  Computed<T>* const part_y = parts + planes * call.stored_rows * call.stored_columns;
  int failed = in_turn(planes, planes, [&](int64_t first, int64_t count) {
    call.tiling.first_plane = first;
    const dim3 grid = grid_of(call.tiling, count);
    IQAZOO_LAUNCH((write_parts<window, T>), grid, kColumns, queue, call, incoming, parts, part_y);
    return cudaGetLastError();
  });
  if (grad_x && !failed) {
    failed = launch_gather<window>(call, incoming.var_x, incoming.cov, parts, grad_x, planes, queue);
  }
  if (failed) return failed;
  if (!grad_y) return cudaSuccess;
  MomentsCall<T> swapped = call;
  swapped.x = call.y;
  swapped.y = call.x;
  return launch_gather<window>(swapped, incoming.var_y, incoming.cov, part_y, grad_y, planes, queue);
}

}  // namespace

template <typename T>
int windowed_moments_forward(const T* x, const T* y, Computed<T>* mean_x, Computed<T>* mean_y, Computed<T>* var_x,
                             Computed<T>* var_y, Computed<T>* cov, int64_t batch, int64_t channels, int64_t height,
                             int64_t width, int window, double sigma, int stride, int padding, int device,
                             void* stream) {
  if (const cudaError_t failed = cudaSetDevice(device)) return failed;
  const auto queue = static_cast<cudaStream_t>(stream);
  const int64_t planes = batch * channels;
  if (planes == 0) return cudaSuccess;
  if (!fits(planes, height, width, window) || stride < 1) return cudaErrorInvalidValue;
  auto call = moments_call(x, y, height, width, window, sigma, stride, padding, kTileRows<Computed<T>, kMoments>);
  const Results<T> results{mean_x, mean_y, var_x, var_y, cov};
  if (!fits_a_grid(call.tiling)) return cudaErrorInvalidConfiguration;
  return in_turn(planes, planes, [&](int64_t first, int64_t count) {
    call.tiling.first_plane = first;
    const dim3 grid = grid_of(call.tiling, count);
    if (window == kFastWindow) {
      IQAZOO_LAUNCH((write_moments<kFastWindow, T>), grid, kColumns, queue, call, results);
    } else {
      IQAZOO_LAUNCH((write_moments<0, T>), grid, kColumns, queue, call, results);
    }
    return cudaGetLastError();
  });
}

template <typename T>
int windowed_moments_backward(const T* x, const T* y, const Computed<T>* grad_mean_x, const Computed<T>* grad_mean_y,
                              const Computed<T>* grad_var_x, const Computed<T>* grad_var_y,
                              const Computed<T>* grad_cov, T* grad_x, T* grad_y, Computed<T>* parts, int64_t batch,
                              int64_t channels, int64_t height, int64_t width, int window, double sigma, int stride,
                              int padding, int device, void* stream) {
  if (const cudaError_t failed = cudaSetDevice(device)) return failed;
  const auto queue = static_cast<cudaStream_t>(stream);
  const int64_t planes = batch * channels;
  if (planes == 0) return cudaSuccess;
  if (!fits(planes, height, width, window) || stride < 1) return cudaErrorInvalidValue;
  const auto call = moments_call(x, y, height, width, window, sigma, stride, padding, kTileRows<Computed<T>, 2>);
  const Incoming<T> incoming{grad_mean_x, grad_mean_y, grad_var_x, grad_var_y, grad_cov};
  if (window == kFastWindow) return launch_backward<kFastWindow>(call, incoming, grad_x, grad_y, parts, planes, queue);
  return launch_backward<0>(call, incoming, grad_x, grad_y, parts, planes, queue);
}

#define IQAZOO_INSTANTIATE(T)                                                                                        \
  template int windowed_moments_forward(const T*, const T*, Computed<T>*, Computed<T>*, Computed<T>*, Computed<T>*,  \
                                        Computed<T>*, int64_t, int64_t, int64_t, int64_t, int, double, int, int, int, \
                                        void*);                                                                      \
  template int windowed_moments_backward(const T*, const T*, const Computed<T>*, const Computed<T>*,                 \
                                         const Computed<T>*, const Computed<T>*, const Computed<T>*, T*, T*,         \
                                         Computed<T>*, int64_t, int64_t, int64_t, int64_t, int, double, int, int,    \
                                         int, void*);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
IQAZOO_INSTANTIATE(bfloat16)
IQAZOO_INSTANTIATE(float16)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cuda
