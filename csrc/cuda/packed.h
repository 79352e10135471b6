// Two values of a half type in one register, the first in its lower bits, as floats and back.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "common/half.h"

namespace iqazoo::cuda {

template <typename T>
constexpr bool kHalf = std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>;

template <typename T>
__device__ __forceinline__ float2 unpacked(uint32_t both) {
  static_assert(kHalf<T>);
  if constexpr (std::is_same_v<T, bfloat16>) {
    return make_float2(same_bits<float>(both << 16), same_bits<float>(both & 0xffff0000u));
  } else {
    const T first{static_cast<uint16_t>(both & 0xffffu)}, second{static_cast<uint16_t>(both >> 16)};
    return make_float2(to_float(first), to_float(second));
  }
}

// Rounds to nearest, ties to even.
template <typename T>
__device__ __forceinline__ uint32_t packed(float first, float second) {
  static_assert(kHalf<T>);
#ifdef __CUDA_ARCH__
  uint32_t both;
  if constexpr (std::is_same_v<T, bfloat16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  }
  return both;
#else
  return from_float<T>(first).bits | uint32_t{from_float<T>(second).bits} << 16;
#endif
}

template <typename T>
constexpr uint32_t kOnes = std::is_same_v<T, bfloat16> ? 0x3f803f80u : 0x3c003c00u;

}  // namespace iqazoo::cuda
