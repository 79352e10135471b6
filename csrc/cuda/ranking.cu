#include "cuda/ranking.h"

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "common/ranking_pair.h"
#include "cuda/launch.h"
#include "cuda/reduce.h"

namespace iqazoo::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kCounts = 5;  // concordant, discordant, tied scores, tied targets, tied both
constexpr int kPartials = kCounts + 1;  // and the pairs within groups

// The kind that only counts.
template <typename T>
struct NoPair {
  __device__ void operator()(T, T, T& loss, T& slope) const { loss = slope = 0; }
};

// An item; `quality` is the score that the loss sees, NaN where it must be.
template <typename T>
struct Item {
  T score, target, quality;
  int64_t group;
};

template <typename T>
__device__ Item<T> load(const T* scores, const T* targets, const int64_t* groups, int64_t i, bool flipped) {
  Item<T> item;
  item.score = flipped ? -scores[i] : scores[i];
  item.target = targets[i];
  item.quality = isfinite(item.score) && !isnan(item.target) ? item.score : static_cast<T>(NAN);
  item.group = groups ? groups[i] : 0;
  return item;
}

// Which of a thread's counters an unordered pair adds to; kPartials for none, as NaN compares.
template <typename T>
__device__ int comparison(const Item<T>& a, T score, T target) {
  const bool tied_score = a.score == score, tied_target = a.target == target;
  if (tied_score && tied_target) return 4;
  const bool ordered_score = a.score < score || a.score > score;
  const bool ordered_target = a.target < target || a.target > target;
  if (ordered_score && ordered_target) return (a.score > score) == (a.target > target) ? 0 : 1;
  if (tied_score && ordered_target) return 2;
  return ordered_score && tied_target ? 3 : kPartials;
}

// One thread per item, which goes through all others in order, so that sums need no atomics. Losses and counts are of
// the pairs with a later item. `gradient` is not divided yet; null where it is not wanted.
template <typename T, typename Pair>
__global__ void all_pairs(const T* scores, const T* targets, const int64_t* groups, T* gradient, double* partial_loss,
                          int64_t* partial_counts, int64_t n, bool flipped, Pair pair) {
  IQAZOO_SHARED(T, tile_score, kThreads);
  IQAZOO_SHARED(T, tile_target, kThreads);
  IQAZOO_SHARED(T, tile_quality, kThreads);
  IQAZOO_SHARED(int64_t, tile_group, kThreads);
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  Item<T> mine = {};
  if (i < n) mine = load(scores, targets, groups, i, flipped);
  double slope_sum = 0, loss_sum = 0;
  int32_t found[kPartials] = {};
  for (int64_t start = 0; start < n; start += kThreads) {
    __syncthreads();
    if (start + threadIdx.x < n) {
      const Item<T> other = load(scores, targets, groups, start + threadIdx.x, flipped);
      tile_score[threadIdx.x] = other.score;
      tile_target[threadIdx.x] = other.target;
      tile_quality[threadIdx.x] = other.quality;
      tile_group[threadIdx.x] = other.group;
    }
    __syncthreads();
    if (i >= n) continue;
    const int size = static_cast<int>(n - start < kThreads ? n - start : kThreads);
    T tile_slope = 0, tile_loss = 0;
    for (int k = 0; k < size; ++k) {
      if (start + k == i || tile_group[k] != mine.group) continue;
      const T z = mine.quality - tile_quality[k], target = tile_target[k];
      const T h = mine.target > target ? T(1) : mine.target == target ? T(0.5) : T(0);
      T loss, slope;
      pair(z, h, loss, slope);
      if (isnan(z)) loss = slope = z;  // comparisons may have lost it
      tile_slope += slope;
      if (start + k < i) continue;
      tile_loss += loss;
      const int which = comparison(mine, tile_score[k], target);
      for (int c = 0; c < kCounts; ++c) found[c] += which == c;  // not found[which]: registers have no index
      ++found[kCounts];
    }
    slope_sum += tile_slope;
    loss_sum += tile_loss;
  }
  if (i < n && isnan(mine.quality)) slope_sum = loss_sum = mine.quality;  // even without a pair
  if (gradient && i < n) gradient[i] = static_cast<T>(flipped ? -slope_sum : slope_sum);
  const double block_loss = block_sum<kThreads>(loss_sum);
  if (threadIdx.x == 0) partial_loss[blockIdx.x] = block_loss;
  for (int c = 0; c < kPartials; ++c) {
    const int64_t block_count = block_sum<kThreads>(static_cast<int64_t>(found[c]));
    if (threadIdx.x == 0) partial_counts[blockIdx.x * static_cast<int64_t>(kPartials) + c] = block_count;
  }
}

// One block. Leaves what the gradient is still to be divided by in partial_loss[0].
template <typename T>
__global__ void finish(T* loss, int64_t* counts, double* partial_loss, const int64_t* partial_counts, int64_t blocks,
                       bool mean) {
  double loss_sum = 0;
  for (int64_t b = threadIdx.x; b < blocks; b += kThreads) loss_sum += partial_loss[b];
  const double total_loss = block_sum<kThreads>(loss_sum);
  int64_t pairs = 0;
  for (int c = 0; c < kPartials; ++c) {
    int64_t sum = 0;
    for (int64_t b = threadIdx.x; b < blocks; b += kThreads) sum += partial_counts[b * kPartials + c];
    const int64_t total = block_sum<kThreads>(sum);
    if (threadIdx.x != 0) continue;
    if (c < kCounts) counts[c] = total;
    pairs = total;
  }
  if (threadIdx.x != 0) return;
  const double divisor = mean && pairs > 0 ? static_cast<double>(pairs) : 1.0;
  partial_loss[0] = divisor;
  if (loss) loss[0] = static_cast<T>(total_loss / divisor);
}

template <typename T>
__global__ void divide(T* gradient, const double* divisor, int64_t n) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (i < n) gradient[i] = static_cast<T>(gradient[i] / divisor[0]);
}

template <typename T, typename Pair>
int launch_all(const T* scores, const T* targets, const int64_t* groups, T* loss, T* gradient, int64_t* counts,
               double* partial_loss, int64_t* partial_counts, int64_t n, const Pair& pair, bool flipped, bool mean,
               int device, void* stream) {
  if (const cudaError_t failed = cudaSetDevice(device)) return failed;
  const auto queue = static_cast<cudaStream_t>(stream);
  const int64_t blocks = ranking_blocks(n);
  if (n > INT32_MAX) return cudaErrorInvalidConfiguration;
  IQAZOO_LAUNCH((all_pairs<T, Pair>), blocks, kThreads, queue, scores, targets, groups, gradient, partial_loss,
                partial_counts, n, flipped, pair);
  if (const cudaError_t failed = cudaGetLastError()) return failed;
  IQAZOO_LAUNCH(finish, 1, kThreads, queue, loss, counts, partial_loss, partial_counts, blocks, mean);
  if (const cudaError_t failed = cudaGetLastError()) return failed;
  if (gradient) IQAZOO_LAUNCH(divide, blocks, kThreads, queue, gradient, partial_loss, n);
  return cudaGetLastError();
}

}  // namespace

int64_t ranking_blocks(int64_t n) { return n > 0 ? (n + kThreads - 1) / kThreads : 1; }

template <typename T>
int ranking(const T* scores, const T* targets, const int64_t* groups, T* loss, T* gradient, int64_t* counts,
            double* partial_loss, int64_t* partial_counts, int64_t n, int kind, double margin, bool flipped, bool mean,
            int device, void* stream) {
  const auto run = [&](const auto& pair) {
    return launch_all(scores, targets, groups, loss, gradient, counts, partial_loss, partial_counts, n, pair, flipped,
                      mean, device, stream);
  };
  if (kind == kRankNet) return run(RankNetPair<T>{});
  if (kind == kMargin) return run(MarginPair<T>{static_cast<T>(margin)});
  return run(FidelityPair<T>{});
}

template <typename T>
int ranking_counts(const T* scores, const T* targets, const int64_t* groups, int64_t* counts, double* partial_loss,
                   int64_t* partial_counts, int64_t n, bool flipped, int device, void* stream) {
  T* const none = nullptr;
  return launch_all(scores, targets, groups, none, none, counts, partial_loss, partial_counts, n, NoPair<T>{}, flipped,
                    false, device, stream);
}

#define IQAZOO_INSTANTIATE(T)                                                                                        \
  template int ranking(const T*, const T*, const int64_t*, T*, T*, int64_t*, double*, int64_t*, int64_t, int, double, \
                       bool, bool, int, void*);                                                                      \
  template int ranking_counts(const T*, const T*, const int64_t*, int64_t*, double*, int64_t*, int64_t, bool, int,    \
                              void*);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cuda
