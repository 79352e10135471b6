// How positions are split into chunks, and the sums over the keys of one chunk and of all. The split depends on sizes
// alone and chunks are added in order, so results do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <memory>

#include "cpu/linear_attention.h"
#include "cpu/linear_attention_maps.h"
#include "cpu/pages.h"

namespace iqazoo::cpu::tiles {

using linear_attention::Map;
using linear_attention::View;

// One head of a call.
struct Place {
  int64_t index, batch, head;
};

struct Plan {
  explicit Plan(const linear_attention::Sizes& s)
      : sizes(s),
        features(padded(s.features)),
        width(padded(s.width)),
        heads(s.batch * s.heads),
        chunk(std::clamp<int64_t>(s.features * s.width / 2 / kBlock * kBlock, 512, 4096)),
        chunks((s.positions + chunk - 1) / chunk),
        parts(chunks + (s.columns > 0)),
        stride(features * width + 2 * features) {}

  linear_attention::Sizes sizes;
  int64_t features, width;  // padded
  int64_t heads;            // of all batch elements
  int64_t chunk, chunks;    // positions in one, number of them
  int64_t parts;            // chunks, and the memory as a last one
  int64_t stride;           // numbers that the sums over one part take

  Place place(int64_t index) const { return {index, index / sizes.heads, index % sizes.heads}; }
  int64_t first(int64_t part) const { return part * chunk; }
  int64_t count(int64_t part) const { return std::min(chunk, sizes.positions - part * chunk); }
  // Whether a q-like tensor is larger than what caches keep of it.
  template <typename T>
  bool past_caches() const {
    return heads * sizes.positions * std::max(features, width) * static_cast<int64_t>(sizeof(T)) >= (int64_t(8) << 20);
  }
  // Whether it is larger than what the cache beside a core keeps of it.
  template <typename T>
  bool beyond_cache() const {
    return heads * sizes.positions * std::max(features, width) * static_cast<int64_t>(sizeof(T)) >= (int64_t(1) << 20);
  }
  bool is_memory(int64_t part) const { return part == chunks; }
};

// The sums over the keys of some positions: `context` [features, width] padded, `total` and, of softmax, `most`, by
// which exp's arguments were shifted: both [features].
template <typename T>
struct Sums {
  T* context;
  T* total;
  T* most;
};

template <typename T>
std::unique_ptr<T[]> uninitialized(int64_t size) {
  return std::unique_ptr<T[]>(new T[size]);
}

template <typename T>
Sums<T> sums_at(T* partials, const Plan& plan, int64_t head, int64_t part) {
  T* start = partials + (head * plan.parts + part) * plan.stride;
  return {start, start + plan.features * plan.width, start + plan.features * plan.width + plan.features};
}

// Keys, values and mask of one part of a head.
template <typename T>
struct Columns {
  Head<T> k, v;
  const bool* mask;
  int64_t count;

  Columns from(int64_t first) const { return {k.from(first), v.from(first), mask ? mask + first : nullptr, count}; }
};

template <typename T>
Columns<T> columns_of(const LinearAttention<T>& call, const Plan& plan, const Place& place, int64_t part) {
  if (plan.is_memory(part)) {
    return {head_of(call.memory_k, 0, place.head), head_of(call.memory_v, 0, place.head), nullptr, call.sizes.columns};
  }
  const bool* mask = call.mask ? call.mask + place.batch * call.sizes.positions : nullptr;
  const Columns<T> all{head_of(call.k, place.batch, place.head), head_of(call.v, place.batch, place.head), mask,
                       plan.count(part)};
  return all.from(plan.first(part));
}

// How much greater than the shift keys may be before it is raised. It need not be the greatest of all, only near it:
// exp(8) more or less in a sum changes no digit, but a branch that goes now here and now there costs as much as the sum.
constexpr int kSlack = 8;

// Raises the shift of one feature to `most`, and scales down what was summed so far: a row of the context, and `count`
// parts of the total.
template <typename T>
void rescale(T most, int64_t width, T* shift, T* context, T* total, int64_t count) {
  const T factor = std::exp(*shift - most);
  for (int64_t e = 0; e < width; ++e) context[e] *= factor;
  for (int64_t i = 0; i < count; ++i) total[i] *= factor;
  *shift = most;
}

// Keys become exp(k - shift), with about the greatest key so far as shift, which the sums follow.
template <typename T>
void map_and_sum(const Given<T>& from, T* keys, int64_t vectors, const Plan& plan, const Sums<T>& sums, T* lanes,
                 Ahead& ahead) {
  for (int64_t f = 0; f < plan.sizes.features; ++f) {
    const T* row = from.data + f * from.step;
    Pack<T> most = load(row);
    for (int64_t j = 1; j < vectors; ++j) most = greater(load(row + j * kWide<T>), most);
    const T greatest = greatest_of(most);
    T* lane = lanes + f * kWide<T>;
    T* context = sums.context + f * plan.width;
    if (greatest > sums.most[f] + T(kSlack)) {
      rescale(greatest, plan.width, sums.most + f, context, lane, kWide<T>);
    }
    const T shift = sums.most[f] == -std::numeric_limits<T>::infinity() ? T(0) : sums.most[f];  // -inf - -inf is NaN
    Pack<T> sum = load(lane);
    for (int64_t j = 0; j < vectors; ++j) {
      ahead.fetch();
      const Pack<T> y = exp_of(Pack<T>{load(row + j * kWide<T>).v - shift});
      store(keys + f * kBlock + j * kWide<T>, y);
      sum.v += y.v;
    }
    store(lane, sum);
  }
}

template <typename T>
void add_rows(const T* tile, int64_t vectors, int64_t features, T* lanes) {
  for (int64_t f = 0; f < features; ++f) {
    Pack<T> sum = load(lanes + f * kWide<T>);
    for (int64_t j = 0; j < vectors; ++j) sum.v += load(tile + f * kBlock + j * kWide<T>).v;
    store(lanes + f * kWide<T>, sum);
  }
}

// The greatest of `count` vectors, and of `most`.
template <typename T>
inline void greatest_row(const Given<T>& from, int64_t count, Pack<T>& most) {
  Pack<T> more[4] = {most, most, most, most};  // one would wait for itself
  int64_t n = 0;
  for (; n + 4 <= count; n += 4) {
    for (int i = 0; i < 4; ++i) more[i] = greater(load(from.data + (n + i) * from.step), more[i]);
  }
  for (; n < count; ++n) more[0] = greater(load(from.data + n * from.step), more[0]);
  most = greater(greater(more[0], more[1]), greater(more[2], more[3]));
}

// As map_and_sum, of turned keys: kWide features at once.
template <typename T>
void map_and_sum_turned(const Given<T>& from, T* keys, int64_t count, const Plan& plan, const Sums<T>& sums,
                        Ahead& ahead) {
  const T least = -std::numeric_limits<T>::infinity();
  for (int64_t f = 0; f < plan.features; f += kWide<T>) {
    const Given<T> column{from.data + f, from.step};
    Pack<T> most{all(least)};
    greatest_row(column, count, most);
    if (any_greater(most, Pack<T>{load(sums.most + f).v + T(kSlack)})) {
      for (int64_t i = 0; i < kWide<T>; ++i) {
        T *shift = sums.most + f + i, *context = sums.context + (f + i) * plan.width;
        if (most.v[i] > *shift) rescale(most.v[i], plan.width, shift, context, sums.total + f + i, 1);
      }
    }
    const Pack<T> shifts = load(sums.most + f);
    const Pack<T> shift{shifts.v == least ? Pack<T>{}.v : shifts.v};  // -inf - -inf is NaN
    Pack<T> sum = load(sums.total + f);
    for (int64_t n = 0; n < count; ++n) {
      ahead.fetch();
      const Pack<T> y = exp_of(Pack<T>{load(column.data + n * column.step).v - shift.v});
      store(keys + n * plan.features + f, y);
      sum.v += y.v;
    }
    store(sums.total + f, sum);
  }
}

// Tiles and lanes of a task that sums.
template <typename T>
struct SumRoom {
  T *lanes, *keys, *values;

  static int64_t size(const Plan& plan) { return plan.features * kPad + (plan.features + plan.width) * kBlock; }
  SumRoom(Room<T> room, const Plan& plan)
      : lanes(room.take(plan.features * kPad)),
        keys(room.take(plan.features * kBlock)),
        values(room.take(plan.width * kBlock)) {}
};

// Adds the keys and values of a block to the sums.
template <typename T>
void sum_block(const Columns<T>& here, int64_t count, bool softmax, const Plan& plan, const Sums<T>& sums,
               const SumRoom<T>& room, Ahead& ahead) {
  const int64_t features = plan.sizes.features, vectors = vectors_of<T>(count);
  const T hidden = -std::numeric_limits<T>::infinity();
  const bool masked = here.mask != nullptr;
  const Given<T> values = turned_of(here.v, count, plan.sizes.width, room.values, masked);
  hide_turned(here.mask, count, plan.sizes.width, room.values);
  const Rows<T> to{sums.context, plan.width};
  if (softmax && !masked && is_turned(here.k, features)) {
    map_and_sum_turned(Given<T>{here.k.data, here.k.position}, room.keys, count, plan, sums, ahead);
    product<By::columns>(Given<T>{room.keys, plan.features}, values, to, plan.features, plan.width / kWide<T>, count,
                         Into::add, ahead);
    return;
  }
  const Given<T> keys = tile_of(here.k, count, features, hidden, room.keys, masked);
  hide(here.mask, count, features, hidden, room.keys);
  if (softmax) {
    map_and_sum(keys, room.keys, vectors, plan, sums, room.lanes, ahead);
  } else {
    elu1_rows(keys, Rows<T>{room.keys, kBlock}, features, vectors, ahead);
    add_rows(room.keys, vectors, features, room.lanes);
  }
  product<By::rows>(Given<T>{room.keys, kBlock}, values, to, plan.features, plan.width / kWide<T>, count, Into::add,
                    ahead);
}

// The sums over the keys of one part.
template <typename T>
void sum_part(const Columns<T>& part, bool softmax, const Plan& plan, const Sums<T>& sums, const SumRoom<T>& room) {
  const int64_t features = plan.sizes.features;
  std::fill_n(room.lanes, plan.features * kPad, T(0));
  std::fill_n(sums.context, plan.features * plan.width, T(0));
  std::fill_n(sums.total, plan.features, T(0));
  std::fill_n(sums.most, plan.features, -std::numeric_limits<T>::infinity());
  for (int64_t n = 0; n < part.count; n += kBlock) {
    const Columns<T> here = part.from(n);
    Ahead ahead;
    if (plan.beyond_cache<T>()) {
      ahead.read(here.v.from(kBlock), kBlock, plan.sizes.width);
      ahead.read(here.k.from(kBlock), kBlock, features);
    }
    sum_block(here, std::min(kBlock, part.count - n), softmax, plan, sums, room, ahead);
  }
  for (int64_t f = 0; f < features; ++f) sums.total[f] += sum_of(load(room.lanes + f * kWide<T>));
}

// Adds up the parts of one feature into `row`; gives back the normalizer: log of the sum for softmax, which also
// divides the row, else the sum.
template <typename T>
T merge_row(T* partials, const Plan& plan, int64_t head, int64_t f, bool softmax, T* row) {
  const int64_t width = plan.sizes.width;
  T most = -std::numeric_limits<T>::infinity(), total = 0;
  for (int64_t part = 0; softmax && part < plan.parts; ++part) {
    most = std::max(most, sums_at(partials, plan, head, part).most[f]);
  }
  const T shift = most == -std::numeric_limits<T>::infinity() ? T(0) : most;
  std::fill_n(row, width, T(0));
  for (int64_t part = 0; part < plan.parts; ++part) {
    const Sums<T> sums = sums_at(partials, plan, head, part);
    const T weight = softmax ? std::exp(sums.most[f] - shift) : T(1);
    const T* from = sums.context + f * plan.width;
    total += weight * sums.total[f];
    for (int64_t e = 0; e < width; ++e) row[e] += weight * from[e];
  }
  if (!softmax) return total;
  for (int64_t e = 0; e < width; ++e) row[e] /= total;
  return most + std::log(total);
}

// The context of a head with its padding, which is zeros.
template <typename T>
void pad_context(const T* context, const Plan& plan, T* to) {
  std::fill_n(to, plan.features * plan.width, T(0));
  for (int64_t f = 0; f < plan.sizes.features; ++f) {
    std::copy_n(context + f * plan.sizes.width, plan.sizes.width, to + f * plan.width);
  }
}

// What divides the outputs of elu1: 1 / (sum over features of phi(q) z + eps), of each position.
template <typename T>
void divisors(const T* queries, const T* total, int64_t vectors, int64_t features, T* inverse) {
  for (int64_t j = 0; j < vectors; ++j) {
    Pack<T> sum = all(T(linear_attention::kEpsilon));
    for (int64_t f = 0; f < features; ++f) sum.v += load(queries + f * kBlock + j * kWide<T>).v * total[f];
    store(inverse + j * kWide<T>, Pack<T>{T(1) / sum.v});
  }
}

// To be called before `view` is written.
template <typename T>
void expect_writes_to(const View<T>& view, const linear_attention::Sizes& s, int64_t features) {
  if (view.data == nullptr || s.batch * s.heads * s.positions == 0) return;
  const int64_t last = (s.batch - 1) * view.batch + (s.heads - 1) * view.head + (s.positions - 1) * view.position +
                       (features - 1) * view.feature;
  expect_writes(view.data, (last + 1) * static_cast<int64_t>(sizeof(T)));
}

}  // namespace iqazoo::cpu::tiles
