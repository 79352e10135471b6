// Large memory that is written for the first time.
#pragma once

#include <cstdint>

namespace iqazoo::cpu {

// Asks for huge pages in [begin, begin + bytes) if that is large: a fault for every 4 KiB of fresh memory takes longer
// than a kernel that fills it. Memory that has its pages already is left as it is.
void expect_writes(void* begin, int64_t bytes);

}  // namespace iqazoo::cpu
