// The warp's matrix instructions for 16-bit types, and twins of them that csrc/shim runs. All 32 lanes must take part.
// In a fragment, lane l holds what belongs to row g = l / 4 and to the columns 2 t and 2 t + 1, t = l % 4.
#pragma once

#include <cstdint>
#include <type_traits>

#include "common/half.h"
#include "cuda/launch.h"

namespace iqazoo::cuda {

// Four matrices of 8 x 8 elements from shared memory: lane 8 m + r gives the address of the 16 bytes of row r of matrix
// m. Part m of the result holds that matrix at (g, 2 t) and (g, 2 t + 1); at (2 t, g) and (2 t + 1, g) if transposed.
template <bool transposed>
__device__ __forceinline__ void load_matrices(uint32_t (&parts)[4], const void* row) {
#if defined(__CUDA_ARCH__)
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(parts[0]), "=r"(parts[1]), "=r"(parts[2]), "=r"(parts[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(parts[0]), "=r"(parts[1]), "=r"(parts[2]), "=r"(parts[3])
                 : "r"(address)
                 : "memory");
  }
#elif defined(IQAZOO_SHIM)
  const auto rows = shim::gather({__FILE__, __LINE__}, static_cast<const uint16_t*>(row));
  const unsigned g = shim::lane() / 4, t = shim::lane() % 4;
  for (int m = 0; m < 4; ++m) {
    const uint16_t low = transposed ? rows[8 * m + 2 * t][g] : rows[8 * m + g][2 * t];
    const uint16_t high = transposed ? rows[8 * m + 2 * t + 1][g] : rows[8 * m + g][2 * t + 1];
    parts[m] = low | uint32_t{high} << 16;
  }
#endif
}

// sum [16 x 8] += a [16 x 16] b [16 x 8]. Fragments: sum (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1); of
// a (g, 2 t), (g + 8, 2 t), (g, 2 t + 8), (g + 8, 2 t + 8), each with its right neighbour; of b (2 t, g), (2 t + 8, g),
// each with the one below.
template <typename T>
__device__ __forceinline__ void multiply_add(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  static_assert(std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>);
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<T, bfloat16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
#elif defined(IQAZOO_SHIM)
  struct Held {
    uint32_t a[4], b[2];
  };
  const auto held = shim::gather({__FILE__, __LINE__}, Held{{a[0], a[1], a[2], a[3]}, {b0, b1}});
  const auto element = [](uint32_t pair, int which) {
    return to_float(T{static_cast<uint16_t>(which ? pair >> 16 : pair & 0xffffu)});
  };
  const int g = shim::lane() / 4, t = shim::lane() % 4;
  for (int i = 0; i < 4; ++i) {
    const int lower = i / 2, column = 2 * t + i % 2;
    for (int k = 0; k < 16; ++k) {
      const float left = element(held[4 * g + k % 8 / 2].a[lower + 2 * (k / 8)], k % 2);
      sum[i] += left * element(held[4 * column + k % 8 / 2].b[k / 8], k % 2);
    }
  }
#endif
}

}  // namespace iqazoo::cuda
