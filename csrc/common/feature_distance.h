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

// With t the gradient in a unit vector, the gradient in f is t * over - f * radial_part(length, over, sum t_c f_c).
template <typename T>
IQAZOO_HD inline T radial_part(T length, T over, T dot) {
  return length == 0 ? T(0) : dot * over * (over / length);
}

}  // namespace iqazoo
