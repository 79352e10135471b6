// Means, variances and the covariance over sliding windows of [batch, channels, height, width], contiguous.
#pragma once

#include <cstdint>

#include "common/windows.h"

namespace iqazoo::cpu {

struct WindowedShape {
  int64_t batch, channels, height, width;
  int window;
  double sigma;  // 0: a uniform window
  int64_t stride;
  Padding padding;
};

// Each [batch, channels, (rows - 1) / stride + 1, (columns - 1) / stride + 1].
template <typename P>
struct WindowedMoments {
  P mean_x, mean_y, var_x, var_y, cov;
};

template <typename T>
void windowed_moments_forward(const T* x, const T* y, const WindowedMoments<T*>& results, const WindowedShape& shape,
                              int threads);

// The gradients of `incoming` for x and y, each unless null.
template <typename T>
void windowed_moments_backward(const T* x, const T* y, const WindowedMoments<const T*>& incoming, T* grad_x, T* grad_y,
                               const WindowedShape& shape, int threads);

}  // namespace iqazoo::cpu
