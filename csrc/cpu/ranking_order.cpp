#include "cpu/ranking_order.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <stdexcept>

namespace iqazoo::cpu {
namespace {

int64_t pairs_of(int64_t n) { return n * (n - 1) / 2; }

// Unsigned keys in the order of the numbers: -0 equals 0, NaN is the largest.
template <typename T, typename Key>
Key float_key(T value) {
  if (std::isnan(value)) return std::numeric_limits<Key>::max();
  value += T(0);
  Key bits;
  std::memcpy(&bits, &value, sizeof bits);
  constexpr Key sign = Key(1) << (8 * sizeof(Key) - 1);
  return bits & sign ? ~bits : bits | sign;
}

uint32_t key_of(float value) { return float_key<float, uint32_t>(value); }
uint64_t key_of(double value) { return float_key<double, uint64_t>(value); }
uint64_t key_of(int64_t value) { return static_cast<uint64_t>(value) ^ (uint64_t(1) << 63); }

// Sorts `order` by key[order[k]], keeping the order of equal keys: a radix sort by bytes. At these sizes it is about
// five times as fast as std::stable_sort.
template <typename Key>
void sort_by(const std::vector<Key>& key, std::vector<uint32_t>& order) {
  constexpr int bytes = sizeof(Key);
  std::vector<uint32_t> histogram(bytes * 256), other(order.size());
  for (const Key k : key) {
    for (int b = 0; b < bytes; ++b) ++histogram[b * 256 + (k >> (8 * b) & 255)];
  }
  for (int b = 0; b < bytes; ++b) {
    uint32_t* next = &histogram[b * 256];
    if (std::any_of(next, next + 256, [&](uint32_t count) { return count == order.size(); })) continue;
    std::exclusive_scan(next, next + 256, next, uint32_t(0));
    for (const uint32_t i : order) other[next[key[i] >> (8 * b) & 255]++] = i;
    order.swap(other);
  }
}

template <typename T>
auto keys_of(const T* values, int64_t n, T factor = T(1)) {
  std::vector<decltype(key_of(*values))> keys(n);
  for (int64_t i = 0; i < n; ++i) keys[i] = key_of(static_cast<T>(factor * values[i]));
  return keys;
}

// How many pairs are out of order; sorts `values`. `spare` has room for n.
int64_t inversions(uint32_t* values, uint32_t* spare, int64_t n) {
  int64_t found = 0;
  if (n <= 12) {
    for (int64_t i = 1; i < n; ++i) {
      const uint32_t value = values[i];
      int64_t j = i;
      for (; j > 0 && values[j - 1] > value; --j) values[j] = values[j - 1];
      values[j] = value;
      found += i - j;
    }
    return found;
  }
  const int64_t middle = n / 2;
  found = inversions(values, spare, middle) + inversions(values + middle, spare, n - middle);
  std::copy(values, values + middle, spare);
  int64_t left = 0, right = middle, out = 0;
  while (left < middle && right < n) {  // without branches on the values, which nothing could predict
    const bool take_right = values[right] < spare[left];
    values[out++] = take_right ? values[right] : spare[left];
    found += take_right ? middle - left : 0;
    left += !take_right;
    right += take_right;
  }
  std::copy(spare + left, spare + middle, values + out);
  return found;
}

// Calls run(first, last) for each run of positions in [first, last) that are `same` as their neighbours.
template <typename Same, typename Run>
void each_run(int64_t first, int64_t last, const Same& same, const Run& run) {
  for (int64_t start = first, i = first; i < last; ++i) {
    if (i + 1 < last && same(i, i + 1)) continue;
    run(start, i + 1);
    start = i + 1;
  }
}

}  // namespace

template <typename T>
RankingOrder<T>::RankingOrder(const T* scores, const T* targets, const int64_t* groups, int64_t n, bool flipped) {
  if (n > std::numeric_limits<uint32_t>::max()) throw std::length_error("ranking takes fewer than 2^32 items");
  std::vector<uint32_t> by_target(n);
  std::iota(by_target.begin(), by_target.end(), 0);
  const auto target_key = keys_of(targets, n);
  sort_by(target_key, by_target);
  std::vector<uint32_t> item_level(n);
  uint32_t next_level = 0;
  each_run(0, n, [&](int64_t i, int64_t j) { return target_key[by_target[i]] == target_key[by_target[j]]; },
           [&](int64_t first, int64_t last) {
             for (int64_t i = first; i < last; ++i) item_level[by_target[i]] = next_level;
             ++next_level;
           });
  const T sign = flipped ? T(-1) : T(1);
  item = by_target;
  sort_by(keys_of(scores, n, sign), item);
  if (groups) {
    const auto group_key = keys_of(groups, n);
    sort_by(group_key, item);
    sort_by(group_key, by_target);
  }
  score.resize(n);
  level.resize(n);
  for (int64_t i = 0; i < n; ++i) {
    score[i] = sign * scores[item[i]];
    level[i] = item_level[item[i]];
  }
  set_bounds(item, groups);
  rank_targets(by_target, item_level);
}

template <typename T>
void RankingOrder<T>::set_bounds(const std::vector<uint32_t>& order, const int64_t* groups) {
  const int64_t n = static_cast<int64_t>(order.size());
  bounds.push_back(0);
  each_run(0, n, [&](int64_t i, int64_t j) { return !groups || groups[order[i]] == groups[order[j]]; },
           [&](int64_t first, int64_t last) {
             bounds.push_back(last);
             pairs += pairs_of(last - first);
           });
}

template <typename T>
void RankingOrder<T>::rank_targets(const std::vector<uint32_t>& by_target, const std::vector<uint32_t>& item_level) {
  std::vector<double> item_rank(item.size());
  for (size_t g = 0; g + 1 < bounds.size(); ++g) {
    each_run(bounds[g], bounds[g + 1],
             [&](int64_t i, int64_t j) { return item_level[by_target[i]] == item_level[by_target[j]]; },
             [&](int64_t first, int64_t last) {
               const double rank = 0.5 * static_cast<double>(first + last - 1 - 2 * bounds[g]);
               for (int64_t i = first; i < last; ++i) item_rank[by_target[i]] = rank;
               tied_targets += pairs_of(last - first);
             });
  }
  mid_rank.resize(item.size());
  for (size_t i = 0; i < item.size(); ++i) mid_rank[i] = item_rank[item[i]];
}

// Knight's way to Kendall's tau (Journal of the American Statistical Association 61, 1966): where positions are sorted
// by score and then target, the discordant pairs are the targets' inversions.
template <typename T>
void RankingOrder<T>::count(int64_t* counts) const {
  int64_t tied_scores = 0, tied_both = 0, discordant = 0;
  std::vector<uint32_t> values(level), spare(item.size());
  for (size_t g = 0; g + 1 < bounds.size(); ++g) {
    const int64_t first = bounds[g], last = bounds[g + 1];
    const auto same_score = [&](int64_t i, int64_t j) { return score[i] == score[j]; };
    const auto same_both = [&](int64_t i, int64_t j) { return score[i] == score[j] && level[i] == level[j]; };
    each_run(first, last, same_score, [&](int64_t a, int64_t b) { tied_scores += pairs_of(b - a); });
    each_run(first, last, same_both, [&](int64_t a, int64_t b) { tied_both += pairs_of(b - a); });
    discordant += inversions(values.data() + first, spare.data(), last - first);
  }
  counts[kDiscordant] = discordant;
  counts[kTiedScores] = tied_scores - tied_both;
  counts[kTiedTargets] = tied_targets - tied_both;
  counts[kTiedBoth] = tied_both;
  counts[kConcordant] = pairs - discordant - tied_scores - tied_targets + tied_both;
}

template <typename T>
void ranking_counts(const T* scores, const T* targets, const int64_t* groups, int64_t* counts, int64_t n,
                    bool flipped) {
  std::vector<T> kept_scores, kept_targets;
  std::vector<int64_t> kept_groups;
  for (int64_t i = 0; i < n; ++i) {
    if (std::isnan(scores[i]) || std::isnan(targets[i])) continue;
    kept_scores.push_back(scores[i]);
    kept_targets.push_back(targets[i]);
    kept_groups.push_back(groups ? groups[i] : 0);
  }
  const int64_t kept = static_cast<int64_t>(kept_scores.size());
  RankingOrder<T>(kept_scores.data(), kept_targets.data(), groups ? kept_groups.data() : nullptr, kept, flipped)
      .count(counts);
}

#define IQAZOO_INSTANTIATE(T)      \
  template struct RankingOrder<T>; \
  template void ranking_counts(const T*, const T*, const int64_t*, int64_t*, int64_t, bool);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cpu
