// Losses of a judgment between A and B, for host and device. d is a score turned so that larger is worse,
// z = d_A - d_B, h the fraction that preferred B, and P(B preferred) = sigmoid(z).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "common/host_device.h"

namespace iqazoo {

enum class Pairwise : int { kBce = 0, kMse = 1, kMargin = 2 };

template <typename T>
struct Judgment {
  T loss;
  T slope;  // d loss / d z
};

template <typename T>
struct Logistic {
  T positive;  // sigmoid(z)
  T negative;  // sigmoid(-z), exact where 1 - sigmoid(z) would be 0
  T log1p;     // log(1 + e^-|z|)
};

// e^x for x <= 0 without a branch, so that loops vectorise. Cephes' polynomial for expf (S. Moshier), error 1 ulp.
// Comparisons are written so that NaN passes; what would be denormal is 0.
IQAZOO_HD inline float exp_negative(float x) {
  const float t = x < -87.0f ? -87.0f : x;
  const float shifted = t * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the low bits are now round(t / log 2)
  const float n = shifted - 12582912.0f;
  const float r = (t - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + (127u << 23);
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  const float power = p * scale;
  return x < -87.0f ? 0.0f : power;
}

// log(1 + e) for 0 <= e <= 1 as 2 artanh(s), s = e / (2 + e) <= 1/3: an odd series, relative error below 1e-7.
IQAZOO_HD inline float log1p_unit(float e) {
  const float s = e / (2.0f + e);
  const float q = s * s;
  float p = 2.0f / 15.0f;
  p = p * q + 2.0f / 13.0f;
  p = p * q + 2.0f / 11.0f;
  p = p * q + 2.0f / 9.0f;
  p = p * q + 2.0f / 7.0f;
  p = p * q + 2.0f / 5.0f;
  p = p * q + 2.0f / 3.0f;
  return s * (p * q + 2.0f);
}

IQAZOO_HD inline double exp_negative(double x) { return std::exp(x); }
IQAZOO_HD inline double log1p_unit(double e) { return std::log1p(e); }

// Finite for every finite z. What a caller does not use is not computed.
template <typename T>
IQAZOO_HD inline Logistic<T> logistic(T z) {
  const T e = exp_negative(z < 0 ? z : -z);
  const T large = 1 / (1 + e);
  const T small = e * large;
  return {z < 0 ? small : large, z < 0 ? large : small, log1p_unit(e)};
}

template <Pairwise kind, typename T>
IQAZOO_HD inline Judgment<T> judge(T z, T h, T margin) {
  if constexpr (kind == Pairwise::kMargin) {
    // At the hinge the gradient passes, as in torch's clamp_min and margin_ranking_loss.
    const T for_b = margin - z, for_a = margin + z;
    const T loss_b = for_b < 0 ? T(0) : for_b, loss_a = for_a < 0 ? T(0) : for_a;
    return {h * loss_b + (1 - h) * loss_a, (for_a >= 0 ? 1 - h : T(0)) - (for_b >= 0 ? h : T(0))};
  } else {
    const Logistic<T> p = logistic(z);
    const T error = p.positive - h;
    if constexpr (kind == Pairwise::kMse) return {error * error, 2 * error * (p.positive * p.negative)};
    // h and 1 - h weigh one term each: then a difference of infinity is as in the reference.
    const T worse = z > 0 ? z : T(0), better = z < 0 ? -z : T(0);
    return {h * better + (1 - h) * worse + p.log1p, error};
  }
}

// The 2AFC score of one judgment; a tie is worth a half, or counts as "A is better", as LPIPS's training has it.
template <typename T>
IQAZOO_HD inline T agreement(T z, T h, bool tie_is_half) {
  const T clear = z > 0 ? h : 1 - h;
  const T tied = tie_is_half ? T(0.5) + 0 * h : clear;
  const T known = z == 0 ? tied : clear;
  return z == z ? known : z;
}

}  // namespace iqazoo
