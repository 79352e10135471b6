// A row of positions as whole vectors.
#pragma once

#include "cpu/feature_distance_tile.h"

namespace iqazoo::cpu::features {

// What is known of `count` positions lies in `width` slots. The last vector of a row begins where it ends with the row:
// what it shares with the one before is computed twice, to the same bits, and nothing else is read or written. A row
// shorter than a vector is copied, with zeros behind.
template <typename T>
struct Slots {
  static constexpr int64_t lanes = Lanes<T>::count;
  int64_t count, width, last;

  explicit Slots(int64_t count) : count(count), width(round_up<T>(count)), last(std::max<int64_t>(count - lanes, 0)) {}

  // Where in the row the vector is that takes the slots from p on, for p a multiple of the lanes.
  int64_t at(int64_t p) const { return std::min(p, last); }

  bool padded() const { return count < lanes; }

  // The slots that hold positions of the vector before.
  int64_t repeated() const { return padded() ? 0 : width - count; }

  void fill(const T* row, T* slots) const {
    if (padded()) return copy_padded(row, count, slots);
    for (int64_t p = 0; p < width; p += lanes) std::memcpy(slots + p, row + at(p), sizeof(T) * lanes);
  }

  void write(const T* slots, T* row) const {
    std::copy(slots, slots + std::min(count, width - lanes), row);
    const int64_t rest = std::min(count, lanes);
    std::copy(slots + width - lanes, slots + width - lanes + rest, row + last);
  }

  // For sums over positions: each once.
  void clear_repeated(T* slots) const { std::fill_n(slots + width - lanes, repeated(), T(0)); }
};

}  // namespace iqazoo::cpu::features
