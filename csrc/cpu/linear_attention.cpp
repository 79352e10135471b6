#include "cpu/linear_attention.h"

#include "cpu/linear_attention_sums.h"
#include "cpu/parallel.h"

namespace iqazoo::cpu {
namespace {

using namespace tiles;

// Queries mapped, but for a factor at each position, by which their outputs are to be multiplied.
template <typename T>
Given<T> map_queries(const LinearAttention<T>& call, const T* total, const Given<T>& from, int64_t vectors, T* queries,
                     T* factors, Ahead& ahead) {
  const int64_t features = call.sizes.features;
  if (call.map == Map::scale) {
    std::fill_n(factors, kBlock, call.scale);
    return from;
  }
  if (call.map == Map::softmax) {
    exp_features(from, queries, vectors, features, call.scale, factors, ahead);
  } else {
    elu1_rows(from, Rows<T>{queries, kBlock}, features, vectors, ahead);
    divisors(queries, total, vectors, features, factors);
  }
  return {queries, kBlock};
}

template <typename T>
void merge(const LinearAttention<T>& call, const Plan& plan, T* partials, int64_t head) {
  const int64_t features = plan.sizes.features, width = plan.sizes.width;
  for (int64_t f = 0; f < features; ++f) {
    T* row = call.context + (head * features + f) * width;
    call.normalizer[head * features + f] = merge_row(partials, plan, head, f, call.map != Map::elu1, row);
  }
}

// Tiles of a task that attends.
template <typename T>
struct AttendRoom {
  T *context, *queries, *outputs;

  static int64_t size(const Plan& plan) {
    return plan.features * plan.width + (plan.features + plan.width) * kBlock;
  }
  AttendRoom(Room<T> room, const Plan& plan)
      : context(room.take(plan.features * plan.width)),
        queries(room.take(plan.features * kBlock)),
        outputs(room.take(plan.width * kBlock)) {}
};

// The outputs of a block from its mapped queries and their factors.
template <typename T>
void attend_block(const AttendRoom<T>& room, const Plan& plan, const Given<T>& queries, const T* factors, int64_t count,
                  const Head<T>& to, Ahead& ahead) {
  const Given<T> context{room.context, plan.width};
  if (is_turned(to, plan.sizes.width)) {
    const TurnedTarget<T> target(to, count, plan.sizes.width, room.outputs);
    product<By::columns>(queries, context, target.rows, up_to(count, kRows), plan.width / kWide<T>, plan.features,
                         Into::set, ahead,
                         [&](Pack<T>& sum, int64_t position, int64_t) { sum.v *= factors[position]; });
    target.finish();
  } else {
    const TileTarget<T> target(to, count, plan.sizes.width, plan.past_caches<T>(), room.outputs);
    product<By::columns>(context, queries, target.rows, plan.width, vectors_of<T>(count), plan.features,
                         into_of(target), ahead,
                         [&](Pack<T>& sum, int64_t, int64_t j) { sum.v *= load(factors + j * kWide<T>).v; });
    target.finish();
  }
}

// The outputs of one chunk.
template <typename T>
void attend(const LinearAttention<T>& call, const Plan& plan, const Place& place, int64_t part, const View<T>& out) {
  const int64_t features = plan.sizes.features, width = plan.sizes.width;
  const AttendRoom<T> room(Room<T>(AttendRoom<T>::size(plan)), plan);
  pad_context(call.context + place.index * features * width, plan, room.context);
  const T* total = call.normalizer + place.index * features;
  const Head<T> from = head_of(call.q, place.batch, place.head).from(plan.first(part));
  const Head<T> to = head_of(out, place.batch, place.head).from(plan.first(part));
  for (int64_t n = 0; n < plan.count(part); n += kBlock) {
    const int64_t count = std::min(kBlock, plan.count(part) - n);
    Ahead ahead;
    if (plan.beyond_cache<T>()) {
      if (is_turned(to, width)) ahead.write(to.from(n), count, width);
      ahead.read(from.from(n + kBlock), kBlock, features);
    }
    const Given<T> given = tile_of(from.from(n), count, features, T(0), room.queries);
    T factors[kBlock] = {};
    const Given<T> queries = map_queries(call, total, given, vectors_of<T>(count), room.queries, factors, ahead);
    attend_block(room, plan, queries, factors, count, to.from(n), ahead);
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
    sum_part(columns, call.map != Map::elu1, plan, sums_at(partials.get(), plan, head, part),
             SumRoom<T>(Room<T>(SumRoom<T>::size(plan)), plan));
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
