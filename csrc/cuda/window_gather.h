// The way back: to each pixel, what all windows that hold it give, weighted as they weigh it. As windows are symmetric
// it is the same filter, of maps that are 0 beyond their border; a pixel that "reflect" mirrors beyond the image's
// border also gets what its mirror image gets.
#pragma once

#include <cstdint>

#include "cuda/window_tile.h"

namespace iqazoo::cuda {

// Maps over windows, as one thread sees them: all rows of one column of one plane. Only every `stride`th window along
// both axes has a value.
template <typename C, int channels, bool strided>
struct Maps {
  static constexpr bool kFolds = true;

  const C* map[channels];  // of this plane
  int height, width;       // of all windows
  int stride, stored;      // `stored` values in a row
  int first_column, column;

  __device__ bool interior(int first, int rows) const {
    return !strided && first >= 0 && first + rows <= height && first_column >= 0 && first_column + kColumns <= width;
  }

  template <bool interior>
  __device__ void load(int row, C (&value)[channels]) const {
    bool here = interior || (within(row, height) && within(column, width));
    int64_t index;
    if constexpr (strided) {
      here = here && row % stride == 0 && column % stride == 0;
      index = int64_t{row / stride} * stored + column / stride;
    } else {
      index = int64_t{row} * width + column;
    }
#pragma unroll
    for (int c = 0; c < channels; ++c) value[c] = here ? map[c][index] : 0;
  }
};

template <typename C, int channels, bool strided>
__device__ Maps<C, channels, strided> maps_here(const Tiling& tiling, int window, int stride) {
  const int first = tiling.across() * tile_width(window) - tiling.lead;
  Maps<C, channels, strided> maps = {};
  maps.height = tiling.height;
  maps.width = tiling.width;
  maps.stride = stride;
  maps.stored = (tiling.width - 1) / stride + 1;
  maps.first_column = first;
  maps.column = first + static_cast<int>(threadIdx.x);
  return maps;
}

// The weight with which a pixel `inside` from the border gets the map's value `t` from it by way of its mirror image,
// which lies `inside` beyond. False where it has none, or the window does not reach.
template <typename C>
__device__ bool mirrored_weight(const Taps<C>& taps, int inside, int t, C& weight) {
  const int k = t + inside + taps.size / 2;
  if (inside < 1 || k >= taps.size) return false;
  weight = taps.weight[k];
  return true;
}

// Adds to the sums of a column what the rows beyond the border give.
template <int channels, int rows, typename C, typename Source>
__device__ void fold_column(const Tiling& tiling, const Taps<C>& taps, const Source& source, C (&sum)[channels][rows]) {
  const int first = tiling.down() * rows, last = tiling.height - 1;
  for (int side = 0; side < 2; ++side) {
    if (side ? first + rows - 1 < last - taps.size / 2 : first > taps.size / 2) continue;  // out of reach
    for (int t = 0; t < taps.size / 2; ++t) {
      C value[channels], weight;
      source.template load<false>(side ? last - t : t, value);
#pragma unroll
      for (int g = 0; g < rows; ++g) {
        if (!mirrored_weight(taps, side ? last - first - g : first + g, t, weight)) continue;
#pragma unroll
        for (int c = 0; c < channels; ++c) sum[c][g] += weight * value[c];
      }
    }
  }
}

// Adds to the sums of a run what the columns beyond the border give; `first` is the run's first pixel in the tile.
template <int channels, int rows, typename C>
__device__ void fold_run(const Tiling& tiling, const Taps<C>& taps, const Four<C>* tile, int row, int first,
                         C (&sum)[channels][kRun]) {
  const C* const values = reinterpret_cast<const C*>(tile);
  const int start = tiling.across() * tile_width(taps.size), last = tiling.width - 1;
  for (int side = 0; side < 2; ++side) {
    for (int t = 0; t < taps.size / 2; ++t) {
      const int column = (side ? last - t : t) - start + tiling.lead;
      if (!within(column, kColumns)) continue;
      C weight;
#pragma unroll
      for (int r = 0; r < kRun; ++r) {
        if (!mirrored_weight(taps, side ? last - start - first - r : start + first + r, t, weight)) continue;
#pragma unroll
        for (int c = 0; c < channels; ++c) sum[c][r] += weight * values[(c * rows + row) * kPitch + place(column)];
      }
    }
  }
}

}  // namespace iqazoo::cuda
