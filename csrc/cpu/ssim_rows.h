// The stages of both passes of ssim: pixels to moments, rows of moments to rows of terms, sums of rows.
#pragma once

#include "cpu/filtered_rows.h"
#include "cpu/ssim.h"
#include "cpu/window_tiles.h"

namespace iqazoo::cpu {

constexpr int kMoments = 4;

template <typename T>
ssim::Constants<T> ssim_constants(const T* x, const T* y, const Plane& plane, Span band, Span strip,
                                  const SsimShape& shape) {
  T middles[2];
  sample(x, y, plane, band, strip, [](T a, T b) { return a + b; }, [](T a, T b) { return a - b; }, middles);
  return {middles[0], middles[1], static_cast<T>(shape.c1), static_cast<T>(shape.c2)};
}

// s, e, s^2 and e^2 of a row of pixels: what is filtered.
template <typename T>
struct SsimProducts {
  static constexpr int kCount = kMoments;
  ssim::Constants<T> constants;

  void operator()(const T* __restrict__ x, const T* __restrict__ y, int64_t count, T* const* rows) const {
    T *__restrict__ s = rows[0], *__restrict__ e = rows[1], *__restrict__ ss = rows[2], *__restrict__ ee = rows[3];
    const T pivot_s = constants.pivot_s, pivot_e = constants.pivot_e;
    for (int64_t j = 0; j < count; ++j) {
      const T sum = x[j] + y[j] - pivot_s, difference = x[j] - y[j] - pivot_e;
      s[j] = sum;
      e[j] = difference;
      ss[j] = sum * sum;
      ee[j] = difference * difference;
    }
  }
};

template <typename T>
inline ssim::Moments<T> moments_at(const T* rows, int64_t stride, int64_t j) {
  return {rows[j], rows[j + stride], rows[j + 2 * stride], rows[j + 3 * stride]};
}

// The sum in double of a row, few values in T at a time; with `counted` of those where it is not 0.
template <typename T>
double sum_of(const T* values, const uint8_t* counted, int64_t count) {
  if (counted) {
    double total = 0;
    for (int64_t j = 0; j < count; ++j) total += counted[j] ? static_cast<double>(values[j]) : 0.0;
    return total;
  }
  constexpr int64_t kLanes = 16, kDeep = 4;
  double lanes[kLanes] = {};
  int64_t j = 0;
  for (; j + kDeep * kLanes <= count; j += kDeep * kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const T* v = values + j + lane;
      lanes[lane] += (v[0] + v[kLanes]) + (v[2 * kLanes] + v[3 * kLanes]);
    }
  }
  double total = 0;
  for (; j < count; ++j) total += values[j];
  for (const double lane : lanes) total += lane;
  return total;
}

struct TermSums {
  double index = 0, structure = 0;
};

// Means over the windows that count, from the sums over tiles.
template <typename T>
void write_means(const std::vector<TermSums>& sums, int64_t tiles, const SsimMask& mask, const SsimShape& shape,
                 int64_t windows, T* index, T* structure) {
  const bool by_image = shape.reduction == ssim::Reduction::kImage;
  const int64_t grouped = by_image ? shape.channels : 1;
  const int64_t results = by_image ? shape.batch : shape.batch * shape.channels;
  for (int64_t result = 0; result < results; ++result) {
    const int64_t image = by_image ? result : result / shape.channels;
    TermSums total;
    for (int64_t i = result * grouped * tiles; i < (result + 1) * grouped * tiles; ++i) {
      total.index += sums[i].index;
      total.structure += sums[i].structure;
    }
    const double count = static_cast<double>((mask.counts ? mask.counts[image] : windows) * grouped);
    if (index) index[result] = static_cast<T>(total.index / count);
    if (structure) structure[result] = static_cast<T>(total.structure / count);
  }
}

}  // namespace iqazoo::cpu
