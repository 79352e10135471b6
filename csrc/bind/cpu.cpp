// iqazoo._cpu. Addresses come as integers: Python owns the memory and has checked shapes, dtypes and strides.
// Each op is bound in a header of its own, once per dtype: mse_forward_float32, mse_forward_float64 ...
#include "bind/cpu/calibrated.h"
#include "bind/cpu/feature_distance.h"
#include "bind/cpu/linear_attention.h"
#include "bind/cpu/mse.h"
#include "bind/cpu/pairwise.h"
#include "bind/cpu/ranking.h"
#include "bind/cpu/ssim.h"
#include "bind/cpu/windowed_moments.h"

namespace {

bool runs_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#else
  return false;
#endif
}

bool runs_avx512() {
#if defined(__x86_64__)
  return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
#else
  return false;
#endif
}

}  // namespace

PYBIND11_MODULE(IQAZOO_MODULE, module, pybind11::mod_gil_not_used()) {
  module.doc() = "iqazoo's kernels for the CPU; iqazoo.ops calls them";
  module.def("runs_avx2", &runs_avx2, "Whether this processor can run iqazoo._cpu_avx2.");
  module.def("runs_avx512", &runs_avx512, "Whether this processor can run iqazoo._cpu_avx512.");
  iqazoo::bind_calibrated(module);
  iqazoo::bind_feature_distance(module);
  iqazoo::bind_linear_attention(module);
  iqazoo::bind_mse(module);
  iqazoo::bind_pairwise(module);
  iqazoo::bind_ranking(module);
  iqazoo::bind_ssim(module);
  iqazoo::bind_windowed_moments(module);
}
