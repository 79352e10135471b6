// The distance of two feature maps in direction (the layer of LPIPS that compares activations), for host and device.
// At a position, over channels c: u_c = f_c / (|f| + eps) - g_c / (|g| + eps), and the distance is sum weight_c u_c^2.
#pragma once

#include <cstdint>

#include "common/half.h"
#include "common/host_device.h"

namespace iqazoo {

// Both maps: [batch, channels, positions] or, channels last, [batch, positions, channels]. Each has its own step from
// one image to the next, 0 for one that serves the whole batch.
template <typename T>
struct FeaturePair {
  const T* image;
  const T* reference;
  int64_t batch, channels, positions;
  int64_t image_step, reference_step;
  bool channels_last;
  Computed<T> eps;
};

// What a vector is multiplied by to have length 1; a zero vector stays zero.
template <typename T>
IQAZOO_HD inline T over_length(T length, T eps) {
  return length == 0 ? T(0) : 1 / (length + eps);
}

// u = x * over - y * other, computed as (x - y) * common + x * image_rest + y * reference_rest, where one rest is 0. So
// equal vectors differ by exactly 0, and close ones by what their difference is precise to, also where a compiler fuses
// multiplications with additions; and no term is much longer than 1.
template <typename T>
struct UnitDifference {
  T common, image_rest, reference_rest;

  UnitDifference() = default;
  IQAZOO_HD UnitDifference(T image_over, T reference_over)
      : common(image_over < reference_over ? image_over : reference_over),
        image_rest(image_over - common),
        reference_rest(common - reference_over) {}

  IQAZOO_HD T operator()(T x, T y) const { return (x - y) * common + (x * image_rest + y * reference_rest); }
};

// With t the gradient in a unit vector, the gradient in f is t * over - f * radial_part(length, over, sum t_c f_c).
template <typename T>
IQAZOO_HD inline T radial_part(T length, T over, T dot) {
  return length == 0 ? T(0) : dot * over * (over / length);
}

}  // namespace iqazoo
