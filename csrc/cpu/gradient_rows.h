// From maps over windows back to the pixels that they see: the transpose of the separable filter, for one tile of pixels.
#pragma once

#include "cpu/window_tiles.h"

namespace iqazoo::cpu {

// Keeps the latest rows of kMaps maps of the windows that see a tile, and filters them.
template <typename T, int kMaps>
class GradientRows {
 public:
  // For up to `columns` pixels beside each other.
  GradientRows(Room<T>& room, const Plane& plane, int64_t columns)
      : plane_(plane),
        stride_(whole_vectors(columns, Lanes<T>::count) + plane.size - 1 + Lanes<T>::count),
        maps_(room, kMaps, plane.size + 2 * kRowsAtOnce, stride_),
        zeros_(room.take(stride_)),
        down_(room.take(kMaps * kRowsAtOnce * stride_)),
        spare_(room.take(kRowsAtOnce * stride_)),
        along_(room.take(kMaps * stride_)) {}

  // Takes up a tile; the rows of windows that see it.
  Span begin(Span band, Span strip) {
    strip_ = strip;
    before_ = strip.first + plane_.margin - plane_.size + 1;
    columns_ = seen_by(strip, plane_.columns);
    rows_ = seen_by(band, plane_.rows);
    std::fill_n(maps_.data, kMaps * maps_.capacity * stride_, T(0));  // another tile was here
    std::fill_n(zeros_, stride_, T(0));
    return rows_;
  }

  // The columns of windows that see the tile.
  Span columns() const { return columns_; }

  // Where row `row` of a map goes, beginning with the first of the columns.
  T* row(int map, int64_t row) const { return maps_.at(map, row) + (columns_.first - before_); }

  // Filters a map down to rows first .. last - 1 of the pixels, of which there are up to kRowsAtOnce.
  template <int kTaps>
  void filter(int map, int64_t first, int64_t last, const Weights<T>& weights) {
    T* out[kRowsAtOnce];
    for (int r = 0; r < kRowsAtOnce; ++r) out[r] = down_ + (map * kRowsAtOnce + r) * stride_;
    filter_to<kTaps>(map, first, weights, out);
    if (plane_.padding != Padding::kReflect) return;
    for (int64_t i = first; i < last; ++i) {
      if (i > 0 && i <= plane_.margin) add_mirrored<kTaps>(map, -i, weights, out[i - first]);
      const int64_t below = 2 * (plane_.height - 1) - i;
      if (below >= plane_.height && below < plane_.height + plane_.margin) {
        add_mirrored<kTaps>(map, below, weights, out[i - first]);
      }
    }
  }

  // One of the rows last filtered down, filtered along: a value per pixel of the tile.
  template <int kTaps>
  const T* result(int map, int row, const Weights<T>& weights) {
    const T* down = down_ + (map * kRowsAtOnce + row) * stride_;
    T* out = along_ + map * stride_;
    filter_along<kTaps>(down, weights, strip_.count(), out);
    if (plane_.padding != Padding::kReflect) return out;
    for (int64_t j = std::max<int64_t>(strip_.first, 1); j < strip_.last && j <= plane_.margin; ++j) {
      out[j - strip_.first] += at_column(down, -j, weights);
    }
    const int64_t last = 2 * (plane_.width - 1);
    for (int64_t j = std::max(strip_.first, plane_.width - 1 - plane_.margin); j < strip_.last; ++j) {
      if (j < plane_.width - 1) out[j - strip_.first] += at_column(down, last - j, weights);
    }
    return out;
  }

 private:
  Span seen_by(Span pixels, int64_t windows) const {
    return {std::max<int64_t>(pixels.first + plane_.margin - plane_.size + 1, 0),
            std::min(pixels.last + plane_.margin, windows)};
  }

  // Rows first .. of the coordinates of pixels, which may lie beyond the border.
  template <int kTaps>
  void filter_to(int map, int64_t first, const Weights<T>& weights, T* const* out) {
    const T* rows[kLargestWindow + kRowsAtOnce - 1];
    for (int k = 0; k < plane_.size + kRowsAtOnce - 1; ++k) {
      const int64_t row = first + plane_.margin - plane_.size + 1 + k;
      rows[k] = row < rows_.first || row >= rows_.last ? zeros_ : maps_.at(map, row);
    }
    filter_down<kTaps>(rows, weights, strip_.count() + plane_.size - 1, out);
  }

  template <int kTaps>
  void add_mirrored(int map, int64_t row, const Weights<T>& weights, T* sum) {
    T* out[kRowsAtOnce];
    for (int r = 0; r < kRowsAtOnce; ++r) out[r] = spare_ + r * stride_;
    filter_to<kTaps>(map, row, weights, out);
    for (int64_t j = 0; j < strip_.count() + plane_.size - 1; ++j) sum[j] += spare_[j];
  }

  // What the windows of this tile put at a coordinate beyond the border.
  T at_column(const T* down, int64_t column, const Weights<T>& weights) const {
    T sum = 0;
    for (int k = 0; k < plane_.size; ++k) {
      const int64_t j = column - strip_.first + k;
      const bool inside = j >= 0 && j < strip_.count() + plane_.size - 1;
      sum += inside ? weights.half[std::min(k, plane_.size - 1 - k)][0] * down[j] : T(0);
    }
    return sum;
  }

  const Plane& plane_;
  int64_t stride_;
  Ring<T> maps_;
  T *zeros_, *down_, *spare_, *along_;
  Span strip_{0, 0}, columns_{0, 0}, rows_{0, 0};
  int64_t before_ = 0;  // the column of windows that the rows of maps begin with; there may be none
};

}  // namespace iqazoo::cpu
