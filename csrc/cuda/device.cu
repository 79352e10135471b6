#include "cuda/device.h"

#include <cuda_runtime.h>

namespace iqazoo::cuda {

const char* error_string(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

const char* device_count_error() {
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  cudaGetLastError();  // forgets the error, which a later launch would report as its own
  if (error == cudaSuccess && count == 0) error = cudaErrorNoDevice;
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace iqazoo::cuda
