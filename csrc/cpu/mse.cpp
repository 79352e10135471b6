#include "cpu/mse.h"

#include <algorithm>
#include <vector>

#include "cpu/parallel.h"

namespace iqazoo::cpu {
namespace {

// Each lane adds few squares in T, which vectorises, before it goes into a double. So the error of a float sum
// stays near float's epsilon however large the image is.
constexpr int64_t kLanes = 16;
constexpr int64_t kBlock = 32 * kLanes;
constexpr int64_t kChunk = 128 * kBlock;  // what one thread does at a time: 64 Ki values

template <typename T>
void add_block(const T* __restrict__ image, const T* __restrict__ reference, double* __restrict__ sums) {
  T lanes[kLanes] = {};
  for (int64_t i = 0; i < kBlock; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const T difference = image[i + lane] - reference[i + lane];
      lanes[lane] += difference * difference;
    }
  }
  for (int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += lanes[lane];
}

template <typename T>
double squared_distance(const T* image, const T* reference, int64_t size) {
  const int64_t whole = size - size % kBlock;
  double sums[kLanes] = {};
  for (int64_t i = 0; i < whole; i += kBlock) add_block(image + i, reference + i, sums);
  double total = 0;
  for (const double sum : sums) total += sum;
  for (int64_t i = whole; i < size; ++i) {
    const T difference = image[i] - reference[i];
    total += difference * difference;
  }
  return total;
}

}  // namespace

template <typename T>
void mse_forward(const T* image, const T* reference, T* error, int64_t batch, int64_t size, int threads) {
  const int64_t chunks = (size + kChunk - 1) / kChunk;
  std::vector<double> partial(batch * chunks);
  parallel_for(batch * chunks, threads, [&](int64_t task) {
    const int64_t first = task % chunks * kChunk;
    const int64_t start = task / chunks * size + first;
    partial[task] = squared_distance(image + start, reference + start, std::min(kChunk, size - first));
  });
  for (int64_t b = 0; b < batch; ++b) {
    double total = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) total += partial[b * chunks + chunk];
    error[b] = static_cast<T>(total / static_cast<double>(size));
  }
}

template <typename T>
void mse_backward(const T* grad_error, const T* image, const T* reference, T* __restrict__ grad_image,
                  int64_t batch, int64_t size, int threads) {
  const int64_t chunks = (size + kChunk - 1) / kChunk;
  parallel_for(batch * chunks, threads, [&](int64_t task) {
    const int64_t b = task / chunks;
    const int64_t first = b * size + task % chunks * kChunk;
    const int64_t last = std::min(first + kChunk, (b + 1) * size);
    const T scale = static_cast<T>(2.0 * grad_error[b] / static_cast<double>(size));
    for (int64_t i = first; i < last; ++i) grad_image[i] = scale * (image[i] - reference[i]);
  });
}

template void mse_forward(const float*, const float*, float*, int64_t, int64_t, int);
template void mse_forward(const double*, const double*, double*, int64_t, int64_t, int);
template void mse_backward(const float*, const float*, const float*, float*, int64_t, int64_t, int);
template void mse_backward(const double*, const double*, const double*, double*, int64_t, int64_t, int);

}  // namespace iqazoo::cpu
