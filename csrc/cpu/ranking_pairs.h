// Tiles of pairs for losses that are computed pair by pair.
#pragma once

#include <cstdint>

#include "common/ranking_pair.h"
#include "cpu/lanes.h"

namespace iqazoo::cpu {

constexpr int64_t kBlock = 64;  // positions per side of a tile

// common's MarginPair, for lanes.
template <typename T>
struct MarginLanes {
  using Work = T;
  using Vector = typename Lanes<T>::Vector;
  T margin;

  void operator()(const Vector& z, const Vector& h, Vector& loss, Vector& slope) const {
    const Vector zero = {}, up = margin - z, down = margin + z;
    loss = (up > 0 ? h * up : zero) + (down > 0 ? (1 - h) * down : zero);
    slope = (down > 0 ? 1 - h : zero) - (up > 0 ? h : zero);
  }
};

// common's FidelityPair, for lanes; in double as there.
struct FidelityLanes {
  using Work = double;

  // With x = |z| / sqrt(2): erfc(x) = exp(-x^2) f(t) / (1 + 2 x), t = (x - 3.75) / (x + 3.75), where f is smooth on
  // [-1, 1] (Shepherd and Laframboise, Mathematics of Computation 36, 1981). A fit of degree 20, by Chebyshev's
  // polynomials, to scipy.special.erfcx; error 3e-15.
  static constexpr double kFit[] = {
      1.2375126308378266, -0.14024059858550522, 0.0035854154857809517, 0.08227673848709696,
      -0.10880393015444434, 0.09230432122653641, -0.05869339838987433, 0.028362276757171467,
      -0.009746581176833758, 0.0017556295084706277, 0.00029372135171097224, -0.0002901662864330886,
      5.162622003614184e-05, 2.2409988555461717e-05, -1.1400048761459374e-05, -1.0083067441406387e-06,
      1.6962993980068833e-06, -2.7773925419556678e-08, -2.1446300893762718e-07, 8.5325357736148e-09,
      1.7585928434384187e-08};

  void operator()(const Doubles& z, const Doubles& h, Doubles& loss, Doubles& slope) const {
    const Doubles size = z < 0 ? -z : z, x = size * 0.70710678118654752440;
    Doubles decay = -0.5 * z * z;
    exp_lanes(decay);
    const Doubles a = 1 + 2 * x, b = x + 3.75, inverse = 1 / (a * b);  // one division for two
    const Doubles t = (x - 3.75) * (inverse * a);
    Doubles fit = t * kFit[20] + kFit[19];
    for (int k = 18; k >= 0; --k) fit = fit * t + kFit[k];
    const Doubles tail = 0.5 * decay * fit * (inverse * b);
    const Doubles p = z < 0 ? tail : 1 - tail, q = z < 0 ? 1 - tail : tail;
    Doubles root_p = p * h + 1e-8, root_q = q * (1 - h) + 1e-8;
    root_lanes(root_p);
    root_lanes(root_q);
    loss = 1 - root_p - root_q;
    slope = -0.5 * 0.39894228040143267794 * decay * ((h * root_q - (1 - h) * root_p) / (root_p * root_q));
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
    const Columns columns(*this, first, last);
    add_tile(columns, first, last, slot, loss);
  }

  bool between(int64_t first, int64_t last, int64_t from, int64_t to, double* slot, PlainLoss& loss) const {
    const Columns columns(*this, from, to);
    add_tile(columns, first, last, slot, loss);
    return true;
  }

 private:
  using Work = typename Pair::Work;
  using Vector = typename Lanes<Work>::Vector;
  using Index = typename Lanes<Work>::Index;

  // Levels as floats are exact up to 2^24 of them, which is more than all pairs of can be gone through.
  struct Columns {
    Columns(const PairTiles& tiles, int64_t from, int64_t to) : from(from), to(to) {
      for (int64_t j = from; j < to; ++j) {
        scores[j - from] = static_cast<Work>(tiles.score[j]);
        levels[j - from] = static_cast<Work>(tiles.level[j]);
      }
    }

    int64_t from, to;
    Work scores[kBlock] = {}, levels[kBlock] = {};
  };

  // The pairs of rows [first, last) and those columns that are behind them.
  void add_tile(const Columns& columns, int64_t first, int64_t last, double* slot, PlainLoss& loss) const {
    constexpr int64_t lanes = Lanes<Work>::count;
    using Integer = typename Lanes<Work>::Integer;
    const Vector zero = {}, half = zero + Work(0.5), one = zero + Work(1);
    const int64_t size = columns.to - columns.from;
    Work column_sums[kBlock] = {};
    Index lane;
    count_lanes<Work>(lane);
    for (int64_t i = first; i < last; ++i) {
      const Work mine = static_cast<Work>(score[i]), my_level = static_cast<Work>(level[i]);
      const int64_t start = i < columns.from ? 0 : i + 1 - columns.from;
      Vector row_loss = {}, row_slope = {};
      for (int64_t k = start / lanes * lanes; k < size; k += lanes) {
        Vector other, other_level, column_sum, pair_loss, pair_slope;
        load_lanes<Work>(other, columns.scores + k);
        load_lanes<Work>(other_level, columns.levels + k);
        load_lanes<Work>(column_sum, column_sums + k);
        const Vector h = my_level > other_level ? one : (my_level < other_level ? zero : half);
        pair(mine - other, h, pair_loss, pair_slope);
        const Index at = lane + static_cast<Integer>(k);
        const Index counts = (at >= static_cast<Integer>(start)) & (at < static_cast<Integer>(size));
        pair_slope = counts ? pair_slope : zero;
        row_loss += counts ? pair_loss : zero;
        row_slope += pair_slope;
        store_lanes<Work>(column_sums + k, column_sum + pair_slope);
      }
      loss.sum += sum_lanes<Work>(row_loss);
      slot[i] += sum_lanes<Work>(row_slope);
    }
    for (int64_t k = 0; k < size; ++k) slot[columns.from + k] -= column_sums[k];
  }
};

}  // namespace iqazoo::cpu
