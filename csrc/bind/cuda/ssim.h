#pragma once

#include <string>

#include "bind/address.h"
#include "bind/cuda/check.h"
#include "cuda/ssim.h"
#include "cuda/ssim_gradient.h"

namespace iqazoo {

template <typename T>
void bind_ssim_forward(py::module_& module, const std::string& dtype) {
  module.def(
      ("ssim_forward_" + dtype).c_str(),
      [](Address x, Address y, Address counted, Address counts, Address index, Address structure, Address pooled_x,
         Address pooled_y, Address partial, int64_t batch, int64_t channels, int64_t height, int64_t width,
         int window, double sigma, int padding, double c1, double c2, int reduction, int shift_y, int shift_x,
         bool replicate, int device, Address stream) {
        check("ssim_forward",
              cuda::ssim_forward(at<T>(x), at<T>(y), at<uint8_t>(counted), at<int64_t>(counts),
                                 at<Computed<T>>(index), at<Computed<T>>(structure), at<T>(pooled_x), at<T>(pooled_y),
                                 at<double>(partial), batch, channels, height, width, window, sigma, padding, c1, c2,
                                 reduction, shift_y, shift_x, replicate, device, at<void>(stream)));
      },
      py::arg("x"), py::arg("y"), py::arg("counted"), py::arg("counts"), py::arg("index"), py::arg("structure"),
      py::arg("pooled_x"), py::arg("pooled_y"), py::arg("partial"), py::arg("batch"), py::arg("channels"),
      py::arg("height"), py::arg("width"), py::arg("window"), py::arg("sigma"), py::arg("padding"), py::arg("c1"),
      py::arg("c2"), py::arg("reduction"), py::arg("shift_y"), py::arg("shift_x"), py::arg("replicate"),
      py::arg("device"), py::arg("stream"), Unlocked());
}

template <typename T>
void bind_ssim_backward(py::module_& module, const std::string& dtype) {
  module.def(
      ("ssim_backward_" + dtype).c_str(),
      [](Address x, Address y, Address counted, Address counts, Address grad_index, Address grad_structure,
         Address grad_pooled_x, Address grad_pooled_y, Address index, Address grad_x, Address grad_y, Address partial,
         Address maps, int64_t at_once, int64_t batch, int64_t channels, int64_t height, int64_t width, int window,
         double sigma, int padding, double c1, double c2, int reduction, int shift_y, int shift_x, bool replicate,
         int device, Address stream) {
        check("ssim_backward",
              cuda::ssim_backward(at<T>(x), at<T>(y), at<uint8_t>(counted), at<int64_t>(counts),
                                  at<Computed<T>>(grad_index), at<Computed<T>>(grad_structure), at<T>(grad_pooled_x),
                                  at<T>(grad_pooled_y), at<Computed<T>>(index), at<T>(grad_x), at<T>(grad_y),
                                  at<double>(partial), at<Computed<T>>(maps), at_once, batch, channels, height, width,
                                  window, sigma, padding, c1, c2, reduction, shift_y, shift_x, replicate, device,
                                  at<void>(stream)));
      },
      py::arg("x"), py::arg("y"), py::arg("counted"), py::arg("counts"), py::arg("grad_index"),
      py::arg("grad_structure"), py::arg("grad_pooled_x"), py::arg("grad_pooled_y"), py::arg("index"),
      py::arg("grad_x"), py::arg("grad_y"), py::arg("partial"), py::arg("maps"), py::arg("at_once"), py::arg("batch"),
      py::arg("channels"), py::arg("height"), py::arg("width"), py::arg("window"), py::arg("sigma"),
      py::arg("padding"), py::arg("c1"), py::arg("c2"), py::arg("reduction"), py::arg("shift_y"), py::arg("shift_x"),
      py::arg("replicate"), py::arg("device"), py::arg("stream"), Unlocked());
}

template <typename T>
void bind_ssim_of(py::module_& module, const std::string& dtype) {
  bind_ssim_forward<T>(module, dtype);
  bind_ssim_backward<T>(module, dtype);
}

inline void bind_ssim(py::module_& module) {
  module.def("ssim_partials", &cuda::ssim_partials, py::arg("planes"), py::arg("height"), py::arg("width"),
             py::arg("window"), py::arg("padding"), "How many doubles of scratch ssim_forward and ssim_backward need.");
  bind_ssim_of<float>(module, "float32");
  bind_ssim_of<double>(module, "float64");
  bind_ssim_of<bfloat16>(module, "bfloat16");
  bind_ssim_of<float16>(module, "float16");
}

}  // namespace iqazoo
