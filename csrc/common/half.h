// The half types of images, as bits, and their way to float and back. Rounding is to nearest, ties to even.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "common/host_device.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace iqazoo {

struct bfloat16 {
  uint16_t bits;
};

struct float16 {
  uint16_t bits;
};

// What values of a type are computed in, and the type of results that are no image.
template <typename T>
using Computed = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <typename To, typename From>
IQAZOO_HD inline To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

IQAZOO_HD inline float to_float(bfloat16 half) { return same_bits<float>(uint32_t{half.bits} << 16); }

// No float is denormal on the way, so that a processor set to flush those does no harm.
IQAZOO_HD inline float to_float(float16 half) {
#ifdef __CUDA_ARCH__
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(half.bits));
  return wide;
#else
  const uint32_t sign = (half.bits & 0x8000u) << 16;
  const uint32_t magnitude = half.bits & 0x7fffu;
  const uint32_t special = magnitude >= 0x7c00u ? 112u << 23 : 0;  // infinity and NaN keep the greatest exponent
  const float normal = same_bits<float>((magnitude << 13) + (112u << 23) + special);
  const float denormal = static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f;
  return same_bits<float>(same_bits<uint32_t>(magnitude < 0x0400u ? denormal : normal) | sign);
#endif
}

template <typename Half>
IQAZOO_HD Half from_float(float value);

template <>
IQAZOO_HD inline bfloat16 from_float(float value) {
#ifdef __CUDA_ARCH__
  bfloat16 half;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(half.bits) : "f"(value));
  return half;
#else
  const uint32_t bits = same_bits<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  return {static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded)};
#endif
}

template <>
IQAZOO_HD inline float16 from_float(float value) {
#ifdef __CUDA_ARCH__
  float16 half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half.bits) : "f"(value));
  return half;
#else
  const uint32_t bits = same_bits<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - (112u << 23)) >> 13;
  // Beside a half, the last bit of a float is worth as much as that of a denormal float16.
  if (magnitude < 113u << 23) half = same_bits<uint32_t>(same_bits<float>(magnitude) + 0.5f) - (126u << 23);
  if (magnitude >= 0x477ff000u) half = 0x7c00u;  // what rounds to 2^16
  if (magnitude > 0x7f800000u) half = 0x7e00u;
  return {static_cast<uint16_t>(half | (bits >> 16 & 0x8000u))};
#endif
}

// One value as the type to compute in, and back.
template <typename T>
IQAZOO_HD inline Computed<T> wide(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    return value;
  } else {
    return to_float(value);
  }
}

template <typename T>
IQAZOO_HD inline T rounded(Computed<T> value) {
  if constexpr (std::is_floating_point_v<T>) {
    return value;
  } else {
    return from_float<T>(value);
  }
}

// `count` values as the type to compute in: where they are if that is their type, else in `room`.
template <typename T>
const Computed<T>* widened(const T* values, int64_t count, Computed<T>* room) {
  if constexpr (std::is_floating_point_v<T>) {
    return values;
  } else {
    int64_t i = 0;
#if defined(__F16C__)
    if constexpr (std::is_same_v<T, float16>) {
      for (; i + 8 <= count; i += 8) {
        const __m128i eight = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values + i));
        _mm256_storeu_ps(room + i, _mm256_cvtph_ps(eight));
      }
    }
#endif
    for (; i < count; ++i) room[i] = to_float(values[i]);
    return room;
  }
}

// Where to compute `count` values that `narrow` then puts into `values`: there at once, or in `room`.
template <typename T>
Computed<T>* wide_room(T* values, Computed<T>* room) {
  if constexpr (std::is_floating_point_v<T>) {
    return values;
  } else {
    return room;
  }
}

template <typename T>
void narrow(const Computed<T>* room, int64_t count, T* values) {
  if constexpr (!std::is_floating_point_v<T>) {
    int64_t i = 0;
#if defined(__F16C__)
    if constexpr (std::is_same_v<T, float16>) {
      for (; i + 8 <= count; i += 8) {
        const __m128i eight = _mm256_cvtps_ph(_mm256_loadu_ps(room + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(values + i), eight);
      }
    }
#endif
    for (; i < count; ++i) values[i] = from_float<T>(room[i]);
  }
}

}  // namespace iqazoo
