// How the positions of a head are split among blocks, and what both passes ask of a block.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/linear_attention_tile.h"

namespace iqazoo::cuda::attention {

using linear_attention::Map;
using linear_attention::Sizes;
using linear_attention::View;

constexpr int64_t kUnit = 64;              // positions that no two blocks share
constexpr int64_t kMultiprocessors = 132;  // of the largest GPUs
constexpr int64_t kLeastUnits = 4;         // of a block, or its sums would be read and written as long as its positions
constexpr int64_t kMostSplits = 128;       // of a head, as merging takes them one after the other

inline int64_t up(int64_t count, int64_t by) { return (count + by - 1) / by; }

// Calls `launch` with the width, 32, 64 or 128, that holds features and values.
template <typename Launch>
int for_width(const Sizes& sizes, Launch launch) {
  const int64_t width = sizes.features > sizes.width ? sizes.features : sizes.width;
  if (width < 1 || width > 128) return cudaErrorInvalidValue;
  if (width <= 32) return launch(std::integral_constant<int, 32>());
  if (width <= 64) return launch(std::integral_constant<int, 64>());
  return launch(std::integral_constant<int, 128>());
}

// Into how many parts a head's positions and learned columns are split at most, given how many blocks each
// multiprocessor holds: the fewest that leave little of the largest GPUs idle. It depends on the sizes alone.
inline int64_t splits_of(const Sizes& sizes, int resident) {
  const int64_t units = up(sizes.columns, kUnit) + up(sizes.positions, kUnit);
  const int64_t heads = sizes.batch * sizes.heads, at_once = kMultiprocessors * resident;
  int64_t most = units / kLeastUnits < kMostSplits ? units / kLeastUnits : kMostSplits, best = 1;
  double busy = 0.0;
  for (int64_t splits = 1; splits <= most && busy < 0.85; ++splits) {
    const int64_t blocks = heads * splits;
    const double now = static_cast<double>(blocks) / static_cast<double>(up(blocks, at_once) * at_once);
    if (now > busy) busy = now, best = splits;
  }
  return best;
}

// For the passes that sum, whose parts all need scratch. Their kernels have so many blocks resident, at least.
template <int W>
constexpr int kResidentSums = W == 32 ? 4 : W == 64 ? 2 : 1;

inline int64_t sum_splits_of(const Sizes& sizes) {
  int64_t splits = 1;
  for_width(sizes, [&](auto width) {
    splits = splits_of(sizes, kResidentSums<decltype(width)::value>);
    return 0;
  });
  return splits;
}

// The tiles of a head, those of the memory first, in `splits` runs of `each`.
struct Split {
  int64_t memory_tiles, tiles, each, splits, heads;

  Split(const Sizes& sizes, int64_t columns, int positions_of_a_tile, int64_t most) {
    memory_tiles = up(columns, positions_of_a_tile);
    tiles = memory_tiles + up(sizes.positions, positions_of_a_tile);
    each = up(tiles, most);
    if (each < 1) each = 1;
    splits = tiles > 0 ? up(tiles, each) : 1;  // without positions there is still a sum: 0
    heads = sizes.heads;
  }
};

// A block's part: head h of batch element b, and tiles from `first` to before `last`.
struct Part {
  int64_t head, b, h, first, last;

  __device__ __forceinline__ explicit Part(const Split& split) {
    head = blockIdx.x / split.splits;
    b = head / split.heads;
    h = head % split.heads;
    first = blockIdx.x % split.splits * split.each;
    last = first + split.each < split.tiles ? first + split.each : split.tiles;
  }
};

// Where a tile of keys, values or their gradients lies: in the memory or among the positions.
template <typename T>
__device__ __forceinline__ Place<T> place_of(const Sequence<T>& memory, const Sequence<T>& sequence, const Split& split,
                                             const Part& part, int64_t tile, int positions_of_a_tile) {
  const bool early = tile < split.memory_tiles;
  const int64_t first = (early ? tile : tile - split.memory_tiles) * positions_of_a_tile;
  return Place<T>(early ? memory : sequence, part.b, part.h, first, positions_of_a_tile);
}

inline bool fits_a_grid(int64_t blocks) { return blocks <= INT32_MAX; }

// elu1's sums over keys are means when multiplied by this power of two, which leaves quotients as they are: the range
// of half types then suffices for any number of positions.
inline float shrink_of(const Sizes& sizes, Map map) {
  int64_t power = 1;
  while (map == Map::elu1 && power < sizes.positions + sizes.columns) power *= 2;
  return 1.0f / static_cast<float>(power);
}

}  // namespace iqazoo::cuda::attention
