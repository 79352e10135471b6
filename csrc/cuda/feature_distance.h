// The distance of two feature maps in direction, on the GPU; common/feature_distance.h says which.
// Launchers queue work on `stream` of `device` and return a cudaError_t as int, 0 for success.
#pragma once

#include <cstdint>

#include "common/feature_distance.h"

namespace iqazoo::cuda {

// How many doubles of scratch feature_distance needs, with or without means. It depends on the shape alone, so every
// GPU adds in one order.
int64_t feature_distance_partials(int64_t batch, int64_t channels, int64_t positions, bool means);

// As cpu::feature_distance. `partial` is scratch of [feature_distance_partials(...)].
template <typename T>
int feature_distance(const FeaturePair<T>& pair, const Computed<T>* weight, const Computed<T>* at_positions,
                     Computed<T>* value, Computed<T>* map, Computed<T>* means, Computed<T>* lengths, double* partial,
                     int device, void* stream);

// As cpu::feature_distance_backward.
template <typename T>
int feature_distance_backward(const FeaturePair<T>& pair, const Computed<T>* of_channels,
                              const Computed<T>* at_positions, const Computed<T>* lengths, T* grad_image,
                              T* grad_reference, int device, void* stream);

}  // namespace iqazoo::cuda
