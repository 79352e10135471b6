#pragma once

#include <string>

#include "bind/address.h"
#include "bind/cuda/check.h"
#include "cuda/calibrated.h"

namespace iqazoo {

template <typename T>
void bind_calibrated_of(py::module_& module, const std::string& dtype) {
  module.def(
      ("calibrated_pairwise_" + dtype).c_str(),
      [](Address first, Address second, Address preference, Address weights, Address incoming, Address loss,
         Address agreement, Address grad_first, Address grad_second, Address grad_weights, Address partial,
         int64_t size, bool saturating, int reduction, int device, Address stream) {
        check("calibrated_pairwise",
              cuda::calibrated_pairwise(at<T>(first), at<T>(second), at<T>(preference), at<T>(weights),
                                        at<T>(incoming), at<T>(loss), at<T>(agreement), at<T>(grad_first),
                                        at<T>(grad_second), at<T>(grad_weights), at<double>(partial), size,
                                        saturating, reduction, device, at<void>(stream)));
      },
      py::arg("first"), py::arg("second"), py::arg("preference"), py::arg("weights"), py::arg("incoming"),
      py::arg("loss"), py::arg("agreement"), py::arg("grad_first"), py::arg("grad_second"), py::arg("grad_weights"),
      py::arg("partial"), py::arg("size"), py::arg("saturating"), py::arg("reduction"), py::arg("device"),
      py::arg("stream"), Unlocked());
}

inline void bind_calibrated(py::module_& module) {
  module.def("calibrated_pairwise_partials", &cuda::calibrated_pairwise_partials, py::arg("size"),
             "How many doubles of scratch calibrated_pairwise needs.");
  bind_calibrated_of<float>(module, "float32");
  bind_calibrated_of<double>(module, "float64");
}

}  // namespace iqazoo
