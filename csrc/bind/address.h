// What both bindings share: memory arrives as integers, and kernels run without Python's lock.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

namespace iqazoo {

namespace py = pybind11;

using Address = uintptr_t;
using Unlocked = py::call_guard<py::gil_scoped_release>;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace iqazoo
