#pragma once

#include <pybind11/stl.h>

#include <array>
#include <string>

#include "bind/address.h"
#include "bind/cuda/check.h"
#include "cuda/linear_attention.h"

namespace iqazoo {

// A view as Python sends it: address, and the strides of batch, head, position and feature.
using Five = std::array<int64_t, 5>;

template <typename T>
linear_attention::View<T> view_at(const Five& five) {
  return {at<T>(static_cast<Address>(five[0])), five[1], five[2], five[3], five[4]};
}

template <typename T>
void bind_linear_attention_of(py::module_& module, const std::string& dtype) {
  // `causal` is there for all backends alike, and false: Python keeps such calls from the GPU.
  module.def(
      ("linear_attention_forward_" + dtype).c_str(),
      [](Address context, Address normalizer, Five q, Five k, Five v, Five memory_k, Five memory_v, Five out,
         Address mask, int64_t batch, int64_t heads, int64_t positions, int64_t columns, int64_t features,
         int64_t width, int map, double scale, bool, Address scratch, int device, Address stream) {
        const cuda::LinearAttentionInputs<T> inputs{view_at<const T>(q),        view_at<const T>(k),
                                                    view_at<const T>(v),        view_at<const T>(memory_k),
                                                    view_at<const T>(memory_v), at<const bool>(mask)};
        check("linear_attention_forward",
              cuda::linear_attention_forward(inputs, view_at<T>(out), at<float>(context), at<float>(normalizer),
                                             at<float>(scratch), {batch, heads, positions, columns, features, width},
                                             static_cast<linear_attention::Map>(map), static_cast<float>(scale),
                                             device, at<void>(stream)));
      },
      py::arg("context"), py::arg("normalizer"), py::arg("q"), py::arg("k"), py::arg("v"), py::arg("memory_k"),
      py::arg("memory_v"), py::arg("out"), py::arg("mask"), py::arg("batch"), py::arg("heads"), py::arg("positions"),
      py::arg("columns"), py::arg("features"), py::arg("width"), py::arg("map"), py::arg("scale"), py::arg("causal"),
      py::arg("scratch"), py::arg("device"), py::arg("stream"), Unlocked());
  module.def(
      ("linear_attention_backward_" + dtype).c_str(),
      [](Address context, Address normalizer, Five q, Five k, Five v, Five memory_k, Five memory_v, Five grad,
         Five to_q, Five to_k, Five to_v, Five to_memory_k, Five to_memory_v, Address mask, int64_t batch,
         int64_t heads, int64_t positions, int64_t columns, int64_t features, int64_t width, int map, double scale,
         bool, Address scratch, int device, Address stream) {
        const cuda::LinearAttentionInputs<T> inputs{view_at<const T>(q),        view_at<const T>(k),
                                                    view_at<const T>(v),        view_at<const T>(memory_k),
                                                    view_at<const T>(memory_v), at<const bool>(mask)};
        const cuda::LinearAttentionGradients<T> gradients{
            view_at<const T>(grad), view_at<T>(to_q),           view_at<T>(to_k),
            view_at<T>(to_v),       view_at<float>(to_memory_k), view_at<float>(to_memory_v)};
        check("linear_attention_backward",
              cuda::linear_attention_backward(inputs, gradients, at<const float>(context), at<const float>(normalizer),
                                              at<float>(scratch), {batch, heads, positions, columns, features, width},
                                              static_cast<linear_attention::Map>(map), static_cast<float>(scale),
                                              device, at<void>(stream)));
      },
      py::arg("context"), py::arg("normalizer"), py::arg("q"), py::arg("k"), py::arg("v"), py::arg("memory_k"),
      py::arg("memory_v"), py::arg("grad"), py::arg("to_q"), py::arg("to_k"), py::arg("to_v"),
      py::arg("to_memory_k"), py::arg("to_memory_v"), py::arg("mask"), py::arg("batch"), py::arg("heads"),
      py::arg("positions"), py::arg("columns"), py::arg("features"), py::arg("width"), py::arg("map"),
      py::arg("scale"), py::arg("causal"), py::arg("scratch"), py::arg("device"), py::arg("stream"),
      Unlocked());
}

inline void bind_linear_attention(py::module_& module) {
  const auto sizes = [](int64_t batch, int64_t heads, int64_t positions, int64_t columns, int64_t features,
                        int64_t width) {
    return linear_attention::Sizes{batch, heads, positions, columns, features, width};
  };
  module.def(
      "linear_attention_forward_scratch",
      [sizes](int64_t batch, int64_t heads, int64_t positions, int64_t columns, int64_t features, int64_t width) {
        return cuda::linear_attention_forward_scratch(sizes(batch, heads, positions, columns, features, width));
      },
      py::arg("batch"), py::arg("heads"), py::arg("positions"), py::arg("columns"), py::arg("features"),
      py::arg("width"), "How many floats of scratch linear_attention_forward needs.");
  module.def(
      "linear_attention_backward_scratch",
      [sizes](int64_t batch, int64_t heads, int64_t positions, int64_t columns, int64_t features, int64_t width) {
        return cuda::linear_attention_backward_scratch(sizes(batch, heads, positions, columns, features, width));
      },
      py::arg("batch"), py::arg("heads"), py::arg("positions"), py::arg("columns"), py::arg("features"),
      py::arg("width"), "How many floats of scratch linear_attention_backward needs.");
  bind_linear_attention_of<float>(module, "float32");
  bind_linear_attention_of<bfloat16>(module, "bfloat16");
  bind_linear_attention_of<float16>(module, "float16");
}

}  // namespace iqazoo
