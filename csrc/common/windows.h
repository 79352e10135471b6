// Sliding windows over images: their weights, and what lies beyond the border.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/host_device.h"

namespace iqazoo {

constexpr int kLargestWindow = 33;

enum class Padding : int { kValid, kSame, kReflect };  // in the order of iqazoo.ops.windows.PADDINGS

// The one-dimensional window, with sum 1; the weight of a pixel is the product of those of its row and column.
template <typename T>
struct Taps {
  T weight[kLargestWindow];
  int size;
};

// On the host. A Gaussian of standard deviation sigma; 0: all alike.
template <typename T>
Taps<T> make_taps(int size, double sigma) {
  double weight[kLargestWindow], sum = 0;
  const double nearest = size % 2 ? 0 : 0.5;  // of a pixel to the centre: its weight is 1, however small sigma is
  for (int k = 0; k < size; ++k) {
    const double distance = k - 0.5 * (size - 1);
    weight[k] = sigma > 0 ? std::exp(-0.5 * (distance - nearest) * (distance + nearest) / sigma / sigma) : 1;
    sum += weight[k];
  }
  Taps<T> taps{};
  taps.size = size;
  for (int k = 0; k < size; ++k) taps.weight[k] = static_cast<T>(weight[k] / sum);
  return taps;
}

// How far the first window begins before the image.
IQAZOO_HD inline int64_t margin_of(int size, Padding padding) { return padding == Padding::kValid ? 0 : size / 2; }

// How many windows lie along a side.
IQAZOO_HD inline int64_t windows_along(int64_t side, int size, Padding padding) {
  return side - size + 1 + 2 * margin_of(size, padding);
}

// The pixel that stands at a coordinate, or -1 where a zero does. Reflection is once, about the outer pixels.
IQAZOO_HD inline int64_t pixel_at(int64_t i, int64_t side, Padding padding) {
  if (i >= 0 && i < side) return i;
  if (padding != Padding::kReflect) return -1;
  return i < 0 ? -i : 2 * (side - 1) - i;
}

}  // namespace iqazoo
