#pragma once

#include <string>

#include "bind/address.h"
#include "cpu/windowed_moments.h"

namespace iqazoo {

template <typename T>
void bind_windowed_moments_of(py::module_& module, const std::string& dtype) {
  module.def(
      ("windowed_moments_forward_" + dtype).c_str(),
      [](Address x, Address y, Address mean_x, Address mean_y, Address var_x, Address var_y, Address cov,
         int64_t batch, int64_t channels, int64_t height, int64_t width, int window, double sigma, int64_t stride,
         int padding, int threads) {
        cpu::windowed_moments_forward<T>(
            at<T>(x), at<T>(y), {at<T>(mean_x), at<T>(mean_y), at<T>(var_x), at<T>(var_y), at<T>(cov)},
            {batch, channels, height, width, window, sigma, stride, static_cast<Padding>(padding)}, threads);
      },
      py::arg("x"), py::arg("y"), py::arg("mean_x"), py::arg("mean_y"), py::arg("var_x"), py::arg("var_y"),
      py::arg("cov"), py::arg("batch"), py::arg("channels"), py::arg("height"), py::arg("width"), py::arg("window"),
      py::arg("sigma"), py::arg("stride"), py::arg("padding"), py::arg("threads"), Unlocked());
  module.def(
      ("windowed_moments_backward_" + dtype).c_str(),
      [](Address x, Address y, Address mean_x, Address mean_y, Address var_x, Address var_y, Address cov,
         Address grad_x, Address grad_y, int64_t batch, int64_t channels, int64_t height, int64_t width, int window,
         double sigma, int64_t stride, int padding, int threads) {
        cpu::windowed_moments_backward<T>(
            at<T>(x), at<T>(y), {at<T>(mean_x), at<T>(mean_y), at<T>(var_x), at<T>(var_y), at<T>(cov)},
            at<T>(grad_x), at<T>(grad_y),
            {batch, channels, height, width, window, sigma, stride, static_cast<Padding>(padding)}, threads);
      },
      py::arg("x"), py::arg("y"), py::arg("mean_x"), py::arg("mean_y"), py::arg("var_x"), py::arg("var_y"),
      py::arg("cov"), py::arg("grad_x"), py::arg("grad_y"), py::arg("batch"), py::arg("channels"),
      py::arg("height"), py::arg("width"), py::arg("window"), py::arg("sigma"), py::arg("stride"),
      py::arg("padding"), py::arg("threads"), Unlocked());
}

inline void bind_windowed_moments(py::module_& module) {
  bind_windowed_moments_of<float>(module, "float32");
  bind_windowed_moments_of<double>(module, "float64");
}

}  // namespace iqazoo
