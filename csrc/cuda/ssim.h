// The SSIM index of image pairs on the GPU. Arrays are contiguous, images [batch, channels, height, width]; a null
// pointer stands for what is not wanted. Launchers queue work on `stream` of `device` and return a cudaError_t as int,
// 0 for success.
#pragma once

#include <cstdint>

#include "common/half.h"

namespace iqazoo::cuda {

// How many doubles of scratch ssim_forward and ssim_backward need for so many planes (batch times channels). It depends
// on sizes alone, so every GPU adds in one order.
int64_t ssim_partials(int64_t planes, int64_t height, int64_t width, int window, int padding);

// The means of index and contrast-structure term (reduction 0: [batch], 1: [batch, channels]), or both of all windows
// (2: [batch, channels, rows, columns]).
//   counted   [batch, rows, columns], 0 where a window does not count; counts [batch], how many do
//   pooled_x  both images averaged over blocks of 2 x 2 pixels, [batch, channels, (height + shift_y) / 2,
//             (width + shift_x) / 2]: that at (i, j) begins at pixel (2 i - shift_y, 2 j - shift_x). Beyond the border
//             are zeros, or with `replicate` the nearest pixel.
//   window    odd, at most 33; sigma 0 is a uniform window; padding 0 valid, 1 same, 2 reflect
template <typename T>
int ssim_forward(const T* x, const T* y, const uint8_t* counted, const int64_t* counts, Computed<T>* index,
                 Computed<T>* structure, T* pooled_x, T* pooled_y, double* partial, int64_t batch, int64_t channels,
                 int64_t height, int64_t width, int window, double sigma, int padding, double c1, double c2,
                 int reduction, int shift_y, int shift_x, bool replicate, int device, void* stream);

}  // namespace iqazoo::cuda
