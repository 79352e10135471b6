#include "cpu/calibrated.h"

#include <algorithm>
#include <vector>

#include "cpu/parallel.h"

namespace iqazoo::cpu {
namespace {

using namespace calibrated;

constexpr int64_t kFewest = 64;   // judgments that one task takes at least
constexpr int64_t kTasks = 256;   // each keeps gradients of its own, so there are not many

template <typename T>
struct Call {
  const T* first;
  const T* second;
  const T* preference;
  const T* weights;
  const T* w2_columns;  // w2 transposed: then units, not inputs, are neighbours, and loops over units vectorise
  const T* incoming;
  T* loss;
  T* agreement;
  T* grad_first;
  T* grad_second;
  T scale;
  bool saturating, reduced;
};

template <typename T>
struct Units {
  T x[kInputs];
  T before1[kUnits], after1[kUnits], before2[kUnits], after2[kUnits];
  T logit;
};

struct Sums {
  double loss = 0, agreement = 0;
};

template <typename T>
void forward(const Call<T>& call, int64_t i, Units<T>& units) {
  const T* w = call.weights;
  inputs(call.first[i], call.second[i], units.x);
  for (int unit = 0; unit < kUnits; ++unit) {
    T sum = w[kB1 + unit];
    for (int k = 0; k < kInputs; ++k) sum += w[unit * kInputs + k] * units.x[k];
    units.before1[unit] = sum;
    units.after1[unit] = leaky(sum);
  }
  for (int unit = 0; unit < kUnits; ++unit) units.before2[unit] = w[kB2 + unit];
  for (int k = 0; k < kUnits; ++k) {
    for (int unit = 0; unit < kUnits; ++unit) {
      units.before2[unit] += call.w2_columns[k * kUnits + unit] * units.after1[k];
    }
  }
  units.logit = w[kB3];
  for (int unit = 0; unit < kUnits; ++unit) {
    units.after2[unit] = leaky(units.before2[unit]);
    units.logit += w[kW3 + unit] * units.after2[unit];
  }
}

// `slope` is d loss / d logit; adds to the weights' gradients and writes those of the scores.
template <typename T>
void backward(const Call<T>& call, int64_t i, const Units<T>& units, T slope, T* __restrict__ grad) {
  const T* w = call.weights;
  T slope2[kUnits], slope1[kUnits] = {}, dx[kInputs] = {};
  grad[kB3] += slope;
  for (int unit = 0; unit < kUnits; ++unit) {
    grad[kW3 + unit] += slope * units.after2[unit];
    slope2[unit] = slope * w[kW3 + unit] * leaky_slope(units.before2[unit]);
    grad[kB2 + unit] += slope2[unit];
  }
  for (int unit = 0; unit < kUnits; ++unit) {
    for (int k = 0; k < kUnits; ++k) {
      grad[kW2 + unit * kUnits + k] += slope2[unit] * units.after1[k];
      slope1[k] += w[kW2 + unit * kUnits + k] * slope2[unit];
    }
  }
  for (int unit = 0; unit < kUnits; ++unit) {
    slope1[unit] *= leaky_slope(units.before1[unit]);
    grad[kB1 + unit] += slope1[unit];
    for (int k = 0; k < kInputs; ++k) {
      grad[unit * kInputs + k] += slope1[unit] * units.x[k];
      dx[k] += w[unit * kInputs + k] * slope1[unit];
    }
  }
  input_slopes(call.first[i], call.second[i], dx, call.grad_first[i], call.grad_second[i]);
}

template <typename T>
Sums judge_some(const Call<T>& call, int64_t begin, int64_t end, T* grad) {
  Units<T> units;
  Sums sums;
  for (int64_t i = begin; i < end; ++i) {
    forward(call, i, units);
    const T h = call.preference[i];
    const Judgment<T> judged = judge_logit(units.logit, h, call.saturating);
    const T agreed = agreement(call.first[i] - call.second[i], h, true);
    sums.loss += judged.loss;
    sums.agreement += agreed;
    if (call.loss && !call.reduced) {
      call.loss[i] = judged.loss;
      call.agreement[i] = agreed;
    }
    if (grad) backward(call, i, units, call.scale * judged.slope * (call.incoming ? call.incoming[i] : T(1)), grad);
  }
  return sums;
}

template <typename T>
std::vector<T> transposed(const T* w2) {
  std::vector<T> columns(kUnits * kUnits);
  for (int unit = 0; unit < kUnits; ++unit) {
    for (int k = 0; k < kUnits; ++k) columns[k * kUnits + unit] = w2[unit * kUnits + k];
  }
  return columns;
}

}  // namespace

template <typename T>
void calibrated_pairwise(const T* first, const T* second, const T* preference, const T* weights, const T* incoming,
                         T* loss, T* agreement, T* grad_first, T* grad_second, T* grad_weights, int64_t size,
                         bool saturating, int reduction, int threads) {
  const std::vector<T> w2_columns = transposed(weights + kW2);
  const T scale = static_cast<T>(reduction == 2 ? 1 / static_cast<double>(size) : 1.0);
  const Call<T> call{first, second,    preference, weights,     w2_columns.data(), incoming,      loss,
                     agreement, grad_first, grad_second, scale, saturating,        reduction != 0};
  // Tasks depend on the size alone.
  const int64_t each = std::max(kFewest, (size + kTasks - 1) / kTasks);
  const int64_t tasks = (size + each - 1) / each;
  std::vector<Sums> sums(tasks);
  std::vector<T> grads(grad_weights ? tasks * kWeights : 0);
  parallel_for(tasks, threads, [&](int64_t task) {
    T* grad = grad_weights ? grads.data() + task * kWeights : nullptr;
    sums[task] = judge_some(call, task * each, std::min(size, (task + 1) * each), grad);
  });
  for (int i = 0; grad_weights && i < kWeights; ++i) {
    double total = 0;
    for (int64_t task = 0; task < tasks; ++task) total += grads[task * kWeights + i];
    grad_weights[i] = static_cast<T>(total);
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
