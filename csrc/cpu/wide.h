// More on vectors: streaming stores, transposes, exp.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "cpu/exponential.h"
#include "cpu/lanes.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace iqazoo::cpu {

template <typename T>
constexpr int64_t kWide = Lanes<T>::count;

// Vectors are passed by reference: by value their calling convention would depend on the instruction set.
template <typename T>
struct Pack {
  typename Lanes<T>::Vector v;
};

template <typename T>
inline Pack<T> load(const T* from) {
  Pack<T> pack;
  std::memcpy(&pack.v, from, sizeof pack.v);
  return pack;
}

template <typename T>
inline void store(T* to, const Pack<T>& from) {
  std::memcpy(to, &from.v, sizeof from.v);
}

// Past the caches, where the processor can and `to` is aligned: memory that is overwritten need not be read first.
// To be followed by `end_stream` before other threads read it.
template <typename T>
inline void stream(T* to, const Pack<T>& from) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), (__m512i)from.v);
#elif defined(__AVX__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), (__m256i)from.v);
#elif defined(__SSE2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(to), (__m128i)from.v);
#else
  store(to, from);
#endif
}

inline void end_stream() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

template <typename T>
inline bool can_stream(const T* to) {
  return reinterpret_cast<uintptr_t>(to) % kVectorBytes == 0;
}

template <typename T>
inline Pack<T> all(T value) {
  return {value - typename Lanes<T>::Vector{}};
}

// The greater of each lane; not a number only where both are, or the second is.
template <typename T>
inline Pack<T> greater(const Pack<T>& a, const Pack<T>& b) {
  return {a.v > b.v ? a.v : b.v};
}

// Whether any lane of `a` is greater than that of `b`.
template <typename T>
inline bool any_greater(const Pack<T>& a, const Pack<T>& b) {
  const auto found = a.v > b.v;
  bool any = false;
  for (int64_t i = 0; i < kWide<T>; ++i) any |= found[i] != 0;
  return any;
}

namespace detail {

// a0 b0 a1 b1 ... of the lower halves (Upper = 0) or of the upper ones.
template <typename T, int Upper, int... Lane>
inline void interleave(const Pack<T>& a, const Pack<T>& b, Pack<T>& to, std::integer_sequence<int, Lane...>) {
  constexpr int n = sizeof...(Lane);
#if defined(__clang__) || __GNUC__ >= 12
  to.v = __builtin_shufflevector(a.v, b.v, (Upper * n / 2 + Lane / 2 + Lane % 2 * n)...);
#else
  to.v = __builtin_shuffle(a.v, b.v, typename Lanes<T>::Index{(Upper * n / 2 + Lane / 2 + Lane % 2 * n)...});
#endif
}

// Each lane's neighbour `Shift` further, around the end.
template <typename T, int Shift, int... Lane>
inline void rotate(const Pack<T>& a, Pack<T>& to, std::integer_sequence<int, Lane...>) {
  constexpr int n = sizeof...(Lane);
#if defined(__clang__) || __GNUC__ >= 12
  to.v = __builtin_shufflevector(a.v, a.v, ((Lane + Shift) % n)...);
#else
  to.v = __builtin_shuffle(a.v, typename Lanes<T>::Index{((Lane + Shift) % n)...});
#endif
}

template <typename T, int Shift, typename Join>
inline void fold(Pack<T>& pack, const Join& join) {
  if constexpr (Shift > 0) {
    Pack<T> other;
    rotate<T, Shift>(pack, other, std::make_integer_sequence<int, kWide<T>>());
    join(pack, other);
    fold<T, Shift / 2>(pack, join);
  }
}

}  // namespace detail

// The sum of the lanes, by halves.
template <typename T>
inline T sum_of(Pack<T> pack) {
  detail::fold<T, kWide<T> / 2>(pack, [](Pack<T>& a, const Pack<T>& b) { a.v += b.v; });
  return pack.v[0];
}

template <typename T>
inline T greatest_of(Pack<T> pack) {
  detail::fold<T, kWide<T> / 2>(pack, [](Pack<T>& a, const Pack<T>& b) { a = greater(a, b); });
  return pack.v[0];
}

// Transposes a square of vectors in place, by log2(n) perfect shuffles of its rows.
template <typename T>
inline void transpose(Pack<T> (&rows)[kWide<T>]) {
  constexpr int n = kWide<T>;
  using Order = std::make_integer_sequence<int, n>;
  Pack<T> shuffled[n];
  for (int step = 1; step < n; step *= 2) {
    for (int i = 0; i < n / 2; ++i) {
      detail::interleave<T, 0>(rows[i], rows[i + n / 2], shuffled[2 * i], Order());
      detail::interleave<T, 1>(rows[i], rows[i + n / 2], shuffled[2 * i + 1], Order());
    }
    for (int i = 0; i < n; ++i) rows[i] = shuffled[i];
  }
}

// to[c][r] = from[r][c] for a square of vectors in memory.
template <typename T>
inline void turn_square(const T* from, int64_t from_step, T* to, int64_t to_step) {
  Pack<T> rows[kWide<T>];
  for (int64_t i = 0; i < kWide<T>; ++i) rows[i] = load(from + i * from_step);
  transpose(rows);
  for (int64_t i = 0; i < kWide<T>; ++i) store(to + i * to_step, rows[i]);
}

#if defined(__AVX512F__)
// The same, within quarters of vectors first: that takes the processor less time than whole vectors shuffled.
template <>
inline void turn_square(const float* from, int64_t from_step, float* to, int64_t to_step) {
  __m512 quarters[16];  // [4 g + k]: column 4 q + k of rows 4 g to 4 g + 3, in quarter q
  for (int64_t g = 0; g < 4; ++g) {
    const float* at = from + 4 * g * from_step;
    const __m512 r0 = _mm512_loadu_ps(at), r1 = _mm512_loadu_ps(at + from_step);
    const __m512 r2 = _mm512_loadu_ps(at + 2 * from_step), r3 = _mm512_loadu_ps(at + 3 * from_step);
    const __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(r0, r1));
    const __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(r0, r1));
    const __m512d low23 = _mm512_castps_pd(_mm512_unpacklo_ps(r2, r3));
    const __m512d high23 = _mm512_castps_pd(_mm512_unpackhi_ps(r2, r3));
    quarters[4 * g + 0] = _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23));
    quarters[4 * g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23));
    quarters[4 * g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23));
    quarters[4 * g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23));
  }
  for (int64_t k = 0; k < 4; ++k) {
    const __m512 a = quarters[k], b = quarters[4 + k], c = quarters[8 + k], d = quarters[12 + k];
    const __m512 ab_even = _mm512_shuffle_f32x4(a, b, 0x88), ab_odd = _mm512_shuffle_f32x4(a, b, 0xdd);
    const __m512 cd_even = _mm512_shuffle_f32x4(c, d, 0x88), cd_odd = _mm512_shuffle_f32x4(c, d, 0xdd);
    _mm512_storeu_ps(to + k * to_step, _mm512_shuffle_f32x4(ab_even, cd_even, 0x88));
    _mm512_storeu_ps(to + (4 + k) * to_step, _mm512_shuffle_f32x4(ab_odd, cd_odd, 0x88));
    _mm512_storeu_ps(to + (8 + k) * to_step, _mm512_shuffle_f32x4(ab_even, cd_even, 0xdd));
    _mm512_storeu_ps(to + (12 + k) * to_step, _mm512_shuffle_f32x4(ab_odd, cd_odd, 0xdd));
  }
}
#endif

// exp(x) for x <= 0: 2^n times a polynomial of the rest. It misses by at most 1.2e-7, and near -20 by 4e-7 of the result.
// 0 below the smallest normal number; NaN stays.
inline Pack<float> exp_of(const Pack<float>& x) {
  using Vector = Lanes<float>::Vector;
  const Vector shifted = x.v * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the low bits hold n
  const Vector n = shifted - 12582912.0f;
  const Vector r = x.v * 1.44269504f - n;
  Vector sum = r * 1.32647272e-3f + 9.67151264e-3f;
  sum = sum * r + 5.55073374e-2f;
  sum = sum * r + 2.40222421e-1f;
  sum = sum * r + 6.93146978e-1f;
  sum = sum * r + 1.0f;
#if defined(__AVX512F__)
  const __mmask16 normal = _mm512_cmp_ps_mask((__m512)x.v, _mm512_set1_ps(-87.0f), _CMP_NLT_UQ);
  return {(Vector)_mm512_maskz_scalef_ps(normal, (__m512)sum, (__m512)n)};
#else
  const Vector y = (Vector)((Lanes<float>::Bits)sum + ((Lanes<float>::Bits)shifted << 23));
  return {x.v < -87.0f ? Vector{} : y};
#endif
}

inline Pack<double> exp_of(const Pack<double>& x) {
  using Vector = Lanes<double>::Vector;
  Vector y = x.v;
  exp_doubles<Lanes<double>::Bits>(y);
  return {x.v < -708.0 ? Vector{} : y};
}

}  // namespace iqazoo::cpu
