// Causal sums: a chunk starts from the sums of all before it. Within a block, a triangle of products of its positions is
// added to what the running sums give. Going back, the gradients' sums run from the last position to the first.
#include "cpu/linear_attention_sums.h"
#include "cpu/parallel.h"

namespace iqazoo::cpu {
namespace {

using namespace tiles;

// The sums over the keys before each part: part 0 starts from the memory, which itself starts from nothing. Writes the
// sums over all to context and normalizer.
template <typename T>
void run_forward(const LinearAttention<T>& call, const Plan& plan, T* partials, int64_t head) {
  const int64_t features = plan.sizes.features, width = plan.sizes.width, size = plan.features * (plan.width + 1);
  auto total = uninitialized<T>(size);
  std::fill_n(total.get(), size, T(0));
  if (plan.parts > plan.chunks) std::copy_n(sums_at(partials, plan, head, plan.chunks).context, size, total.get());
  for (int64_t part = 0; part < plan.chunks; ++part) {
    T* sums = sums_at(partials, plan, head, part).context;  // `total` lies behind it
    for (int64_t i = 0; i < size; ++i) {
      const T own = sums[i];
      sums[i] = total[i];
      total[i] += own;
    }
  }
  for (int64_t f = 0; f < features; ++f) {
    std::copy_n(total.get() + f * plan.width, width, call.context + (head * features + f) * width);
    call.normalizer[head * features + f] = total[plan.features * plan.width + f];
  }
}

// The other way: each part of the gradients starts from the sums of all behind it; the memory gets all.
template <typename T>
void run_back(const Plan& plan, T* partials, int64_t head, T* all) {
  const int64_t size = plan.features * (plan.width + 1);
  std::fill_n(all, size, T(0));
  for (int64_t part = plan.chunks - 1; part >= 0; --part) {
    T* sums = sums_at(partials, plan, head, part).context;
    for (int64_t i = 0; i < size; ++i) {
      const T own = sums[i];
      sums[i] = all[i];
      all[i] += own;
    }
  }
}

// 0 where the row comes after the column, whose position then does not see the row's.
template <typename T>
void keep_upper(T* square, int64_t count) {
  for (int64_t m = 0; m < count; ++m) std::fill_n(square + m * kBlock, m, T(0));
}

template <typename T>
void keep_lower(T* square, int64_t count) {
  const int64_t width = vectors_of<T>(count) * kWide<T>;
  for (int64_t n = 0; n < count; ++n) std::fill(square + n * kBlock + n + 1, square + n * kBlock + width, T(0));
}

// Tiles of one task. `context` and `total` run along with the positions.
template <typename T>
struct CausalRoom {
  T *context, *total, *q, *k, *v, *v_turned, *grads, *grads_turned, *slopes, *more, *square;
  T inverse[kBlock], u[kBlock];

  static int64_t size(const Plan& plan) {
    return plan.features * (plan.width + 1 + 4 * kBlock) + 4 * plan.width * kBlock + kBlock * kBlock;
  }
  CausalRoom(Room<T> room, const Plan& plan, const Sums<T>& start)
      : context(room.take(plan.features * plan.width)),
        total(room.take(plan.features)),
        q(room.take(plan.features * kBlock)),
        k(room.take(plan.features * kBlock)),
        v(room.take(plan.width * kBlock)),
        v_turned(room.take(plan.width * kBlock)),
        grads(room.take(plan.width * kBlock)),
        grads_turned(room.take(plan.width * kBlock)),
        slopes(room.take(plan.features * kBlock)),
        more(room.take(plan.features * kBlock)),
        square(room.take(kBlock * kBlock)) {
    std::copy_n(start.context, plan.features * plan.width, context);
    std::fill_n(total, plan.features, T(0));
    std::copy_n(start.total, plan.sizes.features, total);
    for (int64_t f = plan.sizes.features; f < plan.features; ++f) std::fill_n(context + f * plan.width, plan.width, T(0));
  }
};

// A block of one head.
template <typename T>
struct Block {
  const LinearAttention<T>& call;
  const Plan& plan;
  const Place& place;
  int64_t first, count;

  int64_t vectors() const { return vectors_of<T>(count); }
  const bool* mask() const { return call.mask ? call.mask + place.batch * call.sizes.positions + first : nullptr; }
  Head<T> at(const View<T>& view) const { return head_of(view, place.batch, place.head).from(first); }

  void load_maps(const CausalRoom<T>& room) const {
    const int64_t features = plan.sizes.features;
    load_tile(at(call.q), count, features, T(0), room.q);
    load_tile(at(call.k), count, features, -std::numeric_limits<T>::infinity(), room.k);
    load_both(at(call.v), count, plan.sizes.width, room.v, room.v_turned);
    hide(mask(), count, features, -std::numeric_limits<T>::infinity(), room.k);
    hide(mask(), count, plan.sizes.width, T(0), room.v);
    hide_turned(mask(), count, plan.sizes.width, room.v_turned);
    Ahead nothing;
    for (T* tile : {room.q, room.k}) {
      elu1_rows(Given<T>{tile, kBlock}, Rows<T>{tile, kBlock}, features, vectors(), nothing);
    }
  }

  // to (+)= A B for a square of positions: A by its columns.
  void square_of(const T* a, const T* b, int64_t depth, T* to) const {
    product<By::columns>(a, kBlock, b, kBlock, to, kBlock, kBlock, vectors(), depth, false);
  }

  // Keys and values join the running sums.
  void advance(const CausalRoom<T>& room) const {
    product<By::rows>(room.k, kBlock, room.v_turned, plan.width, room.context, plan.width, plan.features,
                      plan.width / kWide<T>, count, true);
    for (int64_t f = 0; f < plan.sizes.features; ++f) {
      for (int64_t n = 0; n < count; ++n) room.total[f] += room.k[f * kBlock + n];
    }
  }

  // 1 / (phi(q) . z + eps), where z sums up to each position; `square` holds phi(k) . phi(q), the upper triangle.
  void divide(CausalRoom<T>& room) const {
    T sums[kBlock];
    std::fill_n(sums, kBlock, T(linear_attention::kEpsilon));
    for (int64_t f = 0; f < plan.sizes.features; ++f) {
      for (int64_t n = 0; n < count; ++n) sums[n] += room.q[f * kBlock + n] * room.total[f];
    }
    for (int64_t m = 0; m < count; ++m) {
      for (int64_t n = m; n < count; ++n) sums[n] += room.square[m * kBlock + n];
    }
    for (int64_t n = 0; n < kBlock; ++n) room.inverse[n] = T(1) / sums[n];
  }
};

template <typename T>
void attend(const Block<T>& block, CausalRoom<T>& room, const View<T>& out) {
  const Plan& plan = block.plan;
  const int64_t vectors = block.vectors();
  block.load_maps(room);
  block.square_of(room.k, room.q, plan.features, room.square);
  keep_upper(room.square, block.count);
  block.divide(room);
  product<By::columns>(room.context, plan.width, room.q, kBlock, room.grads, kBlock, plan.width, vectors, plan.features,
                       false);
  product<By::columns>(room.v_turned, plan.width, room.square, kBlock, room.grads, kBlock, plan.width, vectors,
                       block.count, true);
  scale_positions(room.grads, room.inverse, vectors, plan.width);
  store_tile(room.grads, block.count, plan.sizes.width, plan.past_caches<T>(), block.at(out));
  block.advance(room);
}

// `more` becomes the sum of the keys up to each position.
template <typename T>
void running_totals(const Block<T>& block, const CausalRoom<T>& room) {
  for (int64_t f = 0; f < block.plan.sizes.features; ++f) {
    T sum = room.total[f];
    for (int64_t n = 0; n < block.count; ++n) room.more[f * kBlock + n] = sum += room.k[f * kBlock + n];
  }
}

// The gradient of some queries, and what they add to the gradients of the sums. With q^ = phi(q) / s and
// t = C dO / s: u = -sum q^ s t / s is s times the gradient in s. Keeps 1 / s and u for the way back.
template <typename T>
void differentiate_queries(const Block<T>& block, CausalRoom<T>& room, const View<T>& grad_out, const View<T>& grad_q,
                           T* kept, const Sums<T>& sums) {
  const Plan& plan = block.plan;
  const int64_t vectors = block.vectors(), features = plan.sizes.features;
  block.load_maps(room);
  block.square_of(room.k, room.q, plan.features, room.square);
  block.divide(room);
  load_both(block.at(grad_out), block.count, plan.sizes.width, room.grads, room.grads_turned);
  block.square_of(room.v, room.grads, plan.width, room.square);  // v_m . dO_n
  keep_upper(room.square, block.count);
  product<By::rows>(room.context, plan.width, room.grads, kBlock, room.slopes, kBlock, plan.features, vectors,
                    plan.width, false);
  product<By::rows>(room.k, kBlock, room.square, kBlock, room.slopes, kBlock, plan.features, vectors, block.count, true);
  running_totals(block, room);
  for (int64_t n = 0; n < block.count; ++n) {
    T u = 0;
    for (int64_t f = 0; f < features; ++f) u -= room.q[f * kBlock + n] * room.slopes[f * kBlock + n];
    kept[2 * n] = room.inverse[n];
    kept[2 * n + 1] = u *= room.inverse[n];
    for (int64_t f = 0; f < features; ++f) {
      const int64_t i = f * kBlock + n;
      const T phi = room.q[i], slope = phi > T(1) ? T(1) : phi;
      room.slopes[i] = (room.slopes[i] + room.more[i] * u) * room.inverse[n] * slope;
      room.q[i] = phi * room.inverse[n];
      sums.total[f] += room.q[i] * u;
    }
  }
  store_tile(room.slopes, block.count, features, plan.past_caches<T>(), block.at(grad_q));
  product<By::rows>(room.q, kBlock, room.grads_turned, plan.width, sums.context, plan.width, plan.features,
                    plan.width / kWide<T>, block.count, true);
  block.advance(room);
}

// The gradients of some keys and values, from those of the sums behind them, which then run on to the block before.
template <typename T>
void differentiate_keys(const Block<T>& block, CausalRoom<T>& room, const LinearAttentionGradients<T>& grad,
                        const T* kept) {
  const Plan& plan = block.plan;
  const int64_t vectors = block.vectors(), features = plan.sizes.features, width = plan.sizes.width;
  block.load_maps(room);
  load_both(block.at(grad.out), block.count, width, room.grads, room.grads_turned);
  for (int64_t f = 0; f < features; ++f) {
    for (int64_t n = 0; n < block.count; ++n) room.q[f * kBlock + n] *= kept[2 * n];
  }
  block.square_of(room.grads, room.v, plan.width, room.square);  // dO_n . v_m
  for (int64_t n = 0; n < block.count; ++n) {
    for (int64_t m = 0; m <= n; ++m) room.square[n * kBlock + m] += kept[2 * n + 1];
  }
  keep_lower(room.square, block.count);
  product<By::rows>(room.context, plan.width, room.v, kBlock, room.slopes, kBlock, plan.features, vectors, plan.width,
                    false);
  product<By::rows>(room.q, kBlock, room.square, kBlock, room.slopes, kBlock, plan.features, vectors, block.count, true);
  for (int64_t f = 0; f < features; ++f) {
    for (int64_t m = 0; m < block.count; ++m) {
      const T phi = room.k[f * kBlock + m], slope = phi > T(1) ? T(1) : phi;
      room.slopes[f * kBlock + m] = (room.slopes[f * kBlock + m] + room.total[f]) * slope;
    }
  }
  block.square_of(room.q, room.k, plan.features, room.square);  // q^_n . phi(k_m)
  keep_lower(room.square, block.count);
  product<By::columns>(room.context, plan.width, room.k, kBlock, room.v, kBlock, plan.width, vectors, plan.features,
                       false);
  product<By::columns>(room.grads_turned, plan.width, room.square, kBlock, room.v, kBlock, plan.width, vectors,
                       block.count, true);
  hide(block.mask(), block.count, features, T(0), room.slopes);
  hide(block.mask(), block.count, width, T(0), room.v);
  store_tile(room.slopes, block.count, features, plan.past_caches<T>(), block.at(grad.k));
  store_tile(room.v, block.count, width, plan.past_caches<T>(), block.at(grad.v));
  product<By::rows>(room.q, kBlock, room.grads_turned, plan.width, room.context, plan.width, plan.features,
                    plan.width / kWide<T>, block.count, true);
  for (int64_t f = 0; f < features; ++f) {
    for (int64_t n = 0; n < block.count; ++n) room.total[f] += room.q[f * kBlock + n] * kept[2 * n + 1];
  }
}

// The sums before each part, to `partials`.
template <typename T>
void starts(const LinearAttention<T>& call, const Plan& plan, T* partials) {
  parallel_for(plan.heads * plan.parts, call.threads, [&](int64_t task) {
    const int64_t head = task / plan.parts, part = task % plan.parts;
    sum_part(columns_of(call, plan, plan.place(head), part), false, plan, sums_at(partials, plan, head, part),
             SumRoom<T>(Room<T>(SumRoom<T>::size(plan)), plan));
  });
  parallel_for(plan.heads, call.threads, [&](int64_t head) { run_forward(call, plan, partials, head); });
}

// The gradients of the memory's keys and values, which every position sees.
template <typename T>
void differentiate_memory(const LinearAttention<T>& call, const LinearAttentionGradients<T>& grad, const Plan& plan,
                          const Place& place, const T* all) {
  const Head<T> keys = head_of(call.memory_k, 0, place.head), values = head_of(call.memory_v, 0, place.head);
  const Head<T> to_k = head_of(grad.memory_k, place.batch, place.head);
  const Head<T> to_v = head_of(grad.memory_v, place.batch, place.head);
  const T* total = all + plan.features * plan.width;
  for (int64_t m = 0; m < plan.sizes.columns; ++m) {
    for (int64_t e = 0; e < plan.sizes.width; ++e) to_v.data[m * to_v.position + e * to_v.feature] = 0;
    for (int64_t f = 0; f < plan.sizes.features; ++f) {
      const T phi = linear_attention::elu1(keys.data[m * keys.position + f * keys.feature]);
      T slope = total[f];
      for (int64_t e = 0; e < plan.sizes.width; ++e) {
        const T part = all[f * plan.width + e];
        slope += part * values.data[m * values.position + e * values.feature];
        to_v.data[m * to_v.position + e * to_v.feature] += part * phi;
      }
      to_k.data[m * to_k.position + f * to_k.feature] = slope * (phi > T(1) ? T(1) : phi);
    }
  }
}

}  // namespace

template <typename T>
void causal_linear_attention_forward(const LinearAttention<T>& call, const View<T>& out) {
  const Plan plan(call.sizes);
  const auto partials = uninitialized<T>(plan.heads * plan.parts * plan.stride);
  starts(call, plan, partials.get());
  expect_writes_to(out, call.sizes, call.sizes.width);
  parallel_for(plan.heads * plan.chunks, call.threads, [&](int64_t task) {
    const Place place = plan.place(task / plan.chunks);
    const int64_t part = task % plan.chunks, last = plan.first(part) + plan.count(part);
    CausalRoom<T> room(Room<T>(CausalRoom<T>::size(plan)), plan, sums_at(partials.get(), plan, place.index, part));
    for (int64_t n = plan.first(part); n < last; n += kBlock) {
      attend(Block<T>{call, plan, place, n, std::min(kBlock, last - n)}, room, out);
    }
    end_stream();
  });
}

template <typename T>
void causal_linear_attention_backward(const LinearAttention<T>& call, const LinearAttentionGradients<T>& grad) {
  const Plan plan(call.sizes);
  const int64_t numbers = plan.heads * plan.parts * plan.stride, size = plan.features * (plan.width + 1);
  const auto partials = uninitialized<T>(numbers), slopes = uninitialized<T>(numbers);
  const auto all = uninitialized<T>(plan.heads * size);
  const auto kept = uninitialized<T>(2 * plan.heads * plan.sizes.positions);
  starts(call, plan, partials.get());
  parallel_for(plan.heads * plan.chunks, call.threads, [&](int64_t task) {
    const Place place = plan.place(task / plan.chunks);
    const int64_t part = task % plan.chunks, last = plan.first(part) + plan.count(part);
    CausalRoom<T> room(Room<T>(CausalRoom<T>::size(plan)), plan, sums_at(partials.get(), plan, place.index, part));
    const Sums<T> sums = sums_at(slopes.get(), plan, place.index, part);
    std::fill_n(sums.context, size, T(0));
    for (int64_t n = plan.first(part); n < last; n += kBlock) {
      differentiate_queries(Block<T>{call, plan, place, n, std::min(kBlock, last - n)}, room, grad.out, grad.q,
                            kept.get() + 2 * (place.index * plan.sizes.positions + n), sums);
    }
    end_stream();
  });
  parallel_for(plan.heads, call.threads, [&](int64_t head) {
    run_back(plan, slopes.get(), head, all.get() + head * size);
    differentiate_memory(call, grad, plan, plan.place(head), all.get() + head * size);
  });
  parallel_for(plan.heads * plan.chunks, call.threads, [&](int64_t task) {
    const Place place = plan.place(task / plan.chunks);
    const int64_t part = task % plan.chunks, first = plan.first(part), count = plan.count(part);
    CausalRoom<T> room(Room<T>(CausalRoom<T>::size(plan)), plan, sums_at(slopes.get(), plan, place.index, part));
    for (int64_t n = first + (count - 1) / kBlock * kBlock; n >= first; n -= kBlock) {
      differentiate_keys(Block<T>{call, plan, place, n, std::min(kBlock, first + count - n)}, room, grad,
                         kept.get() + 2 * (place.index * plan.sizes.positions + n));
    }
    end_stream();
  });
}

#define IQAZOO_INSTANTIATE(T)                                                            \
  template void causal_linear_attention_forward(const LinearAttention<T>&, const View<T>&); \
  template void causal_linear_attention_backward(const LinearAttention<T>&, const LinearAttentionGradients<T>&);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cpu
