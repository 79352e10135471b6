// Structural similarity over sliding windows of [batch, channels, height, width], contiguous.
#pragma once

#include <cstdint>

#include "common/ssim.h"
#include "common/windows.h"

namespace iqazoo::cpu {

struct SsimShape {
  int64_t batch, channels, height, width;
  int window;
  double sigma;  // 0: a uniform window
  Padding padding;
  double c1, c2;
  ssim::Reduction reduction;
  int64_t shift_y, shift_x;  // how far the first block of 2 x 2 pixels begins before the image
  bool replicate;            // beyond the border is the nearest pixel, not a zero
};

// Which windows count, [batch, rows, columns], and how many of an image, [batch]; null: all.
struct SsimMask {
  const uint8_t* counted;
  const int64_t* counts;
};

// Results of the forward pass, or gradients for them; absent ones are null.
template <typename P>
struct SsimResults {
  P index, structure;  // [batch], [batch, channels] or [batch, channels, rows, columns], as the reduction says
  P pooled_x, pooled_y;  // [batch, channels, (height + shift_y) / 2, (width + shift_x) / 2], both or none
};

template <typename T>
void ssim_forward(const T* x, const T* y, const SsimMask& mask, const SsimResults<T*>& results, const SsimShape& shape,
                  int threads);

// The gradients of `incoming` for x and y, each unless null; and the index, unless null.
template <typename T>
void ssim_backward(const T* x, const T* y, const SsimMask& mask, const SsimResults<const T*>& incoming, T* index,
                   T* grad_x, T* grad_y, const SsimShape& shape, int threads);

}  // namespace iqazoo::cpu
