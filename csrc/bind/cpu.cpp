// iqazoo._cpu. Addresses come as integers: Python owns the memory and has checked shapes, dtypes and strides.
#include <string>

#include "bind/address.h"
#include "cpu/mse.h"

namespace py = pybind11;
using namespace iqazoo;

namespace {

// Each op is bound once per dtype: mse_forward_float32, mse_forward_float64.
template <typename T>
void bind_mse(py::module_& module, const std::string& dtype) {
  module.def(
      ("mse_forward_" + dtype).c_str(),
      [](Address image, Address reference, Address error, int64_t batch, int64_t size) {
        cpu::mse_forward(at<T>(image), at<T>(reference), at<T>(error), batch, size);
      },
      py::arg("image"), py::arg("reference"), py::arg("error"), py::arg("batch"), py::arg("size"), Unlocked());
  module.def(
      ("mse_backward_" + dtype).c_str(),
      [](Address grad_error, Address image, Address reference, Address grad_image, int64_t batch, int64_t size) {
        cpu::mse_backward(at<T>(grad_error), at<T>(image), at<T>(reference), at<T>(grad_image), batch, size);
      },
      py::arg("grad_error"), py::arg("image"), py::arg("reference"), py::arg("grad_image"), py::arg("batch"),
      py::arg("size"), Unlocked());
}

}  // namespace

PYBIND11_MODULE(_cpu, module, py::mod_gil_not_used()) {
  module.doc() = "iqazoo's kernels for the CPU; iqazoo.ops calls them";
  bind_mse<float>(module, "float32");
  bind_mse<double>(module, "float64");
}
