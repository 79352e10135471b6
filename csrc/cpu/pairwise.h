// Losses of judgments between A and B, with their gradient, in one pass. Arrays are contiguous: [size].
#pragma once

#include <cstdint>

#include "common/pairwise.h"

namespace iqazoo::cpu {

// reduction 0: `loss` and `agreement` are [size]; 1: the sum of the losses; 2: their mean. For 1 and 2 both have one
// element, and agreement is the mean; the mean of nothing is NaN. gradient[i] = d loss / d score_a[i] = -d loss /
// d score_b[i], [size] or nullptr.
template <typename T>
void pairwise(const T* score_a, const T* score_b, const T* preference, T* loss, T* agreement, T* gradient,
              int64_t size, int kind, bool lower_is_better, double margin, int reduction, bool tie_is_half,
              int threads);

}  // namespace iqazoo::cpu
