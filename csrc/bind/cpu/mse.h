#pragma once

#include <string>

#include "bind/address.h"
#include "cpu/mse.h"

namespace iqazoo {

template <typename T>
void bind_mse_of(py::module_& module, const std::string& dtype) {
  module.def(
      ("mse_forward_" + dtype).c_str(),
      [](Address image, Address reference, Address error, int64_t batch, int64_t size, int threads) {
        cpu::mse_forward(at<T>(image), at<T>(reference), at<Computed<T>>(error), batch, size, threads);
      },
      py::arg("image"), py::arg("reference"), py::arg("error"), py::arg("batch"), py::arg("size"),
      py::arg("threads"), Unlocked());
  module.def(
      ("mse_backward_" + dtype).c_str(),
      [](Address grad_error, Address image, Address reference, Address grad_image, int64_t batch, int64_t size,
         int threads) {
        cpu::mse_backward(at<Computed<T>>(grad_error), at<T>(image), at<T>(reference), at<T>(grad_image), batch,
                          size, threads);
      },
      py::arg("grad_error"), py::arg("image"), py::arg("reference"), py::arg("grad_image"), py::arg("batch"),
      py::arg("size"), py::arg("threads"), Unlocked());
}

inline void bind_mse(py::module_& module) {
  bind_mse_of<float>(module, "float32");
  bind_mse_of<double>(module, "float64");
  bind_mse_of<bfloat16>(module, "bfloat16");
  bind_mse_of<float16>(module, "float16");
}

}  // namespace iqazoo
