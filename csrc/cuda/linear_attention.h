// Linear attention on the GPU: softmax over positions or elu1, without an intermediate that grows with N. Views may
// have any strides. Launchers queue work on `stream` of `device` and return a cudaError_t as int, 0 for success.
// How the sums over positions are split depends on the sizes alone, so every GPU adds in one order.
#pragma once

#include <cstdint>

#include "common/half.h"
#include "common/linear_attention.h"

namespace iqazoo::cuda {

// How many floats of scratch the passes need.
int64_t linear_attention_forward_scratch(const linear_attention::Sizes& sizes);
int64_t linear_attention_backward_scratch(const linear_attention::Sizes& sizes);

template <typename T>
struct LinearAttentionInputs {
  linear_attention::View<const T> q, k, v, memory_k, memory_v;
  const bool* mask;  // [batch, positions] of keys and values that take part, or null
};

// Writes `out`, and for the backward pass context [B, H, D, E] and normalizer [B, H, D]: under softmax the mean of the
// values that a feature's weights make and the log of the sum of exp(k), under elu1 the sums of phi(k)^T v and phi(k).
// Features and width are 1 to 128.
template <typename T>
int linear_attention_forward(const LinearAttentionInputs<T>& inputs, const linear_attention::View<T>& out,
                             float* context, float* normalizer, float* scratch, const linear_attention::Sizes& sizes,
                             linear_attention::Map map, float scale, int device, void* stream);

template <typename T>
struct LinearAttentionGradients {
  linear_attention::View<const T> out;
  linear_attention::View<T> q, k, v;
  linear_attention::View<float> memory_k, memory_v;  // of each batch element
};

// Writes the gradients of all inputs, given that of the output and what the forward pass left.
template <typename T>
int linear_attention_backward(const LinearAttentionInputs<T>& inputs, const LinearAttentionGradients<T>& gradients,
                              const float* context, const float* normalizer, float* scratch,
                              const linear_attention::Sizes& sizes, linear_attention::Map map, float scale, int device,
                              void* stream);

}  // namespace iqazoo::cuda
