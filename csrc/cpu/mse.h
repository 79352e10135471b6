// Mean squared error of each pair in a batch. Arrays are contiguous: [batch, size] or [batch].
#pragma once

#include <cstdint>

#include "common/half.h"

namespace iqazoo::cpu {

// error[b] = mean over i of (image[b, i] - reference[b, i])^2; NaN where size is 0.
template <typename T>
void mse_forward(const T* image, const T* reference, Computed<T>* error, int64_t batch, int64_t size, int threads);

// grad_image[b, i] = grad_error[b] * 2 (image[b, i] - reference[b, i]) / size.
template <typename T>
void mse_backward(const Computed<T>* grad_error, const T* image, const T* reference, T* grad_image, int64_t batch,
                  int64_t size, int threads);

}  // namespace iqazoo::cpu
