#pragma once

#include <string>

#include "bind/address.h"
#include "cpu/pairwise.h"

namespace iqazoo {

template <typename T>
void bind_pairwise_of(py::module_& module, const std::string& dtype) {
  module.def(
      ("pairwise_" + dtype).c_str(),
      [](Address score_a, Address score_b, Address preference, Address loss, Address agreement, Address gradient,
         int64_t size, int kind, bool lower_is_better, double margin, int reduction, bool tie_is_half, int threads) {
        cpu::pairwise(at<T>(score_a), at<T>(score_b), at<T>(preference), at<T>(loss), at<T>(agreement),
                      at<T>(gradient), size, kind, lower_is_better, margin, reduction, tie_is_half, threads);
      },
      py::arg("score_a"), py::arg("score_b"), py::arg("preference"), py::arg("loss"), py::arg("agreement"),
      py::arg("gradient"), py::arg("size"), py::arg("kind"), py::arg("lower_is_better"), py::arg("margin"),
      py::arg("reduction"), py::arg("tie_is_half"), py::arg("threads"), Unlocked());
}

inline void bind_pairwise(py::module_& module) {
  bind_pairwise_of<float>(module, "float32");
  bind_pairwise_of<double>(module, "float64");
}

}  // namespace iqazoo
