#pragma once

#include <string>

#include "bind/address.h"
#include "cpu/ssim.h"

namespace iqazoo {

inline cpu::SsimShape ssim_shape(int64_t batch, int64_t channels, int64_t height, int64_t width, int window,
                                 double sigma, int padding, double c1, double c2, int reduction, int64_t shift_y,
                                 int64_t shift_x, bool replicate) {
  return {batch,
          channels,
          height,
          width,
          window,
          sigma,
          static_cast<Padding>(padding),
          c1,
          c2,
          static_cast<ssim::Reduction>(reduction),
          shift_y,
          shift_x,
          replicate};
}

template <typename T>
void bind_ssim_of(py::module_& module, const std::string& dtype) {
  module.def(
      ("ssim_forward_" + dtype).c_str(),
      [](Address x, Address y, Address counted, Address counts, Address index, Address structure, Address pooled_x,
         Address pooled_y, int64_t batch, int64_t channels, int64_t height, int64_t width, int window, double sigma,
         int padding, double c1, double c2, int reduction, int64_t shift_y, int64_t shift_x, bool replicate,
         int threads) {
        cpu::ssim_forward<T>(at<T>(x), at<T>(y), {at<uint8_t>(counted), at<int64_t>(counts)},
                             {at<T>(index), at<T>(structure), at<T>(pooled_x), at<T>(pooled_y)},
                             ssim_shape(batch, channels, height, width, window, sigma, padding, c1, c2, reduction,
                                        shift_y, shift_x, replicate),
                             threads);
      },
      py::arg("x"), py::arg("y"), py::arg("counted"), py::arg("counts"), py::arg("index"), py::arg("structure"),
      py::arg("pooled_x"), py::arg("pooled_y"), py::arg("batch"), py::arg("channels"), py::arg("height"),
      py::arg("width"), py::arg("window"), py::arg("sigma"), py::arg("padding"), py::arg("c1"), py::arg("c2"),
      py::arg("reduction"), py::arg("shift_y"), py::arg("shift_x"), py::arg("replicate"), py::arg("threads"),
      Unlocked());
  module.def(
      ("ssim_backward_" + dtype).c_str(),
      [](Address x, Address y, Address counted, Address counts, Address grad_index, Address grad_structure,
         Address grad_pooled_x, Address grad_pooled_y, Address index, Address grad_x, Address grad_y, int64_t batch,
         int64_t channels, int64_t height, int64_t width, int window, double sigma, int padding, double c1, double c2,
         int reduction, int64_t shift_y, int64_t shift_x, bool replicate, int threads) {
        cpu::ssim_backward<T>(
            at<T>(x), at<T>(y), {at<uint8_t>(counted), at<int64_t>(counts)},
            {at<T>(grad_index), at<T>(grad_structure), at<T>(grad_pooled_x), at<T>(grad_pooled_y)}, at<T>(index),
            at<T>(grad_x), at<T>(grad_y),
            ssim_shape(batch, channels, height, width, window, sigma, padding, c1, c2, reduction, shift_y, shift_x,
                       replicate),
            threads);
      },
      py::arg("x"), py::arg("y"), py::arg("counted"), py::arg("counts"), py::arg("grad_index"),
      py::arg("grad_structure"), py::arg("grad_pooled_x"), py::arg("grad_pooled_y"), py::arg("index"),
      py::arg("grad_x"), py::arg("grad_y"), py::arg("batch"), py::arg("channels"), py::arg("height"),
      py::arg("width"), py::arg("window"), py::arg("sigma"), py::arg("padding"), py::arg("c1"), py::arg("c2"),
      py::arg("reduction"), py::arg("shift_y"), py::arg("shift_x"), py::arg("replicate"), py::arg("threads"),
      Unlocked());
}

inline void bind_ssim(py::module_& module) {
  bind_ssim_of<float>(module, "float32");
  bind_ssim_of<double>(module, "float64");
}

}  // namespace iqazoo
