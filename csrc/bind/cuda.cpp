// iqazoo._cuda. Addresses and streams come as integers: Python owns the memory and has checked shapes, dtypes,
// strides and device. A CUDA error becomes a RuntimeError.
#include <stdexcept>
#include <string>

#include "bind/address.h"
#include "cuda/calibrated.h"
#include "cuda/device.h"
#include "cuda/mse.h"
#include "cuda/pairwise.h"
#include "cuda/ranking.h"

namespace py = pybind11;
using namespace iqazoo;

namespace {

void check(const char* op, int error) {
  if (error != 0) throw std::runtime_error(std::string(op) + ": CUDA said: " + cuda::error_string(error));
}

// Each op is bound once per dtype: mse_forward_float32, mse_forward_float64 ... Half types give float32 results.
template <typename T>
void bind_mse(py::module_& module, const std::string& dtype) {
  module.def(
      ("mse_forward_" + dtype).c_str(),
      [](Address image, Address reference, Address partial, Address error, int64_t batch, int64_t size, int device,
         Address stream) {
        check("mse_forward", cuda::mse_forward(at<T>(image), at<T>(reference), at<double>(partial),
                                               at<Computed<T>>(error), batch, size, device, at<void>(stream)));
      },
      py::arg("image"), py::arg("reference"), py::arg("partial"), py::arg("error"), py::arg("batch"),
      py::arg("size"), py::arg("device"), py::arg("stream"), Unlocked());
  module.def(
      ("mse_backward_" + dtype).c_str(),
      [](Address grad_error, Address image, Address reference, Address grad_image, int64_t batch, int64_t size,
         int device, Address stream) {
        check("mse_backward", cuda::mse_backward(at<Computed<T>>(grad_error), at<T>(image), at<T>(reference),
                                                 at<T>(grad_image), batch, size, device, at<void>(stream)));
      },
      py::arg("grad_error"), py::arg("image"), py::arg("reference"), py::arg("grad_image"), py::arg("batch"),
      py::arg("size"), py::arg("device"), py::arg("stream"), Unlocked());
}

template <typename T>
void bind_pairwise(py::module_& module, const std::string& dtype) {
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

template <typename T>
void bind_calibrated(py::module_& module, const std::string& dtype) {
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

template <typename T>
void bind_ranking(py::module_& module, const std::string& dtype) {
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

}  // namespace

PYBIND11_MODULE(IQAZOO_MODULE, module, py::mod_gil_not_used()) {
  module.doc() = "iqazoo's kernels for NVIDIA GPUs; iqazoo.ops calls them";
  module.def("device_count_error", &cuda::device_count_error,
             "Why no device can be used here (no driver, no GPU), or None.");
  module.def("mse_partials", &cuda::mse_partials, py::arg("size"),
             "How many doubles of scratch mse_forward needs per image.");
  bind_mse<float>(module, "float32");
  bind_mse<double>(module, "float64");
  bind_mse<bfloat16>(module, "bfloat16");
  bind_mse<float16>(module, "float16");
  module.def("pairwise_partials", &cuda::pairwise_partials, py::arg("size"),
             "How many doubles of scratch pairwise needs.");
  module.def("calibrated_pairwise_partials", &cuda::calibrated_pairwise_partials, py::arg("size"),
             "How many doubles of scratch calibrated_pairwise needs.");
  bind_calibrated<float>(module, "float32");
  bind_calibrated<double>(module, "float64");
  bind_pairwise<float>(module, "float32");
  bind_pairwise<double>(module, "float64");
  module.def("ranking_blocks", &cuda::ranking_blocks, py::arg("n"),
             "How many blocks leave a part of the loss and six counts in the scratch of ranking.");
  bind_ranking<float>(module, "float32");
  bind_ranking<double>(module, "float64");
}
