// GCC's and clang's own vectors, the widest of what the compiler was told to compile for.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/exponential.h"

#ifdef __AVX__
#include <immintrin.h>
#endif

namespace iqazoo::cpu {

#if defined(__AVX512F__)
constexpr int64_t kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int64_t kVectorBytes = 32;
#else
constexpr int64_t kVectorBytes = 16;
#endif

template <typename T>
struct Lanes;
template <>
struct Lanes<float> {
  typedef float Vector __attribute__((vector_size(kVectorBytes)));
  typedef int32_t Index __attribute__((vector_size(kVectorBytes)));
  typedef uint32_t Bits __attribute__((vector_size(kVectorBytes)));
  using Integer = int32_t;
  static constexpr int64_t count = kVectorBytes / 4;
};
template <>
struct Lanes<double> {
  typedef double Vector __attribute__((vector_size(kVectorBytes)));
  typedef int64_t Index __attribute__((vector_size(kVectorBytes)));
  typedef uint64_t Bits __attribute__((vector_size(kVectorBytes)));
  using Integer = int64_t;
  static constexpr int64_t count = kVectorBytes / 8;
};

using Doubles = Lanes<double>::Vector;

template <typename T>
inline void load_lanes(typename Lanes<T>::Vector& to, const T* from) {
  std::memcpy(&to, from, sizeof to);
}

template <typename T>
inline void store_lanes(T* to, const typename Lanes<T>::Vector& from) {
  std::memcpy(to, &from, sizeof from);
}

// 0, 1, 2 ...
template <typename T>
inline void count_lanes(typename Lanes<T>::Index& lane) {
  for (int64_t k = 0; k < Lanes<T>::count; ++k) lane[k] = static_cast<typename Lanes<T>::Integer>(k);
}

// The sum of the lanes, by halves.
template <typename T>
inline T sum_lanes(const typename Lanes<T>::Vector& vector) {
  T parts[Lanes<T>::count];
  store_lanes<T>(parts, vector);
  for (int64_t half = Lanes<T>::count / 2; half > 0; half /= 2) {
    for (int64_t k = 0; k < half; ++k) parts[k] += parts[k + half];
  }
  return parts[0];
}

inline void root_lanes(Doubles& x) {
#if defined(__AVX512F__)
  x = _mm512_sqrt_pd(x);
#elif defined(__AVX__)
  x = _mm256_sqrt_pd(x);
#else
  for (int64_t k = 0; k < Lanes<double>::count; ++k) x[k] = std::sqrt(x[k]);
#endif
}

// x = exp(x) for x <= 0; below -700 as there.
inline void exp_lanes(Doubles& x) {
  x = x < -700.0 ? x * 0 - 700.0 : x;
  exp_doubles<Lanes<double>::Bits>(x);
}

}  // namespace iqazoo::cpu
