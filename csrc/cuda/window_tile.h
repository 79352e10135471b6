// A tile of planes that a block of threads filters by a separable window: its shape, and where things are.
#pragma once

#include <cstdint>

#include "common/host_device.h"
#include "common/windows.h"
#include "cuda/launch.h"

namespace iqazoo::cuda {

constexpr int kColumns = 128;  // of a tile, its halo included; also the threads of a block
constexpr int kRun = 8;        // neighbouring windows that a thread filters together
constexpr int kRuns = kColumns / kRun;
constexpr int kRowsAtOnce = kColumns / kRuns;  // rows whose runs keep all threads busy
// Elements from one row of sums to the next. Four are left out after every 32, so that a quarter of a warp that reads
// runs meets each bank once; and the last run may read beyond the last column, what is not used.
constexpr int kPitch = kColumns + kColumns / 32 * 4 + 12;

template <typename C>
struct alignas(16) Four {
  C value[4];
};

// Planes of height x width, filtered into planes of rows x columns. A result's window starts `lead` before it.
struct Tiling {
  int height, width, rows, columns, lead;
  int tiles_down, tiles_across;
  Padding padding;
  int64_t first_plane;

  IQAZOO_HD int64_t tiles() const { return int64_t{tiles_down} * tiles_across; }
  IQAZOO_HD int64_t results() const { return int64_t{rows} * columns; }

  // Where this block's results are; grid_of says which blocks there are.
  __device__ int64_t plane() const { return first_plane + blockIdx.z; }
  __device__ int down() const { return static_cast<int>(blockIdx.y); }
  __device__ int across() const { return static_cast<int>(blockIdx.x); }
  // Its tile among those of all planes.
  __device__ int64_t tile() const { return (plane() * tiles_down + down()) * tiles_across + across(); }
};

// Of how many results a tile consists across, for a window of `size`; down, it is the kRows of its kernel.
IQAZOO_HD constexpr int tile_width(int size) { return kColumns - size + 1; }

// How many windows in a column a thread sums at once: as many as registers and 48 KB of shared memory allow.
template <typename C, int channels>
constexpr int kTileRows = (sizeof(C) == 8 ? 8 : 16) / (channels > 4 ? 2 : 1);

// The index of the pixel that stands at `i`, which may lie beyond an axis of n. Positions that no result needs may
// come up at the far end; they get some pixel.
__device__ inline int source_index(int i, int n, Padding padding) {
  if (padding == Padding::kReflect) {
    i = i < 0 ? -i : i;
    i = i >= n ? 2 * (n - 1) - i : i;
  }
  return i < 0 ? 0 : i >= n ? n - 1 : i;
}

__device__ inline bool within(int i, int n) { return 0 <= i && i < n; }

__device__ inline int place(int column) { return column + column / 32 * 4; }

}  // namespace iqazoo::cuda
