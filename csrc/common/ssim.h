// The SSIM index of a window and its slopes, from the moments of s = x + y and e = x - y (Wang et al. 2004, in a form in
// which nothing cancels where the images are alike):
//   luminance = 1 - mean_e^2 / b1, b1 = mean_x^2 + mean_y^2 + c1 = (mean_s^2 + mean_e^2) / 2 + c1
//   structure = 1 - var_e / b2,    b2 = var_x + var_y + c2 = (var_s + var_e) / 2 + c2
// Both are at most 1 however they are rounded, and 1 where the images are the same.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace iqazoo::ssim {

enum class Reduction : int { kImage, kChannel, kMap };  // in the order of iqazoo.ops.structural_similarity.REDUCTIONS

// Squares cancel least near zero: a pivot is subtracted from s and e before they are filtered.
template <typename T>
struct Constants {
  T pivot_s, pivot_e, c1, c2;
};

// Filtered s, e, s^2 and e^2, all less their pivots.
template <typename T>
struct Moments {
  T s, e, ss, ee;
};

template <typename T>
struct Terms {
  T index, structure;
};

// Slopes of the weighed terms by the four moments; those of the squares are doubled.
template <typename T>
struct Slopes {
  T s, e, ss, ee;
};

// A NaN stays.
template <typename T>
IQAZOO_HD inline T not_negative(T value) {
  return value < 0 ? T(0) : value;
}

// 1 / x. On the GPU one instruction and a step of Newton's: the last digits matter where 1 - unlike is a small rest. For
// float, x is no denormal number; above 2^126 the result is 0 there.
template <typename T>
IQAZOO_HD inline T inverse(T x) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) == sizeof(float)) {
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return fmaf(result, fmaf(-fminf(x, 3.4e38f), result, 1.0f), result);  // an infinite x stays one with the result 0
  }
#endif
  return 1 / x;
}

template <typename T>
struct Quotients {
  T level_s, level_e;      // means without pivots
  T inverse_1, inverse_2;  // 1 / b1, 1 / b2
  T unlike_1, unlike_2;    // mean_e^2 / b1, var_e / b2
};

template <typename T>
IQAZOO_HD inline Quotients<T> quotients(const Moments<T>& m, const Constants<T>& c) {
  const T level_s = m.s + c.pivot_s, level_e = m.e + c.pivot_e;
  const T var_s = not_negative(m.ss - m.s * m.s), var_e = not_negative(m.ee - m.e * m.e);
  const T square_e = level_e * level_e;
  const T inverse_1 = inverse(T(0.5) * (level_s * level_s + square_e) + c.c1);
  const T inverse_2 = inverse(T(0.5) * (var_s + var_e) + c.c2);
  return {level_s, level_e, inverse_1, inverse_2, square_e * inverse_1, var_e * inverse_2};
}

template <typename T>
IQAZOO_HD inline Terms<T> terms(const Quotients<T>& q) {
  const T structure = 1 - q.unlike_2;
  return {(1 - q.unlike_1) * structure, structure};
}

// Of weight_index * index + weight_structure * structure.
template <typename T>
IQAZOO_HD inline Slopes<T> slopes(const Moments<T>& m, const Quotients<T>& q, T weight_index, T weight_structure) {
  const T for_luminance = weight_index * (1 - q.unlike_2) * q.inverse_1;
  const T for_structure = (weight_index * (1 - q.unlike_1) + weight_structure) * q.inverse_2;
  const T ss = for_structure * q.unlike_2, ee = for_structure * (q.unlike_2 - 2);
  const T s = for_luminance * q.unlike_1 * q.level_s - m.s * ss;
  const T e = for_luminance * (q.unlike_1 - 2) * q.level_e - m.e * ee;
  return {s, e, ss, ee};
}

}  // namespace iqazoo::ssim
