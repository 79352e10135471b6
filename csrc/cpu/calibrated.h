// Loss of judgments through LPIPS's small network, with all gradients, in one pass. Arrays are contiguous: [size].
#pragma once

#include <cstdint>

#include "common/calibrated.h"

namespace iqazoo::cpu {

// `weights` and `grad_weights` are flat, [calibrated::kWeights]. first and second are the scores in the order in which
// the network takes them. reduction as in `pairwise`. incoming is nullptr, or [size]: what each judgment's gradient is
// multiplied by. With all grad_* nullptr no gradient is computed; with loss nullptr no value is written.
template <typename T>
void calibrated_pairwise(const T* first, const T* second, const T* preference, const T* weights, const T* incoming,
                         T* loss, T* agreement, T* grad_first, T* grad_second, T* grad_weights, int64_t size,
                         bool saturating, int reduction, int threads);

}  // namespace iqazoo::cpu
