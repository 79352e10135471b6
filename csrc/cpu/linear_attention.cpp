#include "cpu/linear_attention.h"

#include "cpu/linear_attention_sums.h"
#include "cpu/parallel.h"

namespace iqazoo::cpu {
namespace {

using namespace tiles;

// Queries as the context is multiplied with them: mapped, scaled, for elu1 divided.
template <typename T>
void map_queries(const LinearAttention<T>& call, const T* total, int64_t vectors, T* queries) {
  const int64_t features = call.sizes.features;
  if (call.map == Map::softmax) {
    softmax_features(queries, vectors, features, call.scale);
  } else if (call.map == Map::scale) {
    scale_tile(queries, vectors, features, call.scale);
  } else {
    T inverse[kBlock];
    elu1_tile(queries, vectors, features);
    divisors(queries, total, vectors, features, inverse);
    scale_positions(queries, inverse, vectors, features);
  }
}

template <typename T>
void merge(const LinearAttention<T>& call, const Plan& plan, T* partials, int64_t head) {
  const int64_t features = plan.sizes.features, width = plan.sizes.width;
  for (int64_t f = 0; f < features; ++f) {
    T* row = call.context + (head * features + f) * width;
    call.normalizer[head * features + f] = merge_row(partials, plan, head, f, call.map != Map::elu1, row);
  }
}

// The outputs of one chunk.
template <typename T>
void attend(const LinearAttention<T>& call, const Plan& plan, const Place& place, int64_t part, const View<T>& out) {
  const int64_t features = plan.sizes.features, width = plan.sizes.width;
  Room<T> room(plan.features * plan.width + (plan.features + plan.width) * kBlock);
  T* context = room.take(plan.features * plan.width);
  T* queries = room.take(plan.features * kBlock);
  T* outputs = room.take(plan.width * kBlock);
  pad_context(call.context + place.index * features * width, plan, context);
  const T* total = call.normalizer + place.index * features;
  const Head<T> from = head_of(call.q, place.batch, place.head).from(plan.first(part));
  const Head<T> to = head_of(out, place.batch, place.head).from(plan.first(part));
  for (int64_t n = 0; n < plan.count(part); n += kBlock) {
    const int64_t count = std::min(kBlock, plan.count(part) - n), vectors = vectors_of<T>(count);
    load_tile(from.from(n), count, features, T(0), queries);
    Ahead<T> ahead;
    ahead.areas[0] = Ahead<T>::area(from.from(n + kBlock), features);
    map_queries(call, total, vectors, queries);
    product<By::columns>(context, plan.width, queries, kBlock, outputs, kBlock, plan.width, vectors, plan.features,
                         false, ahead);
    store_tile(outputs, count, width, plan.past_caches<T>(), to.from(n));
  }
  end_stream();
}

}  // namespace

template <typename T>
void linear_attention_forward(const LinearAttention<T>& call, const View<T>& out) {
  const Plan plan(call.sizes);
  const auto partials = uninitialized<T>(plan.heads * plan.parts * plan.stride);
  const auto sum = [&](int64_t head, int64_t part) {
    const Columns<T> columns = columns_of(call, plan, plan.place(head), part);
    sum_part(columns, call.map != Map::elu1, plan, sums_at(partials.get(), plan, head, part), Room<T>(sum_room(plan)));
  };
  expect_writes_to(out, call.sizes, call.sizes.width);
  if (plan.chunks <= 1) {  // few positions: to wait for all threads between the steps would cost more than it gains
    parallel_for(plan.heads, call.threads, [&](int64_t head) {
      for (int64_t part = 0; part < plan.parts; ++part) sum(head, part);
      merge(call, plan, partials.get(), head);
      if (plan.chunks > 0) attend(call, plan, plan.place(head), 0, out);
    });
    return;
  }
  parallel_for(plan.heads * plan.parts, call.threads,
               [&](int64_t task) { sum(task / plan.parts, task % plan.parts); });
  parallel_for(plan.heads, call.threads, [&](int64_t head) { merge(call, plan, partials.get(), head); });
  parallel_for(plan.heads * plan.chunks, call.threads, [&](int64_t task) {
    attend(call, plan, plan.place(task / plan.chunks), task % plan.chunks, out);
  });
}

template void linear_attention_forward(const LinearAttention<float>&, const View<float>&);
template void linear_attention_forward(const LinearAttention<double>&, const View<double>&);

}  // namespace iqazoo::cpu
