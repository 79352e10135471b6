// What the launchers of windowed ops prepare.
#pragma once

#include <cstdint>

#include "common/windows.h"
#include "cuda/window_tile.h"

namespace iqazoo::cuda {

constexpr int64_t kLargestSide = 1 << 30;  // sums of positions must fit in an int
constexpr int64_t kLargestGrid = 65535;    // along y and z

inline int tiles_along(int64_t results, int tile) { return static_cast<int>((results + tile - 1) / tile); }

// From images to windows.
inline Tiling windows_tiling(int64_t height, int64_t width, int window, int padding_number, int tile_rows) {
  const auto padding = static_cast<Padding>(padding_number);
  const auto rows = static_cast<int>(windows_along(height, window, padding));
  const auto columns = static_cast<int>(windows_along(width, window, padding));
  return {static_cast<int>(height),
          static_cast<int>(width),
          rows,
          columns,
          static_cast<int>(margin_of(window, padding)),
          tiles_along(rows, tile_rows),
          tiles_along(columns, tile_width(window)),
          padding,
          0};
}

// From what windows give back to pixels.
inline Tiling pixels_tiling(const Tiling& windows, int window, int tile_rows) {
  return {windows.rows,
          windows.columns,
          windows.height,
          windows.width,
          window - 1 - windows.lead,
          tiles_along(windows.height, tile_rows),
          tiles_along(windows.width, tile_width(window)),
          windows.padding,
          0};
}

inline bool fits(int64_t planes, int64_t height, int64_t width, int window) {
  return planes >= 0 && height > 0 && width > 0 && height <= kLargestSide && width <= kLargestSide && window >= 1 &&
         window <= kLargestWindow;
}

inline bool fits_a_grid(const Tiling& tiling) { return tiling.tiles_down <= kLargestGrid; }

// One block per tile of `planes` planes.
inline dim3 grid_of(const Tiling& tiling, int64_t planes) {
  return dim3(tiling.tiles_across, tiling.tiles_down, static_cast<unsigned>(planes));
}

// Calls `launch(first, count)` for `at_once` planes after the other, up to the first that fails.
template <typename Launch>
int in_turn(int64_t planes, int64_t at_once, const Launch& launch) {
  const int64_t most = at_once < kLargestGrid ? at_once : kLargestGrid;
  for (int64_t first = 0; first < planes; first += most) {
    if (const int failed = launch(first, planes - first < most ? planes - first : most)) return failed;
  }
  return cudaSuccess;
}

}  // namespace iqazoo::cuda
