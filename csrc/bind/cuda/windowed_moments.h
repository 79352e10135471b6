#pragma once

#include <string>

#include "bind/address.h"
#include "bind/cuda/check.h"
#include "cuda/windowed_moments.h"

namespace iqazoo {

template <typename T>
void bind_windowed_moments_of(py::module_& module, const std::string& dtype) {
  using C = Computed<T>;
  module.def(
      ("windowed_moments_forward_" + dtype).c_str(),
      [](Address x, Address y, Address mean_x, Address mean_y, Address var_x, Address var_y, Address cov,
         int64_t batch, int64_t channels, int64_t height, int64_t width, int window, double sigma, int stride,
         int padding, int device, Address stream) {
        check("windowed_moments_forward",
              cuda::windowed_moments_forward(at<T>(x), at<T>(y), at<C>(mean_x), at<C>(mean_y), at<C>(var_x),
                                             at<C>(var_y), at<C>(cov), batch, channels, height, width, window, sigma,
                                             stride, padding, device, at<void>(stream)));
      },
      py::arg("x"), py::arg("y"), py::arg("mean_x"), py::arg("mean_y"), py::arg("var_x"), py::arg("var_y"),
      py::arg("cov"), py::arg("batch"), py::arg("channels"), py::arg("height"), py::arg("width"), py::arg("window"),
      py::arg("sigma"), py::arg("stride"), py::arg("padding"), py::arg("device"), py::arg("stream"), Unlocked());
  module.def(
      ("windowed_moments_backward_" + dtype).c_str(),
      [](Address x, Address y, Address grad_mean_x, Address grad_mean_y, Address grad_var_x, Address grad_var_y,
         Address grad_cov, Address grad_x, Address grad_y, Address parts, int64_t batch, int64_t channels,
         int64_t height, int64_t width, int window, double sigma, int stride, int padding, int device,
         Address stream) {
        check("windowed_moments_backward",
              cuda::windowed_moments_backward(at<T>(x), at<T>(y), at<C>(grad_mean_x), at<C>(grad_mean_y),
                                              at<C>(grad_var_x), at<C>(grad_var_y), at<C>(grad_cov), at<T>(grad_x),
                                              at<T>(grad_y), at<C>(parts), batch, channels, height, width, window,
                                              sigma, stride, padding, device, at<void>(stream)));
      },
      py::arg("x"), py::arg("y"), py::arg("grad_mean_x"), py::arg("grad_mean_y"), py::arg("grad_var_x"),
      py::arg("grad_var_y"), py::arg("grad_cov"), py::arg("grad_x"), py::arg("grad_y"), py::arg("parts"),
      py::arg("batch"), py::arg("channels"), py::arg("height"), py::arg("width"), py::arg("window"), py::arg("sigma"),
      py::arg("stride"), py::arg("padding"), py::arg("device"), py::arg("stream"), Unlocked());
}

inline void bind_windowed_moments(py::module_& module) {
  bind_windowed_moments_of<float>(module, "float32");
  bind_windowed_moments_of<double>(module, "float64");
  bind_windowed_moments_of<bfloat16>(module, "bfloat16");
  bind_windowed_moments_of<float16>(module, "float16");
}

}  // namespace iqazoo
