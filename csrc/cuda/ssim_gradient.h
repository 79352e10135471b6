// The gradient of the SSIM index on the GPU; arrays and arguments as for ssim_forward.
#pragma once

#include <cstdint>

#include "common/half.h"

namespace iqazoo::cuda {

// grad_x and grad_y, each unless null, for the gradients of ssim_forward's results, those that are not null; and the
// index, unless null. Scratch: `partial` holds ssim_partials doubles, used for the index alone; `maps` holds 4 elements
// per window, or 3 where one gradient is wanted, of the `at_once` planes that are computed at a time.
template <typename T>
int ssim_backward(const T* x, const T* y, const uint8_t* counted, const int64_t* counts,
                  const Computed<T>* grad_index, const Computed<T>* grad_structure, const T* grad_pooled_x,
                  const T* grad_pooled_y, Computed<T>* index, T* grad_x, T* grad_y, double* partial, Computed<T>* maps,
                  int64_t at_once, int64_t batch, int64_t channels, int64_t height, int64_t width, int window,
                  double sigma, int padding, double c1, double c2, int reduction, int shift_y, int shift_x,
                  bool replicate, int device, void* stream);

}  // namespace iqazoo::cuda
