// Tiles of pairs for RankNet, without an exp, a division or a logarithm per pair.
//
// Positions are sorted by score. For i before j let u = exp(s_i - s_j) <= 1. What a pair needs beyond its linear part
// is log(1 + u) for the loss and u / (1 + u) for the slope. Between two blocks, u is a product of three factors:
// exp(s_i - p) exp(p - q) exp(q - s_j), where p and q are scores in the middle of the blocks. In a block of scores far
// apart they are its last, or its first, so that no factor is above 1: nothing overflows, and a factor that vanishes
// belongs to a u that vanishes. Four pairs share one division. Instead of logarithms, products of (1 + u) are kept,
// less 1: w' = (1 + w)(1 + u) - 1 = w (1 + u) + u keeps the digits of a tiny loss too.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "cpu/ranking_pairs.h"

namespace iqazoo::cpu {

// The sum of log(1 + w), as a product with an exponent.
class LogProduct {
 public:
  template <typename T, int64_t size>
  void multiply(T (&w)[size]) {
    double product[size];
    for (int64_t k = 0; k < size; ++k) product[k] = w[k];
    for (int64_t half = size / 2; half > 0; half /= 2) {
      for (int64_t k = 0; k < half; ++k) product[k] = product[k] * product[k + half] + (product[k] + product[k + half]);
    }
    multiply(product[0]);
  }

  // w up to 2^900.
  void multiply(double w) {
    w_ = w_ * w + (w_ + w);
    if (w_ < kLarge) return;
    // The 1 in 1 + w is below its last bit, so w itself can be split: a factor in [1, 2) and an exponent.
    int64_t bits;
    std::memcpy(&bits, &w_, sizeof bits);
    exponent_ += (bits >> 52) - 1023;
    bits = (bits & ((int64_t(1) << 52) - 1)) | (int64_t(1023) << 52);
    std::memcpy(&w_, &bits, sizeof bits);
    w_ -= 1;
  }

  double total() const { return std::log1p(w_) + static_cast<double>(exponent_) * 0.69314718055994530942; }

 private:
  static constexpr double kLarge = 18446744073709551616.0;  // 2^64
  double w_ = 0;
  int64_t exponent_ = 0;
};

// Sums over one tile: rows[i] columns[j] = u. Both are padded with zeros to a multiple of 4 and of the lanes.
template <typename T, bool diagonal>
void ranknet_tile(const T* rows, int64_t row_count, const T* columns, int64_t column_count, T* row_sums, T* column_sums,
                  LogProduct& product) {
  using Vector = typename Lanes<T>::Vector;
  using Index = typename Lanes<T>::Index;
  constexpr int64_t lanes = Lanes<T>::count;
  Index lane;
  count_lanes<T>(lane);
  const Vector zero = {};
  for (int64_t i = 0; i < row_count; i += 4) {
    Vector sum0 = {}, sum1 = {}, sum2 = {}, sum3 = {}, w = {};
    for (int64_t j = diagonal ? i / lanes * lanes : 0; j < column_count; j += lanes) {
      Vector column, column_sum;
      load_lanes<T>(column, columns + j);
      load_lanes<T>(column_sum, column_sums + j);
      Vector u0 = rows[i] * column, u1 = rows[i + 1] * column, u2 = rows[i + 2] * column, u3 = rows[i + 3] * column;
      if (diagonal) {
        const Index after = lane + static_cast<typename Lanes<T>::Integer>(j - i);
        u0 = after > 0 ? u0 : zero;
        u1 = after > 1 ? u1 : zero;
        u2 = after > 2 ? u2 : zero;
        u3 = after > 3 ? u3 : zero;
      }
      const Vector v0 = 1 + u0, v1 = 1 + u1, v2 = 1 + u2, v3 = 1 + u3;
      const Vector v01 = v0 * v1, v23 = v2 * v3, v = v01 * v23;
      w = w * v + ((u0 * v1 + u1) * v23 + (u2 * v3 + u3));
      const Vector inverse = 1 / v;
      const Vector inverse01 = inverse * v23, inverse23 = inverse * v01;
      const Vector q0 = u0 * (inverse01 * v1), q1 = u1 * (inverse01 * v0);
      const Vector q2 = u2 * (inverse23 * v3), q3 = u3 * (inverse23 * v2);
      sum0 += q0;
      sum1 += q1;
      sum2 += q2;
      sum3 += q3;
      column_sum += (q0 + q1) + (q2 + q3);
      store_lanes<T>(column_sums + j, column_sum);
    }
    row_sums[i] = sum_lanes<T>(sum0);
    row_sums[i + 1] = sum_lanes<T>(sum1);
    row_sums[i + 2] = sum_lanes<T>(sum2);
    row_sums[i + 3] = sum_lanes<T>(sum3);
    T parts[lanes];
    store_lanes<T>(parts, w);
    product.multiply(parts);
  }
}

template <typename T>
class RankNetTiles {
 public:
  using Loss = LogProduct;

  template <typename Blocks>
  RankNetTiles(const T* score, const Blocks& blocks, int64_t n, int threads) : score_(score), up_(n), down_(n) {
    const int64_t count = static_cast<int64_t>(blocks.size());
    parallel_for(count, threads, [&](int64_t b) { fill(blocks[b].first, blocks[b].last); });
  }

  void within(int64_t first, int64_t last, double* slot, LogProduct& loss) const {
    if (!narrow(first, last)) return within_spread(first, last, slot, loss);
    Tile tile;
    std::copy(&up_[first], &up_[last - 1] + 1, tile.rows);
    std::copy(&down_[first], &down_[last - 1] + 1, tile.columns);
    ranknet_tile<T, true>(tile.rows, last - first, tile.columns, last - first, tile.row_sums, tile.column_sums, loss);
    for (int64_t i = first; i < last; ++i) {
      slot[i] += static_cast<double>(tile.row_sums[i - first]) - static_cast<double>(tile.column_sums[i - first]);
    }
  }

  bool between(int64_t first, int64_t last, int64_t from, int64_t to, double* slot, LogProduct& loss) const {
    // In double, for the difference of two far floats may not be one.
    const double away = static_cast<double>(up_pivot(first, last)) - static_cast<double>(down_pivot(from, to));
    const T gap = static_cast<T>(std::exp(away));
    if (gap == 0) return false;  // nor is there anything in the blocks beyond
    Tile tile;
    std::copy(&up_[first], &up_[last - 1] + 1, tile.rows);
    for (int64_t j = from; j < to; ++j) tile.columns[j - from] = gap * down_[j];
    ranknet_tile<T, false>(tile.rows, last - first, tile.columns, to - from, tile.row_sums, tile.column_sums, loss);
    for (int64_t i = first; i < last; ++i) slot[i] += tile.row_sums[i - first];
    for (int64_t j = from; j < to; ++j) slot[j] -= tile.column_sums[j - from];
    return true;
  }

 private:
  struct Tile {
    T rows[kBlock] = {}, columns[kBlock] = {}, row_sums[kBlock] = {}, column_sums[kBlock] = {};
  };

  // Whether factors of a block may be taken from its middle. Far from it they would be less exact, and overflow.
  bool narrow(int64_t first, int64_t last) const { return score_[last - 1] - score_[first] <= T(8); }

  T up_pivot(int64_t first, int64_t last) const {
    return score_[narrow(first, last) ? first + (last - first) / 2 : last - 1];
  }

  T down_pivot(int64_t first, int64_t last) const {
    return score_[narrow(first, last) ? first + (last - first) / 2 : first];
  }

  void fill(int64_t first, int64_t last) {
    const T up = up_pivot(first, last), down = down_pivot(first, last);
    const bool one = narrow(first, last);
    for (int64_t i = first; i < last; ++i) {
      up_[i] = std::exp(score_[i] - up);
      down_[i] = one ? 1 / up_[i] : std::exp(down - score_[i]);
    }
  }

  // Scores so far apart that an exp per pair is worth it; most other tiles are then skipped.
  void within_spread(int64_t first, int64_t last, double* slot, LogProduct& loss) const {
    for (int64_t i = first; i < last; ++i) {
      for (int64_t j = i + 1; j < last; ++j) {
        const double u = std::exp(score_[i] - score_[j]);
        if (u == 0) break;
        loss.multiply(u);
        slot[i] += u / (1 + u);
        slot[j] -= u / (1 + u);
      }
    }
  }

  const T* score_;
  std::vector<T> up_, down_;  // factors of u, for the lower and for the higher of a pair
};

}  // namespace iqazoo::cpu
