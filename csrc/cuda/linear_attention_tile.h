// Tiles of a sequence in shared memory, and their way from and to global memory.
//
// A tile holds W features (rows) of as many positions as 128 bytes hold. The 16-byte pieces of a row are swizzled, so
// that reading a column of pieces, a row, or eight pieces of neighbouring rows meets no bank twice.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/half.h"
#include "common/linear_attention.h"
#include "cuda/launch.h"

namespace iqazoo::cuda::attention {

constexpr int kTileRow = 128;   // bytes
constexpr int kPiece = 16;      // bytes that one load moves
constexpr int kLanes = 32;

template <typename T>
constexpr int kPositions = kTileRow / sizeof(T);
template <typename T>
constexpr int kVector = kPiece / sizeof(T);
template <typename T>
constexpr int kFew = kPositions<T> / kLanes;  // positions of a row that a lane takes where a warp takes a row

template <int W>
constexpr int kThreads = W == 128 ? 256 : 128;
// Blocks that a multiprocessor is to hold at a time, which bounds their registers: loads of the one hide behind the
// arithmetic of the others.
template <typename T, int W>
constexpr int kResident = W == 32 ? 4 : W == 64 ? (sizeof(T) == 4 ? 2 : 3) : 1;
template <int W>
constexpr int kWarps = kThreads<W> / kLanes;
template <int W>
constexpr int kPieces = W * (kTileRow / kPiece) / kThreads<W>;  // of a tile that a thread moves
template <int W>
constexpr int kTileBytes = W * kTileRow;

// The thread's number, as if new at each call. Else a compiler keeps the addresses of all tiles of a loop in registers,
// hundreds of them; they are cheap to make again.
__device__ __forceinline__ int thread() {
#ifdef __CUDA_ARCH__
  int number;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(number));
  return number;
#else
  return static_cast<int>(threadIdx.x);
#endif
}

// The byte of a swizzled array whose rows have kRow bytes, a power of two.
template <int kRow>
__device__ __forceinline__ int swizzled(int row, int byte) {
  const int turn = kRow >= 128 ? (row ^ row >> 3) & 7 : row >> 1 & 3;
  return row * kRow + (byte ^ turn * kPiece);
}

template <typename T>
__device__ __forceinline__ T& cell(unsigned char* tile, int row, int position) {
  return *reinterpret_cast<T*>(tile + swizzled<kTileRow>(row, position * static_cast<int>(sizeof(T))));
}

// Two elements side by side, of which the first is at an even place, as floats and back.
template <typename T>
__device__ __forceinline__ float2 load_two(const void* at) {
  if constexpr (std::is_same_v<T, float>) {
    return *static_cast<const float2*>(at);
  } else {
    const uint32_t both = *static_cast<const uint32_t*>(at);
    const T first{static_cast<uint16_t>(both & 0xffffu)}, second{static_cast<uint16_t>(both >> 16)};
    return make_float2(to_float(first), to_float(second));
  }
}

template <typename T>
__device__ __forceinline__ void store_two(void* at, float first, float second) {
  if constexpr (std::is_same_v<T, float>) {
    *static_cast<float2*>(at) = make_float2(first, second);
  } else {
    *static_cast<uint32_t*>(at) = rounded<T>(first).bits | uint32_t{rounded<T>(second).bits} << 16;
  }
}

// A lane's few positions of a row.
template <typename T>
__device__ __forceinline__ void load_few(const unsigned char* tile, int row, float (&few)[kFew<T>]) {
  const void* at = tile + swizzled<kTileRow>(row, thread() % kLanes * 4);
  if constexpr (kFew<T> == 1) {
    few[0] = *static_cast<const float*>(at);
  } else {
    const float2 two = load_two<T>(at);
    few[0] = two.x;
    few[1] = two.y;
  }
}

template <typename T>
__device__ __forceinline__ void store_few(unsigned char* tile, int row, const float (&few)[kFew<T>]) {
  void* at = tile + swizzled<kTileRow>(row, thread() % kLanes * 4);
  if constexpr (kFew<T> == 1) {
    *static_cast<float*>(at) = few[0];
  } else {
    store_two<T>(at, few[0], few[1]);
  }
}

// One of the tensors, or the memory, as kernels see it: `positions` of each head, of `features` each.
template <typename T>
struct Sequence {
  linear_attention::View<T> view;
  int64_t positions;
  int features;
  bool along_features, vector;  // whether features lie side by side, else positions; whether their pieces are aligned
  const bool* mask;             // [batch, positions], or null

  Sequence() = default;
  Sequence(const linear_attention::View<T>& view, int64_t positions, int64_t features, const bool* mask = nullptr)
      : view(view), positions(positions), features(static_cast<int>(features)), mask(mask) {
    along_features = view.feature == 1 && view.position != 1;
    const int64_t across = along_features ? view.position : view.feature;
    const auto odd = reinterpret_cast<uintptr_t>(view.data) | (view.batch | view.head | across) * sizeof(T);
    vector = (along_features || view.position == 1) && odd % kPiece == 0;
  }
};

// What a tile covers: `count` positions of one head, the first of them at `data`.
template <typename T>
struct Place {
  T* data;
  int64_t position, feature;  // strides, in elements
  int count, features;
  bool along_features, vector;
  const bool* mask;  // of the first position, or null

  // `most` positions from `first` on, or as many as there are, of head h in batch b.
  __device__ __forceinline__ Place(const Sequence<T>& from, int64_t b, int64_t h, int64_t first, int most)
      : data(from.view.data + b * from.view.batch + h * from.view.head + first * from.view.position),
        position(from.view.position),
        feature(from.view.feature),
        count(from.positions - first < most ? static_cast<int>(from.positions - first) : most),
        features(from.features),
        along_features(from.along_features),
        vector(from.vector),
        mask(from.mask ? from.mask + b * from.positions + first : nullptr) {}

  __device__ __forceinline__ bool takes(int n) const { return n < count && (!mask || mask[n]); }
};

// Where the elements of a thread's piece are: those of a row, or of a position.
template <typename T, int W>
struct Piece {
  int row, position, rows, positions;  // of the first element, and what to add for the next

  __device__ __forceinline__ Piece(int i, bool along_features) {
    const int number = thread() + i * kThreads<W>;
    constexpr int across = kTileRow / kPiece, down = W / kVector<T>;
    row = along_features ? number % down * kVector<T> : number / across;
    position = along_features ? number / down : number % across * kVector<T>;
    rows = along_features;
    positions = !along_features;
  }

  __device__ __forceinline__ bool inside(int features, int count, int k) const {
    return row + k * rows < features && position + k * positions < count;
  }
};

// A tile's pieces of this thread; 0 where nothing is.
template <typename T, int W>
__device__ __forceinline__ void fetch(int4 (&pieces)[kPieces<W>], const Place<const T>& from) {
#pragma unroll
  for (int i = 0; i < kPieces<W>; ++i) {
    const Piece<T, W> piece(i, from.along_features);
    const T* at = from.data + piece.row * from.feature + piece.position * from.position;
    if (from.vector && piece.inside(from.features, from.count, kVector<T> - 1)) {
      pieces[i] = *reinterpret_cast<const int4*>(at);
      continue;
    }
    const int64_t step = from.along_features ? from.feature : from.position;
    alignas(kPiece) T values[kVector<T>];
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) {
      values[k] = piece.inside(from.features, from.count, k) ? at[k * step] : T{};
    }
    memcpy(&pieces[i], values, kPiece);
  }
}

// Puts the pieces into a tile.
template <typename T, int W>
__device__ __forceinline__ void deposit(const int4 (&pieces)[kPieces<W>], unsigned char* tile, bool along_features) {
#pragma unroll
  for (int i = 0; i < kPieces<W>; ++i) {
    const Piece<T, W> piece(i, along_features);
    if (!along_features) {
      *reinterpret_cast<int4*>(&cell<T>(tile, piece.row, piece.position)) = pieces[i];
      continue;
    }
    alignas(kPiece) T values[kVector<T>];
    memcpy(values, &pieces[i], kPiece);
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) cell<T>(tile, piece.row + k, piece.position) = values[k];
  }
}

// Writes a tile to global memory.
template <typename T, int W>
__device__ __forceinline__ void store(unsigned char* tile, const Place<T>& to) {
#pragma unroll
  for (int i = 0; i < kPieces<W>; ++i) {
    const Piece<T, W> piece(i, to.along_features);
    if (!piece.inside(to.features, to.count, 0)) continue;
    T* at = to.data + piece.row * to.feature + piece.position * to.position;
    alignas(kPiece) T values[kVector<T>];
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) {
      values[k] = cell<T>(tile, piece.row + k * piece.rows, piece.position + k * piece.positions);
    }
    if (to.vector && piece.inside(to.features, to.count, kVector<T> - 1)) {
      int4 whole;
      memcpy(&whole, values, kPiece);
      *reinterpret_cast<int4*>(at) = whole;
      continue;
    }
    const int64_t step = to.along_features ? to.feature : to.position;
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) {
      if (piece.inside(to.features, to.count, k)) at[k * step] = values[k];
    }
  }
}

// The d x e matrix of floats at `from`, times `factor`, in shared memory: [W][W] of T, 0 beyond.
template <typename T, int W>
__device__ __forceinline__ void load_matrix(unsigned char* matrix, const float* from, int rows, int columns,
                                            float factor) {
  for (int i = 2 * thread(); i < W * W; i += 2 * kThreads<W>) {
    const int row = i / W, column = i % W;
    const float* at = from + row * static_cast<int64_t>(columns) + column;
    const float first = row < rows && column < columns ? factor * at[0] : 0.0f;
    const float second = row < rows && column + 1 < columns ? factor * at[1] : 0.0f;
    constexpr int size = sizeof(T);
    store_two<T>(matrix + swizzled<W * size>(row, column * size), first, second);
  }
}

}  // namespace iqazoo::cuda::attention
