#include "cpu/pairwise.h"

#include <algorithm>
#include <vector>

#include "cpu/parallel.h"

namespace iqazoo::cpu {
namespace {

constexpr int64_t kBlock = 256;           // what is held on the stack
constexpr int64_t kChunk = 32 * kBlock;   // what one thread does at a time
constexpr int64_t kLanes = 8;

template <typename T>
struct Call {
  const T* score_a;
  const T* score_b;
  const T* preference;
  T* loss;
  T* agreement;
  T* gradient;
  T sign, margin, scale;
  bool reduced, tie_is_half;
};

struct Sums {
  double loss = 0, agreement = 0;
};

template <Pairwise kind, bool tie_is_half, typename T>
void judge_block(const T* __restrict__ score_a, const T* __restrict__ score_b, const T* __restrict__ preference,
                 T* __restrict__ loss, T* __restrict__ agreed, T* __restrict__ gradient, int64_t count, T sign,
                 T margin, T scale) {
  for (int64_t i = 0; i < count; ++i) {
    const T z = sign * (score_a[i] - score_b[i]), h = preference[i];
    const Judgment<T> judged = judge<kind>(z, h, margin);
    loss[i] = judged.loss;
    gradient[i] = scale * judged.slope;
    agreed[i] = agreement(z, h, tie_is_half);
  }
}

template <typename T>
double sum_block(const T* values, int64_t count) {
  double lanes[kLanes] = {};
  const int64_t whole = count - count % kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += values[i + lane];
  }
  double total = 0;
  for (const double lane : lanes) total += lane;
  for (int64_t i = whole; i < count; ++i) total += values[i];
  return total;
}

template <Pairwise kind, typename T>
Sums judge_chunk(const Call<T>& call, int64_t first, int64_t last) {
  T losses[kBlock], agreements[kBlock], gradients[kBlock];
  Sums sums;
  const auto judge_one = call.tie_is_half ? judge_block<kind, true, T> : judge_block<kind, false, T>;
  for (int64_t start = first; start < last; start += kBlock) {
    const int64_t count = std::min(kBlock, last - start);
    T* loss = call.reduced ? losses : call.loss + start;
    T* agreed = call.reduced ? agreements : call.agreement + start;
    T* gradient = call.gradient ? call.gradient + start : gradients;
    judge_one(call.score_a + start, call.score_b + start, call.preference + start, loss, agreed, gradient, count,
              call.sign, call.margin, call.scale);
    if (!call.reduced) continue;
    sums.loss += sum_block(loss, count);
    sums.agreement += sum_block(agreed, count);
  }
  return sums;
}

template <Pairwise kind, typename T>
Sums judge_all(const Call<T>& call, int64_t size, int threads) {
  if (size <= kChunk) return judge_chunk<kind>(call, 0, size);
  const int64_t chunks = (size + kChunk - 1) / kChunk;
  std::vector<Sums> partial(chunks);
  parallel_for(chunks, threads, [&](int64_t chunk) {
    partial[chunk] = judge_chunk<kind>(call, chunk * kChunk, std::min(size, (chunk + 1) * kChunk));
  });
  Sums total;
  for (const Sums& sums : partial) {
    total.loss += sums.loss;
    total.agreement += sums.agreement;
  }
  return total;
}

}  // namespace

template <typename T>
void pairwise(const T* score_a, const T* score_b, const T* preference, T* loss, T* agreement, T* gradient,
              int64_t size, int kind, bool lower_is_better, double margin, int reduction, bool tie_is_half,
              int threads) {
  const T sign = lower_is_better ? 1 : -1;
  const double share = 1 / static_cast<double>(size);
  const T scale = static_cast<T>(reduction == 2 ? sign * share : sign);
  const Call<T> call{score_a, score_b,           preference, loss,           agreement,  gradient,
                     sign,    static_cast<T>(margin), scale, reduction != 0, tie_is_half};
  Sums total;
  if (kind == static_cast<int>(Pairwise::kBce)) total = judge_all<Pairwise::kBce>(call, size, threads);
  if (kind == static_cast<int>(Pairwise::kMse)) total = judge_all<Pairwise::kMse>(call, size, threads);
  if (kind == static_cast<int>(Pairwise::kMargin)) total = judge_all<Pairwise::kMargin>(call, size, threads);
  if (reduction == 0) return;
  const double count = static_cast<double>(size);
  *loss = static_cast<T>(reduction == 2 ? total.loss / count : total.loss);
  *agreement = static_cast<T>(total.agreement / count);
}

#define IQAZOO_INSTANTIATE(T) \
  template void pairwise(const T*, const T*, const T*, T*, T*, T*, int64_t, int, bool, double, int, bool, int);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cpu
