// Tiles of linear attention: a few positions of one head, all features, in the cache. A tile is [features][kBlock],
// positions adjacent; a turned one [positions][features]. Features are padded to a multiple of kPad with zeros,
// positions to one of the vectors' lanes. Memory that has a tile's form is used where it lies.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <new>

#include "cpu/linear_attention_head.h"
#include "cpu/products.h"

namespace iqazoo::cpu::tiles {

template <typename T>
inline int64_t vectors_of(int64_t count) {
  return (count + kWide<T> - 1) / kWide<T>;
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
      if (r + n <= rows && c + n <= columns) {
        turn_square(from + r * from_step + c, from_step, to + c * to_step + r, to_step);
        continue;
      }
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

// Writes the first `count` positions of a tile; `past_caches` where the whole tensor is too large for them. Positions
// in rows one after the other stay: fresh memory is in the caches already, as the system has just filled it with zeros.
template <typename T>
void store_tile(const T* tile, int64_t count, int64_t features, bool past_caches, const Head<T>& to) {
  constexpr int64_t n = kWide<T>;
  if (to.position == 1) {
    for (int64_t f = 0; f < features; ++f) copy_out(tile + f * kBlock, count, past_caches, to.data + f * to.feature);
    return;
  }
  for (int64_t p = 0; p < count; p += n) {
    for (int64_t f = 0; f < features; f += n) {
      if (p + n <= count && f + n <= features) {
        turn_square(tile + f * kBlock + p, kBlock, to.data + p * to.position + f, to.position);
        continue;
      }
      Pack<T> square[n];
      for (int64_t i = 0; i < n; ++i) square[i] = load(tile + (f + i) * kBlock + p);
      transpose(square);
      for (int64_t i = 0; i < std::min(n, count - p); ++i) {
        const T* row = reinterpret_cast<const T*>(&square[i]);
        copy_row(row, std::min(n, features - f), to.data + (p + i) * to.position + f);
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

// The same in memory.
template <typename T>
void hide(const bool* mask, int64_t count, int64_t features, T value, const Head<T>& head) {
  for (int64_t n = 0; mask != nullptr && n < count; ++n) {
    for (int64_t f = 0; !mask[n] && f < features; ++f) head.data[n * head.position + f * head.feature] = value;
  }
}

template <typename T>
void hide_turned(const bool* mask, int64_t count, int64_t features, T* turned) {
  for (int64_t n = 0; mask != nullptr && n < count; ++n) {
    if (!mask[n]) std::fill_n(turned + n * padded(features), features, T(0));
  }
}

// Whether memory has the form of a whole tile, or of a turned one.
template <typename T>
inline bool is_tile(const Head<T>& head, int64_t count, int64_t features) {
  return head.position == 1 && count == kBlock && features == padded(features);
}

template <typename T>
inline bool is_turned(const Head<T>& head, int64_t features) {
  return head.feature == 1 && features == padded(features);
}

// As load_tile and load_turned, but memory of that form is copied to `room` only where `copied`: to be written to.
template <typename T>
Given<T> tile_of(const Head<T>& from, int64_t count, int64_t features, T rest, T* room, bool copied = false) {
  if (!copied && is_tile(from, count, features)) return {from.data, from.feature};
  load_tile(from, count, features, rest, room);
  return {room, kBlock};
}

template <typename T>
Given<T> turned_of(const Head<T>& from, int64_t count, int64_t features, T* room, bool copied = false) {
  if (!copied && is_turned(from, features)) return {from.data, from.position};
  load_turned(from, count, features, room);
  return {room, padded(features)};
}

inline int64_t up_to(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

// Where rows of results go: straight to memory that has their form, or to `room`, from where `finish` takes them.
template <typename T>
struct TileTarget {
  Head<T> to;
  int64_t count, features;
  bool past_caches, straight;
  Rows<T> rows;

  TileTarget(const Head<T>& to, int64_t count, int64_t features, bool past_caches, T* room)
      : to(to), count(count), features(features), past_caches(past_caches), straight(is_tile(to, count, features)),
        rows(straight ? Rows<T>{to.data, to.feature} : Rows<T>{room, kBlock}) {}

  // Whether results may pass the caches: whole vectors to aligned rows.
  bool streams() const {
    return straight && past_caches && can_stream(to.data) && to.feature % kWide<T> == 0;
  }
  void finish() const {
    if (!straight) store_tile(rows.data, count, features, past_caches, to);
  }
};

template <typename T>
inline Into into_of(const TileTarget<T>& target) {
  return target.streams() ? Into::stream : Into::set;
}

// The same for turned rows.
template <typename T>
struct TurnedTarget {
  Head<T> to;
  int64_t count, features;
  bool straight;
  Rows<T> rows;

  TurnedTarget(const Head<T>& to, int64_t count, int64_t features, T* room)
      : to(to), count(count), features(features), straight(count == kBlock),
        rows(straight ? Rows<T>{to.data, to.position} : Rows<T>{room, features}) {}

  void finish() const {
    for (int64_t n = 0; !straight && n < count; ++n) {
      copy_row(rows.data + n * features, features, to.data + n * to.position);
    }
  }
};

}  // namespace iqazoo::cpu::tiles
