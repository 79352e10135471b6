#include "cpu/gradient_rows.h"
#include "cpu/ssim_pool.h"
#include "cpu/ssim_rows.h"

namespace iqazoo::cpu {
namespace {

constexpr int64_t kTallest = 128, kWidest = 256;  // a tile, in pixels

template <typename T>
struct Call {
  const T *x, *y;
  SsimMask mask;
  SsimResults<const T*> incoming;
  T *index, *grad_x, *grad_y;
  SsimShape shape;
  Plane plane;
  Weights<T> weights;
};

// What the terms of the windows in one row are worth: the same for all, or one by one.
template <typename T>
struct Worth {
  const T *index, *structure;  // null: as below
  T all_index, all_structure;
  const uint8_t* counted;  // null: all count
};

// Maps to be filtered back: slopes of the means for x and for y, `first` and `second`, and of the squares.
template <bool kMapped, typename T>
inline void write_slopes(const T* __restrict__ moments, int64_t stride, int64_t count, const ssim::Constants<T>& c,
                         const Worth<T>& worth, T* __restrict__ index, T* __restrict__ first, T* __restrict__ second,
                         T* __restrict__ ss, T* __restrict__ ee) {
  const ssim::Constants<T> constants = c;
  const T *by_index = worth.index, *by_structure = worth.structure;
  const T all_index = worth.all_index, all_structure = worth.all_structure;
  for (int64_t j = 0; j < count; ++j) {
    const ssim::Moments<T> m = moments_at(moments, stride, j);
    const ssim::Quotients<T> q = ssim::quotients(m, constants);
    const T for_index = kMapped && by_index ? by_index[j] : all_index;
    const T for_structure = kMapped && by_structure ? by_structure[j] : all_structure;
    const ssim::Slopes<T> slope = ssim::slopes(m, q, for_index, for_structure);
    index[j] = ssim::terms(q).index;
    first[j] = slope.s + slope.e;
    second[j] = slope.s - slope.e;
    ss[j] = slope.ss;
    ee[j] = slope.ee;
  }
}

template <typename T>
Worth<T> worth_of(const Call<T>& call, int64_t plane_index, int64_t row, int64_t column) {
  const Plane& plane = call.plane;
  const int64_t image = plane_index / call.shape.channels;
  const T *index = call.incoming.index, *structure = call.incoming.structure;
  Worth<T> worth{nullptr, nullptr, T(0), T(0), nullptr};
  if (call.shape.reduction == ssim::Reduction::kMap) {
    const int64_t at = (plane_index * plane.rows + row) * plane.columns + column;
    worth.index = index ? index + at : nullptr;
    worth.structure = structure ? structure + at : nullptr;
    return worth;
  }
  const bool by_image = call.shape.reduction == ssim::Reduction::kImage;
  const int64_t result = by_image ? image : plane_index;
  const int64_t windows = call.mask.counts ? call.mask.counts[image] : plane.rows * plane.columns;
  const double share = 1 / static_cast<double>(windows * (by_image ? call.shape.channels : 1));
  if (index) worth.all_index = static_cast<T>(index[result] * share);
  if (structure) worth.all_structure = static_cast<T>(structure[result] * share);
  if (call.mask.counted) worth.counted = call.mask.counted + (image * plane.rows + row) * plane.columns + column;
  return worth;
}

template <typename T>
void leave_out(const uint8_t* counted, int64_t count, T* slopes) {
  for (int64_t j = 0; j < count; ++j) slopes[j] = counted[j] ? slopes[j] : T(0);
}

// gradient = means + s * squares_s + e * squares_e for a row of pixels.
template <typename T>
inline void write_gradient(const T* __restrict__ x, const T* __restrict__ y, const ssim::Constants<T>& c, T sign,
                           const T* __restrict__ means, const T* __restrict__ ss, const T* __restrict__ ee,
                           int64_t count, T* __restrict__ gradient) {
  const T pivot_s = c.pivot_s, pivot_e = c.pivot_e;
  for (int64_t j = 0; j < count; ++j) {
    const T s = x[j] + y[j] - pivot_s, e = sign * (x[j] - y[j] - pivot_e);
    gradient[j] = means[j] + s * ss[j] + e * ee[j];
  }
}

// One tile of pixels: the windows that see it are computed row by row, and their slopes filtered back.
template <int kTaps, typename T>
class Tile {
 public:
  Tile(const Call<T>& call, Room<T>& room, int64_t columns)
      : call_(call),
        moments_(room, call.plane, columns + call.plane.size - 1),
        slopes_(room, call.plane, columns),
        terms_(room.take(moments_.stride())) {}

  double run(int64_t plane_index, Span band, Span strip) {
    const Plane& plane = call_.plane;
    plane_index_ = plane_index;
    band_ = band;
    strip_ = strip;
    x_ = call_.x + plane_index * plane.height * plane.width;
    y_ = call_.y + plane_index * plane.height * plane.width;
    const Span rows = slopes_.begin(band, strip);
    const Span columns = slopes_.columns();
    constants_ = ssim_constants(x_, y_, plane, rows, columns, call_.shape);
    moments_.begin(x_, y_, {constants_}, rows.first, columns);
    sum_ = 0;
    int64_t next = rows.first;
    for (int64_t i = band.first; i < band.last; i += kRowsAtOnce) {
      const int64_t needed = std::min(i + kRowsAtOnce + plane.margin, rows.last);
      for (; next < needed; next += kRowsAtOnce) windows(next, std::min(next + kRowsAtOnce, rows.last));
      pixels(i, std::min(i + kRowsAtOnce, band.last));
    }
    return sum_;
  }

 private:
  // The slopes of rows first .. last - 1 of the windows.
  void windows(int64_t first, int64_t last) {
    moments_.template filter<kTaps>(first, call_.weights);
    const Span columns = slopes_.columns();
    const int64_t count = columns.count();
    for (int64_t i = first; i < last; ++i) {
      const T* moments = moments_.template row<kTaps>(static_cast<int>(i - first), call_.weights);
      const Worth<T> worth = worth_of(call_, plane_index_, i, columns.first);
      T* rows[kMoments];
      for (int map = 0; map < kMoments; ++map) rows[map] = slopes_.row(map, i);
      const auto write = worth.index || worth.structure ? write_slopes<true, T> : write_slopes<false, T>;
      write(moments, moments_.stride(), count, constants_, worth, terms_, rows[0], rows[1], rows[2], rows[3]);
      if (worth.counted) {
        for (T* row : rows) leave_out(worth.counted, count, row);
      }
      add_own(i, worth.counted);
    }
  }

  // Each window counts in the tile that holds its centre.
  void add_own(int64_t i, const uint8_t* counted) {
    const Plane& plane = call_.plane;
    const int64_t centre = plane.size / 2 - plane.margin, from = slopes_.columns().first;
    if (!call_.index || i + centre < band_.first || i + centre >= band_.last) return;
    const int64_t first = std::max(strip_.first - centre, from);
    const int64_t last = std::min(strip_.last - centre, plane.columns);
    if (first < last) sum_ += sum_of(terms_ + (first - from), counted ? counted + (first - from) : nullptr, last - first);
  }

  // The gradients of rows first .. last - 1 of the pixels.
  void pixels(int64_t first, int64_t last) {
    const bool wanted[kMoments] = {call_.grad_x != nullptr, call_.grad_y != nullptr, true, true};
    for (int map = 0; map < kMoments; ++map) {
      if (wanted[map]) slopes_.template filter<kTaps>(map, first, last, call_.weights);
    }
    const Plane& plane = call_.plane;
    for (int64_t i = first; i < last; ++i) {
      const int row = static_cast<int>(i - first);
      const T* ss = slopes_.template result<kTaps>(2, row, call_.weights);
      const T* ee = slopes_.template result<kTaps>(3, row, call_.weights);
      const int64_t at = i * plane.width + strip_.first;
      for (int image = 0; image < 2; ++image) {
        if (!wanted[image]) continue;
        const T* means = slopes_.template result<kTaps>(image, row, call_.weights);
        T* out = (image ? call_.grad_y : call_.grad_x) + plane_index_ * plane.height * plane.width + at;
        write_gradient(x_ + at, y_ + at, constants_, image ? T(-1) : T(1), means, ss, ee, strip_.count(), out);
        const T* pooled = image ? call_.incoming.pooled_y : call_.incoming.pooled_x;
        if (pooled) add_pooled(pooled, call_.shape, plane_index_, i, strip_, out);
      }
    }
  }

  const Call<T>& call_;
  FilteredRows<T, SsimProducts<T>> moments_;
  GradientRows<T, kMoments> slopes_;
  T* terms_;
  const T *x_ = nullptr, *y_ = nullptr;
  int64_t plane_index_ = 0;
  Span band_{0, 0}, strip_{0, 0};
  ssim::Constants<T> constants_{};
  double sum_ = 0;
};

template <int kTaps, typename T>
int64_t room_for(const Call<T>& call) {
  Room<T> room(nullptr);
  const Tile<kTaps, T> tile(call, room, std::min(kWidest, call.plane.width));
  return room.taken() + 64;
}

template <int kTaps, typename T>
void all_gradients(const Call<T>& call, int threads) {
  const Tiling tiling(call.plane.height, call.plane.width, kTallest, kWidest);
  const int64_t tiles = tiling.tiles();
  std::vector<TermSums> sums(call.shape.batch * call.shape.channels * tiles);
  in_rooms<T>(static_cast<int64_t>(sums.size()), threads, room_for<kTaps>(call), [&](int64_t task, T* memory) {
    Room<T> room(memory);
    const int64_t tile = task % tiles;
    const Span strip = tiling.strip(tile);
    sums[task].index = Tile<kTaps, T>(call, room, strip.count()).run(task / tiles, tiling.band(tile), strip);
  });
  const int64_t windows = call.plane.rows * call.plane.columns;
  if (call.index) write_means<T>(sums, tiles, call.mask, call.shape, windows, call.index, nullptr);
}

}  // namespace

template <typename T>
void ssim_backward(const T* x, const T* y, const SsimMask& mask, const SsimResults<const T*>& incoming, T* index,
                   T* grad_x, T* grad_y, const SsimShape& shape, int threads) {
  const Call<T> call{x, y, mask, incoming, index, grad_x, grad_y, shape,
                     Plane(shape.height, shape.width, shape.window, shape.padding),
                     Weights<T>(make_taps<T>(shape.window, shape.sigma))};
  if (shape.window == 11) {
    all_gradients<11>(call, threads);
  } else {
    all_gradients<0>(call, threads);
  }
}

#define IQAZOO_INSTANTIATE(T)                                                                                      \
  template void ssim_backward(const T*, const T*, const SsimMask&, const SsimResults<const T*>&, T*, T*, T*,       \
                              const SsimShape&, int);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cpu
