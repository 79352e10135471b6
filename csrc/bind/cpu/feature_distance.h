#pragma once

#include <string>

#include "bind/address.h"
#include "cpu/feature_distance.h"

namespace iqazoo {

template <typename T>
void bind_feature_distance_of(py::module_& module, const std::string& dtype) {
  module.def(
      ("feature_distance_" + dtype).c_str(),
      [](Address image, Address reference, int64_t batch, int64_t channels, int64_t positions, int64_t image_step,
         int64_t reference_step, bool channels_last, double eps, Address weight, Address at_positions, Address value,
         Address map, Address means, Address lengths, int threads) {
        const FeaturePair<T> pair{at<T>(image),   at<T>(reference), batch,         channels,
                                  positions,      image_step,       reference_step, channels_last,
                                  static_cast<T>(eps)};
        cpu::feature_distance(pair, at<const T>(weight), at<const T>(at_positions), at<T>(value), at<T>(map),
                              at<T>(means), at<T>(lengths), threads);
      },
      py::arg("image"), py::arg("reference"), py::arg("batch"), py::arg("channels"), py::arg("positions"),
      py::arg("image_step"), py::arg("reference_step"), py::arg("channels_last"), py::arg("eps"), py::arg("weight"),
      py::arg("at_positions"), py::arg("value"), py::arg("map"), py::arg("means"), py::arg("lengths"),
      py::arg("threads"), Unlocked());
  module.def(
      ("feature_distance_backward_" + dtype).c_str(),
      [](Address image, Address reference, int64_t batch, int64_t channels, int64_t positions, int64_t image_step,
         int64_t reference_step, bool channels_last, double eps, Address of_channels, Address at_positions,
         Address lengths, Address grad_image, Address grad_reference, int threads) {
        const FeaturePair<T> pair{at<T>(image),   at<T>(reference), batch,         channels,
                                  positions,      image_step,       reference_step, channels_last,
                                  static_cast<T>(eps)};
        cpu::feature_distance_backward(pair, at<const T>(of_channels), at<const T>(at_positions), at<const T>(lengths),
                                       at<T>(grad_image), at<T>(grad_reference), threads);
      },
      py::arg("image"), py::arg("reference"), py::arg("batch"), py::arg("channels"), py::arg("positions"),
      py::arg("image_step"), py::arg("reference_step"), py::arg("channels_last"), py::arg("eps"),
      py::arg("of_channels"), py::arg("at_positions"), py::arg("lengths"), py::arg("grad_image"),
      py::arg("grad_reference"), py::arg("threads"), Unlocked());
}

inline void bind_feature_distance(py::module_& module) {
  bind_feature_distance_of<float>(module, "float32");
  bind_feature_distance_of<double>(module, "float64");
}

}  // namespace iqazoo
