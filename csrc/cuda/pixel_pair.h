// Two images as what a tile is filled with.
#pragma once

#include <cstdint>

#include "common/half.h"
#include "cuda/window_tile.h"

namespace iqazoo::cuda {

// The mean over a warp of one sample per lane, the same in every warp that brings the same samples; 0 where that is no
// number to subtract.
template <typename C>
__device__ C warp_mean(C sample) {
  C sum = isfinite(sample) ? sample : 0;
#pragma unroll
  for (int other = warpSize / 2; other > 0; other /= 2) sum += __shfl_xor_sync(~0u, sum, other);
  const C mean = sum / warpSize;
  return isfinite(mean) ? mean : 0;
}

template <typename C>
struct Pair {
  C x, y;
};

// One plane of both images, as one thread sees it: all rows of one column. Beyond the border of "same" stands 0.
template <typename T>
class PixelPair {
 public:
  using C = Computed<T>;

  __device__ PixelPair(const Tiling& tiling, int window, const T* x, const T* y)
      : height_(tiling.height),
        width_(tiling.width),
        padding_(tiling.padding),
        first_column_(tiling.across() * tile_width(window) - tiling.lead),
        column_(source_index(first_column_ + static_cast<int>(threadIdx.x), width_, padding_)),
        beyond_(padding_ == Padding::kSame && !within(first_column_ + static_cast<int>(threadIdx.x), width_)) {
    const int64_t plane = tiling.plane() * height_ * width_;
    x_ = x + plane;
    y_ = y + plane;
  }

  // Whether all threads of the block find `rows` rows from `first` inside the image.
  __device__ bool interior(int first, int rows) const {
    return first >= 0 && first + rows <= height_ && first_column_ >= 0 && first_column_ + kColumns <= width_;
  }

  template <bool interior>
  __device__ Pair<C> read(int row) const {
    const bool beyond = !interior && (beyond_ || (padding_ == Padding::kSame && !within(row, height_)));
    const int64_t at = int64_t{interior ? row : source_index(row, height_, padding_)} * width_ + column_;
    return {beyond ? 0 : wide(x_[at]), beyond ? 0 : wide(y_[at])};
  }

  // The means of 32 pixels in `rows` rows of the tile.
  __device__ Pair<C> tile_pivot(int first, int rows) const {
    const int lane = threadIdx.x % warpSize;
    return pivot_at(source_index(first + lane / 8 * rows / 4, height_, padding_),
                    source_index(first_column_ + lane % 8 * (kColumns / 8), width_, padding_));
  }

  // The means of 32 pixels of the plane.
  __device__ Pair<C> plane_pivot() const {
    const int64_t lane = threadIdx.x % warpSize;
    return pivot_at((2 * (lane / 8) + 1) * height_ / 8, (2 * (lane % 8) + 1) * width_ / 16);
  }

 private:
  __device__ Pair<C> pivot_at(int64_t row, int64_t column) const {
    const int64_t at = row * width_ + column;
    return {warp_mean(wide(x_[at])), warp_mean(wide(y_[at]))};
  }

  int height_, width_;
  Padding padding_;
  int first_column_, column_;
  bool beyond_;
  const T* x_;
  const T* y_;
};

}  // namespace iqazoo::cuda
