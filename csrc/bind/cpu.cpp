// iqazoo._cpu. Addresses come as integers: Python owns the memory and has checked shapes, dtypes and strides.
#include <string>

#include "bind/address.h"
#include "cpu/calibrated.h"
#include "cpu/mse.h"
#include "cpu/pairwise.h"
#include "cpu/ranking.h"
#include "cpu/ranking_order.h"

namespace py = pybind11;
using namespace iqazoo;

namespace {

bool runs_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#else
  return false;
#endif
}

// Each op is bound once per dtype: mse_forward_float32, mse_forward_float64 ... Half types give float32 results.
template <typename T>
void bind_mse(py::module_& module, const std::string& dtype) {
  module.def(
      ("mse_forward_" + dtype).c_str(),
      [](Address image, Address reference, Address error, int64_t batch, int64_t size, int threads) {
        cpu::mse_forward(at<T>(image), at<T>(reference), at<Computed<T>>(error), batch, size, threads);
      },
      py::arg("image"), py::arg("reference"), py::arg("error"), py::arg("batch"), py::arg("size"),
      py::arg("threads"), Unlocked());
  module.def(
      ("mse_backward_" + dtype).c_str(),
      [](Address grad_error, Address image, Address reference, Address grad_image, int64_t batch, int64_t size,
         int threads) {
        cpu::mse_backward(at<Computed<T>>(grad_error), at<T>(image), at<T>(reference), at<T>(grad_image), batch,
                          size, threads);
      },
      py::arg("grad_error"), py::arg("image"), py::arg("reference"), py::arg("grad_image"), py::arg("batch"),
      py::arg("size"), py::arg("threads"), Unlocked());
}

template <typename T>
void bind_pairwise(py::module_& module, const std::string& dtype) {
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

template <typename T>
void bind_calibrated(py::module_& module, const std::string& dtype) {
  module.def(
      ("calibrated_pairwise_" + dtype).c_str(),
      [](Address first, Address second, Address preference, Address weights, Address incoming, Address loss,
         Address agreement, Address grad_first, Address grad_second, Address grad_weights, int64_t size,
         bool saturating, int reduction, int threads) {
        cpu::calibrated_pairwise(at<T>(first), at<T>(second), at<T>(preference), at<T>(weights), at<T>(incoming),
                                 at<T>(loss), at<T>(agreement), at<T>(grad_first), at<T>(grad_second),
                                 at<T>(grad_weights), size, saturating, reduction, threads);
      },
      py::arg("first"), py::arg("second"), py::arg("preference"), py::arg("weights"), py::arg("incoming"),
      py::arg("loss"), py::arg("agreement"), py::arg("grad_first"), py::arg("grad_second"), py::arg("grad_weights"),
      py::arg("size"), py::arg("saturating"), py::arg("reduction"), py::arg("threads"), Unlocked());
}

template <typename T>
void bind_ranking(py::module_& module, const std::string& dtype) {
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

}  // namespace

PYBIND11_MODULE(IQAZOO_MODULE, module, py::mod_gil_not_used()) {
  module.doc() = "iqazoo's kernels for the CPU; iqazoo.ops calls them";
  module.def("runs_avx2", &runs_avx2, "Whether this processor can run iqazoo._cpu_avx2.");
  bind_mse<float>(module, "float32");
  bind_mse<double>(module, "float64");
  bind_mse<bfloat16>(module, "bfloat16");
  bind_mse<float16>(module, "float16");
  bind_calibrated<float>(module, "float32");
  bind_calibrated<double>(module, "float64");
  bind_pairwise<float>(module, "float32");
  bind_pairwise<double>(module, "float64");
  bind_ranking<float>(module, "float32");
  bind_ranking<double>(module, "float64");
}
