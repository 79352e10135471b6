#pragma once

#include <string>

#include "bind/address.h"
#include "bind/cuda/check.h"
#include "cuda/ranking.h"

namespace iqazoo {

template <typename T>
void bind_ranking_of(py::module_& module, const std::string& dtype) {
  module.def(
      ("ranking_" + dtype).c_str(),
      [](Address scores, Address targets, Address groups, Address loss, Address gradient, Address counts,
         Address partial_loss, Address partial_counts, int64_t n, int kind, double margin, bool flipped, bool mean,
         int device, Address stream) {
        check("ranking", cuda::ranking(at<T>(scores), at<T>(targets), at<int64_t>(groups), at<T>(loss),
                                       at<T>(gradient), at<int64_t>(counts), at<double>(partial_loss),
                                       at<int64_t>(partial_counts), n, kind, margin, flipped, mean, device,
                                       at<void>(stream)));
      },
      py::arg("scores"), py::arg("targets"), py::arg("groups"), py::arg("loss"), py::arg("gradient"),
      py::arg("counts"), py::arg("partial_loss"), py::arg("partial_counts"), py::arg("n"), py::arg("kind"),
      py::arg("margin"), py::arg("flipped"), py::arg("mean"), py::arg("device"), py::arg("stream"), Unlocked());
  module.def(
      ("ranking_counts_" + dtype).c_str(),
      [](Address scores, Address targets, Address groups, Address counts, Address partial_loss,
         Address partial_counts, int64_t n, bool flipped, int device, Address stream) {
        check("ranking_counts", cuda::ranking_counts(at<T>(scores), at<T>(targets), at<int64_t>(groups),
                                                     at<int64_t>(counts), at<double>(partial_loss),
                                                     at<int64_t>(partial_counts), n, flipped, device,
                                                     at<void>(stream)));
      },
      py::arg("scores"), py::arg("targets"), py::arg("groups"), py::arg("counts"), py::arg("partial_loss"),
      py::arg("partial_counts"), py::arg("n"), py::arg("flipped"), py::arg("device"), py::arg("stream"), Unlocked());
}

inline void bind_ranking(py::module_& module) {
  module.def("ranking_blocks", &cuda::ranking_blocks, py::arg("n"),
             "How many blocks leave a part of the loss and six counts in the scratch of ranking.");
  bind_ranking_of<float>(module, "float32");
  bind_ranking_of<double>(module, "float64");
}

}  // namespace iqazoo
