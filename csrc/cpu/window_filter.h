// The two passes of a separable window over rows of equal length, in whole vectors: rows must be readable, and results
// writable, to the end of the last vector. Windows are symmetric.
#pragma once

#include <cstdint>

#include "common/windows.h"
#include "cpu/lanes.h"

namespace iqazoo::cpu {

constexpr int kRowsAtOnce = 4;  // share the rows that they load

constexpr int64_t whole_vectors(int64_t count, int64_t lanes) { return (count + lanes - 1) / lanes * lanes; }

// The weights of half a window, each in all lanes.
template <typename T>
struct Weights {
  typename Lanes<T>::Vector half[kLargestWindow / 2 + 1];
  int size;

  explicit Weights(const Taps<T>& taps) : size(taps.size) {
    for (int k = 0; k <= taps.size / 2; ++k) half[k] = typename Lanes<T>::Vector{} + taps.weight[k];
  }
};

// Half a window in registers where its size is known to the compiler; a store of results could otherwise change it, for
// all that it knows.
template <int kTaps, typename T>
class Held {
 public:
  using Vector = typename Lanes<T>::Vector;
  explicit Held(const Weights<T>& weights) : weights_(weights) {
#pragma GCC unroll 16
    for (int k = 0; k < kHalf; ++k) half_[k] = weights.half[k];
  }
  const Vector& operator[](int tap) const {
    const int size = kTaps ? kTaps : weights_.size;
    const int k = tap < size - 1 - tap ? tap : size - 1 - tap;
    return kTaps ? half_[k] : weights_.half[k];
  }

 private:
  static constexpr int kHalf = kTaps / 2 + 1;
  Vector half_[kHalf];
  const Weights<T>& weights_;
};

// out[r][j] = sum over k of weight k * rows[r + k][j], for kRowsAtOnce rows of results. kTaps is the size of the window,
// or 0 where only `weights` knows it.
template <int kTaps, typename T>
inline void filter_down(const T* const* rows, const Weights<T>& weights, int64_t count, T* const* out) {
  using Vector = typename Lanes<T>::Vector;
  const int size = kTaps ? kTaps : weights.size;
  const Held<kTaps, T> weight(weights);
  for (int64_t j = 0; j < count; j += Lanes<T>::count) {
    Vector sums[kRowsAtOnce] = {};
#pragma GCC unroll 16
    for (int k = 0; k < size + kRowsAtOnce - 1; ++k) {
      Vector row;
      load_lanes<T>(row, rows[k] + j);
#pragma GCC unroll 4
      for (int r = 0; r < kRowsAtOnce; ++r) {
        const int tap = k - r;
        if (tap >= 0 && tap < size) sums[r] += weight[tap] * row;
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRowsAtOnce; ++r) store_lanes<T>(out[r] + j, sums[r]);
  }
}

// out[j] = sum over k of weight k * row[j + k].
template <int kTaps, typename T>
inline void filter_along(const T* row, const Weights<T>& weights, int64_t count, T* out) {
  using Vector = typename Lanes<T>::Vector;
  const int size = kTaps ? kTaps : weights.size;
  const Held<kTaps, T> weight(weights);
  for (int64_t j = 0; j < count; j += Lanes<T>::count) {
    Vector sum = {};
#pragma GCC unroll 16
    for (int k = 0; k < size; ++k) {
      Vector shifted;
      load_lanes<T>(shifted, row + j + k);
      sum += weight[k] * shifted;
    }
    store_lanes<T>(out + j, sum);
  }
}

}  // namespace iqazoo::cpu
