// Tiles of linear attention: a few positions of one head, all features, in the cache. Both layouts become one here, so
// results do not depend on it. A tile is [features][kBlock], positions adjacent; a turned one [positions][features].
// Features are padded to a multiple of kPad with zeros, positions to one of the vectors' lanes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <new>

#include "common/linear_attention.h"
#include "cpu/wide.h"

namespace iqazoo::cpu::tiles {

constexpr int64_t kBlock = 64;
constexpr int64_t kPad = 16;  // no fewer than the lanes of the widest vector, and a multiple of kRows

inline int64_t padded(int64_t features) { return (features + kPad - 1) / kPad * kPad; }

template <typename T>
inline int64_t vectors_of(int64_t count) {
  return (count + kWide<T> - 1) / kWide<T>;
}

// Where the positions of one head lie. One of the strides is 1.
template <typename T>
struct Head {
  T* data;
  int64_t position, feature;

  Head from(int64_t first) const { return {data + first * position, position, feature}; }
};

template <typename T>
inline Head<T> head_of(const linear_attention::View<T>& view, int64_t batch, int64_t head) {
  return {view.data + batch * view.batch + head * view.head, view.position, view.feature};
}

// Memory for the tiles of one task. Each thread keeps its own, for the next task and the next call.
template <typename T>
class Room {
 public:
  explicit Room(int64_t size) {
    thread_local struct Owner {
      T* data = nullptr;
      int64_t size = 0;
      ~Owner() { std::free(data); }
    } owner;
    if (owner.size < size) {
      std::free(owner.data);
      owner.size = 0;
      owner.data = static_cast<T*>(std::aligned_alloc(64, (size * sizeof(T) + 63) / 64 * 64));
      if (owner.data == nullptr) std::abort();
      owner.size = size;
    }
    next_ = owner.data;
  }

  // Room for `size` numbers, a multiple of kPad.
  T* take(int64_t size) {
    T* taken = next_;
    next_ += size;
    return taken;
  }

 private:
  T* next_;
};

// to[c][r] = from[r][c] in whole squares of vectors: zeros for r from `rows` to a multiple, and for c likewise up to
// `to_rows`.
template <typename T>
void turn(const T* from, int64_t from_step, int64_t rows, int64_t columns, T* to, int64_t to_step, int64_t to_rows) {
  constexpr int64_t n = kWide<T>;
  for (int64_t c = 0; c < to_rows; c += n) {
    for (int64_t r = 0; r < rows; r += n) {
      Pack<T> square[n];
      for (int64_t i = 0; i < n; ++i) {
        const T* row = from + (r + i) * from_step + c;
        if (r + i < rows && c + n <= columns) {
          square[i] = load(row);
        } else {
          square[i] = Pack<T>{};
          if (r + i < rows && c < columns) std::memcpy(&square[i], row, (columns - c) * sizeof(T));
        }
      }
      transpose(square);
      for (int64_t i = 0; i < n; ++i) store(to + (c + i) * to_step + r, square[i]);
    }
  }
}

// Copies a row of a tile: so short that a call of memcpy would take longest.
template <typename T>
inline void copy_row(const T* from, int64_t count, T* to) {
  int64_t i = 0;
  for (; i + kWide<T> <= count; i += kWide<T>) store(to + i, load(from + i));
  if (i < count) std::memcpy(to + i, from + i, (count - i) * sizeof(T));
}

// The first `count` positions as a tile; `rest` for positions beyond them, of features that exist.
template <typename T>
void load_tile(const Head<T>& from, int64_t count, int64_t features, T rest, T* tile) {
  const int64_t width = vectors_of<T>(count) * kWide<T>;
  if (from.position == 1) {
    for (int64_t f = 0; f < features; ++f) copy_row(from.data + f * from.feature, count, tile + f * kBlock);
  } else {
    turn(from.data, from.position, count, features, tile, kBlock, padded(features));
  }
  for (int64_t f = 0; count < width && f < features; ++f) {
    std::fill(tile + f * kBlock + count, tile + f * kBlock + width, rest);
  }
  for (int64_t f = features; f < padded(features); ++f) std::fill_n(tile + f * kBlock, width, T(0));
}

// The first `count` positions, turned; those beyond are not to be read.
template <typename T>
void load_turned(const Head<T>& from, int64_t count, int64_t features, T* turned) {
  const int64_t step = padded(features);
  if (from.position == 1 && from.feature != 1) {
    turn(from.data, from.feature, features, count, turned, step, vectors_of<T>(count) * kWide<T>);
  } else {
    for (int64_t n = 0; n < count; ++n) copy_row(from.data + n * from.position, features, turned + n * step);
  }
  for (int64_t n = 0; features < step && n < count; ++n) {
    std::fill(turned + n * step + features, turned + (n + 1) * step, T(0));
  }
}

// Both, from one reading of memory.
template <typename T>
void load_both(const Head<T>& from, int64_t count, int64_t features, T* tile, T* turned) {
  const int64_t size = padded(features);
  if (from.position == 1) {
    load_tile(from, count, features, T(0), tile);
    turn(tile, kBlock, size, vectors_of<T>(count) * kWide<T>, turned, size, vectors_of<T>(count) * kWide<T>);
  } else {
    load_turned(from, count, features, turned);
    turn(turned, size, count, size, tile, kBlock, size);
  }
}

// The same, in whole vectors past the caches where `past_caches`.
template <typename T>
inline void copy_out(const T* from, int64_t count, bool past_caches, T* to) {
  if (!past_caches || !can_stream(to)) return copy_row(from, count, to);
  int64_t i = 0;
  for (; i + kWide<T> <= count; i += kWide<T>) stream(to + i, load(from + i));
  copy_row(from + i, count - i, to + i);
}

// Writes the first `count` positions of a tile; `past_caches` where the whole tensor is too large for them.
template <typename T>
void store_tile(const T* tile, int64_t count, int64_t features, bool past_caches, const Head<T>& to) {
  constexpr int64_t n = kWide<T>;
  if (to.position == 1) {
    for (int64_t f = 0; f < features; ++f) copy_out(tile + f * kBlock, count, past_caches, to.data + f * to.feature);
    return;
  }
  for (int64_t p = 0; p < count; p += n) {
    for (int64_t f = 0; f < features; f += n) {
      Pack<T> square[n];
      for (int64_t i = 0; i < n; ++i) square[i] = load(tile + (f + i) * kBlock + p);
      transpose(square);
      for (int64_t i = 0; i < std::min(n, count - p); ++i) {
        const T* row = reinterpret_cast<const T*>(&square[i]);
        copy_out(row, std::min(n, features - f), past_caches, to.data + (p + i) * to.position + f);
      }
    }
  }
}

// `value` at the positions that the mask hides.
template <typename T>
void hide(const bool* mask, int64_t count, int64_t features, T value, T* tile) {
  for (int64_t n = 0; mask != nullptr && n < count; ++n) {
    for (int64_t f = 0; !mask[n] && f < features; ++f) tile[f * kBlock + n] = value;
  }
}

template <typename T>
void hide_turned(const bool* mask, int64_t count, int64_t features, T* turned) {
  for (int64_t n = 0; mask != nullptr && n < count; ++n) {
    if (!mask[n]) std::fill_n(turned + n * padded(features), features, T(0));
  }
}

// The memory that the next tiles will be loaded from, to be fetched while these are computed with: hardware follows
// neither as many rows nor from page to page. Addresses past the end do no harm.
template <typename T>
struct Ahead {
  struct Area {
    const char* data = nullptr;
    int64_t step = 0, rows = 0, bytes = 0;
  };
  Area areas[2];

  Ahead() = default;
  static Area area(const Head<T>& from, int64_t features) {
    const auto* data = reinterpret_cast<const char*>(from.data);
    constexpr auto size = static_cast<int64_t>(sizeof(T));
    if (from.position == 1) return {data, from.feature * size, features, kBlock * size};
    return {data, from.position * size, kBlock, features * size};
  }

  // Fetches the part `i` of `of`.
  void fetch(int64_t i, int64_t of) const {
    for (const Area& area : areas) {
      for (int64_t row = area.rows * i / of; row < area.rows * (i + 1) / of; ++row) {
        for (int64_t at = 0; at < area.bytes; at += 64) __builtin_prefetch(area.data + row * area.step + at, 0, 2);
      }
    }
  }
};

// Products. A is a(i, k), given by rows (a[i * step + k]) or by columns (a[i + k * step]); B has rows b[k].

enum class By { rows, columns };

#if defined(__AVX512F__)
constexpr int kRows = 8;  // 16 sums and 2 rows of B in 32 registers
#else
constexpr int kRows = 4;  // 8 sums and 2 rows of B in 16 registers
#endif

template <By by, int J, typename T>
inline void product_block(const T* __restrict__ a, int64_t a_step, const T* __restrict__ b, int64_t b_step,
                          T* __restrict__ to, int64_t to_step, int64_t depth, bool add) {
  Pack<T> sums[kRows][J];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < J; ++j) sums[i][j] = add ? load(to + i * to_step + j * kWide<T>) : Pack<T>{};
  }
  for (int64_t k = 0; k < depth; ++k) {
    Pack<T> row[J];
    for (int j = 0; j < J; ++j) row[j] = load(b + k * b_step + j * kWide<T>);
    for (int i = 0; i < kRows; ++i) {
      const T factor = by == By::rows ? a[i * a_step + k] : a[i + k * a_step];
      for (int j = 0; j < J; ++j) sums[i][j].v += factor * row[j].v;
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < J; ++j) store(to + i * to_step + j * kWide<T>, sums[i][j]);
  }
}

// to (+)= A B for `rows` rows, a multiple of kRows, and `vectors` vectors of columns.
template <By by, typename T>
void product(const T* a, int64_t a_step, const T* b, int64_t b_step, T* to, int64_t to_step, int64_t rows,
             int64_t vectors, int64_t depth, bool add, const Ahead<T>& ahead = {}) {
  const int64_t blocks = rows / kRows * ((vectors + 1) / 2);
  int64_t block = 0;
  for (int64_t j = 0; j < vectors; j += 2) {
    for (int64_t i = 0; i < rows; i += kRows) {
      ahead.fetch(block++, blocks);
      const T* part = by == By::rows ? a + i * a_step : a + i;
      T* out = to + i * to_step + j * kWide<T>;
      if (j + 1 < vectors) {
        product_block<by, 2>(part, a_step, b + j * kWide<T>, b_step, out, to_step, depth, add);
      } else {
        product_block<by, 1>(part, a_step, b + j * kWide<T>, b_step, out, to_step, depth, add);
      }
    }
  }
}

// Maps, of whole tiles in place.

template <int J, typename T>
inline void softmax_columns(T* tile, int64_t features, T scale) {
  Pack<T> most[J], sum[J];
  for (int j = 0; j < J; ++j) most[j] = load(tile + j * kWide<T>), sum[j] = Pack<T>{};
  for (int64_t f = 1; f < features; ++f) {
    for (int j = 0; j < J; ++j) most[j] = greater(load(tile + f * kBlock + j * kWide<T>), most[j]);
  }
  for (int64_t f = 0; f < features; ++f) {
    for (int j = 0; j < J; ++j) {
      T* at = tile + f * kBlock + j * kWide<T>;
      const Pack<T> y = exp_of(Pack<T>{load(at).v - most[j].v});
      store(at, y);
      sum[j].v += y.v;
    }
  }
  for (int j = 0; j < J; ++j) sum[j].v = scale / sum[j].v;
  for (int64_t f = 0; f < features; ++f) {
    for (int j = 0; j < J; ++j) {
      T* at = tile + f * kBlock + j * kWide<T>;
      store(at, Pack<T>{load(at).v * sum[j].v});
    }
  }
}

// exp(x - greatest over features), divided by its sum and multiplied by `scale`.
template <typename T>
void softmax_features(T* tile, int64_t vectors, int64_t features, T scale) {
  int64_t j = 0;
  for (; j + 4 <= vectors; j += 4) softmax_columns<4>(tile + j * kWide<T>, features, scale);
  for (; j < vectors; ++j) softmax_columns<1>(tile + j * kWide<T>, features, scale);
}

template <typename T>
void scale_tile(T* tile, int64_t vectors, int64_t features, T scale) {
  for (int64_t f = 0; f < features; ++f) {
    for (int64_t j = 0; j < vectors * kWide<T>; ++j) tile[f * kBlock + j] *= scale;
  }
}

template <typename T>
void elu1_tile(T* tile, int64_t vectors, int64_t features) {
  for (int64_t f = 0; f < features; ++f) {
    for (int64_t j = 0; j < vectors; ++j) {
      T* at = tile + f * kBlock + j * kWide<T>;
      const Pack<T> x = load(at), y = exp_of(x);
      store(at, Pack<T>{x.v > T(0) ? x.v + T(1) : y.v});
    }
  }
}

// exp(x - shift[feature]).
template <typename T>
void exp_below(T* tile, int64_t vectors, int64_t features, const T* shift) {
  for (int64_t f = 0; f < features; ++f) {
    for (int64_t j = 0; j < vectors; ++j) {
      T* at = tile + f * kBlock + j * kWide<T>;
      store(at, exp_of(Pack<T>{load(at).v - shift[f]}));
    }
  }
}

}  // namespace iqazoo::cpu::tiles
