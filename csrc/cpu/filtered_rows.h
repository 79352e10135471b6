// Products of pixels, filtered by the windows of a tile a few rows at a time.
#pragma once

#include "cpu/window_tiles.h"

namespace iqazoo::cpu {

// `Products` makes Products::kCount rows of values from a row of pixels of both images.
template <typename T, typename Products>
class FilteredRows {
 public:
  static constexpr int kCount = Products::kCount;

  // For up to `columns` windows beside each other.
  FilteredRows(Room<T>& room, const Plane& plane, int64_t columns)
      : plane_(plane),
        stride_(whole_vectors(columns, Lanes<T>::count) + plane.size - 1 + Lanes<T>::count),
        pixels_(room, kCount, plane.size + kRowsAtOnce - 1, stride_),
        down_(room.take(kCount * kRowsAtOnce * stride_)),
        along_(room.take(kCount * stride_)),
        room_x_(room.take(stride_)),
        room_y_(room.take(stride_)) {}

  // Takes up a tile of windows.
  void begin(const T* x, const T* y, const Products& products, int64_t first_row, Span columns) {
    x_ = x;
    y_ = y;
    products_ = products;
    filled_ = first_row;
    columns_ = columns;
  }

  // Filters rows `first` .. `first` + kRowsAtOnce - 1 of the windows down, as far as there are so many; never goes back.
  template <int kTaps>
  void filter(int64_t first, const Weights<T>& weights) {
    const int64_t coordinates = plane_.rows + plane_.size - 1, width = columns_.count() + plane_.size - 1;
    const int64_t end = std::min(first + kRowsAtOnce + plane_.size - 1, coordinates);
    for (filled_ = std::max(filled_, first); filled_ < end; ++filled_) {
      fill(filled_, {columns_.first, columns_.first + width});
    }
    for (int quantity = 0; quantity < kCount; ++quantity) {
      const T* rows[kLargestWindow + kRowsAtOnce - 1];
      T* out[kRowsAtOnce];
      for (int k = 0; k < plane_.size + kRowsAtOnce - 1; ++k) {
        rows[k] = pixels_.at(quantity, std::min(first + k, coordinates - 1));
      }
      for (int r = 0; r < kRowsAtOnce; ++r) out[r] = down_ + (quantity * kRowsAtOnce + r) * stride_;
      filter_down<kTaps>(rows, weights, width, out);
    }
  }

  // Row `row` of the last ones filtered, filtered along: kCount rows, each `stride` after the one before.
  template <int kTaps>
  const T* row(int row, const Weights<T>& weights) {
    for (int quantity = 0; quantity < kCount; ++quantity) {
      const T* down = down_ + (quantity * kRowsAtOnce + row) * stride_;
      filter_along<kTaps>(down, weights, columns_.count(), along_ + quantity * stride_);
    }
    return along_;
  }

  int64_t stride() const { return stride_; }

 private:
  void fill(int64_t row, Span span) {
    T* out[kCount];
    for (int quantity = 0; quantity < kCount; ++quantity) out[quantity] = pixels_.at(quantity, row);
    const T* x = padded_row(x_, plane_, row, span, room_x_);
    products_(x, padded_row(y_, plane_, row, span, room_y_), span.count(), out);
  }

  const Plane& plane_;
  int64_t stride_;
  Ring<T> pixels_;
  T *down_, *along_, *room_x_, *room_y_;
  const T *x_ = nullptr, *y_ = nullptr;
  Products products_{};
  int64_t filled_ = 0;
  Span columns_{0, 0};
};

}  // namespace iqazoo::cpu
