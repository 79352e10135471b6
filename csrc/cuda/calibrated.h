// Loss of judgments through LPIPS's small network, with all gradients, on the GPU. Arrays are contiguous: [size].
// Launchers queue work on `stream` of `device` and return a cudaError_t as int, 0 for success.
#pragma once

#include <cstdint>

namespace iqazoo::cuda {

// How many doubles of scratch `calibrated_pairwise` needs. It depends on size alone, so every GPU adds in one order.
int64_t calibrated_pairwise_partials(int64_t size);

// As cpu::calibrated_pairwise. `partial` is scratch of [calibrated_pairwise_partials(size)].
template <typename T>
int calibrated_pairwise(const T* first, const T* second, const T* preference, const T* weights, const T* incoming,
                        T* loss, T* agreement, T* grad_first, T* grad_second, T* grad_weights, double* partial,
                        int64_t size, bool saturating, int reduction, int device, void* stream);

}  // namespace iqazoo::cuda
