// Tiles of pairs for losses that are computed pair by pair.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace iqazoo::cpu {

constexpr int64_t kBlock = 64;  // positions per side of a tile

// A pair's loss and its slope in z = s_i - s_j; h is the target of i over j.
template <typename T>
struct MarginPair {
  T margin;

  void operator()(T z, T h, T& loss, T& slope) const {
    const T up = margin - z, down = margin + z;
    loss = (up > 0 ? h * up : T(0)) + (down > 0 ? (1 - h) * down : T(0));
    slope = (down > 0 ? 1 - h : T(0)) - (up > 0 ? h : T(0));
  }
};

// In double: where z is large, p and the normal density lose z^2 times a float's precision, and the roots enlarge that.
template <typename T>
struct FidelityPair {
  static constexpr double kEpsilon = 1e-8;
  static constexpr double kHalfRoot = 0.70710678118654752440;  // 1 / sqrt(2)
  static constexpr double kNormal = 0.39894228040143267794;    // 1 / sqrt(2 pi)

  void operator()(double z, double h, T& loss, T& slope) const {
    const double tail = 0.5 * std::erfc(kHalfRoot * std::abs(z));
    const double p = z < 0 ? tail : 1 - tail, q = z < 0 ? 1 - tail : tail;
    const double root_p = std::sqrt(p * h + kEpsilon), root_q = std::sqrt(q * (1 - h) + kEpsilon);
    loss = static_cast<T>(1 - root_p - root_q);
    slope = static_cast<T>(-0.5 * kNormal * std::exp(-0.5 * z * z) * (h / root_p - (1 - h) / root_q));
  }
};

struct PlainLoss {
  double sum = 0;
  double total() const { return sum; }
};

// within() takes the pairs of one block, between() those of two. Both add d loss / d score to `slot`.
template <typename T, typename Pair>
struct PairTiles {
  using Loss = PlainLoss;
  const T* score;
  const uint32_t* level;
  Pair pair;

  void within(int64_t first, int64_t last, double* slot, PlainLoss& loss) const {
    for (int64_t i = first; i < last; ++i) add_row(i, i + 1, last, slot, loss);
  }

  bool between(int64_t first, int64_t last, int64_t from, int64_t to, double* slot, PlainLoss& loss) const {
    for (int64_t i = first; i < last; ++i) add_row(i, from, to, slot, loss);
    return true;
  }

 private:
  void add_row(int64_t i, int64_t from, int64_t to, double* slot, PlainLoss& loss) const {
    T losses[kBlock], slopes[kBlock];
    const int64_t size = to - from;
    for (int64_t k = 0; k < size; ++k) {
      const uint32_t mine = level[i], other = level[from + k];
      const T h = mine > other ? T(1) : mine == other ? T(0.5) : T(0);
      pair(score[i] - score[from + k], h, losses[k], slopes[k]);
    }
    double loss_sum = 0, slope_sum = 0;
    for (int64_t k = 0; k < size; ++k) {
      loss_sum += losses[k];
      slope_sum += slopes[k];
      slot[from + k] -= slopes[k];
    }
    loss.sum += loss_sum;
    slot[i] += slope_sum;
  }
};

}  // namespace iqazoo::cpu
