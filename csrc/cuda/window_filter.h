// How a block of threads filters a tile of planes by a separable window; the ops' .cu files say what goes into the
// filter and what becomes of its results.
//
// There is one thread per column of the tile, halo included. Each first filters its column for all windows of the tile
// at once, in registers, straight from global memory: neighbouring threads read neighbouring pixels. The sums go
// through shared memory, from where each thread takes runs of neighbouring windows and filters them along the row, with
// four columns per load.
#pragma once

#include <cstdint>

#include "cuda/window_gather.h"
#include "cuda/window_tile.h"

namespace iqazoo::cuda {

// Sums of one column: sum[c][g] is that of channel c for the window that starts at row `first + g`.
template <int window, bool interior, int channels, int rows, typename C, typename Source>
__device__ void filter_column(const Source& source, const Taps<C>& taps, int first, C (&sum)[channels][rows]) {
#pragma unroll
  for (int c = 0; c < channels; ++c) {
#pragma unroll
    for (int g = 0; g < rows; ++g) sum[c][g] = 0;
  }
  C value[channels];
  if constexpr (window > 0) {
#pragma unroll
    for (int i = 0; i < rows + window - 1; ++i) {
      source.template load<interior>(first + i, value);
#pragma unroll
      for (int g = 0; g < rows; ++g) {
        if (i < g || i - g >= window) continue;
#pragma unroll
        for (int c = 0; c < channels; ++c) sum[c][g] += taps.weight[i - g] * value[c];
      }
    }
  } else {
    for (int i = 0; i < rows + taps.size - 1; ++i) {
      source.template load<interior>(first + i, value);
#pragma unroll
      for (int g = 0; g < rows; ++g) {
        if (!within(i - g, taps.size)) continue;  // not a weight of 0, which NaN would survive
        const C weight = taps.weight[i - g];
#pragma unroll
        for (int c = 0; c < channels; ++c) sum[c][g] += weight * value[c];
      }
    }
  }
}

// Results of one row: sum[c][r] is that of channel c for the window that starts at the tile's column `first + r`.
template <int window, int channels, int rows, typename C>
__device__ void filter_run(const Four<C>* tile, const Taps<C>& taps, int row, int first, C (&sum)[channels][kRun]) {
#pragma unroll
  for (int c = 0; c < channels; ++c) {
#pragma unroll
    for (int r = 0; r < kRun; ++r) sum[c][r] = 0;
  }
  if constexpr (window > 0) {
    constexpr int fours = (kRun + window + 2) / 4;
#pragma unroll
    for (int c = 0; c < channels; ++c) {
      Four<C> line[fours];
#pragma unroll
      for (int f = 0; f < fours; ++f) line[f] = tile[((c * rows + row) * kPitch + place(first + 4 * f)) / 4];
#pragma unroll
      for (int r = 0; r < kRun; ++r) {
#pragma unroll
        for (int k = 0; k < window; ++k) sum[c][r] += taps.weight[k] * line[(r + k) / 4].value[(r + k) % 4];
      }
    }
  } else {
    for (int j = 0; j < kRun + taps.size - 1; j += 4) {
      Four<C> four[channels];
#pragma unroll
      for (int c = 0; c < channels; ++c) four[c] = tile[((c * rows + row) * kPitch + place(first + j)) / 4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
#pragma unroll
        for (int r = 0; r < kRun; ++r) {
          if (!within(j + e - r, taps.size)) continue;
          const C weight = taps.weight[j + e - r];
#pragma unroll
          for (int c = 0; c < channels; ++c) sum[c][r] += weight * four[c].value[e];
        }
      }
    }
  }
}

// The first half: the tile's columns are filtered and stand in shared memory.
template <int window, int channels, int rows, typename C, typename Source>
__device__ void filter_columns(const Tiling& tiling, const Taps<C>& taps, const Source& source, Four<C>* tile) {
  const int first = tiling.down() * rows - tiling.lead, width = tile_width(taps.size);
  const int results = tiling.columns - tiling.across() * width;
  // At the right border, columns that no result needs: whole warps, often.
  if (static_cast<int>(threadIdx.x) >= (results < width ? results : width) + taps.size - 1) return;
  C sum[channels][rows];
  if (window > 0 && source.interior(first, rows + window - 1)) {
    filter_column<window, true>(source, taps, first, sum);
  } else {
    filter_column<window, false>(source, taps, first, sum);
  }
  if constexpr (Source::kFolds && window == 0) {
    if (tiling.padding == Padding::kReflect) fold_column(tiling, taps, source, sum);
  }
  C* const at = reinterpret_cast<C*>(tile) + place(threadIdx.x);
#pragma unroll
  for (int c = 0; c < channels; ++c) {
#pragma unroll
    for (int g = 0; g < rows; ++g) at[(c * rows + g) * kPitch] = sum[c][g];
  }
}

// The second half where results are summed: `sink(row, column, count, sums)` for the first `count` of each run.
template <int window, int channels, int rows, typename C, typename Sink>
__device__ void filter_rows(const Tiling& tiling, const Taps<C>& taps, const Four<C>* tile, Sink& sink) {
  const int width = tile_width(taps.size), first = threadIdx.x % kRuns * kRun;
  for (int row = threadIdx.x / kRuns; row < rows; row += kRowsAtOnce) {
    const int i = tiling.down() * rows + row, j = tiling.across() * width + first;
    const int inside = width - first, left = tiling.columns - j;
    const int count = inside < left ? inside : left;  // of the run's results, those that exist
    if (i >= tiling.rows || count <= 0) continue;
    C sum[channels][kRun];
    filter_run<window, channels, rows>(tile, taps, row, first, sum);
    sink(i, j, count < kRun ? count : kRun, sum);
  }
}

// The second half where results are written: they return to shared memory in place of the columns' sums, and
// neighbouring threads get neighbouring ones.
template <int window, int channels, int rows, bool folds, typename C, typename Sink>
__device__ void filter_rows_for_writing(const Tiling& tiling, const Taps<C>& taps, Four<C>* tile, Sink& sink) {
  const int width = tile_width(taps.size), first = threadIdx.x % kRuns * kRun;
  for (int row = threadIdx.x / kRuns; row < rows; row += kRowsAtOnce) {
    C sum[channels][kRun];
    if (first < width) {
      filter_run<window, channels, rows>(tile, taps, row, first, sum);
      if constexpr (folds && window == 0) {
        if (tiling.padding == Padding::kReflect) fold_run<channels, rows>(tiling, taps, tile, row, first, sum);
      }
    }
    __syncwarp();  // the row is read by this warp alone
#pragma unroll
    for (int c = 0; c < channels; ++c) {
#pragma unroll
      for (int r = 0; r < kRun; r += 4) {
        const Four<C> four = {sum[c][r], sum[c][r + 1], sum[c][r + 2], sum[c][r + 3]};
        if (first < width) tile[((c * rows + row) * kPitch + place(first + r)) / 4] = four;
      }
    }
  }
  __syncthreads();
  const int column = threadIdx.x, j = tiling.across() * width + column;
  if (column >= width || j >= tiling.columns) return;
  const C* const at = reinterpret_cast<const C*>(tile) + place(column);
  for (int row = 0; row < rows; ++row) {
    const int i = tiling.down() * rows + row;
    if (i >= tiling.rows) break;
    C result[channels];
#pragma unroll
    for (int c = 0; c < channels; ++c) result[c] = at[(c * rows + row) * kPitch];
    sink(i, j, result);
  }
}

}  // namespace iqazoo::cuda
