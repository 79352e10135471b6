#include "cuda/mse.h"

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/launch.h"
#include "cuda/reduce.h"

namespace iqazoo::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kPerThread = 32;  // few squares are added in Computed<T> before they go into a double
constexpr int64_t kChunk = kThreads * kPerThread;

int64_t chunks_of(int64_t size) { return (size + kChunk - 1) / kChunk; }

bool fits_a_grid(int64_t blocks) { return blocks <= INT32_MAX; }

// One block per chunk of one image.
template <typename T>
__global__ void sum_chunks(const T* image, const T* reference, double* partial, int64_t size, int64_t chunks) {
  const int64_t start = (blockIdx.x / chunks) * size;
  const int64_t first = (blockIdx.x % chunks) * kChunk;
  const int64_t last = first + kChunk < size ? first + kChunk : size;
  Computed<T> sum = 0;
  for (int64_t i = first + threadIdx.x; i < last; i += kThreads) {
    const Computed<T> difference = wide(image[start + i]) - wide(reference[start + i]);
    sum += difference * difference;
  }
  const double total = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

// One block per image.
template <typename T>
__global__ void mean_of_chunks(const double* partial, T* error, int64_t size, int64_t chunks) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < chunks; i += kThreads) sum += partial[blockIdx.x * chunks + i];
  const double total = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) error[blockIdx.x] = static_cast<T>(total / static_cast<double>(size));
}

template <typename T>
__global__ void gradient(const Computed<T>* grad_error, const T* image, const T* reference, T* grad_image,
                         int64_t size, int64_t chunks) {
  const int64_t b = blockIdx.x / chunks;
  const int64_t first = (blockIdx.x % chunks) * kChunk;
  const int64_t last = first + kChunk < size ? first + kChunk : size;
  const auto scale = static_cast<Computed<T>>(2.0 * grad_error[b] / static_cast<double>(size));
  for (int64_t i = b * size + first + threadIdx.x; i < b * size + last; i += kThreads) {
    grad_image[i] = rounded<T>(scale * (wide(image[i]) - wide(reference[i])));
  }
}

}  // namespace

int64_t mse_partials(int64_t size) { return chunks_of(size); }

template <typename T>
int mse_forward(const T* image, const T* reference, double* partial, Computed<T>* error, int64_t batch, int64_t size,
                int device, void* stream) {
  if (const cudaError_t failed = cudaSetDevice(device)) return failed;
  const auto queue = static_cast<cudaStream_t>(stream);
  const int64_t chunks = chunks_of(size);
  if (!fits_a_grid(batch) || !fits_a_grid(batch * chunks)) return cudaErrorInvalidConfiguration;
  if (batch * chunks > 0) {
    IQAZOO_LAUNCH(sum_chunks, batch * chunks, kThreads, queue, image, reference, partial, size, chunks);
    if (const cudaError_t failed = cudaGetLastError()) return failed;
  }
  if (batch > 0) IQAZOO_LAUNCH(mean_of_chunks, batch, kThreads, queue, partial, error, size, chunks);
  return cudaGetLastError();
}

template <typename T>
int mse_backward(const Computed<T>* grad_error, const T* image, const T* reference, T* grad_image, int64_t batch,
                 int64_t size, int device, void* stream) {
  if (const cudaError_t failed = cudaSetDevice(device)) return failed;
  const auto queue = static_cast<cudaStream_t>(stream);
  const int64_t chunks = chunks_of(size);
  if (!fits_a_grid(batch * chunks)) return cudaErrorInvalidConfiguration;
  if (batch * chunks > 0) {
    IQAZOO_LAUNCH(gradient, batch * chunks, kThreads, queue, grad_error, image, reference, grad_image, size, chunks);
  }
  return cudaGetLastError();
}

#define IQAZOO_INSTANTIATE(T)                                                                            \
  template int mse_forward(const T*, const T*, double*, Computed<T>*, int64_t, int64_t, int, void*);     \
  template int mse_backward(const Computed<T>*, const T*, const T*, T*, int64_t, int64_t, int, void*);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
IQAZOO_INSTANTIATE(bfloat16)
IQAZOO_INSTANTIATE(float16)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cuda
