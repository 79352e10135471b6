#pragma once

#include <string>

#include "bind/address.h"
#include "bind/cuda/check.h"
#include "cuda/mse.h"

namespace iqazoo {

template <typename T>
void bind_mse_of(py::module_& module, const std::string& dtype) {
  module.def(
      ("mse_forward_" + dtype).c_str(),
      [](Address image, Address reference, Address partial, Address error, int64_t batch, int64_t size, int device,
         Address stream) {
        check("mse_forward", cuda::mse_forward(at<T>(image), at<T>(reference), at<double>(partial),
                                               at<Computed<T>>(error), batch, size, device, at<void>(stream)));
      },
      py::arg("image"), py::arg("reference"), py::arg("partial"), py::arg("error"), py::arg("batch"),
      py::arg("size"), py::arg("device"), py::arg("stream"), Unlocked());
  module.def(
      ("mse_backward_" + dtype).c_str(),
      [](Address grad_error, Address image, Address reference, Address grad_image, int64_t batch, int64_t size,
         int device, Address stream) {
        check("mse_backward", cuda::mse_backward(at<Computed<T>>(grad_error), at<T>(image), at<T>(reference),
                                                 at<T>(grad_image), batch, size, device, at<void>(stream)));
      },
      py::arg("grad_error"), py::arg("image"), py::arg("reference"), py::arg("grad_image"), py::arg("batch"),
      py::arg("size"), py::arg("device"), py::arg("stream"), Unlocked());
}

inline void bind_mse(py::module_& module) {
  module.def("mse_partials", &cuda::mse_partials, py::arg("size"),
             "How many doubles of scratch mse_forward needs per image.");
  bind_mse_of<float>(module, "float32");
  bind_mse_of<double>(module, "float64");
  bind_mse_of<bfloat16>(module, "bfloat16");
  bind_mse_of<float16>(module, "float16");
}

}  // namespace iqazoo
