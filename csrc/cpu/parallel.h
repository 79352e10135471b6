// Work shared among threads, those of torch where OpenMP's library is the same.
#pragma once

#include <cstdint>

namespace iqazoo::cpu {

// Runs work(0) .. work(tasks - 1), each once, on up to `threads` threads. Tasks must depend on shapes alone, never
// on `threads`, and sums over tasks must be added in a fixed order: then results do not depend on the thread count.
// `work` must not throw.
template <typename Work>
void parallel_for(int64_t tasks, int threads, const Work& work) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && tasks > 1)
  for (int64_t task = 0; task < tasks; ++task) work(task);
}

}  // namespace iqazoo::cpu
