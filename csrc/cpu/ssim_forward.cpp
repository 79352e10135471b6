#include "cpu/ssim_pool.h"
#include "cpu/ssim_rows.h"

namespace iqazoo::cpu {
namespace {

constexpr int64_t kTallest = 64, kWidest = 256;  // a tile, in windows

template <typename T>
struct Call {
  const T *x, *y;
  SsimMask mask;
  SsimResults<T*> results;
  SsimShape shape;
  Plane plane;
  Weights<T> weights;
};

template <typename T>
inline void write_terms(const T* __restrict__ moments, int64_t stride, int64_t count, const ssim::Constants<T>& c,
                        T* __restrict__ index, T* __restrict__ structure) {
  const ssim::Constants<T> constants = c;
  for (int64_t j = 0; j < count; ++j) {
    const auto found = ssim::terms(ssim::quotients(moments_at(moments, stride, j), constants));
    index[j] = found.index;
    structure[j] = found.structure;
  }
}

// Where the terms of a row go: into maps, or into rooms to be summed.
template <typename T>
struct TermRows {
  T *index, *structure;
};

template <int kTaps, typename T>
TermSums tile_terms(const Call<T>& call, int64_t plane_index, Span band, Span strip, Room<T> room) {
  const Plane& plane = call.plane;
  const bool mapped = call.shape.reduction == ssim::Reduction::kMap;
  const T* x = call.x + plane_index * plane.height * plane.width;
  const T* y = call.y + plane_index * plane.height * plane.width;
  const ssim::Constants<T> constants = ssim_constants(x, y, plane, band, strip, call.shape);
  FilteredRows<T, SsimProducts<T>> rows(room, plane, strip.count());
  const TermRows<T> own{room.take(rows.stride()), room.take(rows.stride())};
  rows.begin(x, y, {constants}, band.first, strip);
  TermSums sums;
  for (int64_t i = band.first; i < band.last; ++i) {
    const int row = static_cast<int>((i - band.first) % kRowsAtOnce);
    if (row == 0) rows.template filter<kTaps>(i, call.weights);
    const T* moments = rows.template row<kTaps>(row, call.weights);
    const int64_t at = (plane_index * plane.rows + i) * plane.columns + strip.first;
    T* index = mapped && call.results.index ? call.results.index + at : own.index;
    T* structure = mapped && call.results.structure ? call.results.structure + at : own.structure;
    write_terms(moments, rows.stride(), strip.count(), constants, index, structure);
    if (mapped) continue;
    const int64_t in_image = (plane_index / call.shape.channels * plane.rows + i) * plane.columns + strip.first;
    const uint8_t* counted = call.mask.counted ? call.mask.counted + in_image : nullptr;
    if (call.results.index) sums.index += sum_of(index, counted, strip.count());
    if (call.results.structure) sums.structure += sum_of(structure, counted, strip.count());
  }
  return sums;
}

template <typename T>
int64_t room_for(const Plane& plane) {
  Room<T> room(nullptr);
  const FilteredRows<T, SsimProducts<T>> rows(room, plane, std::min(kWidest, plane.columns));
  room.take(2 * rows.stride());
  return room.taken() + 64;
}

template <int kTaps, typename T>
void all_terms(const Call<T>& call, int threads) {
  const Tiling tiling(call.plane.rows, call.plane.columns, kTallest, kWidest);
  const int64_t tiles = tiling.tiles();
  std::vector<TermSums> sums(call.shape.batch * call.shape.channels * tiles);
  in_rooms<T>(static_cast<int64_t>(sums.size()), threads, room_for<T>(call.plane), [&](int64_t task, T* memory) {
    const int64_t plane = task / tiles, tile = task % tiles;
    sums[task] = tile_terms<kTaps>(call, plane, tiling.band(tile), tiling.strip(tile), Room<T>(memory));
    if (call.results.pooled_x) {
      pool_tile(call.x, call.results.pooled_x, call.shape, plane, tiling, tile);
      pool_tile(call.y, call.results.pooled_y, call.shape, plane, tiling, tile);
    }
  });
  if (call.shape.reduction == ssim::Reduction::kMap) return;
  const int64_t windows = call.plane.rows * call.plane.columns;
  write_means(sums, tiles, call.mask, call.shape, windows, call.results.index, call.results.structure);
}

}  // namespace

template <typename T>
void ssim_forward(const T* x, const T* y, const SsimMask& mask, const SsimResults<T*>& results, const SsimShape& shape,
                  int threads) {
  const Call<T> call{x, y, mask, results, shape, Plane(shape.height, shape.width, shape.window, shape.padding),
                     Weights<T>(make_taps<T>(shape.window, shape.sigma))};
  if (shape.window == 11) {
    all_terms<11>(call, threads);
  } else {
    all_terms<0>(call, threads);
  }
}

template void ssim_forward(const float*, const float*, const SsimMask&, const SsimResults<float*>&, const SsimShape&,
                           int);
template void ssim_forward(const double*, const double*, const SsimMask&, const SsimResults<double*>&,
                           const SsimShape&, int);

}  // namespace iqazoo::cpu
