#pragma once

#include <string>

#include "bind/address.h"
#include "cpu/ranking.h"
#include "cpu/ranking_order.h"

namespace iqazoo {

template <typename T>
void bind_ranking_of(py::module_& module, const std::string& dtype) {
  module.def(
      ("ranking_" + dtype).c_str(),
      [](Address scores, Address targets, Address groups, Address loss, Address gradient, Address counts, int64_t n,
         int kind, double margin, bool flipped, bool mean, int threads) {
        cpu::ranking(at<T>(scores), at<T>(targets), at<int64_t>(groups), at<T>(loss), at<T>(gradient),
                     at<int64_t>(counts), n, kind, margin, flipped, mean, threads);
      },
      py::arg("scores"), py::arg("targets"), py::arg("groups"), py::arg("loss"), py::arg("gradient"),
      py::arg("counts"), py::arg("n"), py::arg("kind"), py::arg("margin"), py::arg("flipped"), py::arg("mean"),
      py::arg("threads"), Unlocked());
  module.def(
      ("ranking_counts_" + dtype).c_str(),
      [](Address scores, Address targets, Address groups, Address counts, int64_t n, bool flipped, int) {
        cpu::ranking_counts(at<T>(scores), at<T>(targets), at<int64_t>(groups), at<int64_t>(counts), n, flipped);
      },
      py::arg("scores"), py::arg("targets"), py::arg("groups"), py::arg("counts"), py::arg("n"), py::arg("flipped"),
      py::arg("threads"), Unlocked());
}

inline void bind_ranking(py::module_& module) {
  bind_ranking_of<float>(module, "float32");
  bind_ranking_of<double>(module, "float64");
}

}  // namespace iqazoo
