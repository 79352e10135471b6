// Sums over a block.
#pragma once

#include "cuda/launch.h"

namespace iqazoo::cuda {

// The sum over a block of `threads`, a power of two, in a fixed order; valid in thread 0. A barrier comes first, so
// that a block may call it again and again.
template <int threads, typename Sum>
__device__ Sum block_sum(Sum value) {
  static_assert((threads & (threads - 1)) == 0, "each step halves the threads");
  IQAZOO_SHARED(Sum, sums, threads);
  __syncthreads();
  sums[threadIdx.x] = value;
  for (int half = threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  return sums[0];
}

}  // namespace iqazoo::cuda
