// The sums over a part's keys and values: the context, and by feature the largest key and the total of the weights.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "cuda/linear_attention_maps.h"
#include "cuda/linear_attention_products.h"
#include "cuda/linear_attention_strip.h"

namespace iqazoo::cuda::attention {

// A part's sums: context [features][width], the largest key of each feature, the totals.
IQAZOO_HD inline int64_t partial_size(int64_t features, int64_t width) { return features * (width + 2); }

// Of float32. Keys are mapped in shared memory, where all warps find them.
template <int W, bool softmax>
class SumsInTiles {
 public:
  static constexpr int kShared = W * sizeof(float);

  __device__ __forceinline__ explicit SumsInTiles(unsigned char* room) : decay_(shared_after<float>(room, 0)) {}

  // Adds a tile. Its keys and values are lost.
  __device__ __forceinline__ void add(unsigned char* keys, unsigned char* values, const Place<const float>& here) {
    const bool taken = here.takes(thread() % kLanes);
    if constexpr (softmax) {
      exp_of_keys<W>(keys, taken, sums_, decay_);
    } else {
      elu1_of_keys<W>(keys, taken, sums_);
    }
    if (here.mask) hide<W>(values, taken);
    __syncthreads();
    if constexpr (softmax) {
      const float upper = decay_[share_.row + thread() % kLanes / 4];
      const float lower = decay_[share_.row + thread() % kLanes / 4 + 8];
#pragma unroll
      for (int j = 0; j < kColumnGroups<W>; ++j) {
        context_[j][0] *= upper;
        context_[j][1] *= upper;
        context_[j][2] *= lower;
        context_[j][3] *= lower;
      }
    }
    add_over_positions<float>(context_, keys, share_.row, values, column());
  }

  __device__ __forceinline__ void store(unsigned char*, float* out, int features, int width) {
    each_two(context_, share_.row, column(), [&](int d, int e, float first, float second) {
      if (d < features && e < width) out[d * width + e] = first;
      if (d < features && e + 1 < width) out[d * width + e + 1] = second;
    });
    float* tops = out + static_cast<int64_t>(features) * width;
#pragma unroll
    for (int r = 0; r < kRows<W>; ++r) {
      const float total = warp_sum(sums_.total[r]);
      const int d = first_row<W>() + r;
      if (threadIdx.x % kLanes != 0 || d >= features) continue;
      tops[d] = sums_.top[r];
      tops[features + d] = total;
    }
  }

 private:
  __device__ __forceinline__ int column() const { return share_.part * kColumnGroups<W> * 8; }

  float* decay_;
  Share<W> share_;
  RowSums<W> sums_;
  float context_[kColumnGroups<W>][4] = {};
};

// Of half types. A warp takes some of the features at some of a tile's positions, maps keys in registers, which then
// are left factors, and multiplies them with values and with ones: the totals are of the very weights that are used.
template <typename T, int W, bool softmax>
class SumsInRegisters {
 public:
  static constexpr int kShared = 0;

  __device__ __forceinline__ explicit SumsInRegisters(unsigned char*) {
    const int warp = thread() / kLanes;
    const int block = thread() % kLanes / 8, line = thread() % 8;
    row_ = warp % kRowParts * 16 * kMatrices;
    part_ = warp / kRowParts;
    const int position = part_ * kSteps * 16;
    left_ = place_of_cell<T, kTileRow>(row_ + block % 2 * 8 + line, position + block / 2 * 8);
    right_ = place_of_cell<T, kTileRow>(block / 2 * 8 + line, position + block % 2 * 8);
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) top_[m][0] = top_[m][1] = -INFINITY;
  }

  __device__ __forceinline__ void add(const unsigned char* keys, const unsigned char* values,
                                      const Place<const T>& here) {
    const bool some = here.mask || here.count < kPositions<T>;  // but not all positions take part
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      uint32_t keep[2] = {~0u, ~0u};  // what takes part of positions 2 t, 2 t + 1 and of those 8 later
      if (some) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int n = (part_ * kSteps + s) * 16 + 8 * i + thread() % 4 * 2;
          keep[i] = (here.takes(n) ? 0xffffu : 0u) | (here.takes(n + 1) ? 0xffff0000u : 0u);
        }
      }
      uint32_t left[kMatrices][4];
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
        load_matrices<false>(left[m], keys + moved<T, kTileRow>(left_, 16 * m, 16 * s));
      }
      map(left, keep, some);
#pragma unroll
      for (int j = 0; j < W / 8; j += 2) {
        uint32_t right[4];
        load_matrices<false>(right, values + moved<T, kTileRow>(right_, 8 * j, 16 * s));
        if (some) {  // even where hidden values are NaN
          right[0] &= keep[0], right[1] &= keep[1], right[2] &= keep[0], right[3] &= keep[1];
        }
#pragma unroll
        for (int m = 0; m < kMatrices; ++m) {
          multiply_add<T>(context_[m][j], left[m], right[0], right[1]);
          multiply_add<T>(context_[m][j + 1], left[m], right[2], right[3]);
        }
      }
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) multiply_add<T>(total_[m], left[m], kOnes<T>, kOnes<T>);
    }
  }

  // Adds what the warps have of each feature, in a fixed order, and writes it. `room` is that of the four tiles.
  __device__ __forceinline__ void store(unsigned char* room, float* out, int features, int width) {
    static_assert(kPositionParts == 1 || W * (W + 2) * sizeof(float) <= 4 * kTileBytes<W>);
    auto* context = shared_after<float>(room, 0);
    float *tops = context + W * W, *totals = tops + W;
    for (int part = 1; part < kPositionParts; ++part) {
      __syncthreads();
      if (part_ == part) put(context, tops, totals, W, W, W);
      __syncthreads();
      if (part_ == 0) join(context, tops, totals);
    }
    if (part_ != 0) return;
    float* tops_out = out + static_cast<int64_t>(features) * width;
    put(out, tops_out, tops_out + features, features, width, width);
  }

 private:
  static constexpr int kMatrices = W == 128 ? 1 : 2;                  // of 16 features, that a warp has
  static constexpr int kRowParts = W / (16 * kMatrices);
  static constexpr int kPositionParts = kWarps<W> / kRowParts;
  static constexpr int kSteps = kPositions<T> / 16 / kPositionParts;  // of 16 positions
  // Keys above the largest that was seen make no trouble until they are this much above: weights are then below 55.
  static constexpr float kSlack = 4.0f;

  // The weights of keys; those of positions that take no part are 0.
  __device__ __forceinline__ void map(uint32_t (&left)[kMatrices][4], const uint32_t (&keep)[2], bool some) {
    float x[kMatrices][2][4];
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {  // (g; 2 t ..), (g + 8; 2 t ..), (g; 2 t + 8 ..), (g + 8; 2 t + 8 ..)
        const float2 two = unpacked<T>(left[m][i]);
        float &first = x[m][i % 2][i / 2 * 2], &second = x[m][i % 2][i / 2 * 2 + 1];
        first = two.x, second = two.y;
        if (!some) continue;
        if (!(keep[i / 2] & 0xffffu)) first = -INFINITY;
        if (!(keep[i / 2] & 0xffff0000u)) second = -INFINITY;
      }
    }
    if constexpr (softmax) follow(x);
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        // Only -inf so far: the weights are 0, not NaN.
        const float top = top_[m][r] == -INFINITY ? 0.0f : top_[m][r];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          x[m][r][i] = softmax ? power_of_two((x[m][r][i] - top) * kLog2E) : elu1_of(x[m][r][i]);
        }
        left[m][r] = packed<T>(x[m][r][0], x[m][r][1]);
        left[m][r + 2] = packed<T>(x[m][r][2], x[m][r][3]);
      }
    }
  }

  // Raises the largest keys, where it must be.
  __device__ __forceinline__ void follow(const float (&x)[kMatrices][2][4]) {
    float peak[kMatrices][2];
    bool rises = false;
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        peak[m][r] = fmaxf(fmaxf(x[m][r][0], x[m][r][1]), fmaxf(x[m][r][2], x[m][r][3]));
        rises |= peak[m][r] > top_[m][r] + kSlack;
      }
    }
    if (!__any_sync(~0u, rises)) return;
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float top = fmaxf(top_[m][r], max_over_t(peak[m][r]));
        scale(m, r, decay(top_[m][r], top));
        top_[m][r] = top;
      }
    }
  }

  // What sums relative to one key are multiplied by to be relative to a larger; infinities are no larger than others.
  __device__ __forceinline__ static float decay(float from, float to) {
    return from == to ? 1.0f : power_of_two((from - to) * kLog2E);
  }

  __device__ __forceinline__ void scale(int m, int r, float factor) {
#pragma unroll
    for (int j = 0; j < W / 8; ++j) context_[m][j][2 * r] *= factor, context_[m][j][2 * r + 1] *= factor;
    total_[m][2 * r] *= factor;
  }

  // Calls `visit(m, r, d)` for the lane's features d.
  template <typename Visit>
  __device__ __forceinline__ void each_row(Visit visit) const {
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
      for (int r = 0; r < 2; ++r) visit(m, r, row_ + 16 * m + 8 * r + thread() % kLanes / 4);
    }
  }

  __device__ __forceinline__ void put(float* context, float* tops, float* totals, int features, int width,
                                      int64_t row) {
    each_row([&](int m, int r, int d) {
      if (d >= features) return;
#pragma unroll
      for (int j = 0; j < W / 8; ++j) {
        const int e = 8 * j + thread() % 4 * 2;
        if (e < width) context[d * row + e] = context_[m][j][2 * r];
        if (e + 1 < width) context[d * row + e + 1] = context_[m][j][2 * r + 1];
      }
      if (thread() % 4 != 0) return;
      tops[d] = top_[m][r];
      totals[d] = total_[m][2 * r];
    });
  }

  __device__ __forceinline__ void join(const float* context, const float* tops, const float* totals) {
    each_row([&](int m, int r, int d) {
      float theirs = 1.0f;
      if constexpr (softmax) {
        const float top = fmaxf(top_[m][r], tops[d]);
        theirs = decay(tops[d], top);
        scale(m, r, decay(top_[m][r], top));
        top_[m][r] = top;
      }
#pragma unroll
      for (int j = 0; j < W / 8; ++j) {
        const float* at = context + d * W + 8 * j + thread() % 4 * 2;
        context_[m][j][2 * r] += at[0] * theirs;
        context_[m][j][2 * r + 1] += at[1] * theirs;
      }
      total_[m][2 * r] += totals[d] * theirs;
    });
  }

  int row_, part_, left_, right_;  // the last two: where the lane's bytes of keys and values lie
  float top_[kMatrices][2], context_[kMatrices][W / 8][4] = {}, total_[kMatrices][4] = {};
};

template <typename T, int W, bool softmax>
using Sums = std::conditional_t<kHalf<T>, SumsInRegisters<T, W, softmax>, SumsInTiles<W, softmax>>;

}  // namespace iqazoo::cuda::attention
