// The distance of two feature maps in direction; common/feature_distance.h says which.
#pragma once

#include <cstdint>

#include "common/feature_distance.h"

namespace iqazoo::cpu {

// Each output may be null. `weight` is [channels]; it may be null without `value` and `map`.
//   value[b]       mean over positions of sum over c of weight[c] u^2
//   map[b, p]      sum over c of weight[c] u^2
//   means[b, c]    mean over positions of u^2, times at_positions[b, p] unless that is null
//   lengths[b, 2, p]  of both vectors, for the backward pass
// Means over no position are NaN.
template <typename T>
void feature_distance(const FeaturePair<T>& pair, const T* weight, const T* at_positions, T* value, T* map, T* means,
                      T* lengths, int threads);

// The gradients of the sum of of_channels[b, c] at_positions[b, p] u^2 / 2, where a null at_positions stands for ones;
// either may be null. They are laid out as the features, with each image of the batch by itself.
template <typename T>
void feature_distance_backward(const FeaturePair<T>& pair, const T* of_channels, const T* at_positions,
                               const T* lengths, T* grad_image, T* grad_reference, int threads);

}  // namespace iqazoo::cpu
