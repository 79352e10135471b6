#include "cpu/pages.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace iqazoo::cpu {

void expect_writes(void* begin, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHuge = uintptr_t(2) << 20;
  constexpr int64_t kLarge = 4 * kHuge;  // smaller tensors mostly come from memory that was used before
  if (bytes < kLarge) return;
  const auto address = reinterpret_cast<uintptr_t>(begin);
  const uintptr_t first = (address + kHuge - 1) / kHuge * kHuge, last = (address + bytes) / kHuge * kHuge;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // advice: it may fail
#else
  (void)begin, (void)bytes;
#endif
}

}  // namespace iqazoo::cpu
