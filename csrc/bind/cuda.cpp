// iqazoo._cuda. Addresses and streams come as integers: Python owns the memory and has checked shapes, dtypes,
// strides and device. A CUDA error becomes a RuntimeError.
// Each op is bound in a header of its own, once per dtype: mse_forward_float32, mse_forward_float64 ...
#include "bind/cuda/calibrated.h"
#include "bind/cuda/feature_distance.h"
#include "bind/cuda/linear_attention.h"
#include "bind/cuda/mse.h"
#include "bind/cuda/pairwise.h"
#include "bind/cuda/ranking.h"
#include "bind/cuda/ssim.h"
#include "bind/cuda/windowed_moments.h"

PYBIND11_MODULE(IQAZOO_MODULE, module, pybind11::mod_gil_not_used()) {
  module.doc() = "iqazoo's kernels for NVIDIA GPUs; iqazoo.ops calls them";
  module.def("device_count_error", &iqazoo::cuda::device_count_error,
             "Why no device can be used here (no driver, no GPU), or None.");
  iqazoo::bind_calibrated(module);
  iqazoo::bind_feature_distance(module);
  iqazoo::bind_linear_attention(module);
  iqazoo::bind_mse(module);
  iqazoo::bind_pairwise(module);
  iqazoo::bind_ranking(module);
  iqazoo::bind_ssim(module);
  iqazoo::bind_windowed_moments(module);
}
