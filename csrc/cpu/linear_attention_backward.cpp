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
void softmax_queries(const T* sigma, int64_t vectors, int64_t features, T scale, T* slopes) {
  for (int64_t j = 0; j < vectors; ++j) {
    const T* s = sigma + j * kWide<T>;
    T* g = slopes + j * kWide<T>;
    Pack<T> sum{};
    for (int64_t f = 0; f < features; ++f) sum.v += load(s + f * kBlock).v * load(g + f * kBlock).v;
    for (int64_t f = 0; f < features; ++f) {
      store(g + f * kBlock, Pack<T>{scale * load(s + f * kBlock).v * (load(g + f * kBlock).v - sum.v)});
    }
  }
}

template <typename T>
inline Pack<T> elu1_slopes(const Pack<T>& mapped) {
  return {mapped.v > T(1) ? mapped.v - mapped.v + T(1) : mapped.v};  // above 1 exactly where x > 0
}

// Of elu1: with phi the mapped queries, `slopes` C dO / s, s the divisors: h = -sum phi slopes / s is the gradient in
// s; adds phi h to the lanes of z's gradient and makes `slopes` the gradient in the queries.
template <typename T>
void elu1_queries(const T* phi, const T* inverse, const T* total, int64_t vectors, int64_t features, T* slopes,
                  T* lanes) {
  for (int64_t j = 0; j < vectors; ++j) {
    const T* p = phi + j * kWide<T>;
    T* g = slopes + j * kWide<T>;
    Pack<T> sum{};
    for (int64_t f = 0; f < features; ++f) sum.v -= load(p + f * kBlock).v * load(g + f * kBlock).v;
    const Pack<T> h{sum.v * load(inverse + j * kWide<T>).v};
    for (int64_t f = 0; f < features; ++f) {
      const Pack<T> mapped = load(p + f * kBlock);
      store(lanes + f * kWide<T>, Pack<T>{load(lanes + f * kWide<T>).v + mapped.v * h.v});
      store(g + f * kBlock,
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

// The gradient in some queries, from `room.queries` and both forms of the outputs' gradient, to `room.slopes`; and what
// they add to the lanes of z's gradient. Leaves queries and turned such that their product adds to the context's.
template <typename T>
void query_slopes(const LinearAttention<T>& call, const Plan& plan, const T* total, int64_t count,
                  const QueryRoom<T>& room) {
  const int64_t features = plan.sizes.features, vectors = vectors_of<T>(count);
  T inverse[kBlock];
  if (call.map == Map::softmax) {
    softmax_features(room.queries, vectors, features, T(1));
  } else if (call.map == Map::elu1) {
    elu1_tile(room.queries, vectors, features);
    divisors(room.queries, total, vectors, features, inverse);
    scale_positions(room.grads, inverse, vectors, plan.width);
    for (int64_t n = 0; n < count; ++n) {
      for (int64_t e = 0; e < plan.width; ++e) room.turned[n * plan.width + e] *= inverse[n];
    }
  }
  product<By::rows>(room.context, plan.width, room.grads, kBlock, room.slopes, kBlock, plan.features, vectors,
                    plan.width, false);
  if (call.map == Map::softmax) {
    softmax_queries(room.queries, vectors, features, call.scale, room.slopes);
  } else if (call.map == Map::scale) {
    scale_tile(room.slopes, vectors, features, call.scale);
  } else {
    elu1_queries(room.queries, inverse, total, vectors, features, room.slopes, room.lanes);
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
  for (int64_t n = first; n < first + plan.count(part); n += kBlock) {
    const int64_t count = std::min(kBlock, first + plan.count(part) - n);
    load_tile(head_of(call.q, place.batch, place.head).from(n), count, features, T(0), room.queries);
    load_both(head_of(grad.out, place.batch, place.head).from(n), count, width, room.grads, room.turned);
    Ahead<T> ahead;
    ahead.areas[0] = Ahead<T>::area(head_of(call.q, place.batch, place.head).from(n + kBlock), features);
    ahead.areas[1] = Ahead<T>::area(head_of(grad.out, place.batch, place.head).from(n + kBlock), width);
    query_slopes(call, plan, total, count, room);
    product<By::rows>(room.queries, kBlock, room.turned, plan.width, sums.context, plan.width, plan.features,
                      plan.width / kWide<T>, count, true, ahead);
    store_tile(room.slopes, count, features, past, head_of(grad.q, place.batch, place.head).from(n));
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

// `slopes` is dC v: the gradient in mapped keys less `shift`, times the map's derivative. 0 for what the mask hides.
template <typename T>
void key_slopes(const T* mapped, bool elu1, const T* shift, int64_t vectors, int64_t features, T* slopes) {
  for (int64_t f = 0; f < features; ++f) {
    for (int64_t j = 0; j < vectors; ++j) {
      const int64_t at = f * kBlock + j * kWide<T>;
      const Pack<T> y = load(mapped + at), slope = elu1 ? elu1_slopes(y) : y;
      store(slopes + at, Pack<T>{slope.v * (load(slopes + at).v - shift[f])});
    }
  }
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

// Gradients of one part's keys and values.
template <typename T>
void differentiate_keys(const LinearAttention<T>& call, const Columns<T>& part, const Targets<T>& to, const Plan& plan,
                        int64_t head, const Slopes<T>& slopes) {
  const int64_t features = plan.sizes.features, width = plan.sizes.width;
  const bool elu1 = call.map == Map::elu1, past = plan.past_caches<T>();
  Room<T> room(2 * (plan.features + plan.width) * kBlock);
  T *keys = room.take(plan.features * kBlock), *key_grads = room.take(plan.features * kBlock);
  T *values = room.take(plan.width * kBlock), *value_grads = room.take(plan.width * kBlock);
  for (int64_t n = 0; n < part.count; n += kBlock) {
    const Columns<T> here = part.from(n);
    const int64_t count = std::min(kBlock, part.count - n), vectors = vectors_of<T>(count);
    load_tile(here.k, count, features, T(0), keys);
    load_tile(here.v, count, width, T(0), values);
    hide(here.mask, count, features, -std::numeric_limits<T>::infinity(), keys);
    hide(here.mask, count, width, T(0), values);
    Ahead<T> ahead;
    ahead.areas[0] = Ahead<T>::area(here.k.from(kBlock), features);
    ahead.areas[1] = Ahead<T>::area(here.v.from(kBlock), width);
    if (elu1) {
      elu1_tile(keys, vectors, features);
    } else {
      exp_below(keys, vectors, features, call.normalizer + head * features);
    }
    product<By::rows>(slopes.context(head), plan.width, values, kBlock, key_grads, kBlock, plan.features, vectors,
                      plan.width, false);
    product<By::columns>(slopes.context(head), plan.width, keys, kBlock, value_grads, kBlock, plan.width, vectors,
                         plan.features, false, ahead);
    key_slopes(keys, elu1, slopes.shift(plan, head), vectors, features, key_grads);
    hide(here.mask, count, features, T(0), key_grads);
    hide(here.mask, count, width, T(0), value_grads);
    store_tile(key_grads, count, features, past, to.k.from(n));
    store_tile(value_grads, count, width, past, to.v.from(n));
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
    differentiate_keys(call, columns_of(call, plan, place, part), targets_of(grad, plan, place, part), plan, head,
                       slopes);
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
