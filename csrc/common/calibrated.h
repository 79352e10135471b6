// LPIPS's small network from two distances to the logit of "B preferred" (Zhang et al. 2018), for host and device.
// x = [d0, d1, d0 - d1, d0 / (d1 + eps), d1 / (d0 + eps)]; 5 -> 32 -> 32 -> 1, LeakyReLU between.
#pragma once

#include "common/pairwise.h"

namespace iqazoo::calibrated {

constexpr int kInputs = 5;
constexpr int kUnits = 32;
// Where each weight lies in one flat array: w1 [32, 5], b1 [32], w2 [32, 32], b2 [32], w3 [1, 32], b3 [1].
constexpr int kB1 = kUnits * kInputs;
constexpr int kW2 = kB1 + kUnits;
constexpr int kB2 = kW2 + kUnits * kUnits;
constexpr int kW3 = kB2 + kUnits;
constexpr int kB3 = kW3 + kUnits;
constexpr int kWeights = kB3 + 1;

template <typename T>
IQAZOO_HD inline T eps() {
  return T(0.1);
}

template <typename T>
IQAZOO_HD inline void inputs(T d0, T d1, T* x) {
  x[0] = d0;
  x[1] = d1;
  x[2] = d0 - d1;
  x[3] = d0 / (d1 + eps<T>());
  x[4] = d1 / (d0 + eps<T>());
}

// From d loss / d x to d loss / d d0 and d loss / d d1.
template <typename T>
IQAZOO_HD inline void input_slopes(T d0, T d1, const T* dx, T& slope0, T& slope1) {
  const T over0 = 1 / (d0 + eps<T>()), over1 = 1 / (d1 + eps<T>());
  slope0 = dx[0] + dx[2] + dx[3] * over1 - dx[4] * d1 * over0 * over0;
  slope1 = dx[1] - dx[2] - dx[3] * d0 * over1 * over1 + dx[4] * over0;
}

template <typename T>
IQAZOO_HD inline T leaky(T x) {
  return x > 0 ? x : T(0.2) * x;
}

template <typename T>
IQAZOO_HD inline T leaky_slope(T x) {
  return x > 0 ? T(1) : T(0.2);
}

// What torch's BCELoss(sigmoid(logit)) computes, with its limits: log is at least -100, and where sigmoid rounds to 0
// or 1 the gradient is 0.
template <typename T>
IQAZOO_HD inline Judgment<T> saturating_bce(T logit, T h) {
  const T p = 1 / (1 + std::exp(-logit));
  const T log_p = std::log(p), log_q = std::log1p(-p);
  const T for_b = log_p < -100 ? T(-100) : log_p, for_a = log_q < -100 ? T(-100) : log_q;
  const T width = (1 - p) * p;
  const T floored = width < T(1e-12f) ? T(1e-12f) : width;  // a float in torch too
  return {(h - 1) * for_a - h * for_b, (p - h) / floored * width};
}

template <typename T>
IQAZOO_HD inline Judgment<T> judge_logit(T logit, T h, bool saturating) {
  return saturating ? saturating_bce(logit, h) : judge<Pairwise::kBce>(logit, h, T(0));
}

}  // namespace iqazoo::calibrated
