#include "cpu/windowed_moments.h"

#include "cpu/filtered_rows.h"
#include "cpu/gradient_rows.h"

namespace iqazoo::cpu {
namespace {

constexpr int64_t kTallest = 128, kWidest = 256;  // a tile, in windows or in pixels
constexpr int kMoments = 5, kMaps = 5;

template <typename T>
struct Pivots {
  T x, y;
};

template <typename T>
Pivots<T> pivots_of(const T* x, const T* y, const Plane& plane, Span band, Span strip) {
  T middles[2];
  sample(x, y, plane, band, strip, [](T a, T) { return a; }, [](T, T b) { return b; }, middles);
  return {middles[0], middles[1]};
}

template <typename T>
struct Products {
  static constexpr int kCount = kMoments;
  Pivots<T> pivots;

  void operator()(const T* __restrict__ x, const T* __restrict__ y, int64_t count, T* const* rows) const {
    T *__restrict__ first = rows[0], *__restrict__ second = rows[1], *__restrict__ xx = rows[2];
    T *__restrict__ yy = rows[3], *__restrict__ xy = rows[4];
    const T pivot_x = pivots.x, pivot_y = pivots.y;
    for (int64_t j = 0; j < count; ++j) {
      const T a = x[j] - pivot_x, b = y[j] - pivot_y;
      first[j] = a;
      second[j] = b;
      xx[j] = a * a;
      yy[j] = b * b;
      xy[j] = a * b;
    }
  }
};

// What the gradient needs of a window: its means.
template <typename T>
struct Means {
  static constexpr int kCount = 2;
  Pivots<T> pivots;

  void operator()(const T* __restrict__ x, const T* __restrict__ y, int64_t count, T* const* rows) const {
    T *__restrict__ first = rows[0], *__restrict__ second = rows[1];
    const T pivot_x = pivots.x, pivot_y = pivots.y;
    for (int64_t j = 0; j < count; ++j) {
      first[j] = x[j] - pivot_x;
      second[j] = y[j] - pivot_y;
    }
  }
};

template <typename T>
inline T not_negative(T value) {  // a NaN stays
  return value < 0 ? T(0) : value;
}

// Every kStride-th window of a row, or every `stride`-th where kStride is 0.
template <int kStride, typename T>
void write_moments(const T* __restrict__ filtered, int64_t rows_apart, int64_t stride, int64_t count,
                   const Pivots<T>& pivots, const WindowedMoments<T*>& results, int64_t at) {
  T *__restrict__ mean_x = results.mean_x + at, *__restrict__ mean_y = results.mean_y + at;
  T *__restrict__ var_x = results.var_x + at, *__restrict__ var_y = results.var_y + at;
  T* __restrict__ cov = results.cov + at;
  const T pivot_x = pivots.x, pivot_y = pivots.y;
  for (int64_t j = 0; j < count; ++j) {
    const T* m = filtered + j * (kStride ? kStride : stride);
    const T a = m[0], b = m[rows_apart];
    mean_x[j] = a + pivot_x;
    mean_y[j] = b + pivot_y;
    var_x[j] = not_negative(m[2 * rows_apart] - a * a);
    var_y[j] = not_negative(m[3 * rows_apart] - b * b);
    cov[j] = m[4 * rows_apart] - a * b;
  }
}

template <typename T>
struct Forward {
  const T *x, *y;
  WindowedMoments<T*> results;
  int64_t stride, rows, columns;  // of the results
  Plane plane;
  Weights<T> weights;
};

template <int kTaps, typename T>
void tile_moments(const Forward<T>& call, int64_t plane_index, Span band, Span strip, Room<T> room) {
  const Plane& plane = call.plane;
  const T* x = call.x + plane_index * plane.height * plane.width;
  const T* y = call.y + plane_index * plane.height * plane.width;
  const int64_t stride = call.stride;
  const Span rows{band.first * stride, (band.last - 1) * stride + 1};
  const Span columns{strip.first * stride, (strip.last - 1) * stride + 1};
  const Pivots<T> pivots = pivots_of(x, y, plane, rows, columns);
  FilteredRows<T, Products<T>> filtered(room, plane, columns.count());
  filtered.begin(x, y, {pivots}, rows.first, columns);
  int64_t from = rows.first - kRowsAtOnce;
  for (int64_t i = band.first; i < band.last; ++i) {
    if (i * stride >= from + kRowsAtOnce) {
      from = i * stride;
      filtered.template filter<kTaps>(from, call.weights);
    }
    const T* found = filtered.template row<kTaps>(static_cast<int>(i * stride - from), call.weights);
    const int64_t at = (plane_index * call.rows + i) * call.columns + strip.first;
    const auto write = stride == 1 ? write_moments<1, T> : write_moments<0, T>;
    write(found, filtered.stride(), stride, strip.count(), pivots, call.results, at);
  }
}

template <int kTaps, typename T>
void all_moments(const Forward<T>& call, int64_t planes, int threads) {
  const int64_t widest = std::max<int64_t>(kWidest / call.stride, 1);
  const Tiling tiling(call.rows, call.columns, kTallest, widest);
  Room<T> room(nullptr);
  const FilteredRows<T, Products<T>> rows(room, call.plane, (std::min(widest, call.columns) - 1) * call.stride + 1);
  const int64_t tiles = tiling.tiles();
  in_rooms<T>(planes * tiles, threads, room.taken() + 64, [&](int64_t task, T* memory) {
    const int64_t tile = task % tiles;
    tile_moments<kTaps>(call, task / tiles, tiling.band(tile), tiling.strip(tile), Room<T>(memory));
  });
}

template <typename T>
struct Backward {
  const T *x, *y;
  WindowedMoments<const T*> incoming;
  T *grad_x, *grad_y;
  int64_t stride, rows, columns;  // of the results
  Plane plane;
  Weights<T> weights;
};

// The slopes of a row of windows from `column` on, every one of which has a result if stride is 1.
template <typename T>
void write_slopes(const T* means, int64_t rows_apart, int64_t column, int64_t count, int64_t stride,
                  const WindowedMoments<const T*>& incoming, int64_t at, T* const* rows) {
  if (stride > 1) {
    for (int map = 0; map < kMaps; ++map) std::fill_n(rows[map], count, T(0));
  }
  const int64_t first = (column + stride - 1) / stride;
  for (int64_t to = first * stride - column, from = at + first; to < count; to += stride, ++from) {
    const T a = means[to], b = means[to + rows_apart];
    const T for_xx = 2 * incoming.var_x[from], for_yy = 2 * incoming.var_y[from], for_xy = incoming.cov[from];
    rows[0][to] = incoming.mean_x[from] - a * for_xx - b * for_xy;
    rows[1][to] = incoming.mean_y[from] - b * for_yy - a * for_xy;
    rows[2][to] = for_xx;
    rows[3][to] = for_yy;
    rows[4][to] = for_xy;
  }
}

// gradient = means + (own - pivot) * squares + (other - pivot) * products for a row of pixels.
template <typename T>
void write_gradient(const T* __restrict__ own, const T* __restrict__ other, T pivot_own, T pivot_other,
                    const T* __restrict__ means, const T* __restrict__ squares, const T* __restrict__ products,
                    int64_t count, T* __restrict__ gradient) {
  for (int64_t j = 0; j < count; ++j) {
    gradient[j] = means[j] + (own[j] - pivot_own) * squares[j] + (other[j] - pivot_other) * products[j];
  }
}

template <int kTaps, typename T>
class Tile {
 public:
  Tile(const Backward<T>& call, Room<T>& room, int64_t columns)
      : call_(call), means_(room, call.plane, columns + call.plane.size - 1), slopes_(room, call.plane, columns) {}

  void run(int64_t plane_index, Span band, Span strip) {
    const Plane& plane = call_.plane;
    plane_index_ = plane_index;
    strip_ = strip;
    x_ = call_.x + plane_index * plane.height * plane.width;
    y_ = call_.y + plane_index * plane.height * plane.width;
    const Span rows = slopes_.begin(band, strip);
    pivots_ = pivots_of(x_, y_, plane, rows, slopes_.columns());
    means_.begin(x_, y_, {pivots_}, rows.first, slopes_.columns());
    int64_t next = rows.first;
    for (int64_t i = band.first; i < band.last; i += kRowsAtOnce) {
      const int64_t needed = std::min(i + kRowsAtOnce + plane.margin, rows.last);
      for (; next < needed; next += kRowsAtOnce) windows(next, std::min(next + kRowsAtOnce, rows.last));
      pixels(i, std::min(i + kRowsAtOnce, band.last));
    }
  }

 private:
  void windows(int64_t first, int64_t last) {
    means_.template filter<kTaps>(first, call_.weights);
    const Span columns = slopes_.columns();
    for (int64_t i = first; i < last; ++i) {
      T* rows[kMaps];
      for (int map = 0; map < kMaps; ++map) rows[map] = slopes_.row(map, i);
      if (i % call_.stride) {
        for (T* row : rows) std::fill_n(row, columns.count(), T(0));
        continue;
      }
      const T* means = means_.template row<kTaps>(static_cast<int>(i - first), call_.weights);
      const int64_t at = (plane_index_ * call_.rows + i / call_.stride) * call_.columns;
      write_slopes(means, means_.stride(), columns.first, columns.count(), call_.stride, call_.incoming, at, rows);
    }
  }

  void pixels(int64_t first, int64_t last) {
    const bool for_x = call_.grad_x, for_y = call_.grad_y;
    const bool wanted[kMaps] = {for_x, for_y, for_x, for_y, true};
    for (int map = 0; map < kMaps; ++map) {
      if (wanted[map]) slopes_.template filter<kTaps>(map, first, last, call_.weights);
    }
    for (int64_t i = first; i < last; ++i) {
      const T* found[kMaps] = {};
      for (int map = 0; map < kMaps; ++map) {
        if (wanted[map]) found[map] = slopes_.template result<kTaps>(map, static_cast<int>(i - first), call_.weights);
      }
      const int64_t at = i * call_.plane.width + strip_.first;
      const int64_t to = plane_index_ * call_.plane.height * call_.plane.width + at;
      const int64_t count = strip_.count();
      const T *x = x_ + at, *y = y_ + at;
      if (for_x) write_gradient(x, y, pivots_.x, pivots_.y, found[0], found[2], found[4], count, call_.grad_x + to);
      if (for_y) write_gradient(y, x, pivots_.y, pivots_.x, found[1], found[3], found[4], count, call_.grad_y + to);
    }
  }

  const Backward<T>& call_;
  FilteredRows<T, Means<T>> means_;
  GradientRows<T, kMaps> slopes_;
  const T *x_ = nullptr, *y_ = nullptr;
  int64_t plane_index_ = 0;
  Span strip_{0, 0};
  Pivots<T> pivots_{};
};

template <int kTaps, typename T>
void all_gradients(const Backward<T>& call, int64_t planes, int threads) {
  const Tiling tiling(call.plane.height, call.plane.width, kTallest, kWidest);
  Room<T> nothing(nullptr);
  const Tile<kTaps, T> largest(call, nothing, std::min(kWidest, call.plane.width));
  const int64_t tiles = tiling.tiles();
  in_rooms<T>(planes * tiles, threads, nothing.taken() + 64, [&](int64_t task, T* memory) {
    Room<T> room(memory);
    const int64_t tile = task % tiles;
    const Span strip = tiling.strip(tile);
    Tile<kTaps, T>(call, room, strip.count()).run(task / tiles, tiling.band(tile), strip);
  });
}

}  // namespace

template <typename T>
void windowed_moments_forward(const T* x, const T* y, const WindowedMoments<T*>& results, const WindowedShape& shape,
                              int threads) {
  const Plane plane(shape.height, shape.width, shape.window, shape.padding);
  const Weights<T> weights(make_taps<T>(shape.window, shape.sigma));
  const int64_t rows = (plane.rows - 1) / shape.stride + 1, columns = (plane.columns - 1) / shape.stride + 1;
  const Forward<T> call{x, y, results, shape.stride, rows, columns, plane, weights};
  const auto run = shape.window == 11 ? all_moments<11, T> : all_moments<0, T>;
  run(call, shape.batch * shape.channels, threads);
}

template <typename T>
void windowed_moments_backward(const T* x, const T* y, const WindowedMoments<const T*>& incoming, T* grad_x, T* grad_y,
                               const WindowedShape& shape, int threads) {
  const Plane plane(shape.height, shape.width, shape.window, shape.padding);
  const Weights<T> weights(make_taps<T>(shape.window, shape.sigma));
  const int64_t rows = (plane.rows - 1) / shape.stride + 1, columns = (plane.columns - 1) / shape.stride + 1;
  const Backward<T> call{x, y, incoming, grad_x, grad_y, shape.stride, rows, columns, plane, weights};
  const auto run = shape.window == 11 ? all_gradients<11, T> : all_gradients<0, T>;
  run(call, shape.batch * shape.channels, threads);
}

#define IQAZOO_INSTANTIATE(T)                                                                                        \
  template void windowed_moments_forward(const T*, const T*, const WindowedMoments<T*>&, const WindowedShape&, int); \
  template void windowed_moments_backward(const T*, const T*, const WindowedMoments<const T*>&, T*, T*,              \
                                          const WindowedShape&, int);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cpu
