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
  Computed<T> image_room[kBlock], reference_room[kBlock];
  double sums[kLanes] = {};
  double total = 0;
  for (int64_t start = 0; start < size; start += kBlock) {
    const int64_t count = std::min(kBlock, size - start);
    const Computed<T>* x = widened(image + start, count, image_room);
    const Computed<T>* y = widened(reference + start, count, reference_room);
    if (count == kBlock) {
      add_block(x, y, sums);
      continue;
    }
    for (int64_t i = 0; i < count; ++i) {
      const Computed<T> difference = x[i] - y[i];
      total += difference * difference;
    }
  }
  for (const double sum : sums) total += sum;
  return total;
}

template <typename T>
void gradient(Computed<T> scale, const T* image, const T* reference, T* grad_image, int64_t size) {
  Computed<T> image_room[kBlock], reference_room[kBlock], gradient_room[kBlock];
  for (int64_t start = 0; start < size; start += kBlock) {
    const int64_t count = std::min(kBlock, size - start);
    const Computed<T>* __restrict__ x = widened(image + start, count, image_room);
    const Computed<T>* __restrict__ y = widened(reference + start, count, reference_room);
    Computed<T>* __restrict__ wide = wide_room(grad_image + start, gradient_room);
    for (int64_t i = 0; i < count; ++i) wide[i] = scale * (x[i] - y[i]);
    narrow(wide, count, grad_image + start);
  }
}

}  // namespace

template <typename T>
void mse_forward(const T* image, const T* reference, Computed<T>* error, int64_t batch, int64_t size, int threads) {
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
    error[b] = static_cast<Computed<T>>(total / static_cast<double>(size));
  }
}

template <typename T>
void mse_backward(const Computed<T>* grad_error, const T* image, const T* reference, T* grad_image, int64_t batch,
                  int64_t size, int threads) {
  const int64_t chunks = (size + kChunk - 1) / kChunk;
  parallel_for(batch * chunks, threads, [&](int64_t task) {
    const int64_t b = task / chunks;
    const int64_t first = task % chunks * kChunk;
    const int64_t start = b * size + first;
    const auto scale = static_cast<Computed<T>>(2.0 * grad_error[b] / static_cast<double>(size));
    gradient(scale, image + start, reference + start, grad_image + start, std::min(kChunk, size - first));
  });
}

#define IQAZOO_INSTANTIATE(T)                                                                   \
  template void mse_forward(const T*, const T*, Computed<T>*, int64_t, int64_t, int);           \
  template void mse_backward(const Computed<T>*, const T*, const T*, T*, int64_t, int64_t, int);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
IQAZOO_INSTANTIATE(bfloat16)
IQAZOO_INSTANTIATE(float16)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cpu
