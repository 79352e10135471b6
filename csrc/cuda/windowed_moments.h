// Means, variances and the covariance of image pairs over sliding windows, on the GPU. Arrays are contiguous, images
// [batch, channels, height, width]. Launchers queue work on `stream` of `device` and return a cudaError_t as int, 0 for
// success.
#pragma once

#include <cstdint>

#include "common/half.h"

namespace iqazoo::cuda {

// All five are [batch, channels, rows, columns]: every `stride`th window along both sides, from the first.
//   window    at most 33, odd unless padding is 0; sigma 0 is a uniform window; padding 0 valid, 1 same, 2 reflect
template <typename T>
int windowed_moments_forward(const T* x, const T* y, Computed<T>* mean_x, Computed<T>* mean_y, Computed<T>* var_x,
                             Computed<T>* var_y, Computed<T>* cov, int64_t batch, int64_t channels, int64_t height,
                             int64_t width, int window, double sigma, int stride, int padding, int device,
                             void* stream);

// grad_x and grad_y, each unless null, for the five gradients of the results. `parts` is scratch of twice as many
// elements as one of these.
template <typename T>
int windowed_moments_backward(const T* x, const T* y, const Computed<T>* grad_mean_x, const Computed<T>* grad_mean_y,
                              const Computed<T>* grad_var_x, const Computed<T>* grad_var_y,
                              const Computed<T>* grad_cov, T* grad_x, T* grad_y, Computed<T>* parts, int64_t batch,
                              int64_t channels, int64_t height, int64_t width, int window, double sigma, int stride,
                              int padding, int device, void* stream);

}  // namespace iqazoo::cuda
