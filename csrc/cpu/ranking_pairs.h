// Tiles of pairs for losses that are computed pair by pair.
#pragma once

#include <cstdint>

namespace iqazoo::cpu {

constexpr int64_t kBlock = 64;  // positions per side of a tile

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
