#pragma once

#include <string>

#include "bind/address.h"
#include "bind/cuda/check.h"
#include "cuda/pairwise.h"

namespace iqazoo {

template <typename T>
void bind_pairwise_of(py::module_& module, const std::string& dtype) {
  module.def(
      ("pairwise_" + dtype).c_str(),
      [](Address score_a, Address score_b, Address preference, Address loss, Address agreement, Address gradient,
         Address partial, int64_t size, int kind, bool lower_is_better, double margin, int reduction,
         bool tie_is_half, int device, Address stream) {
        check("pairwise", cuda::pairwise(at<T>(score_a), at<T>(score_b), at<T>(preference), at<T>(loss),
                                         at<T>(agreement), at<T>(gradient), at<double>(partial), size, kind,
                                         lower_is_better, margin, reduction, tie_is_half, device, at<void>(stream)));
      },
      py::arg("score_a"), py::arg("score_b"), py::arg("preference"), py::arg("loss"), py::arg("agreement"),
      py::arg("gradient"), py::arg("partial"), py::arg("size"), py::arg("kind"), py::arg("lower_is_better"),
      py::arg("margin"), py::arg("reduction"), py::arg("tie_is_half"), py::arg("device"), py::arg("stream"),
      Unlocked());
}

inline void bind_pairwise(py::module_& module) {
  module.def("pairwise_partials", &cuda::pairwise_partials, py::arg("size"),
             "How many doubles of scratch pairwise needs.");
  bind_pairwise_of<float>(module, "float32");
  bind_pairwise_of<double>(module, "float64");
}

}  // namespace iqazoo
