// The feature distance of maps with the channels last, [positions, channels]: vectors run along the channels of one
// position after the other, which stay in the first cache from the lengths to the differences.
#pragma once

#include "cpu/feature_distance_tile.h"

namespace iqazoo::cpu::features {

constexpr int64_t kRowValues = 64 * 1024;  // of one map, in a task
constexpr int64_t kMeansRows = 64;         // positions whose u^2 are added in T before they go into a double

template <typename T>
int64_t row_positions(int64_t channels) {
  return std::max<int64_t>(kRowValues / std::max<int64_t>(channels, 1), 1);
}

// The channels of one position as whole vectors: in place, or copied with zeros behind.
template <typename T>
struct RowReader {
  int64_t channels, width;
  std::unique_ptr<T[]> copies;

  explicit RowReader(int64_t channels) : channels(channels), width(round_up<T>(channels)) {
    if (width != channels) copies = room<T>(2 * width);
  }

  const T* read(const T* values, int64_t which) const {
    if (!copies) return values;
    copy_padded(values, channels, copies.get() + which * width);
    return copies.get() + which * width;
  }
};

template <typename T>
T squared_length(const T* values, int64_t width) {
  using Vector = typename Lanes<T>::Vector;
  Vector sum = {};
  for (int64_t c = 0; c < width; c += Lanes<T>::count) {
    Vector x;
    load_lanes<T>(x, values + c);
    sum += x * x;
  }
  return sum_lanes<T>(sum);
}

// The sum of the weighted u^2 of one position; `means` gets u^2 times `factor` added.
template <bool to_map, bool to_means, typename T>
T add_row(const T* image, const T* reference, int64_t width, const UnitDifference<T>& unit, const T* weight, T factor,
          T* means) {
  using Vector = typename Lanes<T>::Vector;
  Vector sum = {};
  for (int64_t c = 0; c < width; c += Lanes<T>::count) {
    Vector x, y;
    load_lanes<T>(x, image + c);
    load_lanes<T>(y, reference + c);
    const Vector u = (x - y) * unit.common + (x * unit.image_rest + y * unit.reference_rest);
    const Vector square = u * u;
    if constexpr (to_map) {
      Vector w;
      load_lanes<T>(w, weight + c);
      sum += square * w;
    }
    if constexpr (to_means) {
      Vector mean;
      load_lanes<T>(mean, means + c);
      store_lanes<T>(means + c, mean + square * factor);
    }
  }
  return sum_lanes<T>(sum);
}

template <bool to_map, bool to_means, typename T>
void rows_of(const ForwardTask<T>& task, int64_t channels, int64_t count, T eps) {
  const RowReader<T> reader(channels);
  const int64_t width = reader.width;
  const auto memory = room<T>(2 * width);
  T *weight = memory.get(), *means = weight + width;
  if (to_map) copy_padded(task.weight, channels, weight);
  if (to_means) std::fill(task.means, task.means + channels, 0.0);
  double value = 0;
  for (int64_t p = 0; p < count; ++p) {
    const T* image = reader.read(task.image + p * channels, 0);
    const T* reference = reader.read(task.reference + p * channels, 1);
    const T length0 = std::sqrt(squared_length(image, width)), length1 = std::sqrt(squared_length(reference, width));
    const UnitDifference<T> unit(over_length(length0, eps), over_length(length1, eps));
    const T factor = task.at_positions ? task.at_positions[p] : T(1);
    if (p % kMeansRows == 0) std::fill(means, means + width, T(0));
    const T weighted = add_row<to_map, to_means>(image, reference, width, unit, weight, factor, means);
    value += weighted;
    if (task.map) task.map[p] = weighted;
    if (task.image_length) task.image_length[p] = length0;
    if (task.reference_length) task.reference_length[p] = length1;
    if (to_means && (p % kMeansRows == kMeansRows - 1 || p == count - 1)) {
      for (int64_t c = 0; c < channels; ++c) task.means[c] += means[c];
    }
  }
  if (task.value) *task.value = value;
}

template <typename T>
void forward_rows(const ForwardTask<T>& task, int64_t channels, int64_t count, T eps) {
  const bool to_map = task.value || task.map;
  if (to_map && task.means) {
    rows_of<true, true>(task, channels, count, eps);
  } else if (task.means) {
    rows_of<false, true>(task, channels, count, eps);
  } else if (to_map) {
    rows_of<true, false>(task, channels, count, eps);
  }
}

template <typename T>
struct Dots {
  T image, reference;
};

template <typename T>
Dots<T> dots_of(const T* image, const T* reference, int64_t width, const T* of_channels,
                const UnitDifference<T>& unit) {
  using Vector = typename Lanes<T>::Vector;
  Vector dot0 = {}, dot1 = {};
  for (int64_t c = 0; c < width; c += Lanes<T>::count) {
    Vector x, y, factor;
    load_lanes<T>(x, image + c);
    load_lanes<T>(y, reference + c);
    load_lanes<T>(factor, of_channels + c);
    const Vector u = (x - y) * unit.common + (x * unit.image_rest + y * unit.reference_rest);
    const Vector t = u * factor;
    dot0 += t * x;
    dot1 += t * y;
  }
  return {sum_lanes<T>(dot0), sum_lanes<T>(dot1)};
}

// One position's gradient in one of the maps, `sign` being 1 for the image and -1 for the reference.
template <typename T>
void write_row(const T* image, const T* reference, const T* own, int64_t channels, const T* of_channels,
               const UnitDifference<T>& unit, T sign, T own_over, T radial, T* __restrict__ grad) {
  const T scale = sign * own_over, along = sign * radial;
  for (int64_t c = 0; c < channels; ++c) {
    const T t = unit(image[c], reference[c]) * of_channels[c];
    grad[c] = t * scale - own[c] * along;
  }
}

template <typename T>
void backward_rows(const BackwardTask<T>& task, int64_t channels, int64_t count, T eps) {
  const RowReader<T> reader(channels);
  const auto of_channels = room<T>(reader.width);
  copy_padded(task.of_channels, channels, of_channels.get());
  for (int64_t p = 0; p < count; ++p) {
    const T* image = reader.read(task.image + p * channels, 0);
    const T* reference = reader.read(task.reference + p * channels, 1);
    const T length0 = task.image_length[p], length1 = task.reference_length[p];
    const T over0 = over_length(length0, eps), over1 = over_length(length1, eps);
    const UnitDifference<T> unit(over0, over1);
    const Dots<T> dots = dots_of(image, reference, reader.width, of_channels.get(), unit);
    const T factor = task.at_positions ? task.at_positions[p] : T(1);
    if (task.grad_image) {
      write_row(image, reference, image, channels, of_channels.get(), unit, T(1), factor * over0,
                factor * radial_part(length0, over0, dots.image), task.grad_image + p * channels);
    }
    if (task.grad_reference) {
      write_row(image, reference, reference, channels, of_channels.get(), unit, T(-1), factor * over1,
                factor * radial_part(length1, over1, dots.reference), task.grad_reference + p * channels);
    }
  }
}

}  // namespace iqazoo::cpu::features
