// Maps of few positions as few long rows. An image's features lie one after the other, so that as many channels as a
// vector has lanes are one row of whole vectors, for any number of positions. Sums over such rows are folded: what
// belongs to one position stands in it once for each of the row's channels.
#pragma once

#include "cpu/feature_distance_tile.h"

namespace iqazoo::cpu::features {

constexpr int64_t kFewPositions = 64;  // from here on, rows as they are, with a last vector that overlaps, are as good

// Whether maps that fit into one tile are folded.
template <typename T>
bool folds(int64_t channels, int64_t positions) {
  return channels % Lanes<T>::count == 0 && positions < kFewPositions;
}

// Adds up what belongs to each of `positions`, into the first of them.
template <typename T>
void fold(int64_t positions, T* sums) {
  for (int64_t k = 1; k < Lanes<T>::count; ++k) {
    const T* more = sums + k * positions;
    for (int64_t p = 0; p < positions; ++p) sums[p] += more[p];
  }
}

// Repeats the first `positions` for every channel of a row.
template <typename T>
void unfold(int64_t positions, T* values) {
  for (int64_t k = 1; k < Lanes<T>::count; ++k) std::copy(values, values + positions, values + k * positions);
}

// [channels, positions], the same at all positions; from memory that holds a vector more. Stores whole vectors: what
// is too much of one channel, the next one covers.
template <typename T>
void spread(const T* of_channels, int64_t channels, int64_t positions, T* to) {
  for (int64_t c = 0; c < channels; ++c, to += positions) {
    const typename Lanes<T>::Vector value = of_channels[c] - typename Lanes<T>::Vector{};
    for (int64_t p = 0; p < positions; p += Lanes<T>::count) store_lanes<T>(to + p, value);
  }
}

template <typename T>
std::unique_ptr<T[]> spread_room(int64_t channels, int64_t positions) {
  return room<T>(channels * positions + Lanes<T>::count);
}

}  // namespace iqazoo::cpu::features
