#include "cpu/feature_distance.h"

#include <vector>

#include "cpu/feature_distance_planes.h"
#include "cpu/feature_distance_rows.h"
#include "cpu/parallel.h"

namespace iqazoo::cpu {
namespace {

using namespace features;

// How a batch is cut into tasks, by its shape alone: equal parts of each image's positions, the last of them shorter.
struct Cut {
  int64_t positions, each, parts;

  template <typename T>
  explicit Cut(const FeaturePair<T>& pair)
      : positions(pair.positions),
        each(pair.channels_last ? row_positions<T>(pair.channels) : tile_positions<T>(pair.channels, pair.positions)),
        parts(each ? (positions + each - 1) / each : 0) {}
};

struct Part {
  int64_t image, first, count;

  Part(const Cut& cut, int64_t task)
      : image(task / cut.parts),
        first(task % cut.parts * cut.each),
        count(std::min(cut.each, cut.positions - first)) {}
};

template <typename T>
T* shifted(T* address, int64_t by) {
  return address ? address + by : nullptr;
}

// Where a part's features begin, in a map with this step from one image to the next.
template <typename T, typename Value>
Value* start_of(const FeaturePair<T>& pair, Value* features, int64_t step, const Part& part) {
  return shifted(features, part.image * step + (pair.channels_last ? part.first * pair.channels : part.first));
}

// The means of `each` values over an image's parts, in the parts' order.
template <typename T>
void add_parts(const std::vector<double>& sums, int64_t batch, const Cut& cut, int64_t each, T* means) {
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t k = 0; k < each; ++k) {
      double total = 0;
      for (int64_t part = 0; part < cut.parts; ++part) total += sums[(b * cut.parts + part) * each + k];
      means[b * each + k] = static_cast<T>(total / static_cast<double>(cut.positions));
    }
  }
}

}  // namespace

template <typename T>
void feature_distance(const FeaturePair<T>& pair, const T* weight, const T* at_positions, T* value, T* map, T* means,
                      T* lengths, int threads) {
  const Cut cut(pair);
  const int64_t tasks = pair.batch * cut.parts, positions = pair.positions;
  const bool folded =
      weight && !means && !pair.channels_last && cut.parts == 1 && folds<T>(pair.channels, positions);
  const auto spread_weight = spread_room<T>(folded ? pair.channels : 0, positions);
  if (folded) spread(weight, pair.channels, positions, spread_weight.get());
  std::vector<double> values(value ? tasks : 0), of_channels(means ? tasks * pair.channels : 0);
  parallel_for(tasks, threads, [&](int64_t index) {
    const Part part(cut, index), next(cut, std::min(index + 1, tasks - 1));
    const int64_t b = part.image;
    const ForwardTask<T> task{start_of(pair, pair.image, pair.image_step, part),
                              start_of(pair, pair.reference, pair.reference_step, part),
                              start_of(pair, pair.image, pair.image_step, next),
                              start_of(pair, pair.reference, pair.reference_step, next),
                              weight,
                              folded ? spread_weight.get() : nullptr,
                              shifted(at_positions, b * positions + part.first),
                              value ? &values[index] : nullptr,
                              shifted(map, b * positions + part.first),
                              means ? of_channels.data() + index * pair.channels : nullptr,
                              shifted(lengths, 2 * b * positions + part.first),
                              shifted(lengths, (2 * b + 1) * positions + part.first)};
    if (pair.channels_last) {
      forward_rows(task, pair.channels, part.count, pair.eps);
    } else {
      forward_planes(task, pair.channels, pair.positions, part.count, pair.eps);
    }
  });
  if (value) add_parts(values, pair.batch, cut, 1, value);
  if (means) add_parts(of_channels, pair.batch, cut, pair.channels, means);
}

template <typename T>
void feature_distance_backward(const FeaturePair<T>& pair, const T* of_channels, const T* at_positions,
                               const T* lengths, T* grad_image, T* grad_reference, int threads) {
  const Cut cut(pair);
  const int64_t positions = pair.positions, size = pair.channels * positions;
  parallel_for(pair.batch * cut.parts, threads, [&](int64_t index) {
    const Part part(cut, index), next(cut, std::min(index + 1, pair.batch * cut.parts - 1));
    const int64_t b = part.image;
    const BackwardTask<T> task{start_of(pair, pair.image, pair.image_step, part),
                               start_of(pair, pair.reference, pair.reference_step, part),
                               start_of(pair, pair.image, pair.image_step, next),
                               start_of(pair, pair.reference, pair.reference_step, next),
                               of_channels + b * pair.channels,
                               shifted(at_positions, b * positions + part.first),
                               lengths + 2 * b * positions + part.first,
                               lengths + (2 * b + 1) * positions + part.first,
                               start_of(pair, grad_image, size, part),
                               start_of(pair, grad_reference, size, part)};
    if (pair.channels_last) {
      backward_rows(task, pair.channels, part.count, pair.eps);
    } else {
      backward_planes(task, pair.channels, positions, part.count, pair.eps);
    }
  });
}

#define IQAZOO_INSTANTIATE(T)                                                                                     \
  template void feature_distance(const FeaturePair<T>&, const T*, const T*, T*, T*, T*, T*, int);                 \
  template void feature_distance_backward(const FeaturePair<T>&, const T*, const T*, const T*, T*, T*, int);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cpu
