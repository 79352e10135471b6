// A loss over all pairs of items, its gradient, and how the pairs compare: O(n) memory. Arrays are contiguous.
#pragma once

#include <cstdint>

namespace iqazoo::cpu {

enum RankingKind { kRankNet, kMargin, kFidelity };

// z = s_i - s_j, with s negated where `flipped`; h is 1 where target i > target j, a half where equal, else 0.
//   kRankNet:  log(1 + exp(z)) - h z
//   kMargin:   h max(0, margin - z) + (1 - h) max(0, margin + z)
//   kFidelity: 1 - sqrt(p h + e) - sqrt((1 - p) (1 - h) + e), p = Phi(z), e = 1e-8
// loss[0] = the sum over unordered pairs, or their mean where `mean`; gradient[n] = d loss / d scores;
// counts[5] as in ranking_order.h. groups[n] restricts pairs to items of one group; null is one group.
// A score that is not finite or a NaN target makes the loss NaN, and the gradient of its group.
template <typename T>
void ranking(const T* scores, const T* targets, const int64_t* groups, T* loss, T* gradient, int64_t* counts,
             int64_t n, int kind, double margin, bool flipped, bool mean, int threads);

}  // namespace iqazoo::cpu
