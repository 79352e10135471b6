// How a CUDA error reaches Python.
#pragma once

#include <stdexcept>
#include <string>

#include "cuda/device.h"

namespace iqazoo {

inline void check(const char* op, int error) {
  if (error != 0) throw std::runtime_error(std::string(op) + ": CUDA said: " + cuda::error_string(error));
}

}  // namespace iqazoo
