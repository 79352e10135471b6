#include "cpu/calibrated.h"

#include <algorithm>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/products.h"

namespace iqazoo::cpu {
namespace {

using namespace calibrated;

constexpr int64_t kBlock = 32;    // judgments whose units are in the cache at once
constexpr int64_t kFewest = 64;   // judgments that one task takes at least
constexpr int64_t kTasks = 256;   // each keeps gradients of its own, so there are not many
constexpr int64_t kRowsIn = 8;    // the inputs, a one whose weight is b1, and zeros: rows of a product
constexpr int64_t kOne = kInputs;
static_assert(kBlock % kRows == 0 && kRowsIn % kRows == 0 && kOne < kRowsIn);

template <typename T>
constexpr int64_t kColumnsIn = std::max(kRowsIn, kWide<T>);  // the same as columns: whole vectors
template <typename T>
constexpr int64_t kVectors = kUnits / kWide<T>;

// The weights as products take them.
template <typename T>
struct Network {
  alignas(64) T w1[kUnits * kColumnsIn<T>] = {};   // [unit][input]
  alignas(64) T w1_columns[kRowsIn * kUnits] = {};  // [input][unit], b1 among them
  alignas(64) T w2[kUnits * kUnits];
  alignas(64) T w2_columns[kUnits * kUnits];
  alignas(64) T b2[kUnits], w3[kUnits];
  T b3;

  explicit Network(const T* weights) : b3(weights[kB3]) {
    std::copy_n(weights + kW2, kUnits * kUnits, w2);
    std::copy_n(weights + kB2, kUnits, b2);
    std::copy_n(weights + kW3, kUnits, w3);
    for (int unit = 0; unit < kUnits; ++unit) {
      for (int k = 0; k < kInputs; ++k) {
        w1[unit * kColumnsIn<T> + k] = w1_columns[k * kUnits + unit] = weights[unit * kInputs + k];
      }
      w1_columns[kOne * kUnits + unit] = weights[kB1 + unit];
      for (int k = 0; k < kUnits; ++k) w2_columns[k * kUnits + unit] = w2[unit * kUnits + k];
    }
  }
};

// Gradients of the weights, summed over the judgments of one task.
template <typename T>
struct Slopes {
  alignas(64) T w1_columns[kRowsIn * kUnits] = {};
  alignas(64) T w2[kUnits * kUnits] = {};
  alignas(64) T b2[kUnits] = {}, w3[kUnits] = {};
  T b3 = 0;

  void add_to(double* weights) const {
    for (int unit = 0; unit < kUnits; ++unit) {
      for (int k = 0; k < kInputs; ++k) weights[unit * kInputs + k] += w1_columns[k * kUnits + unit];
      weights[kB1 + unit] += w1_columns[kOne * kUnits + unit];
      weights[kB2 + unit] += b2[unit];
      weights[kW3 + unit] += w3[unit];
    }
    for (int i = 0; i < kUnits * kUnits; ++i) weights[kW2 + i] += w2[i];
    weights[kB3] += b3;
  }
};

template <typename T>
struct Call {
  const T* first;
  const T* second;
  const T* preference;
  const T* incoming;
  T* loss;
  T* agreement;
  T* grad_first;
  T* grad_second;
  T scale;
  bool saturating, reduced;
};

// A block of judgments. Beyond `count`, up to `rows`, it is the last one again, with slopes of 0.
template <typename T>
struct Block {
  alignas(64) T x[kRowsIn * kBlock];                 // [input][judgment]
  alignas(64) T after1[kBlock * kUnits], after2[kBlock * kUnits];  // [judgment][unit], as all that follows
  alignas(64) T slopes1[kBlock * kUnits], slopes2[kBlock * kUnits];
  alignas(64) T slopes_x[kBlock * kColumnsIn<T>];
  T first[kBlock], second[kBlock], preference[kBlock], logits[kBlock];
  T losses[kBlock], agreements[kBlock], slopes[kBlock];
  int64_t start, count, rows;

  Block(const Call<T>& call, int64_t start, int64_t end)
      : start(start), count(std::min(kBlock, end - start)), rows((count + kRows - 1) / kRows * kRows) {
    take(call.first, first);
    take(call.second, second);
    take(call.preference, preference);
  }

  void take(const T* from, T* to) const {
    std::copy_n(from + start, count, to);
    std::fill(to + count, to + rows, to[count - 1]);
  }
};

struct Sums {
  double loss = 0, agreement = 0;
};

// LeakyReLU of each lane.
template <typename T>
inline void leaky(Pack<T>& x) {
  x.v = x.v > T(0) ? x.v : T(0.2) * x.v;
}

// Its slope is told by its value: both have one sign.
template <typename T>
inline void scale_by_leaky_slope(Pack<T>& slope, const Pack<T>& after) {
  slope.v = after.v > T(0) ? slope.v : T(0.2) * slope.v;
}

template <typename T>
void forward(const Network<T>& network, Block<T>& block) {
  NothingAhead nothing;
  for (int64_t j = 0; j < block.rows; ++j) {
    T x[kRowsIn] = {};
    inputs(block.first[j], block.second[j], x);
    x[kOne] = 1;
    for (int64_t k = 0; k < kRowsIn; ++k) block.x[k * kBlock + j] = x[k];
  }
  product<By::columns>(Given<T>{block.x, kBlock}, Given<T>{network.w1_columns, kUnits}, Rows<T>{block.after1, kUnits},
                       block.rows, kVectors<T>, kOne + 1, Into::set, nothing,
                       [](Pack<T>& sum, int64_t, int64_t) { leaky(sum); });
  product<By::rows>(Given<T>{block.after1, kUnits}, Given<T>{network.w2_columns, kUnits},
                    Rows<T>{block.after2, kUnits}, block.rows, kVectors<T>, kUnits, Into::set, nothing,
                    [&](Pack<T>& sum, int64_t, int64_t v) {
                      sum.v += load(network.b2 + v * kWide<T>).v;
                      leaky(sum);
                    });
  for (int64_t j = 0; j < block.rows; ++j) {
    Pack<T> sum{};
    for (int64_t v = 0; v < kVectors<T>; ++v) {
      sum.v += load(network.w3 + v * kWide<T>).v * load(block.after2 + j * kUnits + v * kWide<T>).v;
    }
    block.logits[j] = network.b3 + sum_of(sum);
  }
}

template <bool saturating, typename T>
void judge_block(Block<T>& block) {
  for (int64_t j = 0; j < block.rows; ++j) {
    const T h = block.preference[j];
    const Judgment<T> judged = judge_logit(block.logits[j], h, saturating);
    block.losses[j] = judged.loss;
    block.slopes[j] = judged.slope;
    block.agreements[j] = agreement(block.first[j] - block.second[j], h, true);
  }
}

// From the slopes of the logits to those of after2's units; adds to the gradients of the last layer and of b2.
template <typename T>
void backward_last(const Network<T>& network, Block<T>& block, Slopes<T>& slopes) {
  for (int64_t v = 0; v < kVectors<T>; ++v) {
    const int64_t unit = v * kWide<T>;
    const Pack<T> w3 = load(network.w3 + unit);
    Pack<T> to_w3 = load(slopes.w3 + unit), to_b2 = load(slopes.b2 + unit);
    for (int64_t j = 0; j < block.rows; ++j) {
      const Pack<T> after = load(block.after2 + j * kUnits + unit);
      Pack<T> slope{block.slopes[j] * w3.v};
      to_w3.v += block.slopes[j] * after.v;
      scale_by_leaky_slope(slope, after);
      to_b2.v += slope.v;
      store(block.slopes2 + j * kUnits + unit, slope);
    }
    store(slopes.w3 + unit, to_w3);
    store(slopes.b2 + unit, to_b2);
  }
  for (int64_t j = 0; j < block.rows; ++j) slopes.b3 += block.slopes[j];
}

// `block.slopes` is d loss / d logit; adds to the weights' gradients and writes those of the scores.
template <typename T>
void backward(const Call<T>& call, const Network<T>& network, Block<T>& block, Slopes<T>& slopes) {
  NothingAhead nothing;
  backward_last(network, block, slopes);
  const Given<T> after1{block.after1, kUnits}, slopes1{block.slopes1, kUnits}, slopes2{block.slopes2, kUnits};
  product<By::columns>(slopes2, after1, Rows<T>{slopes.w2, kUnits}, kUnits, kVectors<T>, block.rows, Into::add, nothing);
  product<By::rows>(slopes2, Given<T>{network.w2, kUnits}, Rows<T>{block.slopes1, kUnits}, block.rows, kVectors<T>,
                    kUnits, Into::set, nothing, [&](Pack<T>& sum, int64_t j, int64_t v) {
                      scale_by_leaky_slope(sum, load(block.after1 + j * kUnits + v * kWide<T>));
                    });
  product<By::rows>(Given<T>{block.x, kBlock}, slopes1, Rows<T>{slopes.w1_columns, kUnits}, kRowsIn, kVectors<T>,
                    block.rows, Into::add, nothing);
  product<By::rows>(slopes1, Given<T>{network.w1, kColumnsIn<T>}, Rows<T>{block.slopes_x, kColumnsIn<T>}, block.rows,
                    kColumnsIn<T> / kWide<T>, kUnits, Into::set, nothing);
  for (int64_t j = 0; j < block.count; ++j) {
    input_slopes(block.first[j], block.second[j], block.slopes_x + j * kColumnsIn<T>, call.grad_first[block.start + j],
                 call.grad_second[block.start + j]);
  }
}

// With `slopes` nullptr no gradient is computed.
template <typename T>
Sums judge_some(const Call<T>& call, const Network<T>& network, int64_t begin, int64_t end, Slopes<T>* slopes) {
  Sums sums;
  for (int64_t start = begin; start < end; start += kBlock) {
    Block<T> block(call, start, end);
    forward(network, block);
    call.saturating ? judge_block<true>(block) : judge_block<false>(block);
    for (int64_t j = 0; j < block.count; ++j) {
      sums.loss += block.losses[j];
      sums.agreement += block.agreements[j];
      block.slopes[j] *= call.scale * (call.incoming ? call.incoming[start + j] : T(1));
    }
    if (call.loss && !call.reduced) {
      std::copy_n(block.losses, block.count, call.loss + start);
      std::copy_n(block.agreements, block.count, call.agreement + start);
    }
    if (slopes == nullptr) continue;
    std::fill(block.slopes + block.count, block.slopes + block.rows, T(0));
    backward(call, network, block, *slopes);
  }
  return sums;
}

}  // namespace

template <typename T>
void calibrated_pairwise(const T* first, const T* second, const T* preference, const T* weights, const T* incoming,
                         T* loss, T* agreement, T* grad_first, T* grad_second, T* grad_weights, int64_t size,
                         bool saturating, int reduction, int threads) {
  const T scale = static_cast<T>(reduction == 2 ? 1 / static_cast<double>(size) : 1.0);
  const Call<T> call{first,       second, preference, incoming,      loss, agreement, grad_first,
                     grad_second, scale,  saturating, reduction != 0};
  const Network<T> network(weights);
  // Tasks depend on the size alone.
  const int64_t each = std::max(kFewest, (size + kTasks - 1) / kTasks);
  const int64_t tasks = (size + each - 1) / each;
  std::vector<Sums> sums(tasks);
  std::vector<Slopes<T>> slopes(grad_weights ? tasks : 0);
  parallel_for(tasks, threads, [&](int64_t task) {
    Slopes<T>* own = grad_weights ? &slopes[task] : nullptr;
    sums[task] = judge_some(call, network, task * each, std::min(size, (task + 1) * each), own);
  });
  if (grad_weights) {
    std::vector<double> totals(kWeights);
    for (const Slopes<T>& own : slopes) own.add_to(totals.data());
    std::copy(totals.begin(), totals.end(), grad_weights);
  }
  if (!loss || reduction == 0) return;
  Sums total;
  for (const Sums& one : sums) {
    total.loss += one.loss;
    total.agreement += one.agreement;
  }
  const double count = static_cast<double>(size);
  *loss = static_cast<T>(reduction == 2 ? total.loss / count : total.loss);
  *agreement = static_cast<T>(total.agreement / count);
}

#define IQAZOO_INSTANTIATE(T)                                                                                       \
  template void calibrated_pairwise(const T*, const T*, const T*, const T*, const T*, T*, T*, T*, T*, T*, int64_t, \
                                    bool, int, int);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cpu
