// The feature distance of maps in planes, [channels, positions]: vectors run along positions. A task takes a tile of
// positions with all their channels into cache, so that memory is read once for the lengths and the differences.
#pragma once

#include "cpu/feature_distance_fold.h"
#include "cpu/feature_distance_slots.h"

namespace iqazoo::cpu::features {

constexpr int64_t kTileBytes = 256 * 1024;  // of both maps: a part of a core's second cache
constexpr int64_t kGroup = 4;               // channels that are taken together, so that sums are loaded less often

// Of equal size, as a last tile of few positions would take longer than its share.
template <typename T>
int64_t tile_positions(int64_t channels, int64_t positions) {
  const int64_t fitting = kTileBytes / (2 * static_cast<int64_t>(sizeof(T)) * std::max<int64_t>(channels, 1));
  const int64_t each = std::max<int64_t>(fitting / 32 * 32, 32);
  const int64_t tiles = std::max<int64_t>((positions + each / 2) / each, 1);
  return (positions + tiles - 1) / tiles;
}

// Both maps' tile: `channels` rows, `step` apart.
template <typename T>
struct Tile {
  const T* image;
  const T* reference;
  int64_t channels, step;
  Slots<T> slots;
};

// Whether rows of `width` values that begin `step` apart would evict each other from a cache whose sets repeat every
// 64 KB: whether more than twice as many as there must be begin in the same place of the sets.
template <typename T>
bool evicting(int64_t rows, int64_t step, int64_t width) {
  constexpr int64_t period = 64 * 1024, least = 512;
  int64_t place = least;
  while (place < width * static_cast<int64_t>(sizeof(T))) place *= 2;
  if (place >= period) return false;
  int64_t begun[period / least] = {}, most = 0;
  for (int64_t c = 0; c < rows; ++c) {
    most = std::max(most, ++begun[c * step * static_cast<int64_t>(sizeof(T)) % period / place]);
  }
  return most > 2 * (rows * place / period) + 2;
}

// Reads a tile's rows in place, or, where they are shorter than a vector or would evict each other from the cache, from
// a copy that `next_rows` fills as it goes.
template <typename T>
struct TileReader {
  const T* image;
  const T* reference;
  int64_t positions, count;  // of the whole map, from one row to the next; of this tile
  std::unique_ptr<T[]> copies;
  Tile<T> tile;

  // Of folded rows, whole ones, where `positions` is their length.
  TileReader(const T* image, const T* reference, int64_t channels, int64_t positions, int64_t count)
      : image(image),
        reference(reference),
        positions(positions),
        count(count),
        tile{image, reference, channels, positions, Slots<T>(count)} {
    if (!tile.slots.padded() && (count == positions || !evicting<T>(channels, positions, count))) return;
    tile.step = tile.slots.width;
    copies = room<T>(2 * channels * tile.step);
    tile.image = copies.get();
    tile.reference = tile.image + channels * tile.step;
  }

  // Asks for the rows after these, too: they are as far apart as a map is large, which no processor foresees.
  void next_rows(int64_t first, int64_t rows) const {
    if (count == positions && !copies) return;  // one piece of memory, which a processor foresees
    for (int64_t c = first; c < first + rows; ++c) {
      if (c + kGroup < tile.channels) {
        prefetch(image + (c + kGroup) * positions);
        prefetch(reference + (c + kGroup) * positions);
      }
      if (!copies) continue;
      copy_padded(image + c * positions, count, copies.get() + c * tile.step);
      copy_padded(reference + c * positions, count, copies.get() + (tile.channels + c) * tile.step);
    }
  }

  void prefetch(const T* row) const {
    constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));
    for (int64_t p = 0; p < count; p += line) __builtin_prefetch(row + p, 0, 2);
  }
};

// Calls work(first, rows) with groups of channels, where rows is kGroup or, for the rest, 1, as a constant.
template <typename Work>
void in_groups(int64_t channels, const Work& work) {
  int64_t c = 0;
  for (; c + kGroup <= channels; c += kGroup) work(c, std::integral_constant<int64_t, kGroup>());
  for (; c < channels; ++c) work(c, std::integral_constant<int64_t, 1>());
}

// What the loops below have in common: rows in a loop that the compiler unrolls, so that vectors stay in registers.
#define IQAZOO_UNROLL _Pragma("GCC unroll 4")

template <int64_t rows, typename T>
void add_squares(const T* values, int64_t step, const Slots<T>& slots, T* sums) {
  using Vector = typename Lanes<T>::Vector;
  for (int64_t p = 0; p < slots.width; p += Lanes<T>::count) {
    const T* at = values + slots.at(p);
    Vector sum, squares = {};
    load_lanes<T>(sum, sums + p);
    IQAZOO_UNROLL for (int64_t k = 0; k < rows; ++k) {
      Vector x;
      load_lanes<T>(x, at + k * step);
      squares += x * x;
    }
    store_lanes<T>(sums + p, sum + squares);
  }
}

// UnitDifference of each position.
template <typename T>
struct UnitRows {
  T *common, *image_rest, *reference_rest;

  // From what the vectors are multiplied by. The rests may take its place.
  void set(const T* image_over, const T* reference_over, int64_t width) const {
    for (int64_t p = 0; p < width; ++p) {
      const UnitDifference<T> unit(image_over[p], reference_over[p]);
      common[p] = unit.common;
      image_rest[p] = unit.image_rest;
      reference_rest[p] = unit.reference_rest;
    }
  }
};

// u of the rows from `first` on, at one vector of slots.
template <int64_t rows, typename T>
struct Differences {
  const T* image;
  const T* reference;
  int64_t step, last;

  Differences(const Tile<T>& tile, int64_t first)
      : image(tile.image + first * tile.step),
        reference(tile.reference + first * tile.step),
        step(tile.step),
        last(tile.slots.last) {}

  // Calls use(k, x, y, u) with each row's values and their difference.
  template <typename Use>
  [[gnu::always_inline]] void operator()(int64_t p, const UnitRows<T>& units, const Use& use) const {
    const int64_t at = std::min(p, last);
    typename Lanes<T>::Vector common, image_rest, reference_rest;
    load_lanes<T>(common, units.common + p);
    load_lanes<T>(image_rest, units.image_rest + p);
    load_lanes<T>(reference_rest, units.reference_rest + p);
    IQAZOO_UNROLL for (int64_t k = 0; k < rows; ++k) {
      typename Lanes<T>::Vector x, y;
      load_lanes<T>(x, image + k * step + at);
      load_lanes<T>(y, reference + k * step + at);
      const typename Lanes<T>::Vector u = (x - y) * common + (x * image_rest + y * reference_rest);
      use(k, x, y, u);
    }
  }
};

// What the rows from `first` on are multiplied by: one number each or, spread, one at each position. None, if null.
template <bool spread, int64_t rows, typename T>
struct Factors {
  using Vector = typename Lanes<T>::Vector;

  const T* values;
  int64_t step;
  Vector of_rows[rows] = {};

  Factors(const T* of_channels, int64_t first, int64_t step)
      : values(spread ? of_channels + first * step : of_channels), step(step) {
    if (spread || !values) return;
    IQAZOO_UNROLL for (int64_t k = 0; k < rows; ++k) of_rows[k] += values[first + k];
  }

  [[gnu::always_inline]] void load(int64_t k, int64_t p, Vector& factor) const {
    if constexpr (spread) {
      load_lanes<T>(factor, values + k * step + p);
    } else {
      factor = of_rows[k];
    }
  }
};

// Rows of both maps, `step` apart, that are asked for while others are computed with.
template <typename T>
struct Ahead {
  const T* image;
  const T* reference;
  int64_t step;

  // The rows' next vector of both maps; where a line is two vectors, the next line of one map at a time.
  template <int64_t rows>
  [[gnu::always_inline]] void prefetch(int64_t first, int64_t p) const {
    constexpr bool whole_line = kVectorBytes == 64;
    const T* next = (!whole_line && p & Lanes<T>::count ? reference : image) + first * step + p;
    IQAZOO_UNROLL for (int64_t k = 0; k < rows; ++k) __builtin_prefetch(next + k * step, 0, 2);
    if constexpr (!whole_line) return;
    next = reference + first * step + p;
    IQAZOO_UNROLL for (int64_t k = 0; k < rows; ++k) __builtin_prefetch(next + k * step, 0, 2);
  }
};

// Adds the rows' weighted u^2 to `map`, and sets their `means` to the sums of u^2 times `factor`.
template <bool to_map, bool to_means, bool spread, int64_t rows, typename T>
void add_differences(const Tile<T>& tile, const Ahead<T>& ahead, int64_t first, const UnitRows<T>& units,
                     const T* weight, T* map, const T* factor, double* means) {
  using Vector = typename Lanes<T>::Vector;
  const Differences<rows, T> differences(tile, first);
  const Factors<spread, rows, T> weights(weight, first, tile.step);
  Vector sums[rows] = {};
  for (int64_t p = 0; p < tile.slots.width; p += Lanes<T>::count) {
    Vector at = {}, weighted = {};
    ahead.template prefetch<rows>(first, p);
    if constexpr (to_means) load_lanes<T>(at, factor + p);
    differences(p, units, [&](int64_t k, const Vector&, const Vector&, const Vector& u) {
      const Vector square = u * u;
      if constexpr (to_map) {
        Vector of_row;
        weights.load(k, p, of_row);
        weighted += square * of_row;
      }
      if constexpr (to_means) sums[k] += square * at;
    });
    if constexpr (to_map) {
      Vector sum;
      load_lanes<T>(sum, map + p);
      store_lanes<T>(map + p, sum + weighted);
    }
  }
  for (int64_t k = 0; to_means && k < rows; ++k) means[first + k] = sum_lanes<T>(sums[k]);
}

template <bool to_map, bool to_means, bool spread, typename T>
void add_all_differences(const TileReader<T>& reader, const ForwardTask<T>& task, const UnitRows<T>& units, T* map,
                         const T* factor) {
  const T* weight = spread ? task.spread_weight : task.weight;
  const Ahead<T> ahead{task.next_image, task.next_reference, reader.positions};
  in_groups(reader.tile.channels, [&](int64_t c, auto rows) {
    constexpr int64_t n = decltype(rows)::value;
    add_differences<to_map, to_means, spread, n>(reader.tile, ahead, c, units, weight, map, factor, task.means);
  });
}

// The lengths of vectors from the sums of their squares, in their place.
template <typename T>
void take_roots(T* sums, int64_t width) {
  for (int64_t p = 0; p < width; ++p) sums[p] = std::sqrt(sums[p]);
}

// What vectors of these lengths are multiplied by, in their place.
template <typename T>
void take_over_lengths(T* lengths, int64_t width, T eps) {
  for (int64_t p = 0; p < width; ++p) lengths[p] = over_length(lengths[p], eps);
}

// Adds the squares of both maps' tile, which is read for the first time, to the sums of each position.
template <typename T>
void add_all_squares(const TileReader<T>& reader, T* image_sums, T* reference_sums) {
  const Tile<T>& tile = reader.tile;
  in_groups(tile.channels, [&](int64_t c, auto rows) {
    constexpr int64_t n = decltype(rows)::value;
    reader.next_rows(c, n);
    add_squares<n>(tile.image + c * tile.step, tile.step, tile.slots, image_sums);
    add_squares<n>(tile.reference + c * tile.step, tile.step, tile.slots, reference_sums);
  });
}

template <typename T>
void write_map(const ForwardTask<T>& task, const T* map, int64_t count) {
  if (task.map) std::copy(map, map + count, task.map);
  if (!task.value) return;
  double sum = 0;
  for (int64_t p = 0; p < count; ++p) sum += map[p];
  *task.value = sum;
}

// A whole image of few positions, for the value and the map.
template <typename T>
void forward_folded(const ForwardTask<T>& task, int64_t channels, int64_t positions, T eps) {
  const int64_t width = Lanes<T>::count * positions;
  const TileReader<T> reader(task.image, task.reference, channels / Lanes<T>::count, width, width);
  const auto memory = room<T>(4 * width);
  T *over0 = memory.get(), *over1 = over0 + width, *map = over1 + width;
  const UnitRows<T> units{map + width, over0, over1};
  std::fill(over0, map + width, T(0));
  add_all_squares(reader, over0, over1);
  for (T* sums : {over0, over1}) {
    fold(positions, sums);
    take_roots(sums, positions);
  }
  if (task.image_length) std::copy(over0, over0 + positions, task.image_length);
  if (task.reference_length) std::copy(over1, over1 + positions, task.reference_length);
  for (T* lengths : {over0, over1}) take_over_lengths(lengths, positions, eps);
  units.set(over0, over1, positions);
  for (T* unit : {units.common, over0, over1}) unfold(positions, unit);
  add_all_differences<true, false, true>(reader, task, units, map, static_cast<const T*>(nullptr));
  fold(positions, map);
  write_map(task, map, positions);
}

// `count` of `positions`, from where the task's addresses point.
template <typename T>
void forward_planes(const ForwardTask<T>& task, int64_t channels, int64_t positions, int64_t count, T eps) {
  if (task.spread_weight) return forward_folded(task, channels, positions, eps);
  const TileReader<T> reader(task.image, task.reference, channels, positions, count);
  const Slots<T>& slots = reader.tile.slots;
  const int64_t width = slots.width;
  const auto memory = room<T>(5 * width);
  T *over0 = memory.get(), *over1 = over0 + width, *map = over1 + width, *factor = map + width;
  const UnitRows<T> units{factor + width, over0, over1};
  std::fill(over0, factor, T(0));
  add_all_squares(reader, over0, over1);
  for (T* sums : {over0, over1}) take_roots(sums, width);
  if (task.image_length) slots.write(over0, task.image_length);
  if (task.reference_length) slots.write(over1, task.reference_length);
  for (T* lengths : {over0, over1}) take_over_lengths(lengths, width, eps);
  units.set(over0, over1, width);
  std::fill(factor, factor + width, T(1));
  if (task.at_positions) slots.fill(task.at_positions, factor);
  slots.clear_repeated(factor);
  const bool to_map = task.value || task.map;
  if (to_map && task.means) {
    add_all_differences<true, true, false>(reader, task, units, map, factor);
  } else if (task.means) {
    add_all_differences<false, true, false>(reader, task, units, map, factor);
  } else if (to_map) {
    add_all_differences<true, false, false>(reader, task, units, map, factor);
  }
  T* in_order = over0;
  slots.write(map, in_order);
  write_map(task, in_order, count);
}

// Adds sum over the rows of t f to `image_dot` and `reference_dot`, where t = of_channels u.
template <bool spread, int64_t rows, typename T>
void add_dots(const Tile<T>& tile, const Ahead<T>& ahead, int64_t first, const T* of_channels,
              const UnitRows<T>& units, T* image_dot, T* reference_dot) {
  using Vector = typename Lanes<T>::Vector;
  const Differences<rows, T> differences(tile, first);
  const Factors<spread, rows, T> factors(of_channels, first, tile.step);
  for (int64_t p = 0; p < tile.slots.width; p += Lanes<T>::count) {
    Vector dot0, dot1, part0 = {}, part1 = {};
    ahead.template prefetch<rows>(first, p);
    load_lanes<T>(dot0, image_dot + p);
    load_lanes<T>(dot1, reference_dot + p);
    differences(p, units, [&](int64_t k, const Vector& x, const Vector& y, const Vector& u) {
      Vector factor;
      factors.load(k, p, factor);
      const Vector t = u * factor;
      part0 += t * x;
      part1 += t * y;
    });
    store_lanes<T>(image_dot + p, dot0 + part0);
    store_lanes<T>(reference_dot + p, dot1 + part1);
  }
}

// What the gradients of a tile are made of, in rows of its width, and where they go, a step from row to row. Both are
// always written, if only to a row that nobody reads: by the same instructions, so that each has the same bits
// whether the other is wanted or not.
template <typename T>
struct Slopes {
  UnitRows<T> units;
  const T *image_own, *reference_own;        // what the vectors are multiplied by, times at_positions
  const T *image_radial, *reference_radial;  // radial_part, times at_positions
  const T* of_channels;
  T *grad_image, *grad_reference;
  int64_t image_step, reference_step;
};

// grad = t own - f radial, where t has the other sign for the reference.
template <bool spread, int64_t rows, typename T>
void write_rows(const Tile<T>& tile, const Ahead<T>& ahead, const Slopes<T>& slopes, int64_t first) {
  using Vector = typename Lanes<T>::Vector;
  const Differences<rows, T> differences(tile, first);
  const Slopes<T> own = slopes;  // stores through its pointers cannot change it
  const Factors<spread, rows, T> factors(own.of_channels, first, tile.step);
  const Slots<T> slots = tile.slots;
  for (int64_t p = 0; p < slots.width; p += slots.lanes) {
    Vector own0, own1, radial0, radial1;
    ahead.template prefetch<rows>(first, p);
    load_lanes<T>(own0, own.image_own + p);
    load_lanes<T>(own1, own.reference_own + p);
    load_lanes<T>(radial0, own.image_radial + p);
    load_lanes<T>(radial1, own.reference_radial + p);
    const auto put = [&](T* row, const Vector& slope) [[gnu::always_inline]] {
      if (__builtin_expect(slots.padded(), false)) {
        std::memcpy(row, &slope, sizeof(T) * slots.count);
      } else {
        store_lanes<T>(row + slots.at(p), slope);
      }
    };
    differences(p, own.units,
                [&](int64_t k, const Vector& x, const Vector& y, const Vector& u) [[gnu::always_inline]] {
                  Vector factor;
                  factors.load(k, p, factor);
                  const Vector t = u * factor;
                  put(own.grad_image + (first + k) * own.image_step, t * own0 - x * radial0);
                  put(own.grad_reference + (first + k) * own.reference_step, y * radial1 - t * own1);
                });
  }
}

// From the dots to their radial parts; both these and what the vectors are multiplied by are then times at_positions.
template <typename T>
void finish_dots(const T* lengths, const T* at_positions, int64_t count, T* dots, T* over) {
  for (int64_t p = 0; p < count; ++p) dots[p] = radial_part(lengths[p], over[p], dots[p]);
  if (!at_positions) return;
  for (int64_t p = 0; p < count; ++p) dots[p] *= at_positions[p];
  for (int64_t p = 0; p < count; ++p) over[p] *= at_positions[p];
}

// The gradients of a tile; of folded rows, where of_channels is spread and `positions` are those of a channel.
template <bool folded, typename T>
void backward_tile(const TileReader<T>& reader, const T* of_channels, const BackwardTask<T>& task, int64_t positions,
                   T eps) {
  const Tile<T>& tile = reader.tile;
  const int64_t width = tile.slots.width, known = folded ? positions : width, step = reader.positions;
  const auto memory = room<T>(11 * width);
  std::fill(memory.get(), memory.get() + 10 * width, T(0));
  T *own0 = memory.get(), *own1 = own0 + width, *dot0 = own1 + width, *dot1 = dot0 + width;
  const UnitRows<T> units{dot1 + width, dot1 + 2 * width, dot1 + 3 * width};
  T *length0 = dot1 + 4 * width, *length1 = length0 + width, *at_positions = length1 + width;
  T* unread = at_positions + width;
  const auto fill = [&](const T* row, T* to) {
    if (folded) {
      std::copy(row, row + positions, to);
    } else {
      tile.slots.fill(row, to);
    }
  };
  fill(task.image_length, length0);
  fill(task.reference_length, length1);
  if (task.at_positions) fill(task.at_positions, at_positions);
  std::copy(length0, length0 + known, own0);
  std::copy(length1, length1 + known, own1);
  for (T* lengths : {own0, own1}) take_over_lengths(lengths, known, eps);
  units.set(own0, own1, known);
  for (T* unit : {units.common, units.image_rest, units.reference_rest}) {
    if (folded) unfold(positions, unit);
  }
  const Ahead<T> gradients{task.grad_image ? task.grad_image : task.grad_reference,
                           task.grad_reference ? task.grad_reference : task.grad_image, step};
  in_groups(tile.channels, [&](int64_t c, auto rows) {
    reader.next_rows(c, rows);
    add_dots<folded, decltype(rows)::value>(tile, gradients, c, of_channels, units, dot0, dot1);
  });
  for (T* dots : {dot0, dot1}) {
    if (folded) fold(positions, dots);
  }
  finish_dots(length0, task.at_positions ? at_positions : nullptr, known, dot0, own0);
  finish_dots(length1, task.at_positions ? at_positions : nullptr, known, dot1, own1);
  for (T* slope : {own0, own1, dot0, dot1}) {
    if (folded) unfold(positions, slope);
  }
  const Ahead<T> next{task.next_image, task.next_reference, step};
  const Slopes<T> slopes{units,
                         own0,
                         own1,
                         dot0,
                         dot1,
                         of_channels,
                         task.grad_image ? task.grad_image : unread,
                         task.grad_reference ? task.grad_reference : unread,
                         task.grad_image ? step : 0,
                         task.grad_reference ? step : 0};
  in_groups(tile.channels, [&](int64_t c, auto rows) {
    write_rows<folded, decltype(rows)::value>(tile, next, slopes, c);
  });
}

template <typename T>
void backward_planes(const BackwardTask<T>& task, int64_t channels, int64_t positions, int64_t count, T eps) {
  if (count == positions && folds<T>(channels, positions)) {
    const int64_t width = Lanes<T>::count * positions;
    const auto of_channels = spread_room<T>(channels, positions);
    spread(task.of_channels, channels, positions, of_channels.get());
    const TileReader<T> reader(task.image, task.reference, channels / Lanes<T>::count, width, width);
    return backward_tile<true>(reader, of_channels.get(), task, positions, eps);
  }
  const TileReader<T> reader(task.image, task.reference, channels, positions, count);
  backward_tile<false>(reader, task.of_channels, task, positions, eps);
}

#undef IQAZOO_UNROLL

}  // namespace iqazoo::cpu::features
