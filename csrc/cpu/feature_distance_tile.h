// What the kernels of the feature distance share: one task's rows of channels, and what is known of its positions.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>

#include "common/feature_distance.h"
#include "cpu/lanes.h"

namespace iqazoo::cpu::features {

template <typename T>
constexpr int64_t round_up(int64_t count) {
  return (count + Lanes<T>::count - 1) / Lanes<T>::count * Lanes<T>::count;
}

// Memory of a task that is written before it is read.
template <typename T>
std::unique_ptr<T[]> room(int64_t count) {
  return std::unique_ptr<T[]>(new T[count]);
}

// `count` values, and zeros up to whole vectors.
template <typename T>
void copy_padded(const T* from, int64_t count, T* to) {
  std::memcpy(to, from, count * sizeof(T));
  std::fill(to + count, to + round_up<T>(count), T(0));
}

// What a task of a forward pass writes; each may be null. As in cpu/feature_distance.h, but of one image and, for map,
// lengths and at_positions, from the task's first position on.
template <typename T>
struct ForwardTask {
  const T* image;
  const T* reference;
  const T* next_image;  // where the next task begins to read
  const T* next_reference;
  const T* weight;
  const T* spread_weight;  // [channels, positions]; not null where maps are to be folded
  const T* at_positions;
  double* value;  // the sum over the task's positions, not the mean
  T* map;
  double* means;  // likewise
  T* image_length;
  T* reference_length;
};

template <typename T>
struct BackwardTask {
  const T* image;
  const T* reference;
  const T* next_image;
  const T* next_reference;
  const T* of_channels;
  const T* at_positions;
  const T* image_length;
  const T* reference_length;
  T* grad_image;
  T* grad_reference;
};

}  // namespace iqazoo::cpu::features
