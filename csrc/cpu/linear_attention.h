// Linear attention on the CPU. Context is [batch, heads, features, width], normalizer [batch, heads, features], both
// dense; what they hold is said in iqazoo/ops/linear_attention_launch.py, formulas in linear_attention.py beside it.
#pragma once

#include <cstdint>

#include "common/linear_attention.h"

namespace iqazoo::cpu {

template <typename T>
struct LinearAttention {
  T* context;
  T* normalizer;
  linear_attention::View<T> q, k, v, memory_k, memory_v;
  const bool* mask;  // [batch, positions], or null
  linear_attention::Sizes sizes;
  linear_attention::Map map;
  T scale;
  int threads;
};

// Writes context, normalizer and out.
template <typename T>
void linear_attention_forward(const LinearAttention<T>& call, const linear_attention::View<T>& out);

template <typename T>
struct LinearAttentionGradients {
  linear_attention::View<T> out, q, k, v, memory_k, memory_v;  // `out` is given; the memory's are for each batch
};

template <typename T>
void linear_attention_backward(const LinearAttention<T>& call, const LinearAttentionGradients<T>& grad);

// elu1 with sums up to one's own position.
template <typename T>
void causal_linear_attention_forward(const LinearAttention<T>& call, const linear_attention::View<T>& out);
template <typename T>
void causal_linear_attention_backward(const LinearAttention<T>& call, const LinearAttentionGradients<T>& grad);

}  // namespace iqazoo::cpu
