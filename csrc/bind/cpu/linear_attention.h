#pragma once

#include <pybind11/stl.h>

#include <array>
#include <string>

#include "bind/address.h"
#include "cpu/linear_attention.h"

namespace iqazoo {

// An address and the strides of batch, head, position and feature.
using ViewNumbers = std::array<int64_t, 5>;

template <typename T>
linear_attention::View<T> view(const ViewNumbers& n) {
  return {at<T>(static_cast<Address>(n[0])), n[1], n[2], n[3], n[4]};
}

template <typename T>
void bind_linear_attention_of(py::module_& module, const std::string& dtype) {
  module.def(
      ("linear_attention_forward_" + dtype).c_str(),
      [](Address context, Address normalizer, const ViewNumbers& q, const ViewNumbers& k, const ViewNumbers& v,
         const ViewNumbers& memory_k, const ViewNumbers& memory_v, const ViewNumbers& out, Address mask, int64_t batch,
         int64_t heads, int64_t positions, int64_t columns, int64_t features, int64_t width, int map, double scale,
         bool causal, int threads) {
        const cpu::LinearAttention<T> call{
            at<T>(context),    at<T>(normalizer), view<T>(q),
            view<T>(k),        view<T>(v),        view<T>(memory_k),
            view<T>(memory_v), at<bool>(mask),    {batch, heads, positions, columns, features, width},
            linear_attention::Map(map),           static_cast<T>(scale),
            threads};
        (causal ? cpu::causal_linear_attention_forward<T> : cpu::linear_attention_forward<T>)(call, view<T>(out));
      },
      py::arg("context"), py::arg("normalizer"), py::arg("q"), py::arg("k"), py::arg("v"), py::arg("memory_k"),
      py::arg("memory_v"), py::arg("out"), py::arg("mask"), py::arg("batch"), py::arg("heads"), py::arg("positions"),
      py::arg("columns"), py::arg("features"), py::arg("width"), py::arg("map"), py::arg("scale"), py::arg("causal"),
      py::arg("threads"), Unlocked());
  module.def(
      ("linear_attention_backward_" + dtype).c_str(),
      [](Address context, Address normalizer, const ViewNumbers& q, const ViewNumbers& k, const ViewNumbers& v,
         const ViewNumbers& memory_k, const ViewNumbers& memory_v, const ViewNumbers& grad_out,
         const ViewNumbers& grad_q, const ViewNumbers& grad_k, const ViewNumbers& grad_v,
         const ViewNumbers& grad_memory_k, const ViewNumbers& grad_memory_v, Address mask, int64_t batch,
         int64_t heads, int64_t positions, int64_t columns, int64_t features, int64_t width, int map, double scale,
         bool causal, int threads) {
        const cpu::LinearAttention<T> call{
            at<T>(context),    at<T>(normalizer), view<T>(q),
            view<T>(k),        view<T>(v),        view<T>(memory_k),
            view<T>(memory_v), at<bool>(mask),    {batch, heads, positions, columns, features, width},
            linear_attention::Map(map),           static_cast<T>(scale),
            threads};
        const cpu::LinearAttentionGradients<T> grad{view<T>(grad_out), view<T>(grad_q),        view<T>(grad_k),
                                                    view<T>(grad_v),   view<T>(grad_memory_k), view<T>(grad_memory_v)};
        (causal ? cpu::causal_linear_attention_backward<T> : cpu::linear_attention_backward<T>)(call, grad);
      },
      py::arg("context"), py::arg("normalizer"), py::arg("q"), py::arg("k"), py::arg("v"), py::arg("memory_k"),
      py::arg("memory_v"), py::arg("grad_out"), py::arg("grad_q"), py::arg("grad_k"), py::arg("grad_v"),
      py::arg("grad_memory_k"), py::arg("grad_memory_v"), py::arg("mask"), py::arg("batch"), py::arg("heads"),
      py::arg("positions"), py::arg("columns"), py::arg("features"), py::arg("width"), py::arg("map"),
      py::arg("scale"), py::arg("causal"), py::arg("threads"), Unlocked());
}

inline void bind_linear_attention(py::module_& module) {
  bind_linear_attention_of<float>(module, "float32");
  bind_linear_attention_of<double>(module, "float64");
}

}  // namespace iqazoo
