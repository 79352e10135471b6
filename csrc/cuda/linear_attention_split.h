// How the positions of a head are split among blocks, and what both passes ask of a block.
#pragma once

#include <cstdint>

#include "cuda/linear_attention_products.h"

namespace iqazoo::cuda::attention {

using linear_attention::Map;
using linear_attention::Sizes;
using linear_attention::View;

constexpr int64_t kUnit = 64;          // positions that no two blocks share
constexpr int64_t kBlocks = 528;       // to aim at: four for each multiprocessor of the largest GPUs
constexpr int64_t kLeastUnits = 4;     // for a block, or its sums would be read and written as long as its positions
constexpr int64_t kMostSplits = 128;   // of a head, as merging takes them one after the other

inline int64_t up(int64_t count, int64_t by) { return (count + by - 1) / by; }

// Into how many parts a head's positions and learned columns are split at most; it depends on the sizes alone.
inline int64_t splits_of(const Sizes& sizes) {
  const int64_t units = up(sizes.columns, kUnit) + up(sizes.positions, kUnit);
  const int64_t heads = sizes.batch * sizes.heads < 1 ? 1 : sizes.batch * sizes.heads;
  const int64_t wanted = up(kBlocks, heads), most = units / kLeastUnits;
  const int64_t splits = wanted < most ? wanted : most;
  return splits < 1 ? 1 : splits < kMostSplits ? splits : kMostSplits;
}

// The tiles of a head, those of the memory first, in `splits` runs of `each`.
struct Split {
  int64_t memory_tiles, tiles, each, splits, heads;

  Split(const Sizes& sizes, int64_t columns, int positions_of_a_tile) {
    memory_tiles = up(columns, positions_of_a_tile);
    tiles = memory_tiles + up(sizes.positions, positions_of_a_tile);
    each = up(tiles, splits_of(sizes));
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

// Calls `launch` with the width, 32, 64 or 128, that holds features and values.
template <typename Launch>
int for_width(const Sizes& sizes, Launch launch) {
  const int64_t width = sizes.features > sizes.width ? sizes.features : sizes.width;
  if (width < 1 || width > 128) return cudaErrorInvalidValue;
  if (width <= 32) return launch(std::integral_constant<int, 32>());
  if (width <= 64) return launch(std::integral_constant<int, 64>());
  return launch(std::integral_constant<int, 128>());
}

// elu1's sums over keys are means when multiplied by this power of two, which leaves quotients as they are: the range
// of half types then suffices for any number of positions.
inline float shrink_of(const Sizes& sizes, Map map) {
  int64_t power = 1;
  while (map == Map::elu1 && power < sizes.positions + sizes.columns) power *= 2;
  return 1.0f / static_cast<float>(power);
}

template <typename T>
__device__ __forceinline__ T* shared_after(unsigned char* start, int bytes) {
  return reinterpret_cast<T*>(start + bytes);
}

}  // namespace iqazoo::cuda::attention
