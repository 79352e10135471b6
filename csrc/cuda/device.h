// What the bindings ask of the CUDA runtime, so that they need none of its headers.
#pragma once

namespace iqazoo::cuda {

const char* error_string(int error);

// Why no device can be used here (no driver, no GPU), or nullptr.
const char* device_count_error();

}  // namespace iqazoo::cuda
