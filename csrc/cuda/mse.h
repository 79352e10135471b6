// Mean squared error of each pair in a batch, on the GPU. Arrays are contiguous: [batch, size] or [batch].
// Launchers queue work on `stream` of `device` and return a cudaError_t as int, 0 for success.
#pragma once

#include <cstdint>

#include "common/half.h"

namespace iqazoo::cuda {

// How many partial sums mse_forward keeps per image. It depends on size alone, so every GPU adds in one order.
int64_t mse_partials(int64_t size);

// error[b] = mean over i of (image[b, i] - reference[b, i])^2; NaN where size is 0.
// `partial` is scratch of [batch, mse_partials(size)].
template <typename T>
int mse_forward(const T* image, const T* reference, double* partial, Computed<T>* error, int64_t batch, int64_t size,
                int device, void* stream);

// grad_image[b, i] = grad_error[b] * 2 (image[b, i] - reference[b, i]) / size.
template <typename T>
int mse_backward(const Computed<T>* grad_error, const T* image, const T* reference, T* grad_image, int64_t batch,
                 int64_t size, int device, void* stream);

}  // namespace iqazoo::cuda
