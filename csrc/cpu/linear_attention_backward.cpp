#include "cpu/linear_attention_sums.h"
#include "cpu/parallel.h"

namespace iqazoo::cpu {
namespace {

using namespace tiles;

// Gradients in context and total of each head, padded like the partial sums they are merged from; of softmax, in place
// of the latter, what is subtracted from every position's: sum_e dC o C.
template <typename T>
struct Slopes {
  std::unique_ptr<T[]> data;
  int64_t stride;

  explicit Slopes(const Plan& plan)
      : data(uninitialized<T>(plan.heads * (plan.features * plan.width + plan.features))),
        stride(plan.features * plan.width + plan.features) {}
  T* context(int64_t head) const { return data.get() + head * stride; }
  T* shift(const Plan& plan, int64_t head) const { return context(head) + plan.features * plan.width; }
};

// The gradient in mapped queries `slopes`, through a softmax over features: scale * sigma * (g - sum sigma g).
template <typename T>
void softmax_queries(const T* sigma, int64_t vectors, int64_t features, T scale, const T* slopes,
                     const TileTarget<T>& to, Ahead& ahead) {
  Pack<T> sums[kBlock / kWide<T>] = {};
  for (int64_t f = 0; f < features; ++f) {
    for (int64_t j = 0; j < vectors; ++j) {
      const int64_t at = f * kBlock + j * kWide<T>;
      sums[j].v += load(sigma + at).v * load(slopes + at).v;
    }
  }
  const bool streams = to.streams();
  for (int64_t f = 0; f < features; ++f) {
    for (int64_t j = 0; j < vectors; ++j) {
      ahead.fetch();
      const int64_t at = f * kBlock + j * kWide<T>;
      const Pack<T> slope{scale * load(sigma + at).v * (load(slopes + at).v - sums[j].v)};
      put(to.rows.data + f * to.rows.step + j * kWide<T>, slope, streams);
    }
  }
}

template <typename T>
inline Pack<T> elu1_slopes(const Pack<T>& mapped) {
  return {mapped.v > T(1) ? mapped.v - mapped.v + T(1) : mapped.v};  // above 1 exactly where x > 0
}

// Of elu1: with phi the mapped queries, `slopes` C dO / s, s the divisors: h = -sum phi slopes / s is the gradient in
// s; adds phi h to the lanes of z's gradient and writes the gradient in the queries.
template <typename T>
void elu1_queries(const T* phi, const T* inverse, const T* total, int64_t vectors, int64_t features, const T* slopes,
                  T* lanes, const Rows<T>& to) {
  for (int64_t j = 0; j < vectors; ++j) {
    const T *p = phi + j * kWide<T>, *g = slopes + j * kWide<T>;
    Pack<T> sum{};
    for (int64_t f = 0; f < features; ++f) sum.v -= load(p + f * kBlock).v * load(g + f * kBlock).v;
    const Pack<T> h{sum.v * load(inverse + j * kWide<T>).v};
    for (int64_t f = 0; f < features; ++f) {
      const Pack<T> mapped = load(p + f * kBlock);
      store(lanes + f * kWide<T>, Pack<T>{load(lanes + f * kWide<T>).v + mapped.v * h.v});
      store(to.data + f * to.step + j * kWide<T>,
            Pack<T>{(load(g + f * kBlock).v + total[f] * h.v) * elu1_slopes(mapped).v});
    }
  }
}

// Tiles and sums of one task over queries.
template <typename T>
struct QueryRoom {
  T *context, *lanes, *queries, *slopes, *grads, *turned;

  static int64_t size(const Plan& plan) {
    return plan.features * (plan.width + kPad) + 2 * (plan.features + plan.width) * kBlock;
  }
  QueryRoom(Room<T> room, const Plan& plan)
      : context(room.take(plan.features * plan.width)),
        lanes(room.take(plan.features * kPad)),
        queries(room.take(plan.features * kBlock)),
        slopes(room.take(plan.features * kBlock)),
        grads(room.take(plan.width * kBlock)),
        turned(room.take(plan.width * kBlock)) {}
};

// The outputs' gradient as a tile and turned.
template <typename T>
struct BothForms {
  Given<T> tile, turned;
};

template <typename T>
BothForms<T> both_forms(const Head<T>& from, int64_t count, int64_t features, bool copied, const QueryRoom<T>& room) {
  return {tile_of(from, count, features, T(0), room.grads, copied),
          turned_of(from, count, features, room.turned, copied)};
}

// The gradient in some queries, from both forms of the outputs' gradient, to `to`; and what they add to the lanes of
// z's gradient. Leaves the mapped queries in the room: their product with the turned gradient adds to the context's.
template <typename T>
void query_slopes(const LinearAttention<T>& call, const Plan& plan, const T* total, const Given<T>& queries,
                  const BothForms<T>& grads, int64_t count, const QueryRoom<T>& room, const TileTarget<T>& to,
                  Ahead& ahead) {
  const int64_t features = plan.sizes.features, vectors = vectors_of<T>(count);
  const Rows<T> slopes{room.slopes, kBlock};
  T inverse[kBlock];
  if (call.map == Map::softmax) {
    exp_features(queries, room.queries, vectors, features, T(1), inverse, ahead);
    scale_positions(room.queries, inverse, vectors, features);
  } else if (call.map == Map::elu1) {
    elu1_rows(queries, Rows<T>{room.queries, kBlock}, features, vectors, ahead);
    divisors(room.queries, total, vectors, features, inverse);
    scale_positions(room.grads, inverse, vectors, plan.width);
    for (int64_t n = 0; n < count; ++n) {
      for (int64_t e = 0; e < plan.width; ++e) room.turned[n * plan.width + e] *= inverse[n];
    }
  }
  product<By::rows>(Given<T>{room.context, plan.width}, grads.tile, slopes, plan.features, vectors, plan.width,
                    Into::set, ahead);
  if (call.map == Map::softmax) {
    softmax_queries(room.queries, vectors, features, call.scale, room.slopes, to, ahead);
  } else if (call.map == Map::scale) {
    scale_rows(Given<T>{slopes.data, slopes.step}, to.rows, features, vectors, call.scale, ahead);
  } else {
    elu1_queries(room.queries, inverse, total, vectors, features, room.slopes, room.lanes, to.rows);
  }
}

// Gradients of one chunk's queries, and its part of those in context and z.
template <typename T>
void differentiate_queries(const LinearAttention<T>& call, const LinearAttentionGradients<T>& grad, const Plan& plan,
                           const Place& place, int64_t part, const Sums<T>& sums) {
  const int64_t features = plan.sizes.features, width = plan.sizes.width;
  const QueryRoom<T> room(Room<T>(QueryRoom<T>::size(plan)), plan);
  pad_context(call.context + place.index * features * width, plan, room.context);
  std::fill_n(room.lanes, plan.features * kPad, T(0));
  std::fill_n(sums.context, plan.features * plan.width, T(0));
  const T* total = call.normalizer + place.index * features;
  const int64_t first = plan.first(part);
  const bool past = plan.past_caches<T>();
  const Head<T> q = head_of(call.q, place.batch, place.head), out = head_of(grad.out, place.batch, place.head);
  const Head<T> to = head_of(grad.q, place.batch, place.head);
  for (int64_t n = first; n < first + plan.count(part); n += kBlock) {
    const int64_t count = std::min(kBlock, first + plan.count(part) - n);
    Ahead ahead;
    if (plan.beyond_cache<T>()) {
      if (is_turned(to, features)) ahead.write(to.from(n), count, features);
      ahead.read(out.from(n + kBlock), kBlock, width);
      ahead.read(q.from(n + kBlock), kBlock, features);
    }
    const bool kept = call.map == Map::scale;  // what is not mapped to the room
    const Given<T> queries = tile_of(q.from(n), count, features, T(0), room.queries, kept);
    const BothForms<T> grads = both_forms(out.from(n), count, width, call.map == Map::elu1, room);
    const TileTarget<T> target(to.from(n), count, features, past, room.slopes);
    query_slopes(call, plan, total, queries, grads, count, room, target, ahead);
    product<By::rows>(Given<T>{room.queries, kBlock}, grads.turned, Rows<T>{sums.context, plan.width}, plan.features,
                      plan.width / kWide<T>, count, Into::add, ahead);
    target.finish();
  }
  end_stream();
  for (int64_t f = 0; f < features; ++f) sums.total[f] = sum_of(load(room.lanes + f * kWide<T>));
}

// Adds up the chunks. Padding becomes 0.
template <typename T>
void merge_slopes(const LinearAttention<T>& call, const Plan& plan, T* partials, int64_t head, const Slopes<T>& slopes) {
  const int64_t features = plan.sizes.features, width = plan.sizes.width;
  const bool elu1 = call.map == Map::elu1;
  const T* context = call.context + head * features * width;
  T *to = slopes.context(head), *shift = slopes.shift(plan, head);
  std::fill_n(to, slopes.stride, T(0));
  for (int64_t f = 0; f < features; ++f) {
    T* row = to + f * plan.width;
    for (int64_t part = 0; part < plan.chunks; ++part) {
      const Sums<T> sums = sums_at(partials, plan, head, part);
      for (int64_t e = 0; e < width; ++e) row[e] += sums.context[f * plan.width + e];
      shift[f] += elu1 ? -sums.total[f] : T(0);
    }
    for (int64_t e = 0; e < width && !elu1; ++e) {
      row[e] *= call.scale;
      shift[f] += row[e] * context[f * width + e];
    }
  }
}

// The gradient in keys from `sum`, that in mapped keys, dC v: less `shift`, times the map's derivative.
template <typename T>
inline void to_key_slope(Pack<T>& sum, const T* mapped, const Pack<T>& shift, bool elu1) {
  const Pack<T> y = load(mapped), slope = elu1 ? elu1_slopes(y) : y;
  sum.v = slope.v * (sum.v - shift.v);
}

// Where the gradients of keys and values go.
template <typename T>
struct Targets {
  Head<T> k, v;
};

template <typename T>
Targets<T> targets_of(const LinearAttentionGradients<T>& grad, const Plan& plan, const Place& place, int64_t part) {
  if (plan.is_memory(part)) {
    return {head_of(grad.memory_k, place.batch, place.head), head_of(grad.memory_v, place.batch, place.head)};
  }
  const int64_t first = plan.first(part);
  return {head_of(grad.k, place.batch, place.head).from(first), head_of(grad.v, place.batch, place.head).from(first)};
}

// Tiles of a task that differentiates keys, and dC turned.
template <typename T>
struct KeyRoom {
  T *keys, *key_grads, *values, *value_grads, *turned;

  static int64_t size(const Plan& plan) {
    return 2 * (plan.features + plan.width) * kBlock + plan.features * plan.width;
  }
  KeyRoom(Room<T> room, const Plan& plan)
      : keys(room.take(plan.features * kBlock)),
        key_grads(room.take(plan.features * kBlock)),
        values(room.take(plan.width * kBlock)),
        value_grads(room.take(plan.width * kBlock)),
        turned(room.take(plan.features * plan.width)) {}
};

// What the gradients of keys and values come from, for one head: dC, what is subtracted, and the keys' normalizer.
template <typename T>
struct KeySlopes {
  bool elu1;
  const T *context, *shift, *normalizer;
};

// Gradients of a block's keys and values, whatever the mask.
template <typename T>
void differentiate_block(const Columns<T>& here, int64_t count, const Targets<T>& to, const Plan& plan,
                         const KeySlopes<T>& slopes, const KeyRoom<T>& room, Ahead& ahead) {
  const int64_t features = plan.sizes.features, width = plan.sizes.width, vectors = vectors_of<T>(count);
  const bool past = plan.past_caches<T>();
  const Given<T> given = tile_of(here.k, count, features, T(0), room.keys);
  const Given<T> values = tile_of(here.v, count, width, T(0), room.values);
  const Given<T> context{slopes.context, plan.width}, keys{room.keys, kBlock};
  const Rows<T> mapped{room.keys, kBlock};
  if (slopes.elu1) {
    elu1_rows(given, mapped, features, vectors, ahead);
  } else {
    exp_below(given, mapped, features, vectors, slopes.normalizer, ahead);
  }
  const TileTarget<T> to_k(to.k, count, features, past, room.key_grads);
  product<By::rows>(context, values, to_k.rows, plan.features, vectors, plan.width, into_of(to_k), ahead,
                    [&](Pack<T>& sum, int64_t f, int64_t j) {
                      to_key_slope(sum, room.keys + f * kBlock + j * kWide<T>, all(slopes.shift[f]), slopes.elu1);
                    });
  to_k.finish();
  const TileTarget<T> to_v(to.v, count, width, past, room.value_grads);
  product<By::columns>(context, keys, to_v.rows, plan.width, vectors, plan.features, into_of(to_v), ahead);
  to_v.finish();
}

// The same with turned keys and values, where all four lie so.
template <typename T>
void differentiate_turned_block(const Columns<T>& here, int64_t count, const Targets<T>& to, const Plan& plan,
                                const KeySlopes<T>& slopes, const KeyRoom<T>& room, Ahead& ahead) {
  const int64_t features = plan.features, width = plan.width, rows = up_to(count, kRows);
  const Given<T> given{here.k.data, here.k.position}, keys{room.keys, features};
  const Given<T> values = turned_of(here.v, count, width, room.values, rows > count);
  const Rows<T> mapped{room.keys, features};
  if (slopes.elu1) {
    elu1_rows(given, mapped, count, features / kWide<T>, ahead);
  } else {
    exp_below_turned(given, mapped, count, features / kWide<T>, slopes.normalizer, ahead);
  }
  const TurnedTarget<T> to_k(to.k, count, features, room.key_grads);
  product<By::rows>(values, Given<T>{room.turned, features}, to_k.rows, rows, features / kWide<T>, width, Into::set,
                    ahead, [&](Pack<T>& sum, int64_t n, int64_t j) {
                      const int64_t f = j * kWide<T>;
                      to_key_slope(sum, room.keys + n * features + f, load(slopes.shift + f), slopes.elu1);
                    });
  to_k.finish();
  const TurnedTarget<T> to_v(to.v, count, width, room.value_grads);
  product<By::rows>(keys, Given<T>{slopes.context, width}, to_v.rows, rows, width / kWide<T>, features, Into::set,
                    ahead);
  to_v.finish();
}

// Gradients of one part's keys and values. 0 for what the mask hides.
template <typename T>
void differentiate_keys(const Columns<T>& part, const Targets<T>& to, const Plan& plan, const KeySlopes<T>& slopes) {
  const int64_t features = plan.sizes.features, width = plan.sizes.width;
  const KeyRoom<T> room(Room<T>(KeyRoom<T>::size(plan)), plan);
  const bool turned = is_turned(part.k, features) && is_turned(part.v, width) && is_turned(to.k, features) &&
                      is_turned(to.v, width);
  if (turned) turn(slopes.context, plan.width, features, width, room.turned, features, width);
  for (int64_t n = 0; n < part.count; n += kBlock) {
    const Columns<T> here = part.from(n);
    const Targets<T> there{to.k.from(n), to.v.from(n)};
    const int64_t count = std::min(kBlock, part.count - n);
    Ahead ahead;
    if (plan.beyond_cache<T>()) {
      ahead.read(here.v.from(kBlock), kBlock, width);
      ahead.read(here.k.from(kBlock), kBlock, features);
      if (turned) ahead.write(there.v, count, width), ahead.write(there.k, count, features);
    }
    if (turned) {
      differentiate_turned_block(here, count, there, plan, slopes, room, ahead);
    } else {
      differentiate_block(here, count, there, plan, slopes, room, ahead);
    }
    hide(here.mask, count, features, T(0), there.k);
    hide(here.mask, count, width, T(0), there.v);
  }
  end_stream();
}

}  // namespace

template <typename T>
void linear_attention_backward(const LinearAttention<T>& call, const LinearAttentionGradients<T>& grad) {
  const Plan plan(call.sizes);
  const auto partials = uninitialized<T>(plan.heads * plan.parts * plan.stride);
  const Slopes<T> slopes(plan);
  const auto queries = [&](int64_t head, int64_t part) {
    differentiate_queries(call, grad, plan, plan.place(head), part, sums_at(partials.get(), plan, head, part));
  };
  const auto keys = [&](int64_t head, int64_t part) {
    const Place place = plan.place(head);
    differentiate_keys(columns_of(call, plan, place, part), targets_of(grad, plan, place, part), plan,
                       KeySlopes<T>{call.map == Map::elu1, slopes.context(head), slopes.shift(plan, head),
                                    call.normalizer + head * plan.sizes.features});
  };
  expect_writes_to(grad.q, call.sizes, call.sizes.features);
  expect_writes_to(grad.k, call.sizes, call.sizes.features);
  expect_writes_to(grad.v, call.sizes, call.sizes.width);
  if (plan.chunks <= 1) {
    parallel_for(plan.heads, call.threads, [&](int64_t head) {
      if (plan.chunks > 0) queries(head, 0);
      merge_slopes(call, plan, partials.get(), head, slopes);
      for (int64_t part = 0; part < plan.parts; ++part) keys(head, part);
    });
    return;
  }
  parallel_for(plan.heads * plan.chunks, call.threads,
               [&](int64_t task) { queries(task / plan.chunks, task % plan.chunks); });
  parallel_for(plan.heads, call.threads,
               [&](int64_t head) { merge_slopes(call, plan, partials.get(), head, slopes); });
  parallel_for(plan.heads * plan.parts, call.threads,
               [&](int64_t task) { keys(task / plan.parts, task % plan.parts); });
}

template void linear_attention_backward(const LinearAttention<float>&, const LinearAttentionGradients<float>&);
template void linear_attention_backward(const LinearAttention<double>&, const LinearAttentionGradients<double>&);

}  // namespace iqazoo::cpu
