// A loss over all pairs of items, its gradient, and how the pairs compare: O(n) memory. Arrays are contiguous.
#pragma once

#include <cstdint>

namespace iqazoo::cpu {

// `kind` is a RankingKind: the loss of a pair in z = s_i - s_j, with s negated where `flipped`, and h, which is 1 where
// target i > target j, a half where equal, else 0; see common/ranking_pair.h.
// loss[0] = the sum over unordered pairs, or their mean where `mean`; gradient[n] = d loss / d scores;
// counts[5] as in ranking_order.h. groups[n] restricts pairs to items of one group; null is one group.
// A score that is not finite or a NaN target makes the loss NaN, and the gradient of its group.
template <typename T>
void ranking(const T* scores, const T* targets, const int64_t* groups, T* loss, T* gradient, int64_t* counts,
             int64_t n, int kind, double margin, bool flipped, bool mean, int threads);

}  // namespace iqazoo::cpu
