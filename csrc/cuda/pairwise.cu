#include "cuda/pairwise.h"

#include <cuda_runtime.h>

#include <cstdint>

#include "common/pairwise.h"
#include "cuda/launch.h"
#include "cuda/reduce.h"

namespace iqazoo::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kChunk = 4 * kThreads;  // judgments of one block; up to here one launch does all

int64_t chunks_of(int64_t size) { return (size + kChunk - 1) / kChunk; }

template <typename T>
struct Call {
  const T* score_a;
  const T* score_b;
  const T* preference;
  T* loss;
  T* agreement;
  T* gradient;
  double* partial;
  int64_t size;
  T sign, margin, scale;
  double share;  // what the summed loss is multiplied by
  bool reduced, tie_is_half;
};

template <typename T>
__device__ void write_result(const Call<T>& call, double loss, double agreed) {
  *call.loss = static_cast<T>(loss * call.share);
  *call.agreement = static_cast<T>(agreed / static_cast<double>(call.size));
}

// One block per chunk. Where there is one chunk only, it also writes the result.
template <Pairwise kind, typename T>
__global__ void judge_chunks(Call<T> call) {
  const int64_t first = blockIdx.x * kChunk;
  const int64_t last = first + kChunk < call.size ? first + kChunk : call.size;
  double losses = 0, agreements = 0;
  for (int64_t i = first + threadIdx.x; i < last; i += kThreads) {
    const T z = call.sign * (call.score_a[i] - call.score_b[i]), h = call.preference[i];
    const Judgment<T> judged = judge<kind>(z, h, call.margin);
    const T agreed = agreement(z, h, call.tie_is_half);
    if (call.gradient) call.gradient[i] = call.scale * judged.slope;
    if (!call.reduced) {
      call.loss[i] = judged.loss;
      call.agreement[i] = agreed;
    }
    losses += judged.loss;
    agreements += agreed;
  }
  if (!call.reduced) return;
  const double loss = block_sum<kThreads>(losses);
  const double agreed = block_sum<kThreads>(agreements);
  if (threadIdx.x != 0) return;
  if (gridDim.x == 1) {
    write_result(call, loss, agreed);
  } else {
    call.partial[2 * blockIdx.x] = loss;
    call.partial[2 * blockIdx.x + 1] = agreed;
  }
}

template <typename T>
__global__ void sum_chunks(Call<T> call, int64_t chunks) {
  double losses = 0, agreements = 0;
  for (int64_t chunk = threadIdx.x; chunk < chunks; chunk += kThreads) {
    losses += call.partial[2 * chunk];
    agreements += call.partial[2 * chunk + 1];
  }
  const double loss = block_sum<kThreads>(losses);
  const double agreed = block_sum<kThreads>(agreements);
  if (threadIdx.x == 0) write_result(call, loss, agreed);
}

template <Pairwise kind, typename T>
int run(const Call<T>& call, cudaStream_t queue) {
  const int64_t chunks = chunks_of(call.size);
  if (chunks > INT32_MAX) return cudaErrorInvalidConfiguration;
  // Nothing to judge is still a mean to write: one block then finds 0 / 0.
  if (chunks == 0 && !call.reduced) return cudaSuccess;
  IQAZOO_LAUNCH((judge_chunks<kind, T>), chunks > 0 ? chunks : 1, kThreads, queue, call);
  if (const cudaError_t failed = cudaGetLastError()) return failed;
  if (call.reduced && chunks > 1) IQAZOO_LAUNCH(sum_chunks<T>, 1, kThreads, queue, call, chunks);
  return cudaGetLastError();
}

}  // namespace

int64_t pairwise_partials(int64_t size) { return 2 * chunks_of(size); }

template <typename T>
int pairwise(const T* score_a, const T* score_b, const T* preference, T* loss, T* agreement, T* gradient,
             double* partial, int64_t size, int kind, bool lower_is_better, double margin, int reduction,
             bool tie_is_half, int device, void* stream) {
  if (const cudaError_t failed = cudaSetDevice(device)) return failed;
  const auto queue = static_cast<cudaStream_t>(stream);
  const T sign = lower_is_better ? 1 : -1;
  const double share = reduction == 2 ? 1 / static_cast<double>(size) : 1;
  const T scale = static_cast<T>(sign * share);
  const Call<T> call{score_a, score_b, preference, loss,  agreement, gradient,       partial,    size,
                     sign,    static_cast<T>(margin), scale, share,  reduction != 0, tie_is_half};
  if (kind == static_cast<int>(Pairwise::kBce)) return run<Pairwise::kBce>(call, queue);
  if (kind == static_cast<int>(Pairwise::kMse)) return run<Pairwise::kMse>(call, queue);
  return run<Pairwise::kMargin>(call, queue);
}

#define IQAZOO_INSTANTIATE(T)                                                                              \
  template int pairwise(const T*, const T*, const T*, T*, T*, T*, double*, int64_t, int, bool, double, int, \
                        bool, int, void*);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cuda
