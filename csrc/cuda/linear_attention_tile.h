// Tiles of a sequence in shared memory, and their way from and to global memory.
//
// A tile holds W features (rows) of as many positions as 128 bytes hold. The 16-byte pieces of a row are swizzled, so
// that reading a column of pieces, a row, or eight pieces of neighbouring rows meets no bank twice.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "common/half.h"
#include "common/linear_attention.h"
#include "cuda/launch.h"
#include "cuda/packed.h"

namespace iqazoo::cuda::attention {

constexpr int kTileRow = 128;   // bytes
constexpr int kPiece = 16;      // bytes that one load moves
constexpr int kLanes = 32;

template <typename T>
constexpr int kPositions = kTileRow / sizeof(T);
template <typename T>
constexpr int kVector = kPiece / sizeof(T);

template <int W>
constexpr int kThreads = W == 128 ? 256 : 128;
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

template <typename T>
__device__ __forceinline__ T* shared_after(unsigned char* start, int bytes) {
  return reinterpret_cast<T*>(start + bytes);
}

// The byte of a swizzled array whose rows have kRow bytes, a power of two.
template <int kRow>
__device__ __forceinline__ int swizzled(int row, int byte) {
  const int turn = kRow >= 128 ? (row ^ row >> 3) & 7 : row >> 1 & 3;
  return row * kRow + (byte ^ turn * kPiece);
}

// That of an element of a swizzled array of T.
template <typename T, int kRow>
__device__ __forceinline__ int place_of_cell(int row, int column) {
  return swizzled<kRow>(row, column * static_cast<int>(sizeof(T)));
}

template <typename T>
__device__ __forceinline__ T& cell(unsigned char* tile, int row, int position) {
  return *reinterpret_cast<T*>(tile + place_of_cell<T, kTileRow>(row, position));
}

// The 16 bytes of row `row` in which `place` lies.
template <typename T, int kRow>
__device__ __forceinline__ const void* piece_at(const unsigned char* array, int row, int place) {
  return array + place_of_cell<T, kRow>(row, place);
}

// Two elements side by side, of which the first is at an even place.
__device__ __forceinline__ float2 load_two(const void* at) { return *static_cast<const float2*>(at); }

template <typename T>
__device__ __forceinline__ void store_two(void* at, float first, float second) {
  if constexpr (std::is_same_v<T, float>) {
    *static_cast<float2*>(at) = make_float2(first, second);
  } else {
    *static_cast<uint32_t*>(at) = packed<T>(first, second);
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

  // Whether all pieces of a tile can be moved as they are.
  template <int W>
  __device__ __forceinline__ bool whole() const {
    return vector && count == kPositions<std::remove_const_t<T>> && features == W;
  }
};

// Where the elements of a thread's piece are: those of a row, or of a position.
template <typename T, int W>
struct Piece {
  static constexpr int kAcross = kTileRow / kPiece, kDown = W / kVector<T>;  // pieces of a row, of a position
  int row, position, rows, positions;  // of the first element, and what to add for the next

  __device__ __forceinline__ Piece(int i, bool along_features) {
    const int number = thread() + i * kThreads<W>;
    row = along_features ? number % kDown * kVector<T> : number / kAcross;
    position = along_features ? number / kDown : number % kAcross * kVector<T>;
    rows = along_features;
    positions = !along_features;
  }

  __device__ __forceinline__ bool inside(int features, int count, int k) const {
    return row + k * rows < features && position + k * positions < count;
  }

  // How far apart a thread's pieces lie in memory.
  template <typename U>
  static __device__ __forceinline__ int64_t step(const Place<U>& place) {
    return place.along_features ? kThreads<W> / kDown * place.position : kThreads<W> / kAcross * place.feature;
  }
};

// A tile's pieces of this thread; 0 where nothing is.
template <typename T, int W>
__device__ __forceinline__ void fetch(int4 (&pieces)[kPieces<W>], const Place<const T>& from) {
  if (from.template whole<W>()) {
    const Piece<T, W> first(0, from.along_features);
    const T* at = from.data + first.row * from.feature + first.position * from.position;
    const int64_t step = Piece<T, W>::step(from);
#pragma unroll
    for (int i = 0; i < kPieces<W>; ++i) pieces[i] = *reinterpret_cast<const int4*>(at + i * step);
    return;
  }
#pragma unroll 1
  for (int i = 0; i < kPieces<W>; ++i) {
    const Piece<T, W> piece(i, from.along_features);
    const T* at = from.data + piece.row * from.feature + piece.position * from.position;
    const int64_t step = from.along_features ? from.feature : from.position;
    alignas(kPiece) T values[kVector<T>];
    if (from.vector && piece.inside(from.features, from.count, kVector<T> - 1)) {
      *reinterpret_cast<int4*>(values) = *reinterpret_cast<const int4*>(at);
    } else {
#pragma unroll
      for (int k = 0; k < kVector<T>; ++k) {
        values[k] = piece.inside(from.features, from.count, k) ? at[k * step] : T{};
      }
    }
    // No array has an index that is not known when compiling, or it would not be in registers.
#pragma unroll
    for (int j = 0; j < kPieces<W>; ++j) {
      if (j == i) memcpy(&pieces[j], values, kPiece);
    }
  }
}

// Puts the pieces into a tile.
template <typename T, int W>
__device__ __forceinline__ void deposit(const int4 (&pieces)[kPieces<W>], unsigned char* tile, bool along_features) {
  if (!along_features) {
#pragma unroll
    for (int i = 0; i < kPieces<W>; ++i) {
      const Piece<T, W> piece(i, false);
      *reinterpret_cast<int4*>(&cell<T>(tile, piece.row, piece.position)) = pieces[i];
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kPieces<W>; ++i) {
    const Piece<T, W> piece(i, true);
    alignas(kPiece) T values[kVector<T>];
    memcpy(values, &pieces[i], kPiece);
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) cell<T>(tile, piece.row + k, piece.position) = values[k];
  }
}

// A thread's piece of a tile, as it is to lie in memory.
template <typename T, int W>
__device__ __forceinline__ int4 piece_of(unsigned char* tile, const Piece<T, W>& piece) {
  if (piece.positions) return *reinterpret_cast<const int4*>(&cell<T>(tile, piece.row, piece.position));
  alignas(kPiece) T values[kVector<T>];
#pragma unroll
  for (int k = 0; k < kVector<T>; ++k) values[k] = cell<T>(tile, piece.row + k, piece.position);
  int4 whole;
  memcpy(&whole, values, kPiece);
  return whole;
}

// Writes a tile to global memory.
template <typename T, int W>
__device__ __forceinline__ void store(unsigned char* tile, const Place<T>& to) {
  if (to.template whole<W>()) {
    const Piece<T, W> first(0, to.along_features);
    T* at = to.data + first.row * to.feature + first.position * to.position;
    const int64_t step = Piece<T, W>::step(to);
#pragma unroll
    for (int i = 0; i < kPieces<W>; ++i) {
      *reinterpret_cast<int4*>(at + i * step) = piece_of<T, W>(tile, Piece<T, W>(i, to.along_features));
    }
    return;
  }
#pragma unroll 1
  for (int i = 0; i < kPieces<W>; ++i) {
    const Piece<T, W> piece(i, to.along_features);
    T* at = to.data + piece.row * to.feature + piece.position * to.position;
    const int64_t step = to.along_features ? to.feature : to.position;
    const int4 whole = piece_of<T, W>(tile, piece);
    if (to.vector && piece.inside(to.features, to.count, kVector<T> - 1)) {
      *reinterpret_cast<int4*>(at) = whole;
      continue;
    }
    alignas(kPiece) T values[kVector<T>];
    memcpy(values, &whole, kPiece);
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
