// Two kernels, for a few planes at a time. One computes what each window gives to its pixels (ssim::Slopes), three
// maps, or four for both images; the other filters these, and so sums over the windows that hold a pixel. One kernel
// for both would move fewer bytes; but its tiles would overlap by two windows, and multiply-adds, more than bytes, are
// what takes the time: 183 per pixel this way, about 280 that way (tiles of 108 x 16, both images). Maps of few planes
// stay in the L2 cache, and memory stays small.
#include "cuda/ssim_gradient.h"

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/launch.h"
#include "cuda/ssim_call.h"

namespace iqazoo::cuda {
namespace {

// What a window gives to its pixels: slopes by s^2 and e^2, and what does not depend on the pixel: by s and by e; or,
// where only one image's gradient is wanted, their sum or difference.
template <typename C, bool both>
struct alignas(both ? 16 : alignof(C)) Given {
  static constexpr int kCount = both ? 4 : 3;
  C value[kCount];
};

// Gradients of the results, as ssim_forward has them; null where there is none.
template <typename C>
struct Incoming {
  const C* index;
  const C* structure;
};

// What windows of this block's plane are multiplied by: one gradient for all of them, or one each.
template <typename C>
struct Upstream {
  const C* each = nullptr;
  C all = 0;

  template <typename T>
  __device__ Upstream(const SsimCall<T>& call, const C* incoming) {
    if (!incoming) return;
    if (call.reduction == Reduction::kMap) {
      each = incoming + call.tiling.plane() * call.tiling.results();
    } else {
      const int64_t result = call.result_here();
      all = static_cast<C>(incoming[result] / call.windows_of(result));
    }
  }

  __device__ C operator()(int64_t window) const { return each ? each[window] : all; }
};

// Writes what the windows of one plane give. If not to both images, then to x, or, where `sign` is -1, to y.
template <typename C, bool both>
struct SlopeWriter {
  ssim::Constants<C> constants;
  C shift_s, shift_e;  // the moments' pivot less that of the gradient
  C sign;
  const uint8_t* counted;
  Upstream<C> by_index, by_structure;
  Given<C, both>* given;
  int64_t columns;
  C index = 0;

  __device__ void operator()(int i, int j, const C (&sum)[kMoments]) {
    const int64_t at = i * columns + j;
    const ssim::Moments<C> moments{sum[0], sum[1], sum[2], sum[3]};
    const ssim::Quotients<C> quotients = ssim::quotients(moments, constants);
    const ssim::Slopes<C> slopes = ssim::slopes(moments, quotients, by_index(at), by_structure(at));
    const C s = slopes.s - shift_s * slopes.ss, e = slopes.e - shift_e * slopes.ee;
    const bool counts = !counted || counted[at];
    index += counts ? ssim::terms(quotients).index : 0;
    Given<C, both> here = {slopes.ss, slopes.ee};
    if constexpr (both) {
      here.value[2] = s;
      here.value[3] = e;
    } else {
      here.value[2] = s + sign * e;
    }
    given[at] = counts ? here : Given<C, both>{};
  }
};

// One block per tile of windows.
template <int window, bool both, typename T>
__global__ void __launch_bounds__(kColumns, kBlocks<T>)
    write_slopes(const __grid_constant__ SsimCall<T> call, const Incoming<Computed<T>> incoming,
                 Given<Computed<T>, both>* maps, Computed<T> sign, TileSums* partial) {
  using C = Computed<T>;
  constexpr int rows = kTileRows<C, kMoments>;
  IQAZOO_SHARED(Four<C>, tile, kMoments * rows * kPitch / 4);
  const PixelPair<T> pixels(call.tiling, call.taps.size, call.x, call.y);
  const Pivot<C> plane(pixels.plane_pivot());
  const Pivot<C> pivot = moments_of_columns<window, rows>(call, pixels, tile);
  SlopeWriter<C, both> writer{{pivot.s, pivot.e, call.c1, call.c2},
                              pivot.s - plane.s,
                              pivot.e - plane.e,
                              sign,
                              call.counted_here(),
                              {call, incoming.index},
                              {call, incoming.structure},
                              maps + blockIdx.z * call.tiling.results(),
                              call.tiling.columns};
  filter_rows_for_writing<window, kMoments, rows, false>(call.tiling, call.taps, tile, writer);
  if (!partial) return;
  const double index = block_sum<kColumns>(static_cast<double>(writer.index));
  if (threadIdx.x == 0) partial[call.tiling.tile()] = {index, 0};
}

// What windows give, as one thread sees it: all rows of one column; nothing beyond the border.
template <typename C, bool both>
struct Givers {
  static constexpr bool kFolds = true;

  const Given<C, both>* given;  // of this plane
  int height, width, first_column, column;

  __device__ bool interior(int first, int rows) const {
    return first >= 0 && first + rows <= height && first_column >= 0 && first_column + kColumns <= width;
  }

  template <bool interior>
  __device__ void load(int row, C (&value)[Given<C, both>::kCount]) const {
    const bool here = interior || (within(row, height) && within(column, width));
    const Given<C, both> found = here ? given[int64_t{row} * width + column] : Given<C, both>{};
#pragma unroll
    for (int c = 0; c < Given<C, both>::kCount; ++c) value[c] = found.value[c];
  }
};

// What the gradient also gets from the images at half the size.
template <typename T>
struct PooledGradient {
  const T* of;  // null: nothing
  int height, width;
  int shift_y, shift_x;
  bool replicate;

  __device__ Computed<T> at(int64_t plane, int i, int j) const {
    const int row = (i + shift_y) / 2, column = (j + shift_x) / 2;
    if (!of || row >= height || column >= width) return 0;
    // A pixel at the border also stands where it is replicated.
    const int times = (replicate && i == 0 && shift_y ? 2 : 1) * (replicate && j == 0 && shift_x ? 2 : 1);
    return times * wide(of[(plane * height + row) * width + column]) / 4;
  }
};

template <typename T>
struct Gradients {
  T* x;
  T* y;
  PooledGradient<T> pooled_x, pooled_y;
};

template <typename T, bool both>
struct GradientWriter {
  using C = Computed<T>;
  const SsimCall<T>& call;
  const Gradients<T>& gradients;
  Pivot<C> pivot;
  C sign;

  __device__ void operator()(int i, int j, const C (&sum)[Given<C, both>::kCount]) {
    const int64_t plane = call.tiling.plane();
    const int64_t at = (plane * call.tiling.rows + i) * call.tiling.columns + j;
    const C x = wide(call.x[at]), y = wide(call.y[at]);
    const C by_s = (x + y - pivot.s) * sum[0], by_e = (x - y - pivot.e) * sum[1];
    if constexpr (both) {
      const C s = sum[2] + by_s, e = sum[3] + by_e;
      gradients.x[at] = rounded<T>(s + e + gradients.pooled_x.at(plane, i, j));
      gradients.y[at] = rounded<T>(s - e + gradients.pooled_y.at(plane, i, j));
    } else {
      const C one = sum[2] + by_s + sign * by_e;
      if (gradients.x) gradients.x[at] = rounded<T>(one + gradients.pooled_x.at(plane, i, j));
      if (gradients.y) gradients.y[at] = rounded<T>(one + gradients.pooled_y.at(plane, i, j));
    }
  }
};

// One block per tile of pixels; call.tiling is that of pixels.
template <int window, bool both, typename T>
__global__ void __launch_bounds__(kColumns, both && kBlocks<T> > 4 ? 4 : kBlocks<T>)
    gather_slopes(const __grid_constant__ SsimCall<T> call, const __grid_constant__ Gradients<T> gradients,
                  const Given<Computed<T>, both>* maps, Computed<T> sign) {
  using C = Computed<T>;
  constexpr int count = Given<C, both>::kCount, rows = kTileRows<C, count>;
  IQAZOO_SHARED(Four<C>, tile, count * rows * kPitch / 4);
  const int column = call.tiling.across() * tile_width(call.taps.size) - call.tiling.lead;
  const Givers<C, both> source{maps + int64_t{blockIdx.z} * call.tiling.height * call.tiling.width,
                               call.tiling.height, call.tiling.width, column, column + static_cast<int>(threadIdx.x)};
  Tiling pixels = call.tiling;  // their planes, for the pivot that write_slopes subtracted
  pixels.height = call.tiling.rows;
  pixels.width = call.tiling.columns;
  const Pivot<C> pivot(PixelPair<T>(pixels, call.taps.size, call.x, call.y).plane_pivot());
  filter_columns<window, count, rows>(call.tiling, call.taps, source, tile);
  __syncthreads();
  GradientWriter<T, both> writer{call, gradients, pivot, sign};
  filter_rows_for_writing<window, count, rows, true>(call.tiling, call.taps, tile, writer);
}

template <typename T>
struct Scratch {
  TileSums* partial;  // null where the index is not wanted
  Computed<T>* maps;
  int64_t at_once;  // planes
};

template <int window, bool both, typename T>
int launch_planes(SsimCall<T> call, const Incoming<Computed<T>>& incoming, const Gradients<T>& gradients,
                  const Scratch<T>& scratch, int64_t planes, cudaStream_t queue) {
  using C = Computed<T>;
  const auto maps = reinterpret_cast<Given<C, both>*>(scratch.maps);
  const C sign = gradients.x ? 1 : -1;
  // A pixel that "reflect" mirrors gathers by the general loops.
  const bool folds = call.tiling.padding == Padding::kReflect;
  SsimCall<T> back = call;
  back.tiling = pixels_tiling(call.tiling, call.taps.size, kTileRows<C, Given<C, both>::kCount>);
  return in_turn(planes, scratch.at_once, [&](int64_t first, int64_t count) {
    call.tiling.first_plane = back.tiling.first_plane = first;
    IQAZOO_LAUNCH((write_slopes<window, both, T>), grid_of(call.tiling, count), kColumns, queue, call, incoming, maps,
                  sign, scratch.partial);
    if (const cudaError_t failed = cudaGetLastError()) return failed;
    const dim3 grid = grid_of(back.tiling, count);
    if (folds) {
      IQAZOO_LAUNCH((gather_slopes<0, both, T>), grid, kColumns, queue, back, gradients, maps, sign);
    } else {
      IQAZOO_LAUNCH((gather_slopes<window, both, T>), grid, kColumns, queue, back, gradients, maps, sign);
    }
    return cudaGetLastError();
  });
}

template <typename T>
int launch_all(const SsimCall<T>& call, const Incoming<Computed<T>>& incoming, const Gradients<T>& gradients,
               const Scratch<T>& scratch, int64_t planes, cudaStream_t queue) {
  const bool both = gradients.x && gradients.y, fast = call.taps.size == kFastWindow;
  if (both && fast) return launch_planes<kFastWindow, true>(call, incoming, gradients, scratch, planes, queue);
  if (both) return launch_planes<0, true>(call, incoming, gradients, scratch, planes, queue);
  if (fast) return launch_planes<kFastWindow, false>(call, incoming, gradients, scratch, planes, queue);
  return launch_planes<0, false>(call, incoming, gradients, scratch, planes, queue);
}

}  // namespace

template <typename T>
int ssim_backward(const T* x, const T* y, const uint8_t* counted, const int64_t* counts,
                  const Computed<T>* grad_index, const Computed<T>* grad_structure, const T* grad_pooled_x,
                  const T* grad_pooled_y, Computed<T>* index, T* grad_x, T* grad_y, double* partial, Computed<T>* maps,
                  int64_t at_once, int64_t batch, int64_t channels, int64_t height, int64_t width, int window,
                  double sigma, int padding, double c1, double c2, int reduction, int shift_y, int shift_x,
                  bool replicate, int device, void* stream) {
  if (const cudaError_t failed = cudaSetDevice(device)) return failed;
  const auto queue = static_cast<cudaStream_t>(stream);
  const int64_t planes = batch * channels;
  if (!fits(planes, height, width, window) || at_once < 1) return cudaErrorInvalidValue;
  const SsimCall<T> call =
      ssim_call(x, y, counted, counts, channels, height, width, window, sigma, padding, c1, c2, reduction);
  const Tiling back = pixels_tiling(call.tiling, window, kTileRows<Computed<T>, 4>);
  if (!fits_a_grid(call.tiling) || !fits_a_grid(back)) return cudaErrorInvalidConfiguration;
  const auto half_height = static_cast<int>((height + shift_y) / 2);
  const auto half_width = static_cast<int>((width + shift_x) / 2);
  const Gradients<T> gradients{grad_x, grad_y, {grad_pooled_x, half_height, half_width, shift_y, shift_x, replicate},
                               {grad_pooled_y, half_height, half_width, shift_y, shift_x, replicate}};
  const auto sums = index ? reinterpret_cast<TileSums*>(partial) : nullptr;
  const Incoming<Computed<T>> incoming{grad_index, grad_structure};
  const Scratch<T> scratch{sums, maps, at_once};
  if (const int failed = launch_all(call, incoming, gradients, scratch, planes, queue)) return failed;
  const int64_t results = reduction == static_cast<int>(Reduction::kImage) ? batch : planes;
  Computed<T>* const none = nullptr;
  if (index && results > 0) IQAZOO_LAUNCH(mean_of_tiles<T>, results, kSumThreads, queue, call, sums, index, none);
  return cudaGetLastError();
}

#define IQAZOO_INSTANTIATE(T)                                                                                       \
  template int ssim_backward(const T*, const T*, const uint8_t*, const int64_t*, const Computed<T>*,                \
                             const Computed<T>*, const T*, const T*, Computed<T>*, T*, T*, double*, Computed<T>*,   \
                             int64_t, int64_t, int64_t, int64_t, int64_t, int, double, int, double, double, int,    \
                             int, int, bool, int, void*);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
IQAZOO_INSTANTIATE(bfloat16)
IQAZOO_INSTANTIATE(float16)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cuda
