// Averages over blocks of 2 x 2 pixels, and their gradients.
#pragma once

#include "cpu/ssim.h"
#include "cpu/window_tiles.h"

namespace iqazoo::cpu {

// The pixel at a coordinate of a block: the nearest, or -1 for a zero.
inline int64_t block_pixel(int64_t i, bool replicate) { return i >= 0 ? i : replicate ? 0 : -1; }

template <typename T>
inline void pool_row(const T* __restrict__ upper, const T* __restrict__ lower, int64_t count, T* __restrict__ out) {
  for (int64_t j = 0; j < count; ++j) {
    out[j] = T(0.25) * ((upper[2 * j] + upper[2 * j + 1]) + (lower[2 * j] + lower[2 * j + 1]));
  }
}

// The blocks of a tile, of which there are as many as there are of windows, in about the same place.
template <typename T>
void pool_tile(const T* images, T* pooled, const SsimShape& shape, int64_t plane, const Tiling& tiling, int64_t tile) {
  const int64_t height = shape.height, width = shape.width;
  const int64_t rows = (height + shape.shift_y) / 2, columns = (width + shape.shift_x) / 2;
  const Span down = part_of(rows, tiling.bands, tile / tiling.strips);
  const Span along = part_of(columns, tiling.strips, tile % tiling.strips);
  const T* image = images + plane * height * width;
  const auto at = [&](int64_t i, int64_t j) {
    const int64_t row = block_pixel(i, shape.replicate), column = block_pixel(j, shape.replicate);
    return row < 0 || column < 0 ? T(0) : image[row * width + column];
  };
  for (int64_t i = down.first; i < down.last; ++i) {
    T* out = pooled + (plane * rows + i) * columns;
    const int64_t row = 2 * i - shape.shift_y;
    int64_t j = along.first;
    const auto one = [&](int64_t column) {
      return T(0.25) * ((at(row, column) + at(row, column + 1)) + (at(row + 1, column) + at(row + 1, column + 1)));
    };
    const bool inside = row >= 0;
    for (; j < along.last && (!inside || 2 * j < shape.shift_x); ++j) out[j] = one(2 * j - shape.shift_x);
    if (j == along.last) continue;
    const T* upper = image + row * width + 2 * j - shape.shift_x;
    pool_row(upper, upper + width, along.last - j, out + j);
  }
}

// Adds to the gradient of a row of pixels what comes from their blocks.
template <typename T>
void add_pooled(const T* grad_pooled, const SsimShape& shape, int64_t plane, int64_t row, Span strip, T* gradient) {
  const int64_t rows = (shape.height + shape.shift_y) / 2, columns = (shape.width + shape.shift_x) / 2;
  const int64_t block = (row + shape.shift_y) / 2;
  if (block >= rows) return;
  // The first pixels stand for those before the border too.
  const T share = row == 0 && shape.shift_y && shape.replicate ? T(0.5) : T(0.25);
  const T* blocks = grad_pooled + (plane * rows + block) * columns;
  int64_t j = strip.first;
  if (j == 0 && shape.shift_x) {
    gradient[0] += (shape.replicate ? 2 * share : share) * blocks[0];
    ++j;
  }
  const int64_t last = std::min(strip.last, 2 * columns - shape.shift_x);
  for (; j < last; ++j) gradient[j - strip.first] += share * blocks[(j + shape.shift_x) / 2];
}

}  // namespace iqazoo::cpu
