#include "cuda/calibrated.h"

#include <cuda_runtime.h>

#include <cstdint>

#include "common/calibrated.h"
#include "cuda/launch.h"

namespace iqazoo::cuda {
namespace {

using namespace calibrated;

constexpr int kGroups = 4;  // of one thread per unit; each takes one judgment at a time
constexpr int kThreads = kGroups * kUnits;
constexpr int kRow = kUnits + 1;    // padded, or the threads of a column would meet in one bank
constexpr int64_t kFewest = 16;     // judgments that one block takes at least
constexpr int64_t kBlocks = 512;    // each writes partial gradients, so there are not many
constexpr int kSums = kWeights + 2;  // per block: gradients of the weights, loss, agreement

int64_t each_of(int64_t size) {
  const int64_t shared_out = (size + kBlocks - 1) / kBlocks;
  return shared_out > kFewest ? shared_out : kFewest;
}

int64_t blocks_of(int64_t size) { return size > 0 ? (size + each_of(size) - 1) / each_of(size) : 1; }

template <typename T>
struct Call {
  const T* first;
  const T* second;
  const T* preference;
  const T* weights;
  const T* incoming;
  T* loss;
  T* agreement;
  T* grad_first;
  T* grad_second;
  T* grad_weights;
  double* partial;
  int64_t size, each;
  T scale;
  double share;  // what the summed loss is multiplied by
  bool saturating, reduced;
};

// What a thread adds up: the gradients of its unit's weights in both layers.
template <typename T>
struct UnitGradient {
  T w1[kInputs], b1, w2[kUnits], b2, w3, b3;
};

// The sum of a group's row, in a fixed order, the same in each of its threads.
template <typename T>
__device__ T row_sum(const T* row) {
  T sum = 0;
  for (int k = 0; k < kUnits; ++k) sum += row[k];
  return sum;
}

// From d loss / d logit back through the network. `rows` is the group's scratch, shared by its 32 threads.
template <typename T>
__device__ void backward(const Call<T>& call, const T* weights, const T (*w2)[kRow], const T* after1, T (*rows)[kRow],
                         int64_t i, bool valid, int unit, const T* x, T before1, T before2, T slope,
                         UnitGradient<T>& grad) {
  const T slope2 = slope * weights[kW3 + unit] * leaky_slope(before2);
  rows[0][unit] = slope2;
  __syncthreads();
  T slope1 = 0;
#pragma unroll
  for (int k = 0; k < kUnits; ++k) slope1 += w2[k][unit] * rows[0][k];
  slope1 *= leaky_slope(before1);
  T dx[kInputs], slope_first, slope_second;
  for (int k = 0; k < kInputs; ++k) dx[k] = slope1 * weights[unit * kInputs + k];
  input_slopes(x[0], x[1], dx, slope_first, slope_second);  // linear in dx: units may be added afterwards
  if (valid) {  // 0 times an infinite weight would count
    for (int k = 0; k < kInputs; ++k) grad.w1[k] += slope1 * x[k];
#pragma unroll
    for (int k = 0; k < kUnits; ++k) grad.w2[k] += slope2 * after1[k];
    grad.b1 += slope1;
    grad.b2 += slope2;
    grad.w3 += slope * leaky(before2);
    grad.b3 += slope;
  }
  rows[1][unit] = slope_first;
  rows[2][unit] = slope_second;
  __syncthreads();
  if (valid && unit == 0) call.grad_first[i] = row_sum(rows[1]);
  if (valid && unit == 1) call.grad_second[i] = row_sum(rows[2]);
}

// Where a unit's gradients lie among the weights: calls put(index, gradient) for each.
template <typename T, typename Put>
__device__ void for_each_weight(const UnitGradient<T>& grad, int unit, const Put& put) {
#pragma unroll
  for (int k = 0; k < kInputs; ++k) put(unit * kInputs + k, grad.w1[k]);
  put(kB1 + unit, grad.b1);
#pragma unroll
  for (int k = 0; k < kUnits; ++k) put(kW2 + unit * kUnits + k, grad.w2[k]);
  put(kB2 + unit, grad.b2);
  put(kW3 + unit, grad.w3);
  if (unit == 0) put(kB3, grad.b3);
}

// One block per `each` judgments, four at a time: a thread is a unit of both layers. All threads take part in every
// step, since there are barriers; a group without a judgment works on zeros that count for nothing.
template <typename T>
__global__ void judge_some(Call<T> call) {
  IQAZOO_SHARED(T, weights, kWeights);
  IQAZOO_SHARED(T, w2_flat, kUnits * kRow);
  IQAZOO_SHARED(T, after1_flat, kGroups * kUnits);
  IQAZOO_SHARED(T, rows_flat, kGroups * 3 * kRow);
  IQAZOO_SHARED(double, sums, kSums);
  const int unit = threadIdx.x % kUnits, group = threadIdx.x / kUnits;
  auto w2 = reinterpret_cast<T(*)[kRow]>(w2_flat);
  auto rows = reinterpret_cast<T(*)[kRow]>(rows_flat) + 3 * group;
  T* after1 = after1_flat + group * kUnits;
  for (int k = threadIdx.x; k < kWeights; k += kThreads) weights[k] = call.weights[k];
  for (int k = threadIdx.x; k < kUnits * kUnits; k += kThreads) w2[k / kUnits][k % kUnits] = call.weights[kW2 + k];
  for (int k = threadIdx.x; k < kSums; k += kThreads) sums[k] = 0;
  __syncthreads();

  const int64_t begin = blockIdx.x * call.each;
  const int64_t end = begin + call.each < call.size ? begin + call.each : call.size;
  UnitGradient<T> grad = {};
  double losses = 0, agreements = 0;
  for (int64_t start = begin; start < end; start += kGroups) {
    const int64_t i = start + group;
    const bool valid = i < end;
    const T d0 = valid ? call.first[i] : T(0), d1 = valid ? call.second[i] : T(0);
    T x[kInputs];
    inputs(d0, d1, x);
    T before1 = weights[kB1 + unit];
    for (int k = 0; k < kInputs; ++k) before1 += weights[unit * kInputs + k] * x[k];
    after1[unit] = leaky(before1);
    __syncthreads();
    T before2 = weights[kB2 + unit];
#pragma unroll
    for (int k = 0; k < kUnits; ++k) before2 += w2[unit][k] * after1[k];
    rows[0][unit] = weights[kW3 + unit] * leaky(before2);
    __syncthreads();
    const T logit = weights[kB3] + row_sum(rows[0]);
    const T h = valid ? call.preference[i] : T(0);
    const Judgment<T> judged = judge_logit(logit, h, call.saturating);
    if (valid && unit == 0) {
      const T agreed = agreement(d0 - d1, h, true);
      losses += judged.loss;
      agreements += agreed;
      if (call.loss && !call.reduced) {
        call.loss[i] = judged.loss;
        call.agreement[i] = agreed;
      }
    }
    __syncthreads();
    if (call.grad_weights) {
      const T incoming = valid && call.incoming ? call.incoming[i] : T(1);
      const T slope = valid ? call.scale * judged.slope * incoming : T(0);
      backward(call, weights, w2, after1, rows, i, valid, unit, x, before1, before2, slope, grad);
    }
    __syncthreads();
  }
  // The groups add in turn: no atomics, one order.
  for (int turn = 0; turn < kGroups; ++turn) {
    if (turn == group) {
      if (call.grad_weights) for_each_weight(grad, unit, [&](int k, T value) { sums[k] += value; });
      if (unit == 0) {
        sums[kWeights] += losses;
        sums[kWeights + 1] += agreements;
      }
    }
    __syncthreads();
  }
  for (int k = threadIdx.x; k < kSums; k += kThreads) call.partial[blockIdx.x * int64_t{kSums} + k] = sums[k];
}

// One thread per sum.
template <typename T>
__global__ void add_blocks(Call<T> call, int64_t blocks) {
  const int k = blockIdx.x * kThreads + threadIdx.x;
  if (k >= kSums) return;
  double total = 0;
  for (int64_t block = 0; block < blocks; ++block) total += call.partial[block * kSums + k];
  if (k < kWeights) {
    if (call.grad_weights) call.grad_weights[k] = static_cast<T>(total);
  } else if (call.loss && call.reduced) {
    if (k == kWeights) *call.loss = static_cast<T>(total * call.share);
    if (k == kWeights + 1) *call.agreement = static_cast<T>(total / static_cast<double>(call.size));
  }
}

}  // namespace

int64_t calibrated_pairwise_partials(int64_t size) { return kSums * blocks_of(size); }

template <typename T>
int calibrated_pairwise(const T* first, const T* second, const T* preference, const T* weights, const T* incoming,
                        T* loss, T* agreement, T* grad_first, T* grad_second, T* grad_weights, double* partial,
                        int64_t size, bool saturating, int reduction, int device, void* stream) {
  if (const cudaError_t failed = cudaSetDevice(device)) return failed;
  const auto queue = static_cast<cudaStream_t>(stream);
  const double share = reduction == 2 ? 1 / static_cast<double>(size) : 1;
  const Call<T> call{first,      second,      preference,   weights, incoming, loss,          agreement,
                     grad_first, grad_second, grad_weights, partial, size,     each_of(size), static_cast<T>(share),
                     share,      saturating,  reduction != 0};
  const int64_t blocks = blocks_of(size);
  IQAZOO_LAUNCH(judge_some<T>, blocks, kThreads, queue, call);
  if (const cudaError_t failed = cudaGetLastError()) return failed;
  IQAZOO_LAUNCH(add_blocks<T>, (kSums + kThreads - 1) / kThreads, kThreads, queue, call, blocks);
  return cudaGetLastError();
}

#define IQAZOO_INSTANTIATE(T)                                                                                      \
  template int calibrated_pairwise(const T*, const T*, const T*, const T*, const T*, T*, T*, T*, T*, T*, double*, \
                                   int64_t, bool, int, int, void*);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cuda
