// Where the positions of one head lie, and how many of them a tile takes.
#pragma once

#include <cstdint>

#include "common/linear_attention.h"

namespace iqazoo::cpu::tiles {

constexpr int64_t kBlock = 64;
constexpr int64_t kPad = 16;  // no fewer than the lanes of the widest vector, and a multiple of kRows

inline int64_t padded(int64_t features) { return (features + kPad - 1) / kPad * kPad; }

// One of the strides is 1.
template <typename T>
struct Head {
  T* data;
  int64_t position, feature;

  Head from(int64_t first) const { return {data + first * position, position, feature}; }
};

template <typename T>
inline Head<T> head_of(const linear_attention::View<T>& view, int64_t batch, int64_t head) {
  return {view.data + batch * view.batch + head * view.head, view.position, view.feature};
}

}  // namespace iqazoo::cpu::tiles
