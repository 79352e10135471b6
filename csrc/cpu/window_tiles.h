// What the kernels over sliding windows share: planes cut into tiles, rows of pixels with what lies beyond the border,
// and rings of rows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "common/windows.h"
#include "cpu/parallel.h"
#include "cpu/window_filter.h"

namespace iqazoo::cpu {

// A plane of pixels and its windows. Rows and columns of windows count from 0; so do coordinates of pixels that windows
// see, of which `margin` lie before the image: window i sees coordinates i .. i + size - 1.
struct Plane {
  int64_t height, width;   // of pixels
  int64_t rows, columns;   // of windows
  int64_t margin;          // coordinates before the image
  int size;                // of a window
  Padding padding;

  Plane(int64_t height, int64_t width, int size, Padding padding)
      : height(height), width(width), rows(windows_along(height, size, padding)),
        columns(windows_along(width, size, padding)), margin(margin_of(size, padding)), size(size), padding(padding) {}
};

struct Span {
  int64_t first, last;  // without the last
  int64_t count() const { return last - first; }
};

// `length` in parts of nearly equal size, at most `most` each.
inline int64_t parts_of(int64_t length, int64_t most) { return (length + most - 1) / most; }
inline Span part_of(int64_t length, int64_t parts, int64_t part) {
  return {length * part / parts, length * (part + 1) / parts};
}

// Planes cut into tiles, by their shape alone.
struct Tiling {
  int64_t height, width, bands, strips;

  Tiling(int64_t height, int64_t width, int64_t tallest, int64_t widest)
      : height(height), width(width), bands(parts_of(height, tallest)), strips(parts_of(width, widest)) {}
  int64_t tiles() const { return bands * strips; }
  Span band(int64_t tile) const { return part_of(height, bands, tile / strips); }
  Span strip(int64_t tile) const { return part_of(width, strips, tile % strips); }
};

// Runs work(task, room) for each task; `room` is the memory of `size` values that a thread works in, as the last task
// left it.
template <typename T, typename Work>
void in_rooms(int64_t tasks, int threads, int64_t size, const Work& work) {
  const int64_t workers = std::min<int64_t>(tasks, std::max(threads, 1));
  std::vector<std::vector<T>> rooms(workers, std::vector<T>(size));
  parallel_for(workers, threads, [&](int64_t worker) {
    const Span mine = part_of(tasks, workers, worker);
    for (int64_t task = mine.first; task < mine.last; ++task) work(task, rooms[worker].data());
  });
}

// Memory handed out piece by piece; without any, what it would take.
template <typename T>
class Room {
 public:
  explicit Room(T* start) : start_(start) {}
  T* take(int64_t count) {
    const int64_t from = taken_;
    taken_ += whole_vectors(count, 64 / sizeof(T));
    return start_ ? start_ + from : nullptr;
  }
  int64_t taken() const { return taken_; }

 private:
  T* start_;
  int64_t taken_ = 0;
};

// The latest rows of some quantities, in turn.
template <typename T>
struct Ring {
  T* data;
  int64_t capacity, stride;

  Ring(Room<T>& room, int quantities, int64_t capacity, int64_t stride)
      : data(room.take(quantities * capacity * stride)), capacity(capacity), stride(stride) {}
  T* at(int quantity, int64_t row) const { return data + (quantity * capacity + row % capacity) * stride; }
};

// Coordinates `span` of row `row` of a plane, both as windows see them; in `room` where not all are pixels.
template <typename T>
const T* padded_row(const T* pixels, const Plane& plane, int64_t row, Span span, T* room) {
  const int64_t pixel_row = pixel_at(row - plane.margin, plane.height, plane.padding);
  const int64_t left = span.first - plane.margin, right = span.last - plane.margin;
  if (pixel_row >= 0 && left >= 0 && right <= plane.width) return pixels + pixel_row * plane.width + left;
  if (pixel_row < 0) {
    std::fill_n(room, right - left, T(0));
    return room;
  }
  const T* row_of_pixels = pixels + pixel_row * plane.width;
  const auto outside = [&](int64_t first, int64_t last) {
    for (int64_t j = first; j < last; ++j) {
      const int64_t column = pixel_at(j, plane.width, plane.padding);
      room[j - left] = column < 0 ? T(0) : row_of_pixels[column];
    }
  };
  const int64_t from = std::max<int64_t>(left, 0), to = std::min(right, plane.width);
  outside(left, std::min<int64_t>(right, 0));
  std::copy(row_of_pixels + from, row_of_pixels + to, room + (from - left));
  outside(std::max(left, plane.width), right);
  return room;
}

// About the middle of some values: for a region that is mostly flat, its value. Not finite ones count as zeros.
template <typename T>
T middle(T* values, int count) {
  for (int i = 0; i < count; ++i) values[i] = std::isfinite(values[i]) ? values[i] : T(0);
  std::nth_element(values, values + count / 2, values + count);
  return values[count / 2];
}

constexpr int kSamplesAlong = 5;

// The middles of f(x, y) and g(x, y) over samples of what the windows of a tile see.
template <typename T, typename F, typename G>
void sample(const T* x, const T* y, const Plane& plane, Span band, Span strip, const F& f, const G& g, T* middles) {
  constexpr int kSamples = kSamplesAlong * kSamplesAlong;
  T first[kSamples], second[kSamples];
  const auto pixel = [](Span span, int step, int64_t margin, int size, int64_t side) {
    const int64_t at = span.first + (span.count() + size - 2) * step / (kSamplesAlong - 1) - margin;
    return std::min(std::max<int64_t>(at, 0), side - 1);
  };
  for (int i = 0; i < kSamples; ++i) {
    const int64_t row = pixel(band, i / kSamplesAlong, plane.margin, plane.size, plane.height);
    const int64_t column = pixel(strip, i % kSamplesAlong, plane.margin, plane.size, plane.width);
    const T a = x[row * plane.width + column], b = y[row * plane.width + column];
    first[i] = f(a, b);
    second[i] = g(a, b);
  }
  middles[0] = middle(first, kSamples);
  middles[1] = middle(second, kSamples);
}

}  // namespace iqazoo::cpu
