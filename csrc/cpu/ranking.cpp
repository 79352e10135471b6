#include "cpu/ranking.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "common/ranking_pair.h"
#include "cpu/parallel.h"
#include "cpu/ranking_order.h"
#include "cpu/ranking_pairs.h"
#include "cpu/ranking_ranknet.h"

namespace iqazoo::cpu {
namespace {

constexpr int64_t kMaxTasks = 16;     // each keeps a sum for every item
constexpr int64_t kSerialItems = 1 << 14;  // fewer take less time to go through than threads to wake

// How many pairs one thread goes through in less time than it takes to wake another.
int64_t serial_pairs(int kind) { return kind == kRankNet ? 1 << 19 : kind == kMargin ? 1 << 18 : 1 << 16; }

// A block of positions, and where the blocks of its group end.
struct Block {
  int64_t first, last;
  int64_t group_end;  // in blocks
};

// Blocks of each group that has pairs and is not spoilt.
template <typename T>
std::vector<Block> blocks_of(const RankingOrder<T>& order, const std::vector<bool>& spoilt) {
  std::vector<Block> blocks;
  for (size_t g = 0; g + 1 < order.bounds.size(); ++g) {
    const int64_t first = order.bounds[g], last = order.bounds[g + 1];
    if (spoilt[g] || last - first < 2) continue;
    const int64_t end = static_cast<int64_t>(blocks.size()) + (last - first + kBlock - 1) / kBlock;
    for (int64_t at = first; at < last; at += kBlock) blocks.push_back({at, std::min(at + kBlock, last), end});
  }
  return blocks;
}

// Deals the blocks out, each to the task with the least work so far. It depends on shapes alone.
std::vector<std::vector<int64_t>> share(const std::vector<Block>& blocks) {
  std::vector<std::vector<int64_t>> tasks(std::min<int64_t>(kMaxTasks, blocks.size()));
  std::vector<int64_t> work(tasks.size());
  for (int64_t b = 0; b < static_cast<int64_t>(blocks.size()); ++b) {
    const auto least = std::min_element(work.begin(), work.end()) - work.begin();
    tasks[least].push_back(b);
    work[least] += blocks[b].group_end - b;
  }
  return tasks;
}

// Whether each group has a score that is not finite or a NaN among its targets.
template <typename T>
std::vector<bool> spoilt_groups(const RankingOrder<T>& order, const T* targets) {
  std::vector<bool> spoilt(order.bounds.size() - 1);
  for (size_t g = 0; g < spoilt.size(); ++g) {
    for (int64_t i = order.bounds[g]; i < order.bounds[g + 1]; ++i) {
      if (!std::isfinite(order.score[i]) || std::isnan(targets[order.item[i]])) spoilt[g] = true;
    }
  }
  return spoilt;
}

// The pairs of all groups, by tasks that each have a slot of sums. Gives the loss; `slope[n]` gets d loss / d score.
template <typename Tiles>
double sum_pairs(const Tiles& tiles, const std::vector<Block>& blocks, std::vector<double>& slope, int threads) {
  const int64_t n = static_cast<int64_t>(slope.size());
  const auto tasks = share(blocks);
  const int64_t count = static_cast<int64_t>(tasks.size());
  std::vector<double> slots(count * n), losses(count);
  parallel_for(count, threads, [&](int64_t task) {
    double* slot = slots.data() + task * n;
    typename Tiles::Loss loss;
    for (const int64_t row : tasks[task]) {
      const Block& a = blocks[row];
      tiles.within(a.first, a.last, slot, loss);
      for (int64_t column = row + 1; column < a.group_end; ++column) {
        const Block& b = blocks[column];
        if (!tiles.between(a.first, a.last, b.first, b.last, slot, loss)) break;
      }
    }
    losses[task] = loss.total();
  });
  constexpr int64_t chunk = 4096;
  parallel_for((n + chunk - 1) / chunk, n < kSerialItems ? 1 : threads, [&](int64_t c) {
    const int64_t last = std::min((c + 1) * chunk, n);
    for (int64_t task = 0; task < count; ++task) {
      for (int64_t i = c * chunk; i < last; ++i) slope[i] += slots[task * n + i];
    }
  });
  double total = 0;
  for (const double loss : losses) total += loss;
  return total;
}

// RankNet's part that needs no pairs. With i < j sorted and d = s_j - s_i, a pair's loss is log(1 + exp(-d)) +
// (1 - h) d, where h is the target of j over i. The second terms add up to sum_i s_i (i - rank of target i), where i
// counts from the group's first. Likewise a pair's slope in s_j is 1 - h less the logistic of -d.
template <typename T>
double linear_part(const RankingOrder<T>& order, const std::vector<bool>& spoilt, std::vector<double>& slope) {
  double total = 0;
  for (size_t g = 0; g < spoilt.size(); ++g) {
    if (spoilt[g]) continue;
    const int64_t first = order.bounds[g], last = order.bounds[g + 1];
    const double pivot = order.score[first + (last - first) / 2];
    for (int64_t i = first; i < last; ++i) {
      slope[i] = static_cast<double>(i - first) - order.mid_rank[i];
      total += slope[i] * (static_cast<double>(order.score[i]) - pivot);
    }
  }
  return total;
}

template <typename T>
double sum_loss(const RankingOrder<T>& order, const std::vector<bool>& spoilt, int kind, double margin,
                std::vector<double>& slope, int threads) {
  const auto blocks = blocks_of(order, spoilt);
  if (kind == kRankNet) {
    const double linear = linear_part(order, spoilt, slope);
    const int64_t n = static_cast<int64_t>(slope.size());
    const RankNetTiles<T> tiles(order.score.data(), blocks, n, n < kSerialItems ? 1 : threads);
    return linear + sum_pairs(tiles, blocks, slope, threads);
  }
  const T* const score = order.score.data();
  const uint32_t* const level = order.level.data();
  if (kind == kMargin) {
    const PairTiles<T, MarginLanes<T>> tiles{score, level, {static_cast<T>(margin)}};
    return sum_pairs(tiles, blocks, slope, threads);
  }
  return sum_pairs(PairTiles<T, FidelityLanes>{score, level, {}}, blocks, slope, threads);
}

}  // namespace

template <typename T>
void ranking(const T* scores, const T* targets, const int64_t* groups, T* loss, T* gradient, int64_t* counts,
             int64_t n, int kind, double margin, bool flipped, bool mean, int threads) {
  const RankingOrder<T> order(scores, targets, groups, n, flipped);
  const auto spoilt = spoilt_groups(order, targets);
  const bool any_spoilt = std::find(spoilt.begin(), spoilt.end(), true) != spoilt.end();
  if (any_spoilt) {
    ranking_counts(scores, targets, groups, counts, n, flipped);
  } else {
    order.count(counts);
  }
  if (order.pairs < serial_pairs(kind)) threads = 1;
  std::vector<double> slope(n);
  const double total = sum_loss(order, spoilt, kind, margin, slope, threads);
  const double divisor = mean ? static_cast<double>(std::max<int64_t>(order.pairs, 1)) : 1.0;
  constexpr T nan = std::numeric_limits<T>::quiet_NaN();
  loss[0] = any_spoilt ? nan : static_cast<T>(total / divisor);
  for (size_t g = 0; g < spoilt.size(); ++g) {
    for (int64_t i = order.bounds[g]; i < order.bounds[g + 1]; ++i) {
      gradient[order.item[i]] = spoilt[g] ? nan : static_cast<T>((flipped ? -slope[i] : slope[i]) / divisor);
    }
  }
}

#define IQAZOO_INSTANTIATE(T)                                                                                  \
  template void ranking(const T*, const T*, const int64_t*, T*, T*, int64_t*, int64_t, int, double, bool, bool, int);
IQAZOO_INSTANTIATE(float)
IQAZOO_INSTANTIATE(double)
#undef IQAZOO_INSTANTIATE

}  // namespace iqazoo::cpu
