#pragma once

#include <string>

#include "bind/address.h"
#include "bind/cuda/check.h"
#include "cuda/feature_distance.h"

namespace iqazoo {

template <typename T>
void bind_feature_distance_of(py::module_& module, const std::string& dtype) {
  using C = Computed<T>;
  module.def(
      ("feature_distance_" + dtype).c_str(),
      [](Address image, Address reference, int64_t batch, int64_t channels, int64_t positions, int64_t image_step,
         int64_t reference_step, bool channels_last, double eps, Address weight, Address at_positions, Address value,
         Address map, Address means, Address lengths, Address partial, int device, Address stream) {
        const FeaturePair<T> pair{at<T>(image),   at<T>(reference), batch,         channels,
                                  positions,      image_step,       reference_step, channels_last,
                                  static_cast<Computed<T>>(eps)};
        check("feature_distance",
              cuda::feature_distance(pair, at<const C>(weight), at<const C>(at_positions), at<C>(value), at<C>(map),
                                     at<C>(means), at<C>(lengths), at<double>(partial), device, at<void>(stream)));
      },
      py::arg("image"), py::arg("reference"), py::arg("batch"), py::arg("channels"), py::arg("positions"),
      py::arg("image_step"), py::arg("reference_step"), py::arg("channels_last"), py::arg("eps"), py::arg("weight"),
      py::arg("at_positions"), py::arg("value"), py::arg("map"), py::arg("means"), py::arg("lengths"),
      py::arg("partial"), py::arg("device"), py::arg("stream"), Unlocked());
  module.def(
      ("feature_distance_backward_" + dtype).c_str(),
      [](Address image, Address reference, int64_t batch, int64_t channels, int64_t positions, int64_t image_step,
         int64_t reference_step, bool channels_last, double eps, Address of_channels, Address at_positions,
         Address lengths, Address grad_image, Address grad_reference, int device, Address stream) {
        const FeaturePair<T> pair{at<T>(image),   at<T>(reference), batch,         channels,
                                  positions,      image_step,       reference_step, channels_last,
                                  static_cast<Computed<T>>(eps)};
        check("feature_distance_backward",
              cuda::feature_distance_backward(pair, at<const C>(of_channels), at<const C>(at_positions),
                                              at<const C>(lengths), at<T>(grad_image), at<T>(grad_reference), device,
                                              at<void>(stream)));
      },
      py::arg("image"), py::arg("reference"), py::arg("batch"), py::arg("channels"), py::arg("positions"),
      py::arg("image_step"), py::arg("reference_step"), py::arg("channels_last"), py::arg("eps"),
      py::arg("of_channels"), py::arg("at_positions"), py::arg("lengths"), py::arg("grad_image"),
      py::arg("grad_reference"), py::arg("device"), py::arg("stream"), Unlocked());
}

inline void bind_feature_distance(py::module_& module) {
  module.def("feature_distance_partials", &cuda::feature_distance_partials, py::arg("batch"), py::arg("channels"),
             py::arg("positions"), py::arg("means"), "How many doubles of scratch feature_distance needs.");
  bind_feature_distance_of<float>(module, "float32");
  bind_feature_distance_of<double>(module, "float64");
  bind_feature_distance_of<bfloat16>(module, "bfloat16");
  bind_feature_distance_of<float16>(module, "float16");
}

}  // namespace iqazoo
