// A loss over all pairs of items, its gradient, and how the pairs compare, on the GPU. Arrays are contiguous.
// Launchers queue work on `stream` of `device` and return a cudaError_t as int, 0 for success.
#pragma once

#include <cstdint>

namespace iqazoo::cuda {

// How many blocks leave their sums in the scratch. It depends on n alone, so every GPU adds in one order.
int64_t ranking_blocks(int64_t n);

// As cpu::ranking. Scratch: partial_loss [ranking_blocks(n)], partial_counts [ranking_blocks(n), 6].
template <typename T>
int ranking(const T* scores, const T* targets, const int64_t* groups, T* loss, T* gradient, int64_t* counts,
            double* partial_loss, int64_t* partial_counts, int64_t n, int kind, double margin, bool flipped, bool mean,
            int device, void* stream);

// As cpu::ranking_counts, with the same scratch.
template <typename T>
int ranking_counts(const T* scores, const T* targets, const int64_t* groups, int64_t* counts, double* partial_loss,
                   int64_t* partial_counts, int64_t n, bool flipped, int device, void* stream);

}  // namespace iqazoo::cuda
