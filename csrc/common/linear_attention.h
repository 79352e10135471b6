// What the kernels of linear attention share: how they see tensors and which maps they know.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/host_device.h"

namespace iqazoo::linear_attention {

// A tensor of batch x head x position x feature that lies anywhere: q, k, v, the output, a gradient, or the memory,
// whose batch stride is 0. Strides count elements; that of the positions or that of the features is 1. data is null
// where there is no such tensor. Python sends it as five integers in this order.
template <typename T>
struct View {
  T* data;
  int64_t batch, head, position, feature;
};

// In the order of Q_MAPS in iqazoo/ops/linear_attention_reference.py. The keys' map follows: softmax over positions
// for the first two, elu1 for elu1.
enum class Map : int { softmax, scale, elu1 };

// B, H, N, M (learned columns before the positions), D (of queries and keys), E (of values).
struct Sizes {
  int64_t batch, heads, positions, columns, features, width;
};

constexpr double kEpsilon = 1e-6;  // under the division of elu1

// elu(x) + 1; NaN stays.
template <typename T>
IQAZOO_HD inline T elu1(T x) {
  return x > T(0) ? x + T(1) : static_cast<T>(std::exp(x));
}

// Its derivative, given its value.
template <typename T>
IQAZOO_HD inline T elu1_slope(T x, T mapped) {
  return x > T(0) ? T(1) : mapped;
}

}  // namespace iqazoo::linear_attention
