// Losses of judgments between A and B, with their gradient, on the GPU. Arrays are contiguous: [size].
// Launchers queue work on `stream` of `device` and return a cudaError_t as int, 0 for success.
#pragma once

#include <cstdint>

namespace iqazoo::cuda {

// How many doubles of scratch `pairwise` needs. It depends on size alone, so every GPU adds in one order.
int64_t pairwise_partials(int64_t size);

// As cpu::pairwise. `partial` is scratch of [pairwise_partials(size)].
template <typename T>
int pairwise(const T* score_a, const T* score_b, const T* preference, T* loss, T* agreement, T* gradient,
             double* partial, int64_t size, int kind, bool lower_is_better, double margin, int reduction,
             bool tie_is_half, int device, void* stream);

}  // namespace iqazoo::cuda
