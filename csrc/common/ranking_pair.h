// What one pair adds to a ranking loss, for host and device: z = s_i - s_j, h the target of i over j.
#pragma once

#include <cmath>

#include "common/host_device.h"

namespace iqazoo {

enum RankingKind { kRankNet, kMargin, kFidelity };

// log(1 + exp(z)) - h z. By exp(-|z|), which does not overflow and keeps the digits of small losses.
template <typename T>
struct RankNetPair {
  IQAZOO_HD void operator()(T z, T h, T& loss, T& slope) const {
    const T u = std::exp(-std::abs(z));
    const T q = u / (1 + u);
    loss = std::log1p(u) + (z > 0 ? (1 - h) * z : -h * z);
    slope = z > 0 ? (1 - h) - q : q - h;
  }
};

// h max(0, margin - z) + (1 - h) max(0, margin + z)
template <typename T>
struct MarginPair {
  T margin;

  IQAZOO_HD void operator()(T z, T h, T& loss, T& slope) const {
    const T up = margin - z, down = margin + z;
    loss = (up > 0 ? h * up : T(0)) + (down > 0 ? (1 - h) * down : T(0));
    slope = (down > 0 ? 1 - h : T(0)) - (up > 0 ? h : T(0));
  }
};

// 1 - sqrt(p h + e) - sqrt((1 - p) (1 - h) + e), p = Phi(z). In double: where z is large, p and the normal density lose
// z^2 times a float's precision, and the roots enlarge that.
template <typename T>
struct FidelityPair {
  IQAZOO_HD void operator()(double z, double h, T& loss, T& slope) const {
    constexpr double epsilon = 1e-8;
    const double tail = 0.5 * std::erfc(0.70710678118654752440 * std::abs(z));
    const double p = z < 0 ? tail : 1 - tail, q = z < 0 ? 1 - tail : tail;
    const double root_p = std::sqrt(p * h + epsilon), root_q = std::sqrt(q * (1 - h) + epsilon);
    const double density = 0.39894228040143267794 * std::exp(-0.5 * z * z);
    loss = static_cast<T>(1 - root_p - root_q);
    slope = static_cast<T>(-0.5 * density * (h / root_p - (1 - h) / root_q));
  }
};

}  // namespace iqazoo
